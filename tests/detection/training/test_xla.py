"""TPUs, tried on XLA's own client for the CPU, with the torch that torch_xla was built for."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest

from detection.models.checkpoint import load_trained
from detection.recipe.reading import load_recipe
from detection.training.train import train
from tests.detection.conftest import Quiet, write_recipe

ROOT = Path(__file__).parents[3]
PINS = ("torch==2.9.1", "torchvision==0.24.1", "torch_xla==2.9.0")
DRIVER = """
import json, sys
from pathlib import Path
import torch_xla.debug.metrics as metrics
from detection.recipe.reading import load_recipe
from detection.training.watcher import NullWatcher
from detection.training.train import train

class Counting(NullWatcher):
    rows = []
    def step(self, taken):
        self.rows.append({"loss": sum(taken.losses.values()), "compiled": metrics.metric_data("CompileTime")[0]})

if __name__ == "__main__":
    train(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), watcher=Counting())
    print(json.dumps(Counting.rows))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> str:
    """The interpreter of an environment of its own; SWATH_XLA_VENV names one to be kept for the next time."""
    kept = os.environ.get("SWATH_XLA_VENV")
    venv = Path(kept) if kept else tmp_path_factory.mktemp("xla") / "venv"
    interpreter = venv / "bin" / "python"
    if not interpreter.is_file():
        others = [
            line
            for line in (ROOT / "constraints.txt").read_text().splitlines()
            if not re.match(r"(torch|torchvision|nvidia|triton|cuda)\b", line, re.IGNORECASE)
        ]
        constraints = tmp_path_factory.mktemp("pins") / "constraints.txt"
        constraints.write_text("\n".join([*others, *PINS]))
        install = [str(interpreter), "-m", "pip", "install", "--quiet", "--constraint", str(constraints)]
        for command in ([sys.executable, "-m", "venv", str(venv)], [*install, f"{ROOT}[train]", *PINS]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"torch_xla cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return str(interpreter)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_training_on_xla_learns_what_one_on_the_cpu_does_and_compiles_no_more(python, tmp_path, rendered):
    sections = {
        "model": {"assign": "task_aligned"},
        "train": {"epochs": 2, "save_every_minutes": 0.5},
        "data": {"val": str(rendered), "allow": ["splits-identical"]},
    }
    recipe = write_recipe(tmp_path / "r.yaml", rendered, **sections)
    watcher = Quiet()
    train(load_recipe(recipe), tmp_path / "cpu", watcher=watcher)
    recipe.write_text(recipe.read_text().replace("accelerator: cpu", "accelerator: tpu"))
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    environment = {**os.environ, "PJRT_DEVICE": "CPU", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, str(driver), str(recipe), str(tmp_path / "xla")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(done.stdout.splitlines()[-1])
    assert len(rows) == 12
    assert rows[0]["loss"] == pytest.approx(watcher.losses[0], rel=1e-3)
    # later on, a hair's difference decides which positions learn a box
    assert [row["loss"] for row in rows[:4]] == pytest.approx(watcher.losses[:4], rel=0.03)
    assert fmean(row["loss"] for row in rows) == pytest.approx(fmean(watcher.losses), rel=0.1)
    assert {row["compiled"] for row in rows[2:]} == {rows[2]["compiled"]}  # the first two steps compile all there is
    assert load_trained(tmp_path / "xla").metrics["AP"] >= 0


def test_without_torch_xla_it_is_said(tmp_path, rendered):
    if "torch_xla" in sys.modules:
        pytest.skip("torch_xla is here")
    with pytest.raises(Exception, match="torch_xla cannot be used here"):
        train(
            load_recipe(write_recipe(tmp_path / "r.yaml", rendered), ["train.accelerator=tpu"]),
            tmp_path / "run",
            watcher=Quiet(),
        )
