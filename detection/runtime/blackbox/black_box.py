"""`BlackBox`: an output that keeps the last seconds in memory, and saves them when something goes wrong."""

from __future__ import annotations

import collections
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from detection.runtime.blackbox.faults import Pauses, is_fault
from detection.runtime.blackbox.folder import BoundedFolder
from detection.runtime.blackbox.recording import RecordingWriter, adopt_unfinished
from detection.runtime.blackbox.relabel import RelabelWriter
from detection.runtime.blackbox.ring import Kept, Ring
from detection.runtime.blackbox.settings import BlackBoxSettings
from detection.runtime.blackbox.uncertain import UncertainImages, detect_uncertain
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.errors import ModelOutputError
from detection.runtime.events import Event
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.parity.reference import file_digest
from detection.runtime.streaming.controls import Controls
from detection.runtime.streaming.slices import WHOLE_FRAME, FrameSlicer

_log = logging.getLogger(__name__)
KIND = "incidents"
_LONGEST_S = 60.0
"""Maximum length of a recording; a longer incident continues in another one."""
_EVENTS = 200
_NICE = 10
_PAUSE_S = 0.2
_LATE_S = 0.5
"""How long detection may take in images captured within an incident."""
_FLUSH_S = 0.5
"""Time for saving at the end: a machine must stop within a second."""


@dataclass(eq=False)
class _Incident:
    """An incident in progress: its end, and what is still to be written."""

    until_ns: int
    latest_ns: int
    reasons: list[Event]
    events: list[Event]
    writer: RecordingWriter | None = field(default=None)


