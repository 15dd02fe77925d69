from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data.formats.coco import read_coco
from detection.runtime.blackbox import relabel
from detection.runtime.blackbox.black_box import BlackBox
from detection.runtime.blackbox.button import triggered_by_signal
from detection.runtime.blackbox.folder import BoundedFolder
from detection.runtime.blackbox.recording import Recording, read_recording
from detection.runtime.blackbox.relabel import RelabelWriter
from detection.runtime.blackbox.settings import BlackBoxSettings
from detection.runtime.blackbox.uncertain import LowThresholdDetections
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.errors import OutputError
from detection.runtime.events import CameraStatus, Event
from detection.runtime.outputs.contract import make_record
from detection.runtime.streaming.controls import Controls
from detection.runtime.streaming.slices import FrameSlicer

Make = Callable[..., BlackBox]


@pytest.fixture
def make_box(tmp_path: Path, fresh_detector: Detector) -> Any:
    boxes = []

    def make(**settings: Any) -> BlackBox:
        beside = {key: settings.pop(key) for key in ("max_age_ms", "slicers") if key in settings}
        settings = {"before_s": 5.0, "after_s": 0.2, "uncertain_every_s": None, **settings}
        kept = BlackBoxSettings(folder=tmp_path / "box", **settings)
        boxes.append(BlackBox(kept, Controls(fresh_detector), **beside))
        return boxes[-1]

    yield make
    for box in boxes:
        box.close()


def incidents(box: BlackBox) -> list[Path]:
    folder = box.folder / "incidents"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def lost(camera: str = "front") -> Event:
    return Event("camera", camera, CameraStatus.LOST, "no image for 2 s")


def test_saves_what_was_before_a_fault_and_after_it(
    make_box: Make, feed: Any, eventually: Any, fresh_detector: Detector, make_field_image: Any
) -> None:
    box = make_box(before_s=0.5, after_s=1.0)
    feed(box, range(40))
    box.event(Event("camera", "front", CameraStatus.LIVE))  # no fault
    assert not incidents(box)
    at_ns = time.monotonic_ns()
    box.event(lost())
    feed(box, range(40, 110))
    eventually(lambda: box.incidents == 1)
    (folder,) = incidents(box)
    assert folder.name.startswith("000001-") and folder.name.endswith("-camera-lost-front")
    recording = read_recording(folder)
    assert (
        recording.lossless == len(recording.frames)
        and recording.cameras == ["front"]
        and recording.class_names == ("weed", "crop")
    )
    numbers = [frame.frame for frame in recording.frames]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))  # none left out
    times = np.array([frame.captured_ns for frame in recording.frames])
    assert -0.5e9 <= times[0] - at_ns < 0 < times[-1] - at_ns <= 1.0e9
    for recorded in recording.frames:
        image = cv2.imread(str(folder / recorded.image))
        assert np.array_equal(image, make_field_image(recorded.frame))  # the very pixels
        again = fresh_detector(image)
        assert np.array_equal(again.boxes_xyxy, recorded.detections.boxes_xyxy) and len(again) == 1
        assert np.array_equal(again.scores, recorded.detections.scores)
        assert recorded.score_thresholds == pytest.approx([0.7, 0.9])
    about = json.loads((folder / "recording.json").read_text())
    assert [reason["status"] for reason in about["reasons"]] == ["lost"]
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event["status"] for event in events] == ["live", "lost"]
    assert box.lost == 0


def test_faults_of_one_incident_are_one_recording_and_a_flapping_camera_pauses(
    make_box: Make, feed: Any, eventually: Any
) -> None:
    box = make_box()
    feed(box, range(5))
    box.event(lost())
    feed(box, range(5, 10))
    box.event(lost("left"))  # prolongs it
    feed(box, range(10, 25))
    eventually(lambda: box.incidents == 1)
    assert [f.frame for f in read_recording(incidents(box)[0]).frames][:5] == [0, 1, 2, 3, 4]
    box.event(lost())  # the same within the pause
    feed(box, range(25, 30))
    time.sleep(0.3)
    assert len(incidents(box)) == 1
    box.trigger("the driver pressed the button")  # always
    eventually(lambda: box.incidents == 2)
    assert "by-hand" in incidents(box)[1].name


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="POSIX signals")
def test_a_signal_is_the_button(make_box: Make, feed: Any, eventually: Any) -> None:
    box = make_box()
    before = signal.getsignal(signal.SIGUSR1)
    with triggered_by_signal(box):
        feed(box, range(5))
        os.kill(os.getpid(), signal.SIGUSR1)
        eventually(lambda: box.incidents == 1)
    assert signal.getsignal(signal.SIGUSR1) == before
    assert len(read_recording(incidents(box)[0]).frames) == 5


def test_a_camera_that_is_gone_does_not_keep_the_incident_open(make_box: Make, feed: Any, eventually: Any) -> None:
    box = make_box()
    feed(box, range(5))
    box.event(lost())
    eventually(lambda: box.incidents == 1)  # with no image ever after
    assert len(read_recording(incidents(box)[0]).frames) == 5


