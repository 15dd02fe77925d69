from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("mcap")
from mcap.exceptions import EndOfFile
from mcap.reader import make_reader
from mcap.records import Channel, Message
from mcap.stream_reader import StreamReader

from detection.runtime.errors import OutputError
from detection.runtime.events import Event
from detection.runtime.outputs import mcap as room
from detection.runtime.outputs.mcap import McapOutput
from tests.detection.runtime.outputs.kills import kill_while_writing
from tests.detection.runtime.outputs.shots import found_things, frame_of, write
from tests.detection.runtime.outputs.test_lines import disk_of

Messages = dict[str, list[tuple[int, dict[str, Any]]]]

# What https://github.com/foxglove/foxglove-sdk, schemas/jsonschema, requires of each.
REQUIRED = {
    "foxglove.CompressedImage": {"timestamp", "frame_id", "data", "format"},
    "foxglove.ImageAnnotations": {"circles", "points", "texts"},
    "foxglove.Log": {"timestamp", "level", "message", "name", "file", "line"},
}
REQUIRED_OF_POINTS = {
    "timestamp",
    "type",
    "points",
    "outline_color",
    "outline_colors",
    "fill_color",
    "thickness",
    "metadata",
}
REQUIRED_OF_TEXTS = {"timestamp", "position", "text", "font_size", "text_color", "background_color", "metadata"}


def content_of(path: Path) -> tuple[dict[str, str], Messages]:
    """The schema's name of each topic; (log time, message) of each."""
    schemas: dict[str, str] = {}
    messages: Messages = {}
    with path.open("rb") as file:
        for schema, channel, message in make_reader(file, validate_crcs=True).iter_messages():
            assert schema is not None and schema.encoding == "jsonschema" and channel.message_encoding == "json"
            data = json.loads(message.data)
            check(json.loads(schema.data), data)
            schemas[channel.topic] = schema.name
            messages.setdefault(channel.topic, []).append((message.log_time, data))
    return schemas, messages


def check(schema: dict[str, Any], value: Any) -> None:
    """As much of JSON Schema as the messages' schemas use."""
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    assert any(isinstance(value, kinds[kind]) for kind in types), (schema, value)
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value)
        others = schema.get("additionalProperties")
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, others)
            assert inner is not None or "properties" not in schema, f"{key} is in no schema"
            if inner is not None:
                check(inner, item)
    if isinstance(value, list):
        for item in value:
            check(schema["items"], item)


def time_of(stamp: dict[str, int]) -> int:
    return stamp["sec"] * 10**9 + stamp["nsec"]


def test_foxglove_finds_what_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.mcap"
    cameras = {"left": (True, 25.0), "10.0.0.7:554/s 1": (True, None)}
    records = []
    with McapOutput(path, cameras=cameras) as output:
        output.event(Event("camera", "left", "lost", "no image for 2 s"))
        for i in range(3):
            for camera in cameras:
                records.append(write(output, frame_of(i, camera=camera), found_things(2, tracked=True)))
    output.close()
    schemas, messages = content_of(path)
    assert schemas == {
        "/events": "foxglove.Log",
        "/left/image": "foxglove.CompressedImage",
        "/left/annotations": "foxglove.ImageAnnotations",
        "/left/record": "swath.Record",
        "/10.0.0.7_554_s_1/image": "foxglove.CompressedImage",
        "/10.0.0.7_554_s_1/annotations": "foxglove.ImageAnnotations",
        "/10.0.0.7_554_s_1/record": "swath.Record",
    }
    for topic, name in schemas.items():
        for _, message in messages[topic]:
            assert REQUIRED.get(name, set()) <= set(message)
    assert [message for _, message in messages["/left/record"]] == records[::2]
    _, image = messages["/left/image"][0]
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(image["data"]), np.uint8), cv2.IMREAD_COLOR)
    assert image["format"] == "jpeg" and shown is not None
    np.testing.assert_allclose(shown, frame_of().image, atol=2)
    _, boxes = messages["/left/annotations"][0]
    assert all(set(one) == REQUIRED_OF_POINTS for one in boxes["points"])
    assert all(set(one) == REQUIRED_OF_TEXTS for one in boxes["texts"])
    assert boxes["points"][0]["type"] == 2  # a closed line
    assert [(p["x"], p["y"]) for p in boxes["points"][0]["points"]] == [
        (10.12, 11.99),
        (30.0, 11.99),
        (30.0, 31.5),
        (10.12, 31.5),
    ]
    assert [one["text"] for one in boxes["texts"]] == ["#4 crop 0.88", "#5 weed 0.50"]
    _, line = messages["/events"][0]
    assert (line["level"], line["name"], line["message"]) == (4, "camera left", "lost: no image for 2 s")


def test_times_of_live_images_are_when_they_were_grabbed(tmp_path: Path) -> None:
    path = tmp_path / "out.mcap"
    before_ns = time.time_ns()
    with McapOutput(path, cameras={"left": (True, None)}) as output:
        now_ns = time.monotonic_ns()
        for i, ago_ns in enumerate((2 * 10**9, 10**9)):
            write(output, frame_of(i, captured_ns=now_ns - ago_ns))
    for topic, sent in content_of(path)[1].items():
        times_ns = [at_ns for at_ns, _ in sent]
        # to a tenth of a second: the two clocks are read one after the other
        assert times_ns == pytest.approx([before_ns - 2 * 10**9, before_ns - 10**9], abs=5 * 10**8), topic
        assert times_ns[1] - times_ns[0] == pytest.approx(10**9, abs=10**8)
        if topic == "/left/image":
            assert [time_of(message["timestamp"]) for _, message in sent] == times_ns


