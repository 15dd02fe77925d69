"""Cheap commands of the docs are run as they are written, in a folder with photos like a reader's."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from text import said, words

from detection.cli.app import main

ROOT = Path(__file__).parents[2]
CHEAP = re.compile(
    r"swath (data (check|split|convert|tile|preview|fetch --list)|machine|doctor$|--version|--help|.* --help)"
)
FINDS_PROBLEMS = ("swath machine check", "swath doctor", "swath data check")  # they say so by exit code 1
NOT_HERE = ("VOCdevkit", "../shared", "drone", "season", "photos/train.txt", "parts/train.json --against", "/etc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder: rendered photos of several fields, a split, the recipes, a machine's YAML."""
    from data.synthetic import render_dataset
    from detection.runtime.operations.machine_file import example_machine

    folder = tmp_path_factory.mktemp("reader")
    render_dataset(folder / "photos", images=12, size_hw=(120, 160), fields=6, seed=3)
    for part in ("train", "test"):
        render_dataset(folder / "photos" / part, images=4, size_hw=(120, 160), fields=2, seed=4)
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "machine.yaml").write_text(example_machine())
    return folder


LINES = sorted(
    {
        one.text
        for one in said()
        if one.kind == "line" and CHEAP.match(one.text) and not any(word in one.text for word in NOT_HERE)
    }
)


def test_there_are_some() -> None:
    assert len(LINES) >= 10


@pytest.mark.parametrize("line", LINES)
def test_a_cheap_command_runs(line: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = shutil.copytree(folder, tmp_path / "work")
    monkeypatch.chdir(work)
    with pytest.raises(SystemExit) as ended:
        main(words(line)[1:])
    assert ended.value.code in ((0, 1, None) if line.startswith(FINDS_PROBLEMS) else (0, None)), line
    for option, written in zip(words(line), words(line)[1:], strict=False):
        if option in ("--html", "--out", "--json"):
            assert (work / written).exists(), line
