from __future__ import annotations

import shutil
import threading
import time
from collections import namedtuple

import cv2
import pytest

from detection.runtime.dashboard import recorder as room
from detection.runtime.dashboard.recorder import Recorder
from detection.runtime.errors import OutputError

Disk = namedtuple("Disk", "total used free")


@pytest.fixture
def events():
    return []


@pytest.fixture
def recorder(tmp_path, events):
    made = Recorder(tmp_path / "videos", ("weed", "crop"), events.append)
    yield made
    made.stop()


def _frames(path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count


def test_one_video_per_camera_that_plays_as_the_images_came(recorder, events, make_shot, tmp_path, wait):
    recorder.take(*make_shot("left"))  # before the start: is not in it
    recorder.start()
    recorder.start()  # a second viewer's press changes nothing
    began_s = time.monotonic()
    for i in range(12):
        camera, index = ("left", i - i // 3 - 1) if i % 3 else ("a/b <c>", i // 3)
        recorder.take(*make_shot(camera, index, labels=(0,)))
        wait(lambda i=i: recorder.to_json()["images"] == i + 1)
        time.sleep(0.05)
    took_s = time.monotonic() - began_s
    assert recorder.to_json()["on"]
    recorder.stop()
    recorder.take(*make_shot("left"))
    state = recorder.to_json()
    assert not state["on"] and state["images"] == 12 and state["left_out"] == 0 and state["error"] is None
    paths = [tmp_path / "videos" / name for name in state["files"]]
    assert [_frames(path) for path in paths] == [4, 8]
    capture = cv2.VideoCapture(str(paths[1]))
    played_s = capture.get(cv2.CAP_PROP_FRAME_COUNT) / capture.get(cv2.CAP_PROP_FPS)
    assert 12 * 0.05 * 0.7 < played_s < took_s + 0.2
    capture.release()
    assert [(event.kind, event.status) for event in events] == [("recording", "started"), ("recording", "ended")]
    assert sorted(p.name for p in (tmp_path / "videos").iterdir()) == sorted(state["files"])


def test_recordings_of_one_second_do_not_replace_each_other(recorder, make_shot, tmp_path, wait):
    for _ in range(3):
        recorder.start()
        for camera in ("a/b", "a:b"):
            recorder.take(*make_shot(camera))
        wait(lambda: recorder.to_json()["images"] == 2)
        recorder.stop()
    assert len([_frames(path) for path in (tmp_path / "videos").glob("*.mp4")]) == 6


def test_what_the_encoder_has_no_time_for_is_left_out_and_counted(recorder, make_shot, monkeypatch):
    hold = threading.Event()
    write = room.VideoOutput.write
    monkeypatch.setattr(room.VideoOutput, "write", lambda *a: (hold.wait(30), write(*a))[1])
    recorder.start()
    for i in range(50):
        recorder.take(*make_shot(index=i))  # would hang here if it waited
    assert 40 <= recorder.to_json()["left_out"] <= 42
    hold.set()
    recorder.stop()
    state = recorder.to_json()
    assert state["images"] + state["left_out"] == 50


def test_a_full_disk_ends_it_and_is_said(recorder, events, make_shot, monkeypatch, wait):
    recorder.start()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(1, 1, 1000))
    recorder.take(*make_shot())
    wait(lambda: not recorder.to_json()["on"])
    assert "the disk is nearly full" in recorder.to_json()["error"]
    assert events[-1].status == "failed"
    assert [_frames(p) for p in recorder._folder.glob("*.mp4")] == [1]  # what was recorded is whole
    with pytest.raises(OutputError, match="only 0 MB free"):
        recorder.start()


def test_a_folder_that_cannot_be_written_is_said(tmp_path, events):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file.videos: cannot be written"):
        Recorder(tmp_path / "file" / "videos", ("weed",), events.append).start()
