import csv
import json
import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from data import DataError, load_dataset
from data.formats.coco import save_coco
from detection.models.checkpoint import CheckpointError, load_trained, load_training_state, write_whole
from detection.recipe.reading import load_recipe
from detection.training.train import TrainingError, train
from tests.detection.conftest import Quiet, write_recipe
from tests.preloaded import ended, started, wait_for


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_is_whole(run: Path) -> None:
    names = {p.name for p in run.iterdir()}
    assert {"config.yaml", "metrics.csv", "best.safetensors", "last.ckpt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not [name for name in names if "partial" in name]
    table = rows(run)
    steps = [int(row["step"]) for row in table if row["loss"]]
    assert steps == list(range(1, 19))  # 12 images, 2 a step, 3 epochs
    assert [int(row["step"]) for row in table if row["AP"]] == [12, 18]  # every 2 epochs, and at the end
    assert load_recipe(run / "config.yaml").train.epochs == 3


def test_it_learns(run: Path) -> None:
    losses = [float(row["loss"]) for row in rows(run) if row["loss"]]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


def test_the_best_weights_explain_themselves(run: Path) -> None:
    trained = load_trained(run)
    best = max(float(row["AP"]) for row in rows(run) if row["AP"])
    assert trained.metrics["AP"] == pytest.approx(best, abs=1e-5)
    assert trained.class_names[0] == "sugar_beet"
    assert trained.dataset_fingerprint.startswith("sha256:")
    assert not trained.model.training


class StopAfter(Quiet):
    """Asks the run to stop after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.stop = threading.Event()
        self._steps = steps

    def step(self, taken) -> None:
        super().step(taken)
        if taken.number == self._steps:
            self.stop.set()


def test_a_resumed_run_ends_with_the_same_weights_as_an_uninterrupted_one(tmp_path: Path, rendered: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered))
    whole = Quiet()
    train(recipe, tmp_path / "whole", watcher=whole)
    first = StopAfter(2)
    with pytest.raises(TrainingError, match="stopped at step 2 of 6; continue with --resume"):
        train(recipe, tmp_path / "halves", watcher=first, stop=first.stop)
    second = Quiet()
    train(recipe, tmp_path / "halves", watcher=second, resume=True)
    assert first.losses + second.losses == whole.losses
    expected = load_file(tmp_path / "whole" / "best.safetensors")
    resumed = load_file(tmp_path / "halves" / "best.safetensors")
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert [row["step"] for row in rows(tmp_path / "halves")] == [str(n) for n in range(1, 7)]


def test_a_budget_of_minutes_ends_the_run_and_cools_it_down(tmp_path: Path, rendered: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered, train={"epochs": 1000, "max_minutes": 0.05}))
    train(recipe, tmp_path / "run", watcher=Quiet())
    table = rows(tmp_path / "run")
    assert 1 <= len(table) < 1000
    assert load_training_state(tmp_path / "run" / "last.ckpt")["state"]["elapsed_s"] >= 3
    assert load_trained(tmp_path / "run").metrics == {}


def test_a_run_is_not_overwritten(run: Path, tmp_path: Path, rendered: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered))
    before = (run / "best.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="contains a run already"):
        train(recipe, run, watcher=Quiet())
    assert (run / "best.safetensors").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path: Path, rendered: Path) -> None:
    changes = {"learning_rate": 1e18, "warmup": 0.0, "clip_norm": 1e30, "epochs": 5}
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered, train=changes))
    with pytest.raises(TrainingError, match="the loss is not finite; lower train.learning_rate"):
        train(recipe, tmp_path / "run", watcher=Quiet())
    assert not (tmp_path / "run" / "best.safetensors").exists()
    batch = load_file(tmp_path / "run" / "broken_batch.safetensors")
    assert batch["images"].dtype == torch.uint8 and batch["images"].shape[1] == 3
    assert len(batch["boxes_0"]) == len(batch["labels_0"])
    drawn = cv2.imread(str(tmp_path / "run" / "broken_batch.png"))
    assert drawn.shape[0] > batch["images"].shape[2]


def test_what_cannot_be_trained_on_is_said_before_anything_is_written(tmp_path: Path, coco_file, rendered) -> None:
    empty = coco_file([[], []])
    with pytest.raises(TrainingError, match="has no boxes; there is nothing to learn"):
        train(load_recipe(write_recipe(tmp_path / "r.yaml", empty)), tmp_path / "run", watcher=Quiet())
    other = write_recipe(tmp_path / "s.yaml", rendered, data={"val": str(empty)})
    with pytest.raises(TrainingError, match="no class in common"):
        train(load_recipe(other), tmp_path / "run", watcher=Quiet())
    with pytest.raises(CheckpointError, match="nothing to resume"):
        recipe = load_recipe(write_recipe(tmp_path / "t.yaml", rendered))
        train(recipe, tmp_path / "run", watcher=Quiet(), resume=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_fault_that_a_reader_notices_stops_the_training(part: str, tmp_path: Path) -> None:
    for name in ("train", "val"):
        folder = tmp_path / name
        for sub in ("images", "labels"):
            (folder / sub).mkdir(parents=True)
        (folder / "classes.txt").write_text("weed\n")
        for number in range(2):
            image, label = folder / f"images/{name}{number}.png", folder / f"labels/{name}{number}.txt"
            cv2.imwrite(str(image), np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8))
            label.write_text("0 0.5 0.5 0.25 0.25\n")
    (tmp_path / part / "labels" / "lost.txt").write_text("0 0.5 0.5 0.25 0.25\n")  # its image is not there
    path = write_recipe(tmp_path / "r.yaml", tmp_path / "train", data={"val": str(tmp_path / "val")})
    with pytest.raises(DataError, match="label-unused: .*without an image.*lost.txt"):
        train(load_recipe(path), tmp_path / "run", watcher=Quiet())
    assert not (tmp_path / "run").exists()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")

    def fails(partial: Path) -> None:
        partial.write_text("half")
        raise OSError("disk full")

    with pytest.raises(CheckpointError, match="f: cannot be written .*; the one from before is intact"):
        write_whole(path, fails)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_saves_the_run_and_resume_finishes_it(tmp_path: Path, rendered: Path, number: signal.Signals) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", rendered, train={"epochs": 400, "workers": 1})
    command, said = ["train", recipe, "--out", tmp_path / "run"], tmp_path / "said"
    process = started(*command, stderr=said)
    try:
        csv_path = tmp_path / "run" / "metrics.csv"
        wait_for(process, lambda: csv_path.exists() and len(csv_path.read_text().splitlines()) > 3)
        os.killpg(process.pid, number)  # as a terminal, systemd and `timeout` do it: to the workers too
        assert ended(process, 60) == 1
    finally:
        process.kill()
    error = said.read_text()
    assert "Traceback" not in error
    assert "continue with --resume" in error.splitlines()[-1]
    state = load_training_state(tmp_path / "run" / "last.ckpt")["state"]
    assert state["step"] >= 3
    if number == signal.SIGTERM:  # one resumed run is enough
        return
    changed = yaml.safe_load(recipe.read_text())
    changed["train"]["epochs"] = 1 + state["step"] // 6
    recipe.write_text(yaml.safe_dump(changed))
    assert ended(started(*command, "--resume", stderr=said), 120) == 0
    assert load_trained(tmp_path / "run").class_names[0] == "sugar_beet"


def test_workers_change_nothing(tmp_path: Path, rendered: Path) -> None:
    losses = []
    for workers in (0, 1):
        recipe = load_recipe(write_recipe(tmp_path / f"{workers}.yaml", rendered, train={"workers": workers}))
        watcher = Quiet()
        train(recipe, tmp_path / f"run{workers}", watcher=watcher)
        losses.append(watcher.losses)
    assert len(losses[0]) == 6
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_the_published_datasets_train_as_they_stand(tmp_path: Path, real_dataset) -> None:
    for name, source in (("cwfid", "annotations.json"), ("apple_bbch81", "data.yaml"), ("sesame_weed", "data.yaml")):
        recipe = load_recipe(
            write_recipe(tmp_path / f"{name}.yaml", real_dataset(name) / source), ["train.max_minutes=0.1"]
        )
        watcher = Quiet()
        train(recipe, tmp_path / name, watcher=watcher)
        assert watcher.losses
        assert json.dumps(load_trained(tmp_path / name).class_names) in (
            '["crop", "weed"]',
            '["apple"]',
        )


def test_a_full_disk_is_one_line_and_costs_no_checkpoint(tmp_path: Path, rendered: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", rendered, train={"epochs": 1, "loggers": ["csv"]})
    train(load_recipe(recipe), tmp_path / "run", watcher=Quiet())
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    longer = ["train", recipe, "-s", "train.epochs=2", "--out", tmp_path / "run", "--resume"]
    process = started(*longer, stderr=tmp_path / "said", file_limit_bytes=len(before) // 2)
    assert ended(process, 120) == 1
    error = (tmp_path / "said").read_text()
    assert "Traceback" not in error
    assert "last.ckpt: cannot be written" in error.splitlines()[-1]
    assert "the one from before is intact" in error.splitlines()[-1]
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == before
    assert not list((tmp_path / "run").glob(".*partial"))
    train(load_recipe(recipe, ["train.epochs=2"]), tmp_path / "run", watcher=Quiet(), resume=True)
    assert len(rows(tmp_path / "run")) == 12


def _written_since(path: Path, begun_ns: int) -> bool:
    return path.exists() and path.stat().st_mtime_ns > begun_ns


def killed_and_resumed(tmp_path: Path, rendered: Path, kills: int, seed: int) -> None:
    """A run killed without warning at random moments can go on every time, and ends with all of its steps."""
    changes = {"epochs": 400, "save_every_minutes": 0.001, "loggers": ["csv"]}
    recipe = write_recipe(tmp_path / "r.yaml", rendered, train=changes)
    out = tmp_path / "run"
    random, step, resumed = np.random.default_rng(seed), 0, 0
    while resumed < kills:
        going_on = ["--resume"] if (out / "last.ckpt").exists() else []
        begun = (out / "last.ckpt").stat().st_mtime_ns if going_on else 0
        process = started("train", recipe, "--out", out, *going_on, stderr=tmp_path / "said")
        try:
            wait_for(process, partial(_written_since, out / "last.ckpt", begun))
            time.sleep(random.uniform(0, 0.5))
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        state = load_training_state(out / "last.ckpt")["state"]
        assert state["step"] > step
        step, resumed = state["step"], resumed + bool(going_on)
    train(load_recipe(recipe, [f"train.epochs={1 + step // 6}"]), out, watcher=Quiet(), resume=True)
    numbers = [int(row["step"]) for row in rows(out)]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= step


def test_kill_9_at_two_random_moments(tmp_path: Path, rendered: Path) -> None:
    killed_and_resumed(tmp_path, rendered, kills=2, seed=0)


@pytest.mark.slow
def test_kill_9_at_twenty_random_moments(tmp_path: Path, rendered: Path) -> None:
    killed_and_resumed(tmp_path, rendered, kills=20, seed=1)


def test_a_run_ends_where_validations_get_no_better(tmp_path: Path, rendered: Path) -> None:
    changes = {"epochs": 50, "validate_every": 1, "patience": 2, "learning_rate": 1e-9}
    data = {"val": str(rendered), "allow": ["splits-identical"]}
    watcher = Quiet()
    train(
        load_recipe(write_recipe(tmp_path / "r.yaml", rendered, train=changes, data=data)),
        tmp_path / "run",
        watcher=watcher,
    )
    # the first is the best, for nothing is learned at such a rate; two more get no better
    assert len(watcher.validations) == 3
    assert any("train.patience" in note for note in watcher.notes)


def test_a_validation_with_nothing_to_find_chooses_no_step_and_uses_no_patience(
    tmp_path: Path, rendered: Path
) -> None:
    some = load_dataset(rendered).subset([0, 1])
    bare = [replace(i, boxes_xyxy=i.boxes_xyxy[:0], labels=i.labels[:0], areas_px=i.areas_px[:0],
                    iscrowd=i.iscrowd[:0], truncated=i.truncated[:0]) for i in some.images]  # fmt: skip
    save_coco(replace(some, images=tuple(bare)), tmp_path / "bare.json")
    allow = ["duplicate-across", "group-on-both-sides", "near-duplicate-across", "overlap-across"]
    recipe = write_recipe(
        tmp_path / "r.yaml",
        rendered,
        data={"val": str(tmp_path / "bare.json"), "allow": allow},
        train={"epochs": 4, "batch_size": 6, "validate_every": 1, "patience": 2},
    )
    watcher = Quiet()
    best = train(load_recipe(recipe), tmp_path / "run", watcher=watcher)
    assert len(watcher.losses) == 8 and [v["AP"] for v in watcher.validations] == [-1] * 4  # to its end
    assert any("AP is undefined, so that the last weights are kept" in note for note in watcher.notes)
    assert not any("train.patience)" in note for note in watcher.notes)
    assert [row["AP"] for row in rows(tmp_path / "run")] == [""] * 12
    last = load_training_state(tmp_path / "run" / "last.ckpt")
    assert last["state"]["best_step"] == 8
    kept = load_file(best)
    assert all(torch.equal(kept[k], v) for k, v in last["ema"].items() if k in kept) if last["ema"] else kept


def test_the_moving_average_is_what_is_kept(tmp_path: Path, rendered: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered, train={"ema_decay": 0.9}))
    train(recipe, tmp_path / "run", watcher=Quiet())
    state, kept = (
        load_training_state(tmp_path / "run" / "last.ckpt"),
        load_file(tmp_path / "run" / "best.safetensors"),
    )
    name = "head.classification_head.cls_logits.weight"
    assert torch.equal(kept[name], state["ema"][f"module.{name}"])
    assert not torch.equal(kept[name], state["model"][name])
    plain = load_recipe(tmp_path / "r.yaml", ["train.ema_decay=0"])
    train(plain, tmp_path / "plain", watcher=Quiet())
    last = load_training_state(tmp_path / "plain" / "last.ckpt")
    assert last["ema"] is None
    assert torch.equal(load_file(tmp_path / "plain" / "best.safetensors")[name], last["model"][name])


def test_a_run_says_what_it_was_made_with(run: Path, rendered: Path) -> None:
    said = json.loads((run / "environment.json").read_text())
    assert said["packages"]["torch"] and said["dataset"] == load_dataset(rendered).fingerprint()
