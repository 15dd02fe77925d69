from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from detection.runtime.cameras.recordings import VideoFile
from detection.runtime.cameras.sources import camera_name, open_source, open_sources, without_secrets
from detection.runtime.errors import SourceError


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


@pytest.mark.skipif(os.name == "nt", reason="file names of POSIX")
def test_names_with_spaces_and_umlauts(tmp_path: Path, make_video: Any) -> None:
    path = tmp_path / "Rüben Feld #3.mp4"
    make_video(tmp_path / "plain.mp4", 2).rename(path)
    with open_source(path) as source:
        assert len(list(source)) == 2
