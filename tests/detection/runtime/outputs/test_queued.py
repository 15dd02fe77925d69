from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detection.runtime.detections import Detections, Frame
from detection.runtime.errors import OutputError
from detection.runtime.events import Event
from detection.runtime.outputs import health, queued
from detection.runtime.outputs.annotated_video import VideoOutput
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.outputs.jsonl import JsonlOutput
from detection.runtime.outputs.queued import Queued, close_all
from tests.detection.runtime.outputs.shots import NAMES, frame_of, write
from tests.detection.runtime.outputs.test_lines import disk_of


class Gate(Output):
    """Takes a frame when it is let; says which it took, and from which thread."""

    needs_image = False

    def __init__(self, *, opened: bool = True) -> None:
        self.gate = threading.Event()
        if opened:
            self.gate.set()
        self.entered = threading.Event()
        self.took: list[int | str] = []
        self.threads: set[int] = set()
        self.frames: list[Frame] = []
        self.error: Exception | None = None
        self.closed = 0

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.gate.wait(60)
        if self.error is not None:
            raise self.error
        self.frames.append(frame)
        self.took.append(frame.index)

    def event(self, event: Event) -> None:
        self.threads.add(threading.get_ident())
        self.took.append(event.status)

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1


class Images(Gate):
    needs_image = True


def wait_until(true: Callable[[], bool], timeout_s: float = 30.0) -> None:
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, "it does not come"
        time.sleep(0.005)


@pytest.mark.parametrize("lossless", [True, False])
def test_everything_arrives_in_order_in_a_thread_of_its_own(lossless: bool) -> None:
    inner = Gate()
    output = Queued(inner, "x", lossless=lossless)
    for i in range(20):
        write(output, frame_of(i))
        if i == 9:
            output.event(Event("camera", "left", "lost"))
    output.close()
    output.close()
    assert inner.took == [*range(10), "lost", *range(10, 20)]
    assert len(inner.threads) == 1 and threading.get_ident() not in inner.threads
    assert inner.closed == 1 and output.dropped == 0 and output.waiting == 0


def test_live_a_slow_output_costs_the_oldest_frames_and_no_time() -> None:
    inner, events = Gate(opened=False), list[Event]()
    output = Queued(inner, "x", lossless=False, listener=events.append, depth=4)
    write(output, frame_of(0))
    assert inner.entered.wait(30)
    begin = time.perf_counter()
    for i in range(1, 101):
        write(output, frame_of(i))
    assert time.perf_counter() - begin < 5  # nothing waited
    assert output.dropped == 96 and output.waiting == 4
    assert [(e.kind, e.subject, e.status) for e in events] == [("output", "x", "behind")]
    inner.gate.set()
    output.close()
    assert inner.took == [0, 97, 98, 99, 100]


def test_live_it_is_told_when_it_has_recovered(monkeypatch: Any) -> None:
    monkeypatch.setattr(health, "CALM_S", 0.2)
    inner, events = Gate(opened=False), list[Event]()
    output = Queued(inner, "x", lossless=False, listener=events.append, depth=2)
    for i in range(10):
        write(output, frame_of(i))
    inner.gate.set()
    wait_until(lambda: len(events) == 2)
    assert [e.status for e in events] == ["behind", "recovered"]
    assert events[1].message == f"{output.dropped} frames are missing" and output.dropped >= 7
    inner.gate.clear()
    for i in range(10):
        write(output, frame_of(i))
    wait_until(lambda: len(events) == 3)
    assert events[2].status == "behind"
    inner.gate.set()
    output.close()


