from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detection.runtime.detections import Frame
from detection.runtime.errors import SourceError
from detection.runtime.live import LiveSource, Mailbox
from detection.runtime.recordings import PictureFolder, VideoFile
from detection.runtime.sources import camera_name, open_source, open_sources, without_secrets


def _one_line(error: pytest.ExceptionInfo[SourceError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# --- video files ---


def test_video_gives_every_picture_in_order(video_path: Path) -> None:
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
    with open_source(path) as source, pytest.raises(SourceError, match=r"broke off after \d+ pictures of 60"):
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


def test_video_without_one_readable_picture() -> None:
    capture = _EmptyVideo()
    with pytest.raises(SourceError, match="not one picture of it can be read"):
        VideoFile(capture, "x.mp4", "x")
    assert capture.released


@pytest.mark.parametrize("spec", ["nowhere.mp4", "/nowhere/at/all", "no folder/"])
def test_missing_file(spec: str) -> None:
    with pytest.raises(SourceError, match="no such video, folder or camera") as error:
        open_source(spec)
    assert spec in _one_line(error)


@pytest.mark.parametrize("spec", ["77", "/dev/video77"])
def test_missing_camera(spec: str, capfd: Any) -> None:
    with pytest.raises(SourceError, match="no camera there") as error:
        open_source(spec)
    _one_line(error)
    assert capfd.readouterr() == ("", "")


# --- folders ---


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
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".img3.png").write_bytes(b"hidden")
    (folder / "sub.png").mkdir()
    with open_source(folder) as source:
        assert (source.camera, source.live, source.fps, source.length) == ("row 7", False, None, 3)
        assert isinstance(source, PictureFolder)
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


def test_unreadable_pictures_are_said_and_counted(tmp_path: Path, caplog: Any) -> None:
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


def test_folder_of_unreadable_pictures_alone(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"broken")
    with open_source(tmp_path) as source, pytest.raises(SourceError, match="none of its 1 pictures"):
        list(source)
    assert source.ended and source.unreadable == 1


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no pictures in this folder") as error:
        open_source(tmp_path)
    _one_line(error)


def test_grey_and_16_bit_pictures_become_bgr(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((8, 9), 100, np.uint8))
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((8, 9, 3), 100 * 257, np.uint16))
    cv2.imwrite(str(tmp_path / "rgba.png"), np.full((8, 9, 4), 100, np.uint8))
    with open_source(tmp_path) as source:
        frames = list(source)
    assert len(frames) == 3
    for frame in frames:
        np.testing.assert_array_equal(frame.image, np.full((8, 9, 3), 100, np.uint8))


# --- names ---


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.7:554/stream1?token=secret#x", "10.0.0.7:554/stream1"),
        ("http://host/cam.mjpeg", "host/cam.mjpeg"),
        ("rtsp://user:se/cr@et?secret@host/a", "host/a"),
        ("https://host/?user=secret&pwd=secret", "host"),
    ],
)
def test_no_secrets_in_names(url: str, shown: str) -> None:
    assert without_secrets(url) == shown == camera_name(url)


def test_error_of_a_url_shows_no_secret() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, not listening: refused at once
        port = nobody.getsockname()[1]
        with pytest.raises(SourceError, match="no video from there") as error:
            open_source(f"http://farm:secret@127.0.0.1:{port}/cam", open_timeout_s=2)
    assert "secret" not in _one_line(error) and "farm" not in str(error.value)


def test_default_names(tmp_path: Path) -> None:
    assert camera_name("0") == "camera-0"
    assert camera_name("/dev/video2") == "video2"
    assert camera_name("a/b/field.row.mp4") == "field.row"
    assert camera_name(str(tmp_path)) == tmp_path.name


def test_sources_of_one_name_are_told_apart(tmp_path: Path, make_video: Any) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        make_video(tmp_path / folder / "row.mp4", 2)
    sources = open_sources([tmp_path / f / "row.mp4" for f in "abc"])
    assert [s.camera for s in sources] == ["row", "row-2", "row-3"]
    for source in sources:
        assert {f.camera for f in source} == {source.camera}
        source.close()


def test_one_bad_source_closes_the_good_ones(video_path: Path, monkeypatch: Any) -> None:
    closed: list[str] = []
    close = VideoFile.close
    monkeypatch.setattr(VideoFile, "close", lambda self: (closed.append(self.camera), close(self)))
    with pytest.raises(SourceError, match="nowhere"):
        open_sources([video_path, "nowhere.mp4"])
    assert closed == ["field"]


# --- live sources ---


def test_mailbox_keeps_the_newest() -> None:
    mailbox = Mailbox()
    frames = [Frame(np.zeros((1, 1, 3), np.uint8), "c", i, i) for i in range(5)]
    for frame in frames[:4]:
        mailbox.put(frame)
    assert mailbox.take(0) is frames[3]
    assert mailbox.dropped == 3
    assert mailbox.take(0) is None  # never the same frame twice
    mailbox.put(frames[4])
    mailbox.fail(ValueError("gone"))
    assert mailbox.take(0) is frames[4]  # what came before the failure is still given
    assert isinstance(mailbox.take(0), ValueError)


