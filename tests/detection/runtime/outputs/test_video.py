from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detection.runtime.detections import Detections
from detection.runtime.errors import OutputError
from detection.runtime.outputs import annotated_video
from detection.runtime.outputs.annotated_video import VideoOutput
from tests.detection.runtime.outputs.kills import kill_while_writing
from tests.detection.runtime.outputs.shots import NAMES, frame_of, write
from tests.detection.runtime.outputs.test_lines import disk_of

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffmpeg")


def frames_of(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened()
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    capture.release()
    return frames


def times_s(path: Path) -> list[float]:
    """When each image is shown, as ffmpeg reads it."""
    asked = ["-show_entries", "packet=pts_time", "-of", "json"]
    command = ["ffprobe", "-v", "error", *asked, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert said.stderr == ""
    return [float(packet["pts_time"]) for packet in json.loads(said.stdout)["packets"]]


def decoded_without_a_word(path: Path) -> bool:
    command = ["ffmpeg", "-v", "warning", "-xerror", "-i", str(path), "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return said.returncode == 0 and said.stderr == ""


def test_video_has_every_frame_and_the_boxes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.mp4"
    with VideoOutput(path, NAMES, fps=12.5) as output:
        for i in range(5):
            write(output, frame_of(i, (240, 320)))
    output.close()
    frames = frames_of(path)
    assert len(frames) == 5 and frames[0].shape == (240, 320, 3)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == 12.5
    assert np.abs(frames[0].astype(int) - 60).max() > 60  # something is drawn
    assert os.listdir(path.parent) == ["out.mp4"]


@needs_ffmpeg
def test_video_plays_while_it_is_written_and_is_an_ordinary_one_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoOutput(path, NAMES, fps=25) as output:
        seen = 0
        for i in range(80):
            write(output, frame_of(i, captured_ns=0))
            if i % 20 == 19 and path.exists():
                seen = len(frames_of(path))
                assert i - 2 * 25 < seen <= i and decoded_without_a_word(path)
        assert seen > 20
        assert b"moof" in path.read_bytes()
    assert len(frames_of(path)) == 80 and decoded_without_a_word(path)
    np.testing.assert_allclose(times_s(path), np.arange(80) / 25, atol=1e-4)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 80
    capture.set(cv2.CAP_PROP_POS_FRAMES, 61)  # winding works
    assert capture.read()[0] and capture.get(cv2.CAP_PROP_POS_MSEC) == pytest.approx(61 * 40, abs=1)
    capture.release()


@needs_ffmpeg
def test_live_video_plays_in_real_time_whatever_was_dropped(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    grabbed_s = [0.0, 0.04, 0.08, 0.4, 0.44, 1.3, 2.9, 2.94, 65.0, 65.5]
    with VideoOutput(path, NAMES, fps=25, live=True) as output:
        for i, s in enumerate(grabbed_s):
            write(output, frame_of(i, captured_ns=7_000_000_000 + round(s * 1e9)))
    np.testing.assert_allclose(times_s(path), grabbed_s, atol=1e-4)
    assert len(frames_of(path)) == len(grabbed_s) and decoded_without_a_word(path)


def test_a_image_may_stand_for_days(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoOutput(path, NAMES, fps=25, live=True) as output:
        for i, s in enumerate([0, 1, 3 * 86400, 3 * 86400 + 1]):
            write(output, frame_of(i, captured_ns=s * 10**9))
    assert len(frames_of(path)) == 4


@needs_ffmpeg
def test_a_killed_stream_leaves_a_video_up_to_the_last_fragment(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    whole = 0
    for _ in range(4):
        kill_while_writing("mp4", path, count=2, after_s=(0.3, 1.0))
        if not path.exists():  # killed within the first second of video
            continue
        frames = frames_of(path)
        assert len(frames) >= 25
        assert len(times_s(path)) == len(frames) and decoded_without_a_word(path)
        whole += 1
        path.unlink()
    assert whole >= 2
    assert os.listdir(tmp_path) == []


def test_a_clock_that_begins_anew_replaces_no_video(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(annotated_video, "timed", lambda path, when: Path(str(path).replace("{time}", "00-00-05")))
    for i in range(2):
        with VideoOutput(tmp_path / "x_{time}.mp4", NAMES, fps=25) as output:
            for k in range(3 + i):
                write(output, frame_of(k))
    assert len(frames_of(tmp_path / "x_00-00-05.mp4")) == 3
    assert len(frames_of(tmp_path / "x_00-00-05-2.mp4")) == 4


def test_video_fits_other_sizes_and_says_so_once(tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "out.mp4"
    empty = Detections.empty()
    with VideoOutput(path, NAMES, fps=None) as output:
        for i, size in enumerate([(61, 101), (61, 101), (200, 100), (30, 300), (61, 101)]):
            write(output, frame_of(i, size), empty)
    frames = frames_of(path)
    assert len(frames) == 5 and {f.shape for f in frames} == {(60, 100, 3)}
    assert caplog.text.count("differ in size") == 1
    # 200 x 100 in 60 x 100: 30 wide, grey at its right
    assert abs(int(frames[2][50, 80].mean()) - 114) < 8


def test_video_survives_an_exception(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(RuntimeError), VideoOutput(path, NAMES, fps=25) as output:
        write(output, frame_of())
        raise RuntimeError
    assert len(frames_of(path)) == 1


def test_no_frame_no_video_and_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with VideoOutput(path, NAMES, fps=25):
        pass
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["out.mp4"]


def test_video_of_one_camera_takes_only_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoOutput(path, NAMES, fps=25, camera="left") as output:
        for i, camera in enumerate(("left", "right", "left")):
            write(output, frame_of(i, camera=camera))
    assert len(frames_of(path)) == 2


def test_video_must_be_mp4(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"must end in \.mp4"):
        VideoOutput(tmp_path / "out.avi", NAMES, fps=25)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written") as error:
        VideoOutput(tmp_path / "file" / "out.mp4", NAMES, fps=25)
    assert "\n" not in str(error.value)


def test_full_disk_costs_a_fragment_and_not_the_video(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    failures = 0
    with VideoOutput(path, NAMES, fps=25) as output:
        for i in range(150):
            limit = path.stat().st_size + 20 if 50 <= i < 90 else 1 << 30
            with disk_of(limit):
                try:
                    write(output, frame_of(i, (240, 320)))
                except OutputError as error:
                    assert "cannot be written" in str(error) and str(path) in str(error)
                    failures += 1
    assert 1 <= failures <= 3
    frames = frames_of(path)
    assert 150 - 37 * failures <= len(frames) < 150
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_a_series_of_videos(tmp_path: Path, monkeypatch: Any) -> None:
    class Clock:
        minute = 0

        @classmethod
        def now(cls) -> Any:
            cls.minute += 1
            return video_datetime(2026, 5, 1, 6, cls.minute)

    video_datetime = annotated_video.datetime
    monkeypatch.setattr(annotated_video, "datetime", Clock)
    with VideoOutput(tmp_path / "{date}" / "v-{time}.mp4", NAMES, fps=25, minutes=2 / 60) as output:
        for i in range(120):
            write(output, frame_of(i))
    paths = sorted((tmp_path / "2026-05-01").iterdir())
    assert len(paths) == 2
    assert sum(len(frames_of(path)) for path in paths) == 120
    with pytest.raises(OutputError, match=r"needs \{time\} in its name"):
        VideoOutput(tmp_path / "v.mp4", NAMES, fps=25, minutes=10)
