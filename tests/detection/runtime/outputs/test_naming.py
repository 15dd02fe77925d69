from __future__ import annotations

from datetime import datetime
from pathlib import Path

from detection.runtime.outputs.naming import dated, plain, timed

WHEN = datetime(2026, 5, 1, 6, 30, 9)


def test_date_and_time_stand_where_they_are_asked_for() -> None:
    assert dated(Path("a/{date}/x-{time}.jsonl"), WHEN) == Path("a/2026-05-01/x-{time}.jsonl")
    assert timed(Path("a/{date}/x-{time}.mp4"), WHEN) == Path("a/2026-05-01/x-06-30-09.mp4")
    assert timed(Path("a/x.mp4"), WHEN) == Path("a/x.mp4")


def test_plain_names() -> None:
    assert plain("10.0.0.7:554/s 1") == "10.0.0.7_554_s_1"
    assert plain("left") == "left"
