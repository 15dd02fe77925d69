import csv
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detection.evaluation.coco_metrics import NAMES
from detection.recipe.reading import RecipeError, load_recipe
from detection.runtime.errors import SwathError
from detection.training.metrics_logger import MetricsLogger
from detection.training.run_loggers import check_loggers
from tests.detection.conftest import swath, write_recipe

METRICS = {name: 0.1 * number for number, name in enumerate(NAMES)}
IMAGE = np.zeros((20, 30, 3), np.uint8)
IMAGE[..., 0] = 200  # red


def written(out: Path, *, first_step: int = 0, loggers=("csv", "tensorboard")) -> None:
    logger = MetricsLogger(
        out, first_step=first_step, steps_per_epoch=2, loggers=loggers, recipe={"train": {"epochs": 3}}
    )
    for number in range(first_step + 1, first_step + 4):
        logger.log_step(number, 90.0, {"a": 0.5, "b": number / 10}, 1e-3)
    per_class = {"beet": 0.4, "absent": -1.0, "fat [hen]": 0.2}
    logger.log_validation(first_step + 3, 90.0, METRICS, per_class=per_class, image_rgb=IMAGE)
    logger.close()


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def events(out: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(out), size_guidance={"images": 0})
    accumulator.Reload()
    return accumulator


def test_a_row_a_step_and_one_a_validation(tmp_path: Path) -> None:
    written(tmp_path)
    table = rows(tmp_path)
    assert [row["step"] for row in table] == ["1", "2", "3", "3"]
    assert table[1]["epoch"] == "1.000" and table[1]["minutes"] == "1.500"
    assert table[1]["loss"] == "0.70000" and table[1]["losses"] == "a=0.50000 b=0.20000"
    assert table[3]["AP50"] == "0.10000" and table[3]["loss"] == ""


def test_tensorboard_has_numbers_classes_and_images(tmp_path: Path) -> None:
    written(tmp_path)
    seen = events(tmp_path)
    assert [e.value for e in seen.Scalars("train/loss")] == pytest.approx([0.6, 0.7, 0.8])
    assert seen.Scalars("val/AP75")[0].value == pytest.approx(0.2)
    assert seen.Scalars("val_AP/beet")[0].step == 3
    assert "val_AP/absent" not in seen.Tags()["scalars"]
    import cv2

    image = cv2.imdecode(np.frombuffer(seen.Images("val/images")[0].encoded_image_string, np.uint8), 1)
    assert image.shape == (20, 30, 3)
    assert image[10, 10].tolist() == [0, 0, 200]  # BGR: it is red still


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    written(tmp_path)
    time.sleep(1.1)  # event files are read in the order of their names, which begin with the second
    written(tmp_path, first_step=2)
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3", "4", "5", "5"]
    assert [e.step for e in events(tmp_path).Scalars("train/loss")] == [1, 2, 3, 4, 5]


def test_only_what_was_asked_for_is_written(tmp_path: Path) -> None:
    written(tmp_path, loggers=("csv",))
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]
    (tmp_path / "none").mkdir()
    written(tmp_path / "none", loggers=())
    assert not list((tmp_path / "none").iterdir())


def test_a_recipe_names_loggers(tmp_path: Path, rendered: Path) -> None:
    path = write_recipe(tmp_path / "r.yaml", rendered)
    assert load_recipe(path).train.loggers == ("csv", "tensorboard")
    assert load_recipe(path, ["train.loggers=[csv, mlflow]"]).train.loggers == ("csv", "mlflow")
    with pytest.raises(RecipeError, match="train.loggers.*'csv', 'tensorboard', 'mlflow' or 'wandb'"):
        load_recipe(path, ["train.loggers=[comet]"])


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_answered_by_what_to_install(name: str, monkeypatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "pytorch_lightning" else real(n, *a))
    with pytest.raises(
        SwathError, match=rf'train.loggers: {name} needs more packages: pip install "swath\[{name}\]"'
    ):
        check_loggers(["csv", name])
    check_loggers(["csv", "tensorboard"])


def test_a_logger_that_cannot_be_had_stops_training_before_it_writes(tmp_path, rendered, capsys, monkeypatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == "mlflow" else real(n, *a))
    recipe = write_recipe(tmp_path / "r.yaml", rendered, train={"loggers": ["csv", "mlflow"]})
    code, _, error = swath(capsys, "train", recipe, "--out", tmp_path / "run")
    assert code == 1
    assert error.splitlines()[-1] == 'swath: train.loggers: mlflow needs more packages: pip install "swath[mlflow]"'
    assert not (tmp_path / "run").exists()


def test_a_training_shows_the_same_images_at_each_validation(run: Path) -> None:
    seen = events(run)
    images = seen.Images("val/images")
    assert [image.step for image in images] == [12, 18]
    assert images[0].width == images[1].width == 6 + 2 * (640 + 6)
    assert [e.step for e in seen.Scalars("val_AP/sugar_beet")] == [12, 18]


def run_alone(code: str, out: Path, **environment: str) -> None:
    """Both packages change their process (environment, threads, warnings filters): each gets its own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "MLFLOW"))}
    subprocess.run(
        [sys.executable, "-c", code, str(out)],
        check=True,
        env={**inherited, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=300,
    )


WRITE = """
import sys
from pathlib import Path
from tests.detection.training.test_metrics_logger import written
if __name__ == "__main__":
    written(Path(sys.argv[1]), loggers=("csv", "{name}"))
    written(Path(sys.argv[1]), first_step=3, loggers=("csv", "{name}"))
"""


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("pytorch_lightning", "mlflow", "sqlalchemy")),
    reason='MLflow is not installed: pip install "swath[mlflow]"',
)
def test_mlflow_keeps_a_run_in_a_database_beside_it(tmp_path: Path) -> None:
    import sqlite3

    out = tmp_path / "run"
    out.mkdir()
    run_alone(WRITE.format(name="mlflow"), out)
    entry = json.loads((out / "loggers.json").read_text())["mlflow"]
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        ask = database.execute
        assert ask("select name, status, run_uuid from runs").fetchall() == [("run", "FINISHED", entry)]
        losses = ask("select step, value from metrics where key = 'train/loss' order by step").fetchall()
        assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
        assert losses[0][1] == pytest.approx(0.6)
        assert ask("select value from params where key = 'train/epochs'").fetchall() == [("3",)]
        assert ask("select count(*) from metrics where key = 'val_AP/fat _hen_'").fetchall() == [(2,)]
    assert len(list((tmp_path / "mlartifacts").rglob("*.png"))) == 2


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("pytorch_lightning", "wandb")),
    reason='W&B is not installed: pip install "swath[wandb]"',
)
def test_wandb_without_a_key_writes_into_the_run_folder_alone(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    run_alone(WRITE.format(name="wandb"), out)
    runs = list((out / "wandb").glob("offline-run-*"))
    entry = json.loads((out / "loggers.json").read_text())["wandb"]
    assert runs and all(folder.name.endswith(entry) for folder in runs)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
