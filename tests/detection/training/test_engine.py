import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data.loading.loader import Batch
from detection.models.checkpoint import load_training_state
from detection.recipe.reading import load_recipe
from detection.training.engine import is_out_of_memory
from detection.training.prepare import Prepared, prepare
from detection.training.throughput import ThroughputMeter
from detection.training.train import train
from detection.training.trainer import split_batch
from detection.training.training_run import TrainingRun
from detection.training.watcher import NotFinite, TrainingError
from tests.detection.conftest import Quiet, write_recipe
from tests.detection.training.test_train import rows

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def batches(prepared: Prepared, steps: int, **options) -> Iterator[Batch]:
    return prepared.source.batches(prepared.trainer.fabric, prepared.trainer.images_per_step, steps, **options)


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


def test_accumulated_micro_batches_make_one_step_of_their_mean(tmp_path, rendered):
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered), ["train.gradient_accumulation=3"])
    prepared = prepare(recipe, Quiet())
    trainer = prepared.trainer
    assert trainer.global_batch_size == trainer.images_per_step == 6
    batch = next(batches(prepared, 2))
    assert len(batch.indices) == 6
    parts = split_batch(batch, trainer.micro_batch_size)
    assert [part.indices for part in parts] == [batch.indices[0:2], batch.indices[2:4], batch.indices[4:6]]
    with torch.no_grad():
        each = [trainer.losses(part) for part in parts]
    expected = {name: float(np.mean([float(part[name]) for part in each])) for name in each[0]}
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    assert trainer.step(batch) == pytest.approx(expected, rel=1e-5)
    after = trainer.network.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    train(recipe, tmp_path / "run", watcher=Quiet())
    assert len(losses(tmp_path / "run")) == 2  # 12 images, 6 per step


