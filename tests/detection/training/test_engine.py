import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data.loading.loader import Batch
from detection.models.checkpoint import load_training_state
from detection.recipe.reading import load_recipe
from detection.training.engine import is_out_of_memory
from detection.training.setup import set_up
from detection.training.steps import _parts
from detection.training.train import train
from detection.training.watcher import NotFinite, TrainingError
from tests.detection.conftest import Quiet, write_recipe
from tests.detection.training.test_train import rows

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def losses(run: Path) -> list[float]:
    return [float(row["loss"]) for row in rows(run) if row["loss"]]


def weights_apart(one: Path, other: Path) -> float:
    a, b = (load_file(run / "best.safetensors") for run in (one, other))
    return max(float((a[name].float() - b[name].float()).abs().max()) for name in a)


@pytest.mark.parametrize(
    ("assign", "launcher"),
    [
        (
            "center_sampling",
            ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "scripts/train.py"],
        ),
        ("task_aligned", ["scripts/train.py", "-s", "train.devices=2"]),
    ],
)
def test_two_processes_learn_as_one_with_the_doubled_batch(assign, launcher, tmp_path, rendered):
    # Adam divides by the gradient's size, and so turns rounding of tiny ones into steps: a larger batch of few steps
    recipe = write_recipe(tmp_path / "r.yaml", rendered, model={"assign": assign}, augment={"mosaic": 0.5})
    train(load_recipe(recipe, ["train.batch_size=4"]), tmp_path / "one", watcher=Quiet())
    script, *options = launcher[-1:] if "torch.distributed.run" in launcher else launcher
    before = launcher[:-1] if "torch.distributed.run" in launcher else []
    command = [sys.executable, *before, script, str(recipe), "--out", str(tmp_path / "two"), *options]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(losses(tmp_path / "one")) == 3  # 12 images, 4 a step
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    assert losses(tmp_path / "two")[0] == pytest.approx(losses(tmp_path / "one")[0], rel=1e-5)
    assert weights_apart(tmp_path / "one", tmp_path / "two") < 2e-3
    assert done.stderr.count("backbone: 240 taken") == 1  # one process speaks


def test_accumulated_batches_make_one_step_of_their_mean(tmp_path, rendered):
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered), ["train.accumulate=3"])
    ready = set_up(recipe, Quiet())
    assert ready.images_a_step == 6
    batch = next(ready.batches(2, workers=0, cache="none"))
    assert len(batch.indices) == 6
    parts = _parts(batch, ready.part)
    assert [part.indices for part in parts] == [batch.indices[0:2], batch.indices[2:4], batch.indices[4:6]]
    with torch.no_grad():
        each = [ready.losses(part) for part in parts]
    expected = {name: float(np.mean([float(part[name]) for part in each])) for name in each[0]}
    before = {name: value.clone() for name, value in ready.network.state_dict().items()}
    assert ready.learn(batch) == pytest.approx(expected, rel=1e-5)
    after = ready.network.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    train(recipe, tmp_path / "run", watcher=Quiet())
    assert len(losses(tmp_path / "run")) == 2  # 12 images, 6 a step


@pytest.mark.parametrize(("weights", "moves"), [("none", True), ("imagenet-offline", False)])
def test_batch_norms_keep_no_statistics_of_a_random_start(weights, moves, tmp_path, rendered):
    ready = set_up(load_recipe(write_recipe(tmp_path / "r.yaml", rendered, model={"weights": weights})), Quiet())
    norms = [module for module in ready.network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    ready.learn(next(ready.batches(1, workers=0, cache="none")))
    moved = [not torch.equal(mean, norm.running_mean) for mean, norm in zip(before, norms, strict=True)]
    assert len(moved) > 40 and all(one == moves for one in moved)


@pytest.mark.parametrize(("count", "most", "sizes"), [(4, 4, [4]), (5, 2, [2, 1, 2]), (7, 4, [4, 3]), (1, 8, [1])])
def test_parts_are_of_about_one_size(count, most, sizes):
    batch = Batch(torch.zeros(count, 3, 2, 2), [{} for _ in range(count)], list(range(count)))
    parts = _parts(batch, most)
    assert sorted(len(part.indices) for part in parts) == sorted(sizes)
    assert [n for part in parts for n in part.indices] == list(range(count))
    assert max(len(part.indices) for part in parts) <= most


def _no_memory_for_more_than(most):
    """The allocator's own refusal, at a size chosen here; a limit on the process bites elsewhere on each machine."""

    def refuse(_, inputs):
        if len(inputs[0]) > most:
            torch.empty(2**60)

    return refuse


def test_full_memory_halves_what_is_computed_at_once(tmp_path, rendered):
    watcher = Quiet()
    ready = set_up(load_recipe(write_recipe(tmp_path / "r.yaml", rendered, train={"batch_size": 8})), watcher)
    batch = next(ready.batches(1, workers=0, cache="none"))
    with torch.no_grad():
        each = [ready.losses(part) for part in _parts(batch, 2)]
    expected = {name: float(np.mean([float(part[name]) for part in each])) for name in each[0]}
    hook = ready.network.register_forward_pre_hook(_no_memory_for_more_than(3))
    assert ready.learn(batch) == pytest.approx(expected, rel=1e-5)
    assert watcher.notes[-2:] == [
        "the memory is full with 8 images at once: going on with 4, 8 a step as before",
        "the memory is full with 4 images at once: going on with 2, 8 a step as before",
    ]
    hook.remove()
    ready.network.register_forward_pre_hook(_no_memory_for_more_than(0))
    with pytest.raises(TrainingError, match="the memory is full with a single image; lower"):
        ready.learn(batch)
    assert watcher.notes[-1] == "the memory is full with 2 images at once: going on with 1, 8 a step as before"


def test_other_errors_are_no_lack_of_memory():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_auto_is_four_images_without_a_gpu(tmp_path, rendered):
    watcher = Quiet()
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered), ["train.batch_size=auto"])
    train(recipe, tmp_path / "run", watcher=watcher)
    assert any(note.startswith("train.batch_size auto: 4 (") for note in watcher.notes)
    assert load_recipe(tmp_path / "run" / "config.yaml").train.batch_size == 4  # what a resumed run goes on with
    assert len(losses(tmp_path / "run")) == 3


