"""The demo's own arithmetic; the demo as a whole is `make demo`."""

import json
from pathlib import Path

import pytest

from detection.cli.demo import run_demo, score_drive
from detection.runtime.errors import SwathError


def line(frame: int, *detections: tuple[list[float], float, str]) -> str:
    found = [{"box_xyxy": box, "score": score, "label": 0, "class": name} for box, score, name in detections]
    return json.dumps({"schema": 1, "frame": frame, "detections": found})


def test_a_drive_scored_by_hand(tmp_path: Path) -> None:
    truth = {
        "images": [{"id": 7, "frame": 0}, {"id": 8, "frame": 1}, {"id": 9, "frame": 2}],
        "categories": [{"id": 4, "name": "beet"}, {"id": 2, "name": "weed"}],
        "annotations": [
            {"image_id": 7, "category_id": 4, "bbox": [10, 10, 20, 20]},
            {"image_id": 7, "category_id": 2, "bbox": [60, 10, 20, 20]},
            {"image_id": 8, "category_id": 2, "bbox": [10, 10, 20, 20]},
            {"image_id": 9, "category_id": 4, "bbox": [10, 10, 20, 20]},
        ],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(truth))
    lines = [
        # a hit at IoU 0.9, its duplicate, and a hit at IoU 0.5 exactly
        line(0, ([10, 10, 30, 28], 0.9, "beet"), ([10, 10, 30, 30], 0.8, "beet"), ([60, 10, 80, 20], 0.7, "weed")),
        line(1, ([10, 10, 30, 30], 0.9, "beet")),  # right place, wrong class
        line(2),  # the last one is missed
    ]
    (tmp_path / "detections.jsonl").write_text("\n".join(lines) + "\n")
    score = score_drive(tmp_path / "detections.jsonl", tmp_path / "annotations.json")
    assert score == {"frames": 3, "boxes": 4, "detections": 4, "hits": 2, "precision": 0.5, "recall": 0.5}


def test_a_silent_detector_scores_zero_without_a_crash(tmp_path: Path) -> None:
    truth = {"images": [{"id": 1, "frame": 0}], "categories": [{"id": 1, "name": "weed"}], "annotations": []}
    (tmp_path / "annotations.json").write_text(json.dumps(truth))
    (tmp_path / "detections.jsonl").write_text(line(0) + "\n")
    score = score_drive(tmp_path / "detections.jsonl", tmp_path / "annotations.json")
    assert (score["precision"], score["recall"]) == (0.0, 0.0)


def test_the_demo_overwrites_nothing_but_a_demo(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SwathError, match="no demo; give another --out"):
        run_demo(tmp_path)
    with pytest.raises(SwathError, match="is a file"):
        run_demo(tmp_path / "thesis.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
