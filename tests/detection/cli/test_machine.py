"""`swath machine` and `swath replay` as a user meets them."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from detection.cli.machine import app
from detection.cli.replay import EXAMPLE as REPLAY_EXAMPLE
from detection.cli.replay import replay
from detection.runtime.errors import SourceError
from detection.runtime.operations.machine_file import MachineError, load_machine


def test_the_example_is_where_one_begins(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["example"])
    assert shown.exit_code == 0
    path = tmp_path / "machine.yaml"
    path.write_text(shown.stdout)
    assert load_machine(path, fill_in=False).machine.name == "sprayer-7"
    unit = CliRunner().invoke(app, ["unit", str(path), "--user", "robot", "--watchdog-s", "20"])
    assert unit.exit_code == 0 and "User=robot" in unit.stdout and "WatchdogSec=20" in unit.stdout
    checked = CliRunner(env={name: "x" * 8 for name in _variables(shown.stdout)}).invoke(app, ["check", str(path)])
    assert checked.exit_code == 1 and "there is no such" in checked.stdout and "x" * 8 not in checked.stdout


def _variables(text: str) -> list[str]:
    return [part.partition("}")[0] for part in text.split("${")[1:]]


def test_a_mistake_and_help(tmp_path: Path) -> None:
    broken = tmp_path / "m.yaml"
    broken.write_text("camera: []\n")
    result = CliRunner().invoke(app, ["check", str(broken)])
    assert isinstance(result.exception, MachineError) and "did you mean cameras?" in str(result.exception)
    for command in ("example", "check", "unit"):
        shown = CliRunner().invoke(app, [command, "--help"])
        assert shown.exit_code == 0 and "swath machine" in shown.stdout


def test_replay_takes_a_model_and_a_recording(tmp_path: Path) -> None:
    alone = typer.Typer()
    alone.command(epilog=REPLAY_EXAMPLE)(replay)
    assert "swath replay crop_weed.onnx" in CliRunner().invoke(alone, ["--help"]).stdout
    result = CliRunner().invoke(alone, ["model.onnx", str(tmp_path)])
    assert isinstance(result.exception, SourceError)
    with pytest.raises(SourceError, match="no recording there"):
        raise result.exception