def test_http_camera_newest_wins_with_a_slow_consumer(camera_server: Any) -> None:
    started = time.monotonic_ns()
    with open_source(f"http://u:p@{camera_server.address}/cam") as source:
        assert source.live and source.length is None and source.camera == f"{camera_server.address}/cam"
        frames: list[Frame] = []
        ages_ms = []
        for frame in source:
            frames.append(frame)
            ages_ms.append((time.monotonic_ns() - frame.captured_ns) / 1e6)
            time.sleep(0.1)  # ten times slower than the camera
            if len(frames) == 8:
                break
        # The picture itself says which one it is: the camera counts in grey levels.
        shown = [int(f.image[0, 0, 0]) for f in frames]
        assert all(abs(level - f.index % 250) <= 1 for level, f in zip(shown, frames, strict=True))
        gaps = np.diff([f.index for f in frames])
        assert gaps.min() >= 1 and gaps.mean() > 2
        assert np.median(ages_ms) < 500  # bounded: no queue builds up
        assert source.dropped >= gaps.sum() - len(gaps) > 5
    assert started < frames[0].captured_ns < frames[-1].captured_ns
    assert source.ended
    assert not [t for t in threading.enumerate() if t.name.startswith("read ")]


def test_fast_consumer_gets_no_frame_twice(camera_server: Any) -> None:
    with open_source(f"http://{camera_server.address}/cam") as source:
        indices = [frame.index for frame, _ in zip(source, range(30), strict=False)]
    assert len(indices) == 30 and len(set(indices)) == 30 and indices == sorted(indices)


def test_camera_that_dies_gives_its_last_pictures_and_an_error(camera_server: Any) -> None:
    camera_server.frames = 15
    seen = []
    with open_source(f"http://{camera_server.address}/cam") as source:
        with pytest.raises(SourceError, match="no more pictures after 15") as error:
            for frame in source:
                seen.append(frame.index)
        assert source.ended and source.poll(0) is None
    _one_line(error)
    assert seen[-1] == 14


def test_camera_that_hangs_is_an_error_within_its_timeout(camera_server: Any) -> None:
    camera_server.frames, camera_server.hang_s = 10, 30.0
    started = time.monotonic()
    with (
        open_source(f"http://{camera_server.address}/cam", read_timeout_s=1.0) as source,
        pytest.raises(SourceError, match="no more pictures after 10"),
    ):
        list(source)
    assert time.monotonic() - started < 10


def test_camera_that_never_answers_is_an_error_within_its_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(SourceError, match=r"no video from there within 0\.7 s"):
            open_source(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/s", open_timeout_s=0.7)
    assert time.monotonic() - started < 6


class FakeCamera:
    """Gives `frames` pictures, then does what `then` says."""

    def __init__(self, frames: int, then: Any) -> None:
        self.left = frames
        self.then = then
        self.released = threading.Event()

    def grab(self) -> bool:
        time.sleep(0.002)
        self.left -= 1
        return True if self.left >= 0 else bool(self.then())

    def retrieve(self) -> tuple[bool, Any]:
        return True, np.zeros((4, 4, 3), np.uint8)

    def get(self, propId: int, /) -> float:
        return 0.0

    def release(self) -> None:
        self.released.set()


def test_exception_in_the_reader_surfaces_in_the_consumer() -> None:
    def explode() -> bool:
        raise RuntimeError("driver gone")

    camera = FakeCamera(3, explode)
    with (
        LiveSource(camera, "cam") as source,
        pytest.raises(SourceError, match=r"cam: reading failed \(driver gone\)"),
    ):
        list(source)
    assert camera.released.is_set()


def test_reader_that_never_returns_is_noticed(monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr("detection.runtime.live._GRACE_S", 0.1)
    release = threading.Event()
    camera = FakeCamera(2, release.wait)
    source = LiveSource(camera, "cam", read_timeout_s=0.1)
    with pytest.raises(SourceError, match="cam: no picture for"):
        list(source)
    source.close()
    assert "left behind" in caplog.text
    release.set()
    assert camera.released.wait(2)


def test_poll_times_out() -> None:
    release = threading.Event()
    with LiveSource(FakeCamera(0, release.wait), "cam") as source:
        started = time.monotonic()
        assert source.poll(0.05) is None
        assert 0.04 < time.monotonic() - started < 1
        assert not source.ended
        release.set()


def test_undecodable_live_pictures_are_counted() -> None:
    class Garbled(FakeCamera):
        def retrieve(self) -> tuple[bool, Any]:
            return self.left % 2 == 0, np.zeros((4, 4, 3), np.uint8)

    with LiveSource(Garbled(10, lambda: False), "cam") as source, pytest.raises(SourceError):
        list(source)
    assert source.unreadable == 5


@pytest.mark.skipif(os.name == "nt", reason="file names of POSIX")
def test_names_with_spaces_and_umlauts(tmp_path: Path, make_video: Any) -> None:
    path = tmp_path / "Rüben Feld #3.mp4"
    make_video(tmp_path / "plain.mp4", 2).rename(path)
    with open_source(path) as source:
        assert len(list(source)) == 2