def test_a_late_decision_is_a_fault(make_box: Make, feed: Any, eventually: Any) -> None:
    box = make_box(max_age_ms=100)
    feed(box, range(5), age_ms=99)
    assert not incidents(box)
    feed(box, range(5, 6), age_ms=101)
    eventually(lambda: box.incidents == 1)
    assert "age-above-limit" in incidents(box)[0].name
    assert max(frame.age_ms for frame in read_recording(incidents(box)[0]).frames) == 101


@pytest.mark.serial
def test_closing_saves_the_incident_within_a_second(make_box: Make, feed: Any) -> None:
    box = make_box(after_s=60)
    feed(box, range(5))
    box.event(lost())
    started = time.monotonic()
    box.close()
    box.close()
    assert time.monotonic() - started < 5 and box.incidents == 1
    assert len(read_recording(incidents(box)[0]).frames) == 5
    box.event(lost())  # after the end: nothing
    assert len(incidents(box)) == 1


def test_memory_stays_below_its_limit_and_the_loss_is_counted(make_box: Make, feed: Any, eventually: Any) -> None:
    box = make_box(before_s=1000, memory_mb=10 * 0.036)
    feed(box, range(40), interval_s=0)
    assert box._ring.size_bytes <= 360_000
    box.event(lost())
    eventually(lambda: box.incidents == 1)
    assert [frame.frame for frame in read_recording(incidents(box)[0]).frames] == list(range(30, 40))


def test_a_full_memory_costs_exactness_before_images(make_box: Make, feed: Any) -> None:
    """All of memory is to be saved, and more comes at once: what there is no time for becomes a JPEG."""
    box = make_box(before_s=1000, after_s=50, memory_mb=30 * 0.036)
    feed(box, range(40), interval_s=0)
    box.trigger()
    feed(box, range(40, 100), interval_s=0.01)
    box.close()
    recording = read_recording(incidents(box)[0])
    numbers = [frame.frame for frame in recording.frames]
    assert len(numbers) + box.lost == len(range(10, 100)) and numbers == sorted(numbers)
    assert recording.lossless < len(numbers)


def test_as_jpeg_reaches_further_back(make_box: Make, feed: Any, eventually: Any) -> None:
    box = make_box(before_s=1000, memory_mb=10 * 0.036, as_jpeg=True)
    feed(box, range(20))
    eventually(lambda: box._ring.next_unpacked() is None)
    box.event(lost())
    eventually(lambda: box.incidents == 1)
    recording = read_recording(incidents(box)[0])
    assert len(recording.frames) == 20 and recording.lossless == 0


def test_an_unwritable_folder_is_said_at_once(tmp_path: Path, fresh_detector: Detector) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        BlackBox(BlackBoxSettings(folder=tmp_path / "file"), Controls(fresh_detector))


# --- images to be labelled again ---


def uncertain_parts(box: BlackBox) -> list[Path]:
    return sorted((box.folder / "relabel").glob("*")) if (box.folder / "relabel").is_dir() else []


@pytest.mark.parametrize("brightness", [182, 175])  # scores 0.714 and 0.686; the threshold is 0.7
def test_uncertain_images_become_a_coco_dataset(
    make_box: Make, feed: Any, eventually: Any, brightness: int, fresh_detector: Detector, make_field_image: Any
) -> None:
    box = make_box(uncertain_every_s=0.1)
    started = time.monotonic()
    feed(box, range(30), brightness=brightness)
    most = (time.monotonic() - started) / 0.1 + 1
    eventually(lambda: box.uncertain_images >= 2)
    box.close()
    (part,) = uncertain_parts(box)
    dataset = read_coco(part / "annotations.json")
    assert dataset.class_names == ("weed", "crop") and dataset.notices == ()
    assert 2 <= len(dataset.images) <= most  # at most one in 0.1 s
    for image in dataset.images:
        assert image.attributes == {"camera": "front"} and image.path.is_file()
        assert image.labels.tolist() == [0] and image.size_hw == (120, 100)
        x1, y1, x2, y2 = image.boxes_xyxy[0]
        assert (y1, y2) == pytest.approx((20, 60), abs=2) and x2 - x1 == pytest.approx(30, abs=3)
    content = json.loads((part / "annotations.json").read_text())
    scores = [annotation["score"] for annotation in content["annotations"]]
    assert scores == pytest.approx([brightness / 255] * len(scores), abs=1e-3)


def test_the_second_look_stays_within_the_region(make_box: Make, feed: Any, eventually: Any) -> None:
    box = make_box(uncertain_every_s=0.05, slicers={"front": FrameSlicer(roi_xyxy=(0, 62, 100, 120))})
    feed(box, range(20), brightness=175)  # its patch lies above the region
    feed(box, range(20), brightness=175, camera="left")  # looked at whole
    eventually(lambda: box.uncertain_images >= 2)
    box.close()
    (part,) = uncertain_parts(box)
    images = json.loads((part / "annotations.json").read_text())["images"]
    assert {image["attributes"]["camera"] for image in images} == {"left"}