class BlackBox(Output):
    """Keeps the last seconds in memory and saves them around faults; also saves uncertain images.

        FOLDER/incidents/000007-20261126T140312Z-camera-lost-front/    a recording, for `swath replay`
        FOLDER/relabel/000008-20261126T140500Z/                        a COCO dataset, to be relabelled

    `write` keeps a reference and returns; a thread of low priority encodes and writes. So it needs no `Queued`
    around it. Images given to it must not be modified afterwards.

        settings = BlackBoxSettings(folder="season/blackbox", before_s=5)
        with BlackBox(settings, controls) as box:
            run_stream(controls, sources, [box])  # box.trigger("reason") saves the last seconds, from any thread

    Args:
        settings: folder, times, memory and quota.
        controls: of the stream: the detector in use.
        max_age_ms: an image older than this when its detections are ready is a fault; None: none is.
        slicers: region and tiles by camera name, as in `StreamOptions`.

    Attributes:
        incidents: recordings finished since the start.

    Raises:
        OutputError: the folder cannot be written. Later losses are counted, not raised.

    """

    def __init__(
        self,
        settings: BlackBoxSettings,
        controls: Controls,
        *,
        max_age_ms: float | None = None,
        slicers: Mapping[str, FrameSlicer] | None = None,
    ) -> None:
        self.folder = settings.folder
        self.incidents = 0
        self._controls = controls
        self._after_ns = int(settings.after_s * 1e9)
        self._before_ns = int(settings.before_s * 1e9)
        self._max_age_ms = max_age_ms
        self._as_jpeg = settings.as_jpeg
        self._slicers = slicers or {}
        self._disk = BoundedFolder(self.folder, round(settings.quota_mb * 1e6))
        adopt_unfinished(self._disk, KIND)
        self._ring = Ring(settings.before_s, round(settings.memory_mb * 1e6))
        self._pauses = Pauses(settings.pause_s)
        every_s = settings.uncertain_every_s
        self._uncertain = None if every_s is None else UncertainImages(settings.uncertain_band, every_s)
        self._relabel = RelabelWriter(self._disk)
        self._model: tuple[Detector, str] | None = None
        self._changed = threading.Condition()
        self._incident: _Incident | None = None  # touched under the condition's lock, as what follows
        self._recent_events: collections.deque[Event] = collections.deque(maxlen=_EVENTS)
        self._give_up_s: float | None = None  # set by close()
        self._triggered = False
        self._thread = threading.Thread(target=self._run, name="black box", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Images and lines that could not be saved: memory, disk or time ran out."""
        return self._ring.lost + self._disk.lost_files

    @property
    def uncertain_images(self) -> int:
        """Number of images saved for relabelling since the start."""
        return self._relabel.images

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Keep an image and its detections. Never waits for the disk."""
        detector = self._controls.detector
        if self._model is None or self._model[0] is not detector:
            self._model = (detector, _digest(detector.path))
        thresholds = self._controls.score_thresholds
        if self._max_age_ms is not None and record["age_ms"] > self._max_age_ms:
            message = f"image {record['age_ms']:.0f} ms old when detected; the limit is {self._max_age_ms:g} ms"
            self.event(Event("age", frame.camera, "above limit", message))
        kept = Kept(frame, frame.camera, frame.captured_ns, detections, record, thresholds, self._model[1])
        with self._changed:
            kept.wanted = self._incident is not None and frame.captured_ns <= self._incident.until_ns
            self._ring.add(kept)
            if kept.wanted or self._as_jpeg:
                self._changed.notify()
        if self._uncertain is not None:
            self._uncertain.offer(frame, detections, thresholds)

    def event(self, event: Event) -> None:
        """Keep an event; a fault begins an incident, or prolongs the present one. From any thread."""
        with self._changed:
            incident = self._incident
            since_ns = event.at_ns - self._before_ns
            until_ns = event.at_ns + self._after_ns
            if incident is not None:
                incident.events.append(event)
                if is_fault(event) and until_ns > incident.until_ns:
                    before_ns, incident.until_ns = incident.until_ns, min(until_ns, incident.latest_ns)
                    self._ring.want(before_ns + 1)
            elif is_fault(event) and self._give_up_s is None and self._pauses.passes(event):
                latest_ns = event.at_ns + int(_LONGEST_S * 1e9)
                earlier = [e for e in self._recent_events if e.at_ns >= since_ns]
                self._incident = _Incident(until_ns, max(until_ns, latest_ns), [event], [*earlier, event])
                self._ring.want(since_ns)
            self._recent_events.append(event)
            self._changed.notify()

    def trigger(self, reason: str = "") -> None:
        """Save the last seconds and the next ones; from any thread."""
        self.event(Event("trigger", "black box", "by hand", reason))

    def request(self) -> None:
        """Like `trigger`, shortly after; for signal handlers, which must not wait for a lock."""
        self._triggered = True

    def close(self) -> None:
        """Save what is wanted, within half a second; safe to call twice."""
        with self._changed:
            if self._give_up_s is None:
                self._give_up_s = time.monotonic() + _FLUSH_S
            self._changed.notify()
        self._thread.join(_FLUSH_S + 10)
        if self._thread.is_alive():
            _log.warning("%s: the disk does not answer; the black box is abandoned", self.folder)

    def _run(self) -> None:
        """The thread: one small task after another."""
        if hasattr(os, "setpriority"):  # Linux: of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            if self._triggered:
                self._triggered = False
                self.trigger("by a signal")
            try:
                busy = self._work()
            except Exception:
                _log.exception("%s: the black box could not save something", self.folder)
                busy = False
            with self._changed:
                give_up_s = self._give_up_s
                if give_up_s is None and not busy:
                    self._changed.wait(_PAUSE_S)
            if give_up_s is not None and (not busy or time.monotonic() > give_up_s):
                self._finish()
                return

    def _work(self) -> bool:
        """Do the most urgent task; False where there is none."""
        with self._changed:
            incident, closing = self._incident, self._give_up_s is not None
            reasons, events = ([], []) if incident is None else (incident.reasons, incident.events)
            if incident is not None:
                incident.reasons, incident.events = [], []
        if incident is not None:
            if self._save(incident, reasons, events):
                return True
            if closing or time.monotonic_ns() > incident.until_ns + int(_LATE_S * 1e9):
                self._finish()
                return True
        if closing:
            return False
        if self._as_jpeg and (kept := self._ring.next_unpacked()) is not None:
            self._ring.pack(kept)
            return True
        frame = None if self._uncertain is None else self._uncertain.take()
        if frame is not None:
            self._check_uncertain(frame)
        return frame is not None

    def _save(self, incident: _Incident, reasons: list[Event], events: list[Event]) -> bool:
        """Write one image, or the waiting lines; False where nothing is waiting."""
        if incident.writer is None:
            detector, first = self._controls.detector, reasons[0]
            part = self._disk.new_part(KIND, f"{first.kind}-{first.status}-{first.subject}")
            incident.writer = RecordingWriter(
                self._disk, part, detector.class_names, detector.path.name, self._slicers
            )
        for reason in reasons:
            incident.writer.reason(reason)
        for event in events:
            incident.writer.event(event)
        kept = self._ring.take_wanted()
        if kept is None:
            return bool(events)
        if kept.packed is None and self._ring.crowded:
            self._ring.pack(kept)  # a JPEG takes a twelfth of the time: better than losing other images
        incident.writer.frame(kept)
        return True

    def _finish(self) -> None:
        """End the incident: its recording gets its final name."""
        with self._changed:
            incident, self._incident = self._incident, None
        if incident is None:
            return
        self._ring.give_up()
        if incident.writer is not None:
            folder = incident.writer.close()
            self.incidents += 1
            _log.warning("%s: %d images around a fault were saved", folder, incident.writer.frames)

    def _check_uncertain(self, frame: Frame) -> None:
        assert self._uncertain is not None
        if not self._uncertain.is_new(frame):
            return
        slicer = self._slicers.get(frame.camera, WHOLE_FRAME)
        try:
            second = detect_uncertain(self._controls.detector, frame.image, self._uncertain.band, slicer)
        except ModelOutputError:  # the stream counts and publishes such
            return
        if second.uncertain and self._relabel.write(frame, second):
            self._uncertain.remember(frame)


def _digest(model: Path) -> str:
    try:
        return file_digest(model)
    except OSError:  # it was deleted; the detector in memory still works
        return ""
