"""The public face: every name there, light until a training name is asked for, and never somebody else's package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import swath

ROOT = Path(__file__).parents[2]


def python(code: str, cwd: Path, *path: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120)


def test_every_public_name_is_there() -> None:
    for name in swath.__all__:
        assert getattr(swath, name) is not None
    assert {"Detector", "Detections", "Frame", "open_source", "run_stream", "PlantTracker"} <= set(dir(swath))
    assert {"load_dataset", "train", "evaluate", "export"} <= set(dir(swath))
    with pytest.raises(AttributeError, match="no attribute 'detect'"):
        _ = swath.detect


def test_no_torch_until_a_training_name_is_asked_for(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from swath import Detections, Detector, Frame, PlantTracker, load_dataset, open_source, run_stream\n"
        "assert not {'torch', 'albumentations', 'pycocotools'} & set(sys.modules)\n"
        "from swath import train\n"
        "assert 'torch' in sys.modules\n"
    )
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_help_shows_an_example_of_ten_lines(tmp_path: Path) -> None:
    shown = python("help(__import__('swath'))", tmp_path)
    example = [line for line in shown.stdout.splitlines() if line.startswith("        ")]
    assert "from swath import Detector" in shown.stdout
    assert len(example) >= 8, shown.stdout


def test_packages_say_that_they_are_typed() -> None:
    for name in ("swath", "detection", "data"):
        assert (ROOT / name / "py.typed").is_file()


@pytest.mark.parametrize("name", ["data", "detection"])
@pytest.mark.parametrize("as_folder", [True, False])
def test_a_package_of_the_users_that_hides_ours_is_one_line(tmp_path: Path, name: str, as_folder: bool) -> None:
    hiding = tmp_path / name / "__init__.py" if as_folder else tmp_path / f"{name}.py"
    hiding.parent.mkdir(exist_ok=True)
    hiding.write_text("mine = True\n")
    done = python("from swath.__main__ import main; main(['--help'])", tmp_path, tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"swath: the package {name!r} of Swath is hidden by {hiding}: rename that one, or start from another folder"
    )
    imported = python(f"import {name}; from swath import Detector", tmp_path, tmp_path)
    assert imported.returncode == 1 and str(hiding) in imported.stderr.splitlines()[-1]