def test_live_an_output_that_hangs_is_lost(monkeypatch: Any) -> None:
    monkeypatch.setattr(health, "HANGS_S", 0.2)
    inner, events = Gate(opened=False), list[Event]()
    output = Queued(inner, "x", lossless=False, listener=events.append, depth=1)
    write(output, frame_of(0))
    assert inner.entered.wait(30)
    for i in range(1, 5):
        write(output, frame_of(i))
    time.sleep(0.3)
    for i in range(5, 9):
        write(output, frame_of(i))
    assert [e.status for e in events] == ["behind", "lost"]
    assert "hangs" in events[1].message
    inner.gate.set()
    output.close()


def test_live_an_error_is_told_once_and_the_output_is_tried_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(health, "CALM_S", 0.2)
    monkeypatch.setattr(queued, "_FIRST_RETRY_S", 0.1)
    inner, events = Gate(), list[Event]()
    inner.error = OutputError("x: cannot be written (disk full)")
    output = Queued(inner, "x", lossless=False, listener=events.append)
    for i in range(30):
        write(output, frame_of(i))
        time.sleep(0.01)
    assert [(e.status, e.message) for e in events] == [("lost", "x: cannot be written (disk full)")]
    assert inner.took == []
    inner.error = None
    index = 30
    until = time.monotonic() + 30
    while len(events) < 2:
        assert time.monotonic() < until
        write(output, frame_of(index))
        index += 1
        time.sleep(0.01)
    assert events[1].status == "recovered"
    output.close()  # it is well again: nothing to raise
    assert len(inner.took) + output.dropped == index and output.dropped >= 30


def test_live_an_unexpected_error_is_seen_and_stops_nothing(caplog: Any) -> None:
    inner, events = Gate(), list[Event]()
    inner.error = KeyError("odd")
    output = Queued(inner, "x", lossless=False, listener=events.append)
    write(output, frame_of(0))
    wait_until(lambda: bool(events))
    write(output, frame_of(1))
    assert events[0].status == "lost" and "KeyError: 'odd'" in events[0].message
    assert caplog.text.count("failed unexpectedly") == 1 and "Traceback" in caplog.text
    with pytest.raises(OutputError, match="KeyError"):
        output.close()  # lost at the end
    assert inner.closed == 1


def test_lossless_waits_and_loses_nothing() -> None:
    inner = Gate(opened=False)
    output = Queued(inner, "x", lossless=True, depth=2)

    def feed() -> None:
        for i in range(30):
            write(output, frame_of(i))

    feeder = threading.Thread(target=feed)
    feeder.start()
    wait_until(lambda: output.waiting == 2)
    time.sleep(0.1)
    assert feeder.is_alive() and output.waiting == 2
    inner.gate.set()
    feeder.join(30)
    output.close()
    assert inner.took == list(range(30)) and output.dropped == 0


def test_lossless_an_error_reaches_the_pipeline_once() -> None:
    inner, events = Gate(), list[Event]()
    inner.error = OutputError("x: disk full")
    output = Queued(inner, "x", lossless=True, listener=events.append)
    write(output, frame_of(0))
    with pytest.raises(OutputError, match="x: disk full"):
        for i in range(1, 10_000):
            write(output, frame_of(i))
            time.sleep(0.001)
    output.close()
    assert inner.closed == 1 and events == []


def test_lossless_an_error_in_the_last_frame_is_raised_by_close() -> None:
    inner = Gate()
    inner.error = OutputError("x: disk full")
    output = Queued(inner, "x", lossless=True)
    write(output, frame_of(0))
    with pytest.raises(OutputError, match="x: disk full"):
        output.close()


def test_lossless_does_not_wait_for_ever(monkeypatch: Any) -> None:
    monkeypatch.setattr(queued, "_PATIENCE_S", 0.2)
    inner = Gate(opened=False)
    output = Queued(inner, "x", lossless=True, depth=1)
    with pytest.raises(OutputError, match="has accepted nothing"):
        for i in range(3):
            write(output, frame_of(i))
    with pytest.raises(OutputError, match="abandoned"):
        output.close()
    inner.gate.set()


