from __future__ import annotations

import csv
from pathlib import Path

import pytest

from detection.runtime.detections import Detections
from detection.runtime.errors import OutputError
from detection.runtime.outputs.contract import make_record
from detection.runtime.outputs.csv import COLUMNS, CsvOutput
from tests.detection.runtime.outputs.kills import kill_while_writing
from tests.detection.runtime.outputs.shots import found_things, frame_of, record_of, write


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_a_row_per_detection(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.csv"
    with CsvOutput(path) as output:
        write(output, frame_of(7, captured_ns=1000, stream_s=0.28), found_things(2, tracked=True))
        write(output, frame_of(8), Detections.empty())
        write(output, frame_of(9, captured_ns=2000), found_things(1))
    assert path.read_bytes().startswith(",".join(COLUMNS).encode() + b"\r\n")
    rows = rows_of(path)
    assert rows[0] == {
        "schema": "1",
        "camera": "left",
        "frame": "7",
        "captured_ns": "1000",
        "age_ms": "12.346",
        "stream_s": "0.28",
        "x1": "10.12",
        "y1": "11.99",
        "x2": "30.0",
        "y2": "31.5",
        "label": "1",
        "class": "crop",
        "track_id": "4",
        "score": "0.8765",
    }
    assert [(row["frame"], row["track_id"], row["stream_s"]) for row in rows[1:]] == [
        ("7", "5", "0.28"),
        ("9", "", ""),
    ]


def test_nothing_found_is_a_header_alone(tmp_path: Path) -> None:
    with CsvOutput(tmp_path / "out.csv") as output:
        write(output, frame_of(), Detections.empty())
    assert rows_of(tmp_path / "out.csv") == []


def test_names_with_commas_quotes_and_breaks(tmp_path: Path) -> None:
    frame, found = frame_of(camera='left, "upper"'), found_things(1)
    record = make_record(frame, found, ("a", "beet, sugar\nyoung"), age_ms=1.0, latency_ms={})
    with CsvOutput(tmp_path / "out.csv") as output:
        output.write(frame, found, record)
    (row,) = rows_of(tmp_path / "out.csv")
    assert (row["camera"], row["class"]) == ('left, "upper"', "beet, sugar\nyoung")


def test_fill_changes_no_value(tmp_path: Path) -> None:
    """Rows are filled up to pages with zeros behind the score: over many pages all scores read as they were."""
    path = tmp_path / "out.csv"
    with CsvOutput(path) as output:
        for i in range(400):
            write(output, frame_of(i), found_things(1))
    rows = rows_of(path)
    assert len(rows) == 400 and path.stat().st_size > 5 * 4096
    assert {float(row["score"]) for row in rows} == {0.8765}
    assert len({row["score"] for row in rows}) > 1  # some were filled


def test_tiny_scores_are_decimals(tmp_path: Path) -> None:
    frame, found = frame_of(), found_things(1)
    record = record_of(frame, found)
    record["detections"][0]["score"] = 1e-05
    with CsvOutput(tmp_path / "out.csv") as output:
        output.write(frame, found, record)
    assert rows_of(tmp_path / "out.csv")[0]["score"] == "0.0000"


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        CsvOutput(tmp_path / "file" / "out.csv")


def test_a_killed_stream_leaves_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    for _ in range(5):
        kill_while_writing("csv", path, count=5, after_s=(0.0, 0.1))
        assert path.read_bytes().endswith(b"\r\n")
        rows = rows_of(path)
        assert rows and all(float(row["score"]) == 0.123 and None not in row.values() for row in rows)
