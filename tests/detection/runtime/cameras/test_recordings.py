from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detection.runtime.cameras.capture import open_file
from detection.runtime.cameras.recordings import ImageFolder, VideoFile
from detection.runtime.cameras.sources import camera_settings, open_source
from detection.runtime.detections import Frame
from detection.runtime.errors import SourceError
from tests.data.decoding.files import tiff


def _one_line(error: pytest.ExceptionInfo[SourceError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_video_gives_every_image_in_order(video_path: Path) -> None:
    before = time.monotonic_ns()
    with open_source(str(video_path)) as source:
        assert (source.camera, source.live, source.fps, source.length) == ("field", False, 25.0, 30)
        frames = list(source)
    assert [f.index for f in frames] == list(range(30))
    assert all(f.image.shape == (64, 96, 3) and f.image.dtype == np.uint8 for f in frames)
    for frame in frames[:20]:
        red = np.flatnonzero(frame.image[24, :, 2] > 128)
        assert abs(red[0] - frame.index) <= 1 and abs(red[-1] - frame.index - 15) <= 1
    stamps = [f.captured_ns for f in frames]
    assert before < stamps[0] and stamps == sorted(stamps) and stamps[-1] <= time.monotonic_ns()
    assert source.ended and source.dropped == 0 and source.unreadable == 0
    assert source.poll(0.0) is None


@pytest.mark.parametrize("name", ["2026-05-01T06:30.mp4", "http:a.mp4", "50%d é'\".mp4"])
def test_videos_of_any_name(name: str, video_path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    shutil.copy(video_path, tmp_path / name)
    monkeypatch.chdir(tmp_path)  # FFmpeg takes what stands before a colon for a protocol
    with open_source(name) as source:
        assert sum(1 for _ in source) == 30


def test_a_name_that_is_not_utf_8_is_refused_before_opencv_ends_the_process(video_path: Path, tmp_path: Path) -> None:
    name = tmp_path / os.fsdecode(b"R\xfcbe.mp4")
    shutil.copy(video_path, name)
    assert open_file(str(name)) is None
    with pytest.raises(SourceError, match="unicode"):
        open_source(name)


def test_video_waits_for_a_slow_consumer(video_path: Path) -> None:
    with open_source(video_path) as source:
        first = source.poll(0)
        time.sleep(0.2)
        second = source.poll(0)
    assert first is not None and second is not None and (first.index, second.index) == (0, 1)
    assert time.monotonic_ns() - second.captured_ns < 150e6  # stamped when asked for, not when opened


@pytest.mark.parametrize("content", [b"", b"no video", b"\0" * 5000])
def test_file_that_is_no_video(tmp_path: Path, content: bytes, capfd: Any) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="not a video that can be read") as error:
        open_source(path)
    assert str(path) in _one_line(error)
    assert capfd.readouterr() == ("", "")


def test_truncated_mp4_is_no_video(video_path: Path) -> None:
    content = video_path.read_bytes()
    video_path.write_bytes(content[: len(content) // 2])  # its index stands at the end
    with pytest.raises(SourceError, match="not a video that can be read"):
        open_source(video_path)


def test_video_that_breaks_off_gives_what_is_there_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (96, 64))
    noise = np.random.default_rng(0)
    for _ in range(60):
        writer.write(noise.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames: list[Frame] = []
    with open_source(path) as source, pytest.raises(SourceError, match=r"ends after \d+ images of 60"):
        frames.extend(iter(source.__iter__().__next__, None))
    assert 5 < len(frames) < 55
    assert source.unreadable == 60 - len(frames)
    assert source.ended


class _EmptyVideo:
    released = False

    def grab(self) -> bool:
        return False

    def retrieve(self) -> tuple[bool, Any]:
        raise AssertionError("nothing was grabbed")

    def get(self, propId: int, /) -> float:
        return -1.0

    def release(self) -> None:
        self.released = True


def test_video_without_one_readable_image() -> None:
    capture = _EmptyVideo()
    with pytest.raises(SourceError, match="none of its images can be read"):
        VideoFile(capture, "x.mp4", "x")
    assert capture.released


def _exif_jpeg(path: Path, orientation: int) -> None:
    """96 x 64 as stored, left half red, with an EXIF orientation, written by hand."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :48, 2] = 255
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01" + bytes([0, orientation, 0, 0]) + b"\0\0\0\0"
    body = b"Exif\0\0" + tiff
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:])


def test_folder_in_natural_order_with_mixed_sizes(tmp_path: Path) -> None:
    folder = tmp_path / "row 7"
    folder.mkdir()
    for i, name in enumerate(["img2.png", "img10.png", "IMG1.PNG"]):
        cv2.imwrite(str(folder / name), np.full((10 + i, 20, 3), 7, np.uint8))
    (folder / "notes.txt").write_text("not an image")
    (folder / ".img3.png").write_bytes(b"hidden")
    (folder / "sub.png").mkdir()
    with open_source(folder) as source:
        assert (source.camera, source.live, source.fps, source.length) == ("row 7", False, None, 3)
        assert isinstance(source, ImageFolder)
        assert [p.name for p in source.files] == ["IMG1.PNG", "img2.png", "img10.png"]
        frames = list(source)
    assert [f.image.shape[0] for f in frames] == [12, 10, 11]
    assert [f.index for f in frames] == [0, 1, 2]


@pytest.mark.parametrize(("orientation", "red_side"), [(1, "left"), (3, "right"), (6, "top"), (8, "bottom")])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, red_side: str) -> None:
    _exif_jpeg(tmp_path / "a.jpg", orientation)
    with open_source(tmp_path / "a.jpg") as source:
        image = next(iter(source)).image
    assert image.shape == ((64, 96, 3) if red_side in ("left", "right") else (96, 64, 3))
    height, width = image.shape[:2]
    inside = {"left": (32, 8), "right": (32, width - 8), "top": (8, 32), "bottom": (height - 8, 32)}
    red_at = {side for side, (y, x) in inside.items() if image[y, x, 2] > 128}
    assert red_side in red_at
    opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[red_side]
    assert opposite not in red_at


def test_unreadable_images_are_said_and_counted(tmp_path: Path, caplog: Any) -> None:
    for name in ("a.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "b.png").write_bytes(b"broken")
    (tmp_path / "d.jpg").write_bytes(b"")
    with open_source(tmp_path) as source:
        frames = list(source)
    assert [f.index for f in frames] == [0, 2]
    assert source.unreadable == 2
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING"]
    assert "b.png" in caplog.text and "d.jpg" in caplog.text


def test_heic_is_named_and_counted_unless_an_image_lies_beside_it(tmp_path: Path, caplog: Any) -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
    for name in ("a.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    for name in ("b.HEIC", "c.heic", "d.jpg", "e.gif"):
        (tmp_path / name).write_bytes(b"GIF89a" + bytes(20) if name == "e.gif" else heic)
    with open_source(tmp_path) as source:
        assert isinstance(source, ImageFolder)
        assert [p.name for p in source.files] == ["a.png", "b.HEIC", "c.png", "d.jpg", "e.gif"]
        assert [f.index for f in source] == [0, 2]
    assert source.unreadable == 3
    assert [("a HEIC" in r.message, "a GIF" in r.message) for r in caplog.records] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    with open_source(tmp_path / "b.HEIC") as source, pytest.raises(SourceError, match="a HEIC, as iPhones"):
        list(source)


def test_bands_that_are_left_out_are_said_once_and_counted(tmp_path: Path, caplog: Any) -> None:
    for number in range(3):
        (tmp_path / f"{number}.tif").write_bytes(tiff(np.full((8, 9, 4), 100 + number, np.uint8)))
    with open_source(tmp_path) as source:
        assert [int(f.image.min()) for f in source] == [100, 101, 102]
    first, last = (r.message for r in caplog.records)
    assert "0.tif: 4 bands: the first three are read" in first and "the same of 3 images" in last


def test_folder_of_unreadable_images_alone(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"broken")
    with open_source(tmp_path) as source, pytest.raises(SourceError, match="none of its 1 images"):
        list(source)
    assert source.ended and source.unreadable == 1


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no images in this folder") as error:
        open_source(tmp_path)
    _one_line(error)


def test_grey_and_16_bit_images_become_bgr(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((8, 9), 100, np.uint8))
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((8, 9, 3), 100 * 257, np.uint16))
    cv2.imwrite(str(tmp_path / "rgba.png"), np.full((8, 9, 4), 100, np.uint8))
    with open_source(tmp_path) as source:
        frames = list(source)
    assert len(frames) == 3
    for frame in frames:
        np.testing.assert_array_equal(frame.image, np.full((8, 9, 3), 100, np.uint8))


# --- time in the video, and a rate limit ---


def test_frames_carry_their_time_in_the_video(video_path: Path) -> None:
    with open_source(video_path) as source:
        times = [f.stream_s for f in source]
    assert times == pytest.approx([i / 25 for i in range(30)], abs=1e-3)


def test_rate_limit_of_a_video(video_path: Path) -> None:
    with open_source(camera_settings(str(video_path), max_fps=5)) as source:
        frames = list(source)
    assert [f.index for f in frames] == list(range(6))  # what is left out is not numbered
    assert [f.stream_s for f in frames] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0], abs=1e-3)
    for frame in frames:
        red = np.flatnonzero(frame.image[24, :, 2] > 128)
        assert abs(red[0] - round(25 * (frame.stream_s or 0))) <= 1