@pytest.mark.parametrize("lossless", [True, False])
def test_a_stopped_stream_leaves_hanging_outputs_behind_within_a_second(lossless: bool, caplog: Any) -> None:
    stop = threading.Event()
    hanging = [Gate(opened=False) for _ in range(3)]
    fine = Gate()
    outputs = [Queued(inner, f"x{i}", lossless=lossless, stop=stop) for i, inner in enumerate([*hanging, fine])]
    for output in outputs:
        write(output, frame_of(0))
        write(output, frame_of(1))
    stop.set()
    begin = time.perf_counter()
    with pytest.raises(OutputError, match="x0: does not finish; abandoned with 1 frames waiting"):
        close_all(outputs)
    assert time.perf_counter() - begin < 1.0
    assert "x1: does not finish" in caplog.text and "x2: does not finish" in caplog.text
    assert fine.took == [0, 1] and fine.closed == 1
    for inner in hanging:
        inner.gate.set()
    wait_until(lambda: all(inner.closed for inner in hanging))
    assert [inner.took for inner in hanging] == [[0]] * 3  # what nobody waits for is not written


def test_a_stop_ends_the_waiting_of_a_recording() -> None:
    stop = threading.Event()
    inner = Gate(opened=False)
    output = Queued(inner, "x", lossless=True, stop=stop, depth=1)
    write(output, frame_of(0))
    assert inner.entered.wait(30)
    write(output, frame_of(1))
    threading.Timer(0.1, stop.set).start()
    begin = time.perf_counter()
    for i in range(2, 5):
        write(output, frame_of(i))
    assert time.perf_counter() - begin < 1.0 and output.dropped == 3
    inner.gate.set()
    output.close()
    assert inner.took == [0, 1]


def test_images_are_not_kept_for_outputs_that_need_none() -> None:
    for inner, kept in ((Gate(opened=False), False), (Images(opened=False), True)):
        output = Queued(inner, "x", lossless=False)
        image = np.zeros((48, 64, 3), np.uint8)
        alive = weakref.ref(image)
        frame = Frame(image, "left", 0, 1)
        write(output, frame)
        del frame, image
        gc.collect()
        assert (alive() is not None) == kept
        inner.gate.set()
        output.close()
        assert inner.frames[0].image.shape == (48, 64, 3)  # the size is still known


def test_frames_of_other_cameras_do_not_take_room(tmp_path: Path) -> None:
    video = VideoOutput(tmp_path / "x.mp4", NAMES, fps=25, camera="left")
    output = Queued(video, "x", lossless=False, depth=1)
    write(output, frame_of(0))
    for i in range(50):
        write(output, frame_of(i, camera="right"))
    assert output.dropped == 0
    output.close()


def test_events_are_bounded_and_go_before_nothing() -> None:
    inner = Gate(opened=False)
    output = Queued(inner, "x", lossless=False, depth=2)
    write(output, frame_of(0))
    assert inner.entered.wait(30)
    for i in range(1000):
        output.event(Event("camera", "left", str(i)))
    write(output, frame_of(1))
    inner.gate.set()
    output.close()
    assert inner.took == [0, *(str(i) for i in range(1000 - 256, 1000)), 1]


def test_a_full_disk_does_not_stop_a_live_stream(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(queued, "_FIRST_RETRY_S", 0.05)
    events: list[Event] = []
    path = tmp_path / "out.jsonl"
    output = Queued(JsonlOutput(path), "out.jsonl", lossless=False, listener=events.append)
    with disk_of(3000):
        for i in range(60):
            write(output, frame_of(i))
            time.sleep(0.002)
        wait_until(lambda: output.waiting == 0)
    assert [e.status for e in events] == ["lost"] and "cannot be written" in events[0].message
    time.sleep(0.5)
    write(output, frame_of(60))
    output.close()
    lines = path.read_text().splitlines()
    assert '"frame":0,' in lines[0] and '"frame":60,' in lines[-1] and len(lines) + output.dropped == 61