def test_the_backbone_learns_from_its_thaw_on(tmp_path, rendered):
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered), ["train.thaw=0.5"])
    ready = set_up(recipe, Quiet())
    body = [p.detach().clone() for p in ready.body]
    neck = next(ready.network.backbone.fpn.parameters()).detach().clone()
    batch = next(ready.batches(1, workers=0, cache="none"))
    ready.learn(batch, hold_backbone=True)
    assert all(torch.equal(was, now) for was, now in zip(body, ready.body, strict=True))
    assert not torch.equal(neck, next(ready.network.backbone.fpn.parameters()))
    ready.learn(batch)
    assert not all(torch.equal(was, now) for was, now in zip(body, ready.body, strict=True))

    class Looking(Quiet):
        """Notes at which steps the backbone was held."""

        def step(self, taken) -> None:
            super().step(taken)
            self.validations.append({"share": taken.share})

    watcher = Looking()
    train(recipe, tmp_path / "run", watcher=watcher)
    assert len(watcher.losses) == 6


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(tmp_path, rendered):
    ready = set_up(load_recipe(write_recipe(tmp_path / "r.yaml", rendered)), Quiet())
    before = {name: value.clone() for name, value in ready.network.state_dict().items()}
    batch = next(ready.batches(1, workers=0, cache="none"))
    handle = ready.network.head.register_forward_pre_hook(lambda *_: None)
    poison = next(ready.network.backbone.fpn.parameters()).register_hook(lambda grad: grad * float("nan"))
    with pytest.raises(NotFinite, match="the loss is finite, its gradient is not"):
        ready.learn(batch)
    handle.remove()
    poison.remove()
    after = ready.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_mixes_stop_near_the_end(tmp_path, rendered):
    path = write_recipe(tmp_path / "r.yaml", rendered, augment={"mosaic": 1.0}, train={"batch_size": 4})
    ready = set_up(load_recipe(path), Quiet())
    plain = set_up(load_recipe(path, ["augment.mosaic=0"]), Quiet())
    mixed = list(ready.batches(3, workers=0, cache="none", mixing=lambda step: step < 2))
    never = list(plain.batches(3, workers=0, cache="none"))
    assert [torch.equal(a.images, b.images) for a, b in zip(mixed, never, strict=True)] == [False, False, True]


def test_earlier_checkpoints_stay(tmp_path, rendered):
    settings = ["train.keep_last=2", "train.save_every_minutes=1e-6"]
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered), settings)
    train(recipe, tmp_path / "run", watcher=Quiet())
    kept = sorted(path.name for path in (tmp_path / "run").glob("last*"))
    assert kept == ["last-00000005.ckpt", "last-00000006.ckpt", "last.ckpt"]
    assert load_training_state(tmp_path / "run" / "last-00000005.ckpt")["state"]["step"] == 5
    assert (tmp_path / "run" / "last.ckpt").samefile(tmp_path / "run" / "last-00000006.ckpt")


@pytest.mark.slow
def test_a_compiled_backbone_learns_the_same(tmp_path, rendered):
    recipe = load_recipe(
        write_recipe(tmp_path / "r.yaml", rendered, data={"val": str(rendered)}), ["data.allow=[splits-identical]"]
    )
    train(recipe, tmp_path / "eager", watcher=Quiet())
    compiled = recipe.model_copy(update={"train": recipe.train.model_copy(update={"compile": True})})
    train(compiled, tmp_path / "compiled", watcher=Quiet())
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), rel=1e-3)
    eager, other = (load_file(tmp_path / run / "best.safetensors") for run in ("eager", "compiled"))
    assert eager.keys() == other.keys()
