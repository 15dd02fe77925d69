from __future__ import annotations

import importlib.util
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from detection.runtime.cameras.live import LiveSource
from detection.runtime.cameras.names import different, without_secrets
from detection.runtime.cameras.recordings import VideoFile
from detection.runtime.cameras.sources import camera_name, camera_settings, open_source, open_sources
from detection.runtime.errors import SourceError
from detection.runtime.events import CameraStatus


def _one_line(error: pytest.ExceptionInfo[SourceError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


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
            open_source(camera_settings(f"http://farm:secret@127.0.0.1:{port}/cam", open_timeout_s=2))
    assert "secret" not in _one_line(error) and "farm" not in str(error.value)
    assert "nothing listens there" in str(error.value)


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


def test_names_that_would_be_one_topic_are_told_apart() -> None:
    assert different(["a/b", "a_b", "a-b", "a", "b"]) == ["a/b", "a_b-2", "a-b-3", "a", "b"]
    assert different(["left", "left-2", "left"]) == ["left", "left-2", "left-3"]


def test_one_bad_source_closes_the_good_ones(video_path: Path, monkeypatch: Any) -> None:
    closed: list[str] = []
    close = VideoFile.close
    monkeypatch.setattr(VideoFile, "close", lambda self: (closed.append(self.camera), close(self)))
    with pytest.raises(SourceError, match="nowhere"):
        open_sources([video_path, "nowhere.mp4"])
    assert closed == ["field"]


@pytest.mark.skipif(os.name == "nt", reason="file names of POSIX")
def test_names_with_spaces_and_umlauts(tmp_path: Path, make_video: Any) -> None:
    path = tmp_path / "Rüben Feld #3.mp4"
    make_video(tmp_path / "plain.mp4", 2).rename(path)
    with open_source(path) as source:
        assert len(list(source)) == 2


# --- settings ---


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"transport": "http"}, "transport: Input should be 'tcp' or 'udp', got 'http'"),
        ({"max_fps": 0}, "max_fps: Input should be greater than 0, got 0"),
        ({"max_age_s": -1.0}, "max_age_s"),
        ({"read_timeout_s": float("nan")}, "read_timeout_s"),
        ({"open_timeout_s": float("inf")}, "open_timeout_s"),
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SourceError, match=said) as error:
        camera_settings("rtsp://farm:secret@host/cam", **wrong)
    assert "secret" not in str(error.value)
    _one_line(error)


def test_settings_show_no_password() -> None:
    settings = camera_settings("rtsp://farm:secret@host/cam", name="left")
    assert "secret" not in repr(settings) and "left" in repr(settings)


def test_names_of_settings_win_and_differ(tmp_path: Path, make_video: Any) -> None:
    path = str(make_video(tmp_path / "row.mp4", 2))
    sources = open_sources([camera_settings(path, name="boom"), camera_settings(path, name="boom"), path])
    assert [s.camera for s in sources] == ["boom", "boom-2", "row"]
    for source in sources:
        assert source.status is CameraStatus.LIVE
        source.close()
        assert source.status is CameraStatus.ENDED


# --- live cameras in company ---


def test_cameras_that_are_off_start_all_the_same(video_path: Path, told: Any) -> None:
    started = time.monotonic()
    specs = [camera_settings("rtsp://u:secret@127.0.0.1:9/cam", name="boom"), "/dev/video77", video_path]
    sources = open_sources(specs, on_event=told)
    try:
        assert time.monotonic() - started < 5
        assert [s.live for s in sources] == [True, True, False]
        deadline = time.monotonic() + 20
        while not all(s.status is CameraStatus.LOST for s in sources[:2]) and time.monotonic() < deadline:
            assert sources[0].poll(0.01) is None and sources[1].poll(0) is None
        messages = {e.subject: e.message for e in told.events if e.status == "lost"}
        assert "nothing listens there" in messages["boom"] and "no camera there" in messages["video77"]
        assert "secret" not in repr(told.events)
        assert len(list(sources[2])) == 30
    finally:
        for source in sources:
            source.close()


def test_one_bad_recording_closes_the_cameras(monkeypatch: Any) -> None:
    closed: list[str] = []
    close = LiveSource.close
    monkeypatch.setattr(LiveSource, "close", lambda self: (closed.append(self.camera), close(self)))
    with pytest.raises(SourceError, match="nowhere"):
        open_sources(["/dev/video77", "nowhere.mp4"])
    assert closed == ["video77"]


def test_url_of_a_video_file_is_a_recording(tmp_path: Path, make_video: Any, file_server: Any) -> None:
    make_video(tmp_path / "row.mp4", 5)
    url = f"{file_server(tmp_path)}/row.mp4?token=secret"
    for source in (open_source(url), *open_sources([url])):
        with source:
            assert not source.live and "secret" not in source.camera
            assert [f.index for f in source] == [0, 1, 2, 3, 4]


# --- what this installation cannot read ---


@pytest.mark.parametrize("spec", ["gst:videotestsrc ! appsink", "rtspsrc location=rtsp://u:secret@h/x ! appsink"])
def test_gstreamer_that_opencv_lacks_is_said_at_once(spec: str) -> None:
    assert camera_name(spec) == "gstreamer"
    for opening in (open_source, lambda one: open_sources([one])):
        with pytest.raises(SourceError, match="built without GStreamer") as error:
            opening(spec)
        assert "secret" not in _one_line(error)


@pytest.mark.skipif(importlib.util.find_spec("harvesters") is not None, reason="harvesters is here")
def test_genicam_without_its_library_is_said_at_once() -> None:
    for opening in (open_source, lambda one: open_sources([one])):
        with pytest.raises(SourceError, match="pip install harvesters") as error:
            opening("genicam:/opt/maker.cti#4711")
        _one_line(error)
    assert camera_name("genicam:/opt/maker.cti#4711") == "genicam-4711"


@pytest.mark.parametrize(("module", "file", "line"), [("mcap", "a.mcap", "stream"), ("rosbags", "a.bag", "bags")])
def test_missing_libraries_are_said(tmp_path: Path, monkeypatch: Any, module: str, file: str, line: str) -> None:
    (tmp_path / file).write_bytes(b"")
    for name in (module, f"{module}.reader", f"{module}.highlevel"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(SourceError, match=rf'pip install "swath\[{line}\]"'):
        open_source(tmp_path / file)
