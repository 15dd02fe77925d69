from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection.runtime.detections import Detections
from detection.runtime.events import Event
from detection.runtime.outputs.jsonl import EventsOutput, JsonlOutput
from tests.detection.runtime.outputs.kills import kill_while_writing
from tests.detection.runtime.outputs.shots import frame_of, write


def test_lines_are_whole_as_soon_as_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    with JsonlOutput(path) as output:
        records = []
        for i in range(40):
            records.append(write(output, frame_of(i)))
            content = path.read_text()  # as one who follows the file sees it
            assert content.endswith("\n")
            assert [json.loads(line) for line in content.splitlines()] == records


def test_long_lines_are_whole_too(tmp_path: Path) -> None:
    many = Detections(np.zeros((2000, 4)), np.full(2000, 0.5), np.zeros(2000, int))
    with JsonlOutput(tmp_path / "out.jsonl") as output:
        records = [write(output, frame_of(i), many if i % 2 else None) for i in range(6)]
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == records


def test_events_have_a_file_of_their_own(tmp_path: Path) -> None:
    event = Event("camera", "left", "lost", "no image for 2 s", at_ns=5, at_unix_s=1.23456)
    with EventsOutput(tmp_path / "events.jsonl") as output, JsonlOutput(tmp_path / "out.jsonl") as records:
        for one in (output, records):
            one.event(event)
            write(one, frame_of())
    assert [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()] == [
        {
            "schema": 1,
            "kind": "camera",
            "subject": "left",
            "status": "lost",
            "message": "no image for 2 s",
            "at_ns": 5,
            "at_unix_s": 1.235,
        }
    ]
    (line,) = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(line)["camera"] == "left"


@pytest.mark.parametrize("count", [3, 25])
def test_a_killed_stream_leaves_whole_lines(tmp_path: Path, count: int) -> None:
    path = tmp_path / "out.jsonl"
    for _ in range(5):
        kill_while_writing("jsonl", path, count=count, after_s=(0.0, 0.1))
        content = path.read_text()
        assert content.endswith("\n")
        read: list[Any] = [json.loads(line) for line in content.splitlines()]
        assert [record["frame"] for record in read] == list(range(len(read))) and read
        assert all(len(record["detections"]) == count for record in read)
