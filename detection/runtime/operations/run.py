"""`run_machine`: a whole machine from its start to its stop."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from detection.runtime.blackbox.black_box import BlackBox
from detection.runtime.blackbox.button import triggered_by_signal
from detection.runtime.cameras.source import Source
from detection.runtime.cameras.sources import close_sources, open_sources, stop_sources
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.errors import ModelFileError, OutputError
from detection.runtime.events import CameraStatus, Event
from detection.runtime.files import write_whole
from detection.runtime.operations.cores import share_cores
from detection.runtime.operations.json_log import json_log
from detection.runtime.operations.machine import Machine, MachineModel
from detection.runtime.operations.machine_file import MachineError
from detection.runtime.operations.model_watcher import ModelWatcher, reloads_on_hangup
from detection.runtime.operations.open_outputs import OpenOutputs
from detection.runtime.operations.redaction import Redaction
from detection.runtime.operations.systemd import Heartbeat, Service
from detection.runtime.outputs.contract import Record
from detection.runtime.signals import stopped_by_signals
from detection.runtime.streaming.controls import Controls
from detection.runtime.streaming.duty import DutyCycle
from detection.runtime.streaming.options import EventQueue, StreamOptions, Tracker
from detection.runtime.streaming.pipeline import run_stream
from detection.runtime.streaming.summary import StreamSummary


class MachineObserver(Protocol):
    """Receives what happens in a running machine, for a terminal or another program; every method may be left out.

    Methods are called from several threads, must return at once and must not raise.
    """

    def opened(self, sources: Sequence[Source], urls: Mapping[str, str]) -> None:
        """Model, cameras and outputs are open; `urls` holds what to open in a browser, by output."""
        return None

    def event(self, event: Event) -> None:
        """Something happened beside the images."""
        return None

    def frame(self, frame: Frame, detections: Detections, record: Record) -> None:
        """A frame has been through all outputs."""
        return None


class Unobserved(MachineObserver):
    """An observer that does nothing: the default where no observer is given."""


@dataclass(frozen=True)
class MachineResult:
    """How a machine ran.

    Attributes:
        summary: of the stream: counts, latencies, and the sources that failed.
        outputs_dropped: frames or records that each output did not take, by name.

    """

    summary: StreamSummary
    outputs_dropped: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """The same as plain Python; what `--summary` writes."""
        return {**self.summary.to_json(), "outputs_dropped": dict(self.outputs_dropped)}


def run_machine(
    machine: Machine,
    *,
    redaction: Redaction | None = None,
    max_frames: int | None = None,
    summary: Path | None = None,
    observer: MachineObserver | None = None,
) -> MachineResult:
    """Detect on all cameras until they end or the user stops it.

    The model and what can be opened at once are opened before any output: where one of them fails, nothing
    is written. A camera that is off is waited for, beside the others. SIGINT (Ctrl-C) and SIGTERM end it
    within a second, with whole files; a second one at once. SIGHUP reloads the model file.

    Args:
        machine: model, cameras, outputs and limits.
        redaction: keeps secrets out of logs.
        max_frames: stop after so many images, over all cameras; None for no limit.
        summary: gets the result as JSON.
        observer: is called with what happens; None: nothing is.

    Returns:
        The result, also where sources failed on the way (`summary.failures`).

    Raises:
        SwathError: model, source or output cannot be opened, or an output cannot be written.

    """
    redaction, observer = (redaction or Redaction()).with_secrets(machine.secrets), observer or Unobserved()
    _refuse_to_overwrite(machine, summary)
    with ExitStack() as stack:
        log = None if machine.log is None else stack.enter_context(json_log(machine.log, redaction))
        stop = stack.enter_context(stopped_by_signals())
        duty = _duty(machine)
        threads, workers = share_cores(machine)
        detector = _detector(machine.model, threads)
        detector.warm_up()  # before cameras open: images that arrive meanwhile would count as dropped
        controls, events, heartbeat = Controls(detector), EventQueue(), Heartbeat()

        def publish(event: Event) -> None:
            event = replace(event, message=redaction(event.message))
            events.put(event)
            if log is not None:
                log(event)
            observer.event(event)

        sources = open_sources(machine.cameras, on_event=publish)
        stack.callback(close_sources, sources)
        outputs = stack.enter_context(OpenOutputs(machine, sources, controls, listener=publish, stop=stop))
        for box in (output for output in outputs.all if isinstance(output, BlackBox)):
            stack.enter_context(triggered_by_signal(box))
        if any(source.live for source in sources):
            watcher = stack.enter_context(ModelWatcher(controls, machine.model, publish))
            stack.enter_context(reloads_on_hangup(watcher))
        status = _Status(sources, observer)
        observer.opened(sources, outputs.urls)
        with Service(heartbeat, status.line) as service:
            service.ready()
            options = StreamOptions(
                slicers={camera.name: camera.slicer for camera in machine.cameras},
                trackers=_trackers(machine, sources, detector),
                events=events,
                listener=publish,
                max_age_s=_seconds(machine.limits.max_age_ms),
                batch_wait_s=_seconds(machine.limits.batch_wait_ms),
                workers=workers,
                duty=duty,
                heartbeat=heartbeat,
            )
            streamed = run_stream(
                controls, sources, outputs.all, options, stop=stop, max_frames=max_frames, on_progress=status.frame
            )
        stop_sources(sources)
        while (event := events.take()) is not None:  # that they have ended
            for output in outputs.all:
                output.event(event)
        try:
            stack.close()  # files are complete before the result is given
        finally:
            result = MachineResult(streamed, outputs.dropped())
            if summary is not None:
                write_whole(summary, json.dumps(result.to_json(), indent=2) + "\n")
    return result


class _Status:
    """How the machine is, in a line for `systemctl status`."""

    def __init__(self, sources: Sequence[Source], observer: MachineObserver) -> None:
        self._sources = sources
        self._observer = observer
        self._frames = 0
        self._newest = "no image yet"

    def frame(self, frame: Frame, detections: Detections, record: Record) -> None:
        self._frames += 1
        self._newest = f"{frame.camera}: {len(detections)} detections, {record['age_ms']:.0f} ms old"
        self._observer.frame(frame, detections, record)

    def line(self) -> str:
        live = sum(source.status is CameraStatus.LIVE for source in self._sources)
        return f"{live} of {len(self._sources)} cameras live; {self._frames:,} images; {self._newest}"


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1e3


def _detector(model: MachineModel, threads: int | None) -> Detector:
    model.check_signature()
    detector = Detector(model.path, providers=model.providers, threads=threads)
    try:
        thresholds = model.thresholds(detector.metadata.class_names, detector.metadata.score_thresholds)
        detector.set_score_thresholds(thresholds)
    except ValueError as error:
        raise ModelFileError(str(error)) from None
    return detector


def _duty(machine: Machine) -> DutyCycle | None:
    limits = machine.limits
    if limits.duty_cycle == 1 and limits.cool_below_c is None:
        return None
    try:
        return DutyCycle(limits.duty_cycle, limits.cool_below_c)
    except ValueError as error:
        raise MachineError(f"limits: {error}") from None


def _trackers(machine: Machine, sources: Sequence[Source], detector: Detector) -> dict[str, Tracker]:
    tracking = machine.tracking
    if tracking is None:
        return {}
    from detection.runtime.tracking.motion import ImageMotion, OdometryMotion
    from detection.runtime.tracking.tracker import PlantTracker

    def odometry() -> OdometryMotion | None:
        if tracking.speed_m_s is None or tracking.pixels_per_metre is None:
            return None
        return OdometryMotion(tracking.speed_m_s, tracking.pixels_per_metre, tracking.direction)

    # The model's own: the tracker distinguishes low-score detections by them.
    thresholds = detector.metadata.score_thresholds
    return {
        source.camera: PlantTracker(detector.class_names, thresholds, ImageMotion(odometry())) for source in sources
    }


def _refuse_to_overwrite(machine: Machine, summary: Path | None) -> None:
    """A video that is read must not be replaced by its annotated copy.

    Raises:
        OutputError: an output is one of the inputs, or two outputs are one file.

    """
    recordings = [camera.source.partition("#")[0] for camera in machine.cameras]  # without a bag's topic
    taken = {machine.model.path.resolve(), *(Path(source).resolve() for source in recordings)}
    for output in [*machine.written, *([] if summary is None else [summary])]:
        if output.resolve() in taken:
            raise OutputError(f"{output}: would overwrite what is read or written under that name already")
        taken.add(output.resolve())