def test_a_recording_keeps_its_own_time(tmp_path: Path) -> None:
    path = tmp_path / "out.mcap"
    with McapOutput(path, cameras={"left": (False, 10.0)}) as output:
        for i in range(5):
            write(output, frame_of(i))
    times_ns = [at_ns for at_ns, _ in content_of(path)[1]["/left/record"]]
    np.testing.assert_allclose(np.diff(times_ns), 10**8)


def test_without_a_frame_it_is_a_whole_file(tmp_path: Path) -> None:
    with McapOutput(tmp_path / "out.mcap", cameras={}):
        pass
    assert content_of(tmp_path / "out.mcap") == ({}, {})


def test_a_killed_stream_leaves_every_chunk(tmp_path: Path) -> None:
    path = tmp_path / "out.mcap"
    for _ in range(3):
        kill_while_writing("mcap", path, count=2, after_s=(1.5, 2.0), pause_s=0.01)
        topics: dict[int, str] = {}
        frames, images = [], 0
        with path.open("rb") as file, pytest.raises(EndOfFile):
            for record in StreamReader(file, validate_crcs=True).records:
                if isinstance(record, Channel):
                    topics[record.id] = record.topic
                if isinstance(record, Message):
                    images += topics[record.channel_id] == "/left/image"
                    if topics[record.channel_id] == "/left/record":
                        frames.append(json.loads(record.data)["frame"])
        assert frames == list(range(len(frames))) and len(frames) == images > 3


def test_full_disk_keeps_what_was_written(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(room, "_CHUNK_S", 0.0)  # each frame is a chunk
    path = tmp_path / "out.mcap"
    output = McapOutput(path, cameras={"left": (True, None)})
    for i in range(3):
        write(output, frame_of(i))
    size = path.stat().st_size
    for i, room_bytes in enumerate((size + 50, 10, 1000)):  # not for the chunk, for a header, for a first chunk
        with disk_of(room_bytes), pytest.raises(OutputError, match=r"out(-2)?\.mcap: cannot be written"):
            write(output, frame_of(3 + i))
    assert path.stat().st_size == size
    write(output, frame_of(6))  # there is room again; the first file's offsets would be wrong
    output.close()
    assert [record["frame"] for _, record in content_of(tmp_path / "out-2.mcap")[1]["/left/record"]] == [6]
    assert {file.name for file in tmp_path.iterdir()} == {"out.mcap", "out-2.mcap"}
    frames = []
    with path.open("rb") as file, pytest.raises(EndOfFile):
        for record in StreamReader(file).records:
            if isinstance(record, Message) and b'"latency_ms"' in record.data:
                frames.append(json.loads(record.data)["frame"])
    assert frames == [0, 1, 2]


def test_a_series_begins_anew_by_time_and_after_a_full_disk(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(room, "_CHUNK_S", 0.0)
    numbers = iter(range(100))
    monkeypatch.setattr(room, "timed", lambda path, when: Path(str(path).replace("{time}", f"{next(numbers):02}")))
    cameras = {"left": (True, None)}
    with McapOutput(tmp_path / "x-{time}.mcap", cameras=cameras) as output:
        write(output, frame_of(0))
        with disk_of(tmp_path.joinpath("x-00.mcap").stat().st_size + 50), pytest.raises(OutputError):
            write(output, frame_of(1))
        write(output, frame_of(2))
    with McapOutput(tmp_path / "y-{time}.mcap", cameras=cameras, minutes=0.2 / 60) as output:
        write(output, frame_of(0))
        time.sleep(0.3)
        write(output, frame_of(1))
    got = {
        p.name: [r["frame"] for _, r in content_of(p)[1]["/left/record"]] for p in sorted(tmp_path.glob("*-0[1-9]*"))
    }
    assert got == {"x-01.mcap": [2], "y-02.mcap": [0], "y-03.mcap": [1]}
    with pytest.raises(OutputError, match=r"needs \{time\} in its name"):
        McapOutput(tmp_path / "v.mcap", cameras={}, minutes=10)


def test_a_clock_that_begins_anew_replaces_no_file(tmp_path: Path, monkeypatch: Any) -> None:
    """As of a robot without a battery for it, where each start is at the same time of 1970."""
    monkeypatch.setattr(room, "timed", lambda path, when: Path(str(path).replace("{time}", "00-00-05")))
    for i in range(3):
        with McapOutput(tmp_path / "x_{time}.mcap", cameras={"left": (True, None)}) as output:
            write(output, frame_of(i))
    names = ["x_00-00-05.mcap", "x_00-00-05-2.mcap", "x_00-00-05-3.mcap"]
    assert [content_of(tmp_path / name)[1]["/left/record"][0][1]["frame"] for name in names] == [0, 1, 2]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written") as error:
        McapOutput(tmp_path / "file" / "out.mcap", cameras={})
    assert "\n" not in str(error.value)


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: Any) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "mcap.writer", None)
    with pytest.raises(OutputError, match=r'pip install "swath\[stream\]"'):
        McapOutput(tmp_path / "out.mcap", cameras={})
