"""A new output is one file and one line: the machine's YAML, flags, checks and the example know it by that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from detection.runtime.operations.machine import Outputs
from detection.runtime.operations.machine_file import example_machine
from detection.runtime.outputs import KINDS

ROOT = Path(__file__).parents[4]
WITH_TALLY = """
import sys
import detection.runtime.outputs as outputs
from tests.detection.runtime.outputs.tally import KIND
outputs.KINDS += (KIND,)  # the line that would be added there
from detection.cli.app import main
main(sys.argv[1:])
"""


def swath_with_tally(*arguments: object, code: int = 0) -> tuple[str, str]:
    command = [sys.executable, "-c", WITH_TALLY, *map(str, arguments)]
    wide = {**os.environ, "COLUMNS": "400"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=wide, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout, " ".join(done.stderr.replace("│", " ").split())


def test_a_new_output_is_one_short_file() -> None:
    assert len(Path(__file__).with_name("tally.py").read_text().splitlines()) <= 60


def test_its_flags_write_it(model_path: Path, video_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "tally.json"
    swath_with_tally("stream", model_path, video_path, "--tally", out, "--tally-factor", "2")
    assert json.loads(out.read_text()) == {"weed": 60.0}
    out.unlink()
    _, error = swath_with_tally("stream", model_path, video_path, "--tally", out, "--tally-factor", "-1", code=2)
    assert "Invalid value for --tally-factor: Input should be greater than 0" in error
    assert not out.exists()
    shown, _ = swath_with_tally("stream", "--help")
    assert "--tally-factor" in shown and "Boxes by class." in shown


def test_a_machine_writes_it_and_is_checked(model_path: Path, video_path: Path, tmp_path: Path) -> None:
    machine = {
        "model": {"path": str(model_path), "unverified": True},
        "cameras": [{"name": "front", "source": str(video_path)}],
        "outputs": {"tally": {"path": "out/tally.json"}},
    }
    path = tmp_path / "machine.yaml"
    path.write_text(yaml.safe_dump(machine))
    swath_with_tally("stream", "--machine", path)
    assert json.loads((tmp_path / "out" / "tally.json").read_text()) == {"weed": 30.0}
    shown, _ = swath_with_tally("machine", "check", path, code=1)
    assert "outputs.tally" in shown and "needs: pip install swath-tally" in shown
    assert str(tmp_path / "out" / "tally.json") in shown
    machine["outputs"] = {"tally": {"pth": "x"}}
    path.write_text(yaml.safe_dump(machine))
    _, error = swath_with_tally("machine", "check", path, code=1)
    assert "outputs.tally.pth: unknown key; did you mean outputs.tally.path?" in error
    shown, _ = swath_with_tally("machine", "example")
    assert "# tally: season/tally.json # boxes by class" in shown


def test_no_option_and_no_key_comes_twice() -> None:
    options = [flag.option(kind.key) for kind in KINDS for flag in kind.flags]
    assert len(options) == len(set(options)) >= len(KINDS)
    keys = [kind.key for kind in KINDS]
    assert len(keys) == len(set(keys)) and set(keys) < set(Outputs.model_fields)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.key)
def test_each_example_is_valid_and_described(kind, tmp_path: Path) -> None:
    assert kind.about and kind.flags and all(flag.help for flag in kind.flags)
    settings = yaml.safe_load(kind.example)
    (chosen,) = Outputs.model_validate({kind.key: settings}, context={"folder": tmp_path}).chosen
    assert chosen[0] is kind
    for path in kind.writes(chosen[1]):
        assert path.is_relative_to(tmp_path)
    assert f"{kind.key}: {kind.example}" in example_machine()


def test_the_kinds_are_known_without_numpy_or_opencv() -> None:
    code = (
        "import sys, detection.runtime.outputs\n"
        "assert not {'numpy', 'cv2', 'onnxruntime', 'mcap', 'paho', 'starlette', 'rich'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
