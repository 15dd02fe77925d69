"""Recordings whose containers say too many images: cut without encoding anew, or with a rate that changes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from detection.runtime.cameras.containers import contents_of
from detection.runtime.cameras.sources import open_source
from detection.runtime.errors import SourceError

IMAGES = 60

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def _ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True, timeout=60)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: Any) -> Path:
    """60 images at 25 a second, H.264 with a key image a second and reordered ones."""
    path: Path = tmp_path_factory.mktemp("recorded") / "field.mp4"
    picture = ("-f", "lavfi", "-i", f"testsrc2=s=96x64:r=25:d={IMAGES / 25}")
    _ffmpeg(*picture, "-c:v", "libx264", "-g", "25", "-bf", "2", path)
    return path


def _images(path: Path) -> int:
    with open_source(path) as source:
        frames = list(source)
        assert source.unreadable == 0
    return len(frames)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(("begin_s", "for_s"), [(1.5, 9), (0.5, 1.0)])
def test_a_lossless_cut_gives_what_is_shown(
    recorded: Path, tmp_path: Path, suffix: str, begin_s: float, for_s: float
) -> None:
    path = tmp_path / f"cut.{suffix}"
    _ffmpeg("-ss", begin_s, "-t", for_s, "-i", recorded, "-c", "copy", path)
    contents = contents_of(path)
    assert contents is not None and contents.whole
    assert _images(path) == contents.images < IMAGES


CHANGES = {
    "dusk": "setpts='if(lt(N,30),N/25,1.2+(N-30)/5)/TB'",
    "gap": "setpts='if(lt(N,30),N/25,8+(N-30)/25)/TB'",
}


@pytest.mark.parametrize("rate", CHANGES)
@pytest.mark.parametrize("suffix", ["mkv", "ts", "mp4", "mov", "avi", "webm", "flv"])
def test_all_images_of_a_changing_rate(recorded: Path, tmp_path: Path, suffix: str, rate: str) -> None:
    path = tmp_path / f"{rate}.{suffix}"
    codec = {"webm": "libvpx", "avi": "mjpeg"}.get(suffix, "libx264")
    _ffmpeg("-i", recorded, "-vf", CHANGES[rate], "-fps_mode", "vfr", "-c:v", codec, "-r:v", "25", path)
    assert _images(path) == IMAGES


def test_sound_that_goes_on_longer(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "talk.mkv"
    _ffmpeg("-i", recorded, "-f", "lavfi", "-i", "sine=d=6", "-c:v", "copy", path)
    assert _images(path) == IMAGES


def test_written_in_fragments(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "fragments.mp4"
    _ffmpeg("-i", recorded, "-c", "copy", "-movflags", "frag_keyframe+empty_moov", path)
    contents = contents_of(path)
    assert contents is not None and (contents.images, contents.whole) == (IMAGES, True)
    assert _images(path) == IMAGES


@pytest.mark.parametrize(("suffix", "options"), [("mp4", ("-movflags", "faststart")), ("mkv", ())])
def test_a_file_that_is_cut_off_says_so(recorded: Path, tmp_path: Path, suffix: str, options: Any) -> None:
    path = tmp_path / f"half.{suffix}"
    _ffmpeg("-i", recorded, "-c", "copy", *options, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_source(path) as source, pytest.raises(SourceError, match="cut off"):
        list(source)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_damaged_stretch_costs_its_images_and_no_others(recorded: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rotten.{suffix}"
    _ffmpeg("-i", recorded, "-c", "copy", path)
    content = bytearray(path.read_bytes())
    begin, length = len(content) * 4 // 10, len(content) // 8
    content[begin : begin + length] = bytes(length)
    path.write_bytes(content)
    frames = []
    with open_source(path) as source:
        with pytest.raises(SourceError, match=f"rotten.{suffix}: ends after"):
            frames.extend(iter(source.__iter__().__next__, None))
        assert source.unreadable == (IMAGES - len(frames) if suffix == "mp4" else 0)  # others do not say how many
    assert len(frames) >= IMAGES // 2
    assert frames[-1].stream_s == pytest.approx((IMAGES - 1) / 25, abs=0.2)  # it goes on behind the damage


def test_a_recorder_without_its_last_second_says_what_to_do(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "power.mp4"
    path.write_bytes(recorded.read_bytes()[: recorded.stat().st_size // 2])
    with pytest.raises(SourceError, match="power loss, .* untrunc"):
        open_source(path)


def test_a_recording_that_begins_between_key_images(recorded: Path, tmp_path: Path) -> None:
    """More packets than OpenCV would skip by itself."""
    whole, path = tmp_path / "whole.ts", tmp_path / "late.ts"
    picture = ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=8")
    _ffmpeg(*picture, "-c:v", "libx264", "-g", "120", "-bf", "0", "-bsf:v", "noise=drop='between(n,0,9)'", whole)
    _ffmpeg("-i", whole, "-c", "copy", "-copyinkf", path)
    with open_source(path) as source:
        assert len(list(source)) >= 80
        assert source.unreadable > 64


@pytest.mark.parametrize("cut", range(0, 400, 29))
def test_damaged_tables_are_no_traceback(recorded: Path, tmp_path: Path, cut: int) -> None:
    data = bytearray(recorded.read_bytes())
    at = data.find(b"moov") + cut
    data[at : at + 3] = b"\xff\xfe\xfd"
    path = tmp_path / "x.mp4"
    path.write_bytes(data)
    contents_of(path)
