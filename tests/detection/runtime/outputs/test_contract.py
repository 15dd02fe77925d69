from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from detection.runtime.detections import Detections
from detection.runtime.events import Event
from detection.runtime.outputs.contract import RECORD_SCHEMA, FoundObject, Record, per_camera
from detection.runtime.outputs.csv import COLUMNS
from detection.runtime.outputs.jsonl import EVENT_SCHEMA
from tests.detection.runtime.outputs.shots import found_things, frame_of, record_of

GUIDE = Path(__file__).parents[4] / "docs/robot/outputs.md"


def test_record_is_the_published_schema() -> None:
    record = record_of(frame_of(7, captured_ns=1_000), found_things())
    assert json.loads(json.dumps(record)) == {
        "schema": 1,
        "camera": "left",
        "frame": 7,
        "captured_ns": 1000,
        "age_ms": 12.346,
        "latency_ms": {"infer": 9.877},
        "stream_s": None,
        "counted": None,
        "detections": [
            {
                "box_xyxy": [10.12, 11.99, 30.0, 31.5],
                "score": 0.8765,
                "label": 1,
                "class": "crop",
                "track_id": None,
            },
            {"box_xyxy": [0.0, 0.0, 96.0, 64.0], "score": 0.5, "label": 0, "class": "weed", "track_id": None},
        ],
    }


def test_record_of_an_empty_field_and_of_tracks() -> None:
    assert record_of(frame_of(), Detections.empty())["detections"] == []
    assert [d["track_id"] for d in record_of(frame_of(), found_things(tracked=True))["detections"]] == [4, 5]
    found = found_things()
    unsure = Detections(
        found.boxes_xyxy, found.scores, found.labels, np.array([-1, 5])
    )  # a tracker's word for no plant yet
    assert [d["track_id"] for d in record_of(frame_of(), unsure)["detections"]] == [None, 5]


def test_name_per_camera() -> None:
    assert per_camera(Path("a/out.mp4"), "10.0.0.7:554/s 1") == Path("a/out-10.0.0.7_554_s_1.mp4")


# --- the guide says what the code does ---


def _documented(title: str) -> list[str]:
    """The first column of the table under a heading of the guide."""
    section = GUIDE.read_text(encoding="utf-8").split(f"\n### {title}", 1)[1].split("\n##", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def _keys(of: Any) -> list[str]:
    return list(get_type_hints(of))


def test_guide_has_every_key_of_a_record() -> None:
    wanted = [*_keys(Record), *(f"detections[].{key}" for key in _keys(FoundObject))]
    assert _documented("A line of `--jsonl`") == wanted
    assert f"schema {RECORD_SCHEMA}" in GUIDE.read_text(encoding="utf-8")


def test_guide_has_every_key_of_an_event() -> None:
    event = {"schema": EVENT_SCHEMA, **Event("camera", "left", "lost").to_json()}
    assert _documented("A line of `--events`") == list(event)


def test_guide_has_every_column_of_the_csv() -> None:
    assert _documented("A row of `--csv`") == list(COLUMNS)