def test_sure_images_are_left_alone(make_box: Make, feed: Any) -> None:
    box = make_box(uncertain_every_s=0.05)
    feed(box, range(20), brightness=255)
    time.sleep(0.5)
    assert box.uncertain_images == 0 and uncertain_parts(box) == []


def test_a_standing_machine_is_not_saved_again_and_again(
    make_box: Make, fresh_detector: Detector, make_field_image: Any, eventually: Any
) -> None:
    box = make_box(uncertain_every_s=0.02)
    image = make_field_image(1, brightness=182)
    for i in range(30):
        frame = Frame(image, "front", i, time.monotonic_ns())
        found = fresh_detector(image)
        box.write(frame, found, make_record(frame, found, ("weed", "crop"), age_ms=1, latency_ms={}))
        time.sleep(0.02)
    eventually(lambda: box.uncertain_images == 1)
    time.sleep(0.3)
    assert box.uncertain_images == 1


def test_the_whole_folder_keeps_its_quota(make_box: Make, feed: Any, eventually: Any) -> None:
    quota = 1_000_000
    box = make_box(quota_mb=quota / 1e6, uncertain_every_s=0.1, pause_s=0)
    for round_ in range(4):
        feed(box, range(20 * round_, 20 * round_ + 20), interval_s=0.01, brightness=182)
        box.trigger()
        eventually(lambda wanted=round_ + 1: box.incidents >= wanted)
        assert sum(p.stat().st_size for p in box.folder.rglob("*") if p.is_file()) <= quota
    kept = incidents(box)
    assert 1 <= len(kept) < 4 and box._disk.removed_parts > 0
    for folder in kept:
        read_recording(folder)


def test_a_dataset_that_made_room_is_not_written_on(tmp_path: Path, make_field_image: Any) -> None:
    disk = BoundedFolder(tmp_path, 10_000_000)
    writer = RelabelWriter(disk)
    seen = LowThresholdDetections(Detections.empty(), ("weed",), 1)
    frames = [Frame(make_field_image(i), "front", i, 0) for i in range(3)]
    assert writer.write(frames[0], seen)
    (first,) = disk.parts("relabel")
    disk.remove(first)
    assert writer.write(frames[1], seen) and writer.write(frames[2], seen)
    (second,) = disk.parts("relabel")
    assert second != first and len(read_coco(second / "annotations.json").images) == 2


def test_a_part_is_one_labelling_job_of_one_set_of_classes(
    tmp_path: Path, make_field_image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relabel, "IMAGES_PER_PART", 2)
    disk = BoundedFolder(tmp_path, 10_000_000)
    writer = RelabelWriter(disk)
    for i, names in enumerate([("weed",), ("weed",), ("weed",), ("weed", "crop")]):
        frame = Frame(make_field_image(i), "rtsp/front left", i, time.monotonic_ns())
        assert writer.write(frame, LowThresholdDetections(Detections.empty(), names, 1))
    datasets = [read_coco(part / "annotations.json") for part in disk.parts("relabel")]
    assert [len(dataset.images) for dataset in datasets] == [2, 1, 1]
    assert datasets[-1].class_names == ("weed", "crop")


# --- kill -9 ---

RUN = """
import sys, time
from pathlib import Path
import numpy as np
from detection.runtime.blackbox.black_box import BlackBox
from detection.runtime.blackbox.settings import BlackBoxSettings
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.outputs.contract import make_record
from detection.runtime.streaming.controls import Controls
detector = Detector(sys.argv[1], threads=1)
settings = BlackBoxSettings(folder=sys.argv[2], before_s=60, after_s=60, uncertain_every_s=None)
box = BlackBox(settings, Controls(detector))
for i in range(100_000):
    image = np.random.default_rng(i).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    frame = Frame(image, "front", i, time.monotonic_ns())
    found = detector(frame.image)
    box.write(frame, found, make_record(frame, found, detector.class_names, age_ms=1, latency_ms={}))
    if i == 20:
        box.trigger("now")
    time.sleep(0.005)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_killed_while_saving_it_leaves_a_recording_that_can_be_read(
    tmp_path: Path, model_path: Path, eventually: Any, make_box: Make
) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN, str(model_path), str(tmp_path / "box")])
    folder = tmp_path / "box" / "incidents"
    try:
        eventually(lambda: len(list(folder.glob("*.part/images/*.png"))) > 10, timeout_s=60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    (left,) = folder.iterdir()
    assert left.suffix == ".part"
    unfinished = read_recording(left)
    assert len(unfinished.frames) >= 9
    make_box()  # the next start gives it its name
    (named,) = folder.iterdir()
    assert named.suffix == "" and len(read_recording(named).frames) == len(unfinished.frames)
    check_images(read_recording(named))


def check_images(recording: Recording) -> None:
    for frame in recording.frames:
        assert cv2.imread(str(recording.folder / frame.image)) is not None