@pytest.mark.parametrize(("weights", "moves"), [("none", True), ("imagenet-offline", False)])
def test_batch_norms_keep_no_statistics_of_a_random_start(weights, moves, tmp_path, rendered):
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered, model={"weights": weights}))
    prepared = prepare(recipe, Quiet())
    norms = [module for module in prepared.trainer.network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    prepared.trainer.step(next(batches(prepared, 1)))
    moved = [not torch.equal(mean, norm.running_mean) for mean, norm in zip(before, norms, strict=True)]
    assert len(moved) > 40 and all(one == moves for one in moved)


@pytest.mark.parametrize(("count", "most", "sizes"), [(4, 4, [4]), (5, 2, [2, 1, 2]), (7, 4, [4, 3]), (1, 8, [1])])
def test_parts_are_of_about_one_size(count, most, sizes):
    batch = Batch(torch.zeros(count, 3, 2, 2), [{} for _ in range(count)], list(range(count)))
    parts = split_batch(batch, most)
    assert sorted(len(part.indices) for part in parts) == sorted(sizes)
    assert [n for part in parts for n in part.indices] == list(range(count))
    assert max(len(part.indices) for part in parts) <= most


def _no_memory_for_more_than(most):
    """The allocator's own refusal, at a size chosen here; a limit on the process bites elsewhere on each machine."""

    def refuse(_, inputs):
        if len(inputs[0]) > most:
            torch.empty(2**60)

    return refuse


def test_out_of_memory_halves_the_micro_batch(tmp_path, rendered):
    watcher = Quiet()
    prepared = prepare(load_recipe(write_recipe(tmp_path / "r.yaml", rendered, train={"batch_size": 8})), watcher)
    trainer = prepared.trainer
    batch = next(batches(prepared, 1))
    with torch.no_grad():
        each = [trainer.losses(part) for part in split_batch(batch, 2)]
    expected = {name: float(np.mean([float(part[name]) for part in each])) for name in each[0]}
    hook = trainer.network.register_forward_pre_hook(_no_memory_for_more_than(3))
    assert trainer.step(batch) == pytest.approx(expected, rel=1e-5)
    assert watcher.notes[-2:] == [
        "out of memory with 8 images at once: continuing with micro-batches of 4, 8 images per step as before",
        "out of memory with 4 images at once: continuing with micro-batches of 2, 8 images per step as before",
    ]
    hook.remove()
    trainer.network.register_forward_pre_hook(_no_memory_for_more_than(0))
    with pytest.raises(TrainingError, match="out of memory with a single image; lower"):
        trainer.step(batch)
    assert watcher.notes[-1].startswith("out of memory with 2 images at once: continuing with micro-batches of 1, 8")


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


def test_a_frozen_backbone_is_not_updated(tmp_path, rendered):
    prepared = prepare(load_recipe(write_recipe(tmp_path / "r.yaml", rendered)), Quiet())
    trainer = prepared.trainer
    body = [p.detach().clone() for p in trainer.body]
    neck = next(trainer.network.backbone.fpn.parameters()).detach().clone()
    batch = next(batches(prepared, 1))
    trainer.step(batch, freeze_backbone=True)
    assert all(torch.equal(was, now) for was, now in zip(body, trainer.body, strict=True))
    assert not torch.equal(neck, next(trainer.network.backbone.fpn.parameters()))
    trainer.step(batch)
    assert not all(torch.equal(was, now) for was, now in zip(body, trainer.body, strict=True))


class BackboneWatcher(Quiet):
    """Records after which steps which parameters had changed, and which did not require gradients in the step."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self._network = network
        self._before = self._values()
        self.changed: list[set[str]] = []
        self.frozen: list[set[str]] = []

    def _values(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in self._network.named_parameters()}

    def step(self, taken) -> None:
        super().step(taken)
        now = self._values()
        self.changed.append({name for name in now if not torch.equal(now[name], self._before[name])})
        self.frozen.append({name for name, p in self._network.named_parameters() if not p.requires_grad})
        self._before = now


def test_the_backbone_is_frozen_for_its_share_of_the_run_and_the_stem_for_all_of_it(tmp_path, rendered):
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered), ["train.freeze_backbone=0.5"])
    prepared = prepare(recipe, Quiet())
    network = prepared.trainer.network
    stem = {name for name, p in network.named_parameters() if not p.requires_grad}
    body = {name for name, _ in network.named_parameters() if name.startswith("backbone.body.")} - stem
    others = {name for name, _ in network.named_parameters()} - stem - body
    assert len(stem) > 5 and len(body) > 50 and len(others) > 20 and all(n.startswith("backbone.body.") for n in stem)
    watcher = BackboneWatcher(network)
    run = TrainingRun(
        prepared.trainer,
        prepared.source,
        None,
        tmp_path / "run",
        options=prepared.fit,
        provenance=prepared.provenance,
        watcher=watcher,
    )
    meter = ThroughputMeter(prepared.trainer.fabric.device)
    for batch in meter.batches(run.batches()):
        assert not run.is_over()
        run.step(batch, meter)
    run.close()
    # 6 steps, of which the first begins at 0 and the fourth at a half
    assert watcher.frozen == [stem | body] * 3 + [stem] * 3
    for changed in watcher.changed[:3]:
        assert changed and changed <= others
    for changed in watcher.changed[3:]:
        assert changed & body and not changed & stem


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(tmp_path, rendered):
    prepared = prepare(load_recipe(write_recipe(tmp_path / "r.yaml", rendered)), Quiet())
    before = {name: value.clone() for name, value in prepared.trainer.network.state_dict().items()}
    batch = next(batches(prepared, 1))
    handle = prepared.trainer.network.head.register_forward_pre_hook(lambda *_: None)
    poison = next(prepared.trainer.network.backbone.fpn.parameters()).register_hook(lambda grad: grad * float("nan"))
    with pytest.raises(NotFinite, match="the loss is finite, its gradient is not"):
        prepared.trainer.step(batch)
    handle.remove()
    poison.remove()
    after = prepared.trainer.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_mixes_stop_near_the_end(tmp_path, rendered):
    path = write_recipe(tmp_path / "r.yaml", rendered, augment={"mosaic": 1.0}, train={"batch_size": 4})
    prepared = prepare(load_recipe(path), Quiet())
    plain = prepare(load_recipe(path, ["augment.mosaic=0"]), Quiet())
    mixed = list(batches(prepared, 3, mixing=lambda step: step < 2))
    never = list(batches(plain, 3))
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
