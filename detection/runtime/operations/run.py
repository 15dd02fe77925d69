"""`run_machine`: a whole machine from its start to its stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from detection.cli.stream_tables import render
from detection.cli.stream_terminal import GRAVE, messages_on, progress, say
from detection.runtime.blackbox.button import triggered_by_signal
from detection.runtime.cameras.source import Source
from detection.runtime.cameras.sources import close_sources, open_sources
from detection.runtime.detector import Detector
from detection.runtime.errors import ModelFileError, OutputError
from detection.runtime.events import Event, Listener
from detection.runtime.metadata import ModelMetadata
from detection.runtime.operations.cores import share_cores
from detection.runtime.operations.json_log import json_log
from detection.runtime.operations.machine import Machine, MachineModel, Tracking
from detection.runtime.operations.machine_file import MachineError
from detection.runtime.operations.model_watcher import ModelWatcher, asked_by_hangup
from detection.runtime.operations.open_outputs import OpenOutputs
from detection.runtime.operations.redaction import Redaction
from detection.runtime.operations.systemd import Heartbeat, Service
from detection.runtime.signals import stopped_by_signals
from detection.runtime.streaming.controls import Controls
from detection.runtime.streaming.duty import Duty
from detection.runtime.streaming.pipeline import run_stream
from detection.runtime.streaming.publisher import EventQueue, Tracker
from detection.runtime.streaming.summary import StreamSummary


def run_machine(
    machine: Machine,
    *,
    redaction: Redaction | None = None,
    max_frames: int | None = None,
    json_summary: Path | None = None,
) -> int:
    """Detect on all cameras until they end or the user stops it; then print what came of it.

    The model and what can be opened at once are opened before any output: where one of them fails, nothing
    is written. A camera that is off is waited for, beside the others. SIGINT (Ctrl-C) and SIGTERM end it
    within a second, with whole files; a second one at once. SIGHUP looks for a new model file.

    Args:
        machine: what is to run.
        redaction: keeps secrets out of messages and logs.
        max_frames: stop after so many images, over all cameras; None for no limit.
        json_summary: gets the summary as JSON.

    Returns:
        0 where all went well (being stopped by the user is well), 1 where a source failed on the way.

    Raises:
        SwathError: model, source or output cannot be opened, or an output cannot be written.

    """
    redaction = redaction or Redaction()
    _refuse_to_overwrite(machine, json_summary)
    console = Console(stderr=True)
    with ExitStack() as stack:
        stack.enter_context(messages_on(console, redaction))
        log = None if machine.log is None else stack.enter_context(json_log(machine.log, redaction))
        stop = stack.enter_context(stopped_by_signals())
        duty = _duty(machine)
        threads, workers = share_cores(machine)
        detector = _detector(machine.model, threads)
        detector.warm_up()  # before cameras open: what they deliver meanwhile would count as dropped
        controls, box, heartbeat = Controls(detector), EventQueue(), Heartbeat()

        def tell(event: Event) -> None:
            box.put(event)
            if log is not None:
                log(event)
            if console.is_terminal or event.status in GRAVE or event.kind != "camera":
                say(console, event, redaction)

        sources = _open_cameras(stack, machine, tell)
        slicers = {camera.name: camera.slicer for camera in machine.cameras}
        outputs = stack.enter_context(
            OpenOutputs(machine, sources, controls, slicers=slicers, listener=tell, stop=stop)
        )
        if outputs.dashboard_url is not None:
            console.print(f"dashboard: {outputs.dashboard_url}", markup=False, highlight=False, soft_wrap=True)
        if outputs.black_box is not None:
            stack.enter_context(triggered_by_signal(outputs.black_box))
        live = any(source.live for source in sources)
        if live:
            watcher = stack.enter_context(_watch(machine.model, controls, tell))
            stack.enter_context(asked_by_hangup(watcher))
        with progress(console, sources, max_frames) as (show, status):
            service = stack.enter_context(Service(heartbeat, status))
            service.ready()
            summary = run_stream(
                controls,
                sources,
                outputs.all,
                stop=stop,
                max_frames=max_frames,
                on_progress=show,
                slicers=slicers,
                trackers=_trackers(machine, sources, detector),
                events=box,
                max_age_s=None if machine.limits.max_age_ms is None else machine.limits.max_age_ms / 1e3,
                batch_wait_s=None if machine.limits.batch_wait_ms is None else machine.limits.batch_wait_ms / 1e3,
                workers=workers,
                duty=duty,
                heartbeat=heartbeat,
            )
        service.close()
        stack.close()  # files are whole before we say that we are done
    console.print(render(summary, outputs.dropped()))
    if json_summary is not None:
        _write_summary(json_summary, summary, outputs.dropped())
    return 1 if summary.failures else 0


def _detector(told: MachineModel, threads: int | None) -> Detector:
    detector = Detector(told.path, providers=None if told.provider is None else [told.provider], threads=threads)
    _set_thresholds(detector, told)
    return detector


def _set_thresholds(detector: Detector, told: MachineModel) -> None:
    try:
        detector.set_score_thresholds(_thresholds(told, detector.metadata))
    except ValueError as error:
        raise ModelFileError(str(error)) from None


def _thresholds(told: MachineModel, metadata: ModelMetadata) -> float | tuple[float, ...] | None:
    return told.thresholds(metadata.class_names, metadata.score_thresholds)


def _watch(told: MachineModel, controls: Controls, tell: Listener) -> ModelWatcher:
    return ModelWatcher(
        controls,
        told.path,
        listener=tell,
        providers=None if told.provider is None else [told.provider],
        threads=told.threads,
        thresholds=lambda metadata: _thresholds(told, metadata),
        other_classes=told.other_classes,
        unproved=told.unproved,
        watch=told.watch,
    )


def _duty(machine: Machine) -> Duty | None:
    limits = machine.limits
    if limits.duty_cycle == 1 and limits.cool_below_c is None:
        return None
    try:
        return Duty(limits.duty_cycle, limits.cool_below_c)
    except ValueError as error:
        raise MachineError(f"limits: {error}") from None


def _open_cameras(stack: ExitStack, machine: Machine, tell: Listener) -> Sequence[Source]:
    sources = open_sources(machine.cameras, on_event=tell)
    stack.callback(close_sources, sources)
    return sources


def _trackers(machine: Machine, sources: Sequence[Source], detector: Detector) -> dict[str, Tracker]:
    told: Tracking | None = machine.tracking
    if told is None:
        return {}
    from detection.runtime.tracking.motion import ImageMotion, WheelMotion
    from detection.runtime.tracking.tracker import PlantTracker

    def wheels() -> WheelMotion | None:
        if told.speed_m_s is None or told.pixels_per_metre is None:
            return None
        return WheelMotion(told.speed_m_s, told.pixels_per_metre, told.direction)

    thresholds = detector.metadata.score_thresholds  # the model's own: the tracker knows how sure each is from them
    return {
        source.camera: PlantTracker(detector.class_names, thresholds, ImageMotion(wheels())) for source in sources
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


def _write_summary(path: Path, summary: StreamSummary, dropped: dict[str, int]) -> None:
    told = {**summary.to_json(), "outputs_dropped": dropped}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
