from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detection.runtime.detections import Detections, Frame
from detection.runtime.draw import annotate, class_colour
from detection.runtime.errors import OutputError
from detection.runtime.outputs.contract import Record, make_record, per_camera
from detection.runtime.outputs.jsonl import JsonlOutput
from detection.runtime.outputs.video import VideoOutput

NAMES = ("weed", "crop")


def _frame(index: int = 0, size_hw: tuple[int, int] = (64, 96), camera: str = "left") -> Frame:
    return Frame(np.full((*size_hw, 3), 60, np.uint8), camera, index, 1_000)


def _found() -> Detections:
    boxes = np.float32([[10.123, 11.987, 30.005, 31.5], [0, 0, 96, 64]])
    return Detections(boxes, np.float32([0.87654321, 0.5]), np.int64([1, 0]))


def _record(frame: Frame, found: Detections) -> Record:
    return make_record(frame, found, NAMES, age_ms=12.34567, latency_ms={"infer": 9.87654})


def test_record_is_the_published_schema() -> None:
    record = _record(_frame(7), _found())
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
    assert _record(_frame(), Detections.empty())["detections"] == []
    found = _found()
    tracked = Detections(found.boxes, found.scores, found.labels, np.int64([4, 5]))
    assert [d["track_id"] for d in _record(_frame(), tracked)["detections"]] == [4, 5]


def test_lines_are_whole_as_soon_as_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    with JsonlOutput(path) as output:
        for i in range(3):
            frame = _frame(i)
            output.write(frame, _found(), _record(frame, _found()))
            content = path.read_bytes()  # as one who follows the file sees it
            assert content.endswith(b"}\n")
            assert [json.loads(line)["frame"] for line in content.splitlines()] == list(range(i + 1))


def test_one_system_call_per_line(tmp_path: Path, monkeypatch: Any) -> None:
    many = Detections(np.zeros((2000, 4)), np.full(2000, 0.5), np.zeros(2000, int))
    output = JsonlOutput(tmp_path / "out.jsonl")
    sizes: list[int] = []

    class Spy:
        def __init__(self, real: Any) -> None:
            self.real = real

        def write(self, line: bytes) -> int:
            sizes.append(len(line))
            return int(self.real.write(line))

        def close(self) -> None:
            self.real.close()

    output._file = Spy(output._file)  # type: ignore[assignment]
    output.write(_frame(), many, _record(_frame(), many))
    output.close()
    assert len(sizes) == 1 and sizes[0] > 100_000


def test_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    output = JsonlOutput(path)
    output.write(_frame(), _found(), _record(_frame(), _found()))
    before = path.read_bytes()
    real = output._file

    class Full:
        def write(self, line: bytes) -> int:
            return int(real.write(line[:10]))

        def truncate(self, size: int) -> int:
            return int(real.truncate(size))

    output._file = Full()  # type: ignore[assignment]
    with pytest.raises(OutputError, match="disk full"):
        output.write(_frame(), _found(), _record(_frame(), _found()))
    assert path.read_bytes() == before
    real.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_write_error_is_one_line() -> None:
    with JsonlOutput("/dev/full") as output, pytest.raises(OutputError, match="/dev/full: cannot be written"):
        output.write(_frame(), _found(), _record(_frame(), _found()))


@pytest.mark.parametrize("make", [JsonlOutput, lambda p: VideoOutput(p, NAMES, fps=None)])
def test_places_that_cannot_be_written(tmp_path: Path, make: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written") as error:
        make(tmp_path / "file" / "out.mp4")
    assert "\n" not in str(error.value)


def _frames_of(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened()
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    capture.release()
    return frames


def test_video_has_every_frame_and_the_boxes(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoOutput(path, NAMES, fps=12.5) as output:
        for i in range(5):
            output.write(_frame(i, (240, 320)), _found(), _record(_frame(i), _found()))
        assert not path.exists()  # only whole videos bear the name
    frames = _frames_of(path)
    assert len(frames) == 5 and frames[0].shape == (240, 320, 3)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == 12.5
    assert np.abs(frames[0].astype(int) - 60).max() > 60  # something is drawn
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_video_fits_other_sizes_and_says_so_once(tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "out.mp4"
    with VideoOutput(path, NAMES, fps=None) as output:
        for size in [(61, 101), (61, 101), (200, 100), (30, 300), (61, 101)]:
            output.write(_frame(0, size), Detections.empty(), _record(_frame(), Detections.empty()))
    frames = _frames_of(path)
    assert len(frames) == 5 and {f.shape for f in frames} == {(60, 100, 3)}
    assert caplog.text.count("differ in size") == 1
    # 200 x 100 in 60 x 100: 30 wide, grey at its right
    assert abs(int(frames[2][50, 80].mean()) - 114) < 8


def test_video_survives_an_exception(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(RuntimeError), VideoOutput(path, NAMES, fps=25) as output:
        output.write(_frame(), _found(), _record(_frame(), _found()))
        raise RuntimeError
    assert len(_frames_of(path)) == 1


def test_no_frame_no_video_and_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with VideoOutput(path, NAMES, fps=25):
        pass
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["out.mp4"]


def test_video_of_one_camera_takes_only_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoOutput(path, NAMES, fps=25, camera="left") as output:
        for camera in ("left", "right", "left"):
            frame = _frame(camera=camera)
            output.write(frame, _found(), _record(frame, _found()))
    assert len(_frames_of(path)) == 2


def test_video_must_be_mp4(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"must end in \.mp4"):
        VideoOutput(tmp_path / "out.avi", NAMES, fps=25)


def test_name_per_camera() -> None:
    assert per_camera(Path("a/out.mp4"), "10.0.0.7:554/s 1") == Path("a/out-10.0.0.7_554_s_1.mp4")


# --- drawing ---


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 400), (64, 96), (480, 640), (3000, 4000)])
def test_drawing_on_every_size(size_hw: tuple[int, int]) -> None:
    image = np.zeros((*size_hw, 3), np.uint8)
    height, width = size_hw
    boxes = np.float32([[0, 0, width, height], [width - 0.5, height - 0.5, width, height], [0, 0, 0.5, 0.5]])
    found = Detections(boxes, np.float32([0.9, 0.8, 0.7]), np.int64([0, 1, 1]))
    drawn = annotate(image, found, NAMES, "left  frame 1  10 ms")
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert not image.any()  # the picture itself stays as it was


def test_box_is_drawn_in_its_class_colour_where_it_is() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    found = Detections(np.float32([[100, 150, 300, 350]]), np.float32([0.9]), np.int64([1]))
    drawn = annotate(image, found, NAMES)
    for y, x in [(250, 100), (250, 299), (349, 200)]:
        np.testing.assert_allclose(drawn[y - 1 : y + 2, x - 1 : x + 2].max((0, 1)), class_colour(1), atol=8)
    assert not drawn[180:320, 130:270].any()  # nothing inside
    assert not drawn[:100].any()


def test_nothing_found_nothing_drawn() -> None:
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(annotate(image, Detections.empty(), NAMES), image)


def test_colours_repeat_and_differ() -> None:
    assert class_colour(0) == (0xE9, 0xB4, 0x56)  # Okabe and Ito's sky blue, as BGR
    assert len({class_colour(i) for i in range(7)}) == 7
    assert class_colour(7) == class_colour(0)
