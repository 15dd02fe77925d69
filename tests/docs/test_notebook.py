"""The notebook of the docs: run from beginning to end, in an empty folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
import pytest
from notebook import run

NOTEBOOK = Path(__file__).parents[2] / "docs/notebooks/first_detector.ipynb"


def test_no_cell_failed_when_it_was_run_last() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    assert len(cells) > 8
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


@pytest.mark.slow
def test_it_runs_and_finds_plants(tmp_path: Path) -> None:
    notebook = tmp_path / NOTEBOOK.name
    shutil.copyfile(NOTEBOOK, notebook)
    run(notebook, tmp_path / "work")
    assert json.loads((tmp_path / "work/report/metrics.json").read_text())["coco"]["AP50"] > 0.5
    lines = [json.loads(line) for line in (tmp_path / "work/detections.jsonl").read_text().splitlines()]
    assert len(lines) == 60 and sum(len(line["detections"]) for line in lines) > 60
