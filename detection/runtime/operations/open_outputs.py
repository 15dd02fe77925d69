"""`OpenOutputs`: all that a machine's decisions go to, opened; what may be slow gets a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from detection.runtime.blackbox.black_box import BlackBox
from detection.runtime.cameras.source import Source
from detection.runtime.closing import Closing
from detection.runtime.errors import OutputError
from detection.runtime.events import Listener
from detection.runtime.operations.machine import Machine, Outputs
from detection.runtime.outputs.contract import Output, per_camera
from detection.runtime.outputs.queued import Queued, close_all
from detection.runtime.streaming.controls import Controls
from detection.runtime.streaming.slices import FrameSlicer

_log = logging.getLogger(__name__)


class _Counted(Output, Protocol):
    @property
    def dropped(self) -> int:
        """What it did not take."""


class OpenOutputs(Closing):
    """A machine's outputs; a context manager that closes them.

    Files are queued: of recordings every image is written, of live cameras none makes the stream wait.
    The broker, the webhook, the black box and the dashboard have threads of their own.

    Args:
        machine: what it says of outputs and limits.
        sources: opened.
        controls: of the stream.
        slicers: region and tiles by camera name.
        listener: hears of outputs that are lost, behind or back.
        stop: once set, closing takes a second at most.

    Attributes:
        all: what `run_stream` is given.
        dashboard_url: what to open in a browser, with its token; None without a dashboard.
        black_box: None without one.

    Raises:
        OutputError: one of them cannot be opened; those before it are closed again.

    """

    def __init__(
        self,
        machine: Machine,
        sources: Sequence[Source],
        controls: Controls,
        *,
        slicers: Mapping[str, FrameSlicer],
        listener: Listener,
        stop: threading.Event,
    ) -> None:
        self.all: list[Output] = []
        self.dashboard_url: str | None = None
        self.black_box: BlackBox | None = None
        self._queued: list[Queued] = []
        self._counted: dict[str, _Counted] = {}
        self._sources, self._controls, self._listener, self._stop = sources, controls, listener, stop
        self._lossless = not any(source.live for source in sources)
        try:
            self._open_network(machine.outputs, machine.model.path)
            self._open_for_people(machine, slicers)
            self._open_files(machine.outputs)  # last, because some replace what stood there
        except BaseException:
            self.close()
            raise

    def dropped(self) -> dict[str, int]:
        """Frames or records that each output did not take, by name; of those that a queue stands before."""
        return {name: output.dropped for name, output in self._counted.items()}

    def _open_files(self, told: Outputs) -> None:
        class_names = self._controls.detector.class_names
        if told.video is not None:
            from detection.runtime.outputs.video import VideoOutput

            for source, path in self._video_paths(told.video):
                name = f"video {source.camera}" if len(self._sources) > 1 else "video"
                video = VideoOutput(
                    path,
                    class_names,
                    fps=source.fps,
                    live=source.live,
                    camera=source.camera,
                    minutes=told.video_minutes,
                )
                self._queue(video, name)
        if told.mcap is not None:
            from detection.runtime.outputs.mcap import McapOutput

            cameras = {source.camera: (source.live, source.fps) for source in self._sources}
            self._queue(McapOutput(told.mcap, cameras=cameras, minutes=told.video_minutes), "mcap")
        if told.csv is not None:
            from detection.runtime.outputs.csv import CsvOutput

            self._queue(CsvOutput(told.csv), "csv")
        if told.events is not None:
            from detection.runtime.outputs.jsonl import EventsOutput

            self._queue(EventsOutput(told.events), "events")
        if told.jsonl is not None:
            from detection.runtime.outputs.jsonl import JsonlOutput

            self._queue(JsonlOutput(told.jsonl), "jsonl")

    def _video_paths(self, video: Path) -> list[tuple[Source, Path]]:
        paths: dict[Path, Source] = {}
        for source in self._sources:
            path = video if len(self._sources) == 1 else per_camera(video, source.camera)
            if path in paths:
                raise OutputError(f"{path}: two sources would write it; give them other names")
            paths[path] = source
        return [(source, path) for path, source in paths.items()]

    def _open_network(self, told: Outputs, model: Path) -> None:
        if told.mqtt is not None:
            from detection.runtime.outputs.mqtt import MqttOutput

            self._add(MqttOutput(told.mqtt, self._listener), "mqtt")
        if told.webhook is not None:
            from detection.runtime.outputs.webhook import WebhookOutput

            self._add(WebhookOutput(told.webhook, self._listener), "webhook")
        if told.ros2 is not None:
            from detection.runtime.outputs.ros2 import Ros2Output

            self._queue(Ros2Output(told.ros2), "ros2")
        if told.metrics is not None:
            from detection.runtime.outputs.prometheus import PrometheusOutput

            metrics = PrometheusOutput(
                told.metrics.port,
                host=told.metrics.host,
                model=str(model),
                sources=self._sources,
                outputs_dropped=self.dropped,
            )
            self.all.append(metrics)

    def _open_for_people(self, machine: Machine, slicers: Mapping[str, FrameSlicer]) -> None:
        if machine.outputs.black_box is not None:
            told = machine.outputs.black_box
            box = BlackBox(
                told.folder,
                self._controls,
                before_s=told.before_s,
                after_s=told.after_s,
                memory_bytes=round(told.memory_mb * 1e6),
                quota_bytes=round(told.quota_mb * 1e6),
                max_age_ms=machine.limits.max_age_ms,
                as_jpeg=told.as_jpeg,
                pause_s=told.pause_s,
                slicers=slicers,
                uncertain_every_s=told.uncertain_every_s,
                uncertain_band=told.uncertain_band,
            )
            self.black_box = box
            self.all.append(box)
        if machine.outputs.dashboard is not None:
            from detection.runtime.dashboard.dashboard import Dashboard

            page = machine.outputs.dashboard
            dashboard = Dashboard(
                page.address,
                self._controls,
                cameras=[source.camera for source in self._sources],
                record_into=page.record_into,
                token=page.token,
                listener=self._listener,
            )
            self.dashboard_url = dashboard.url
            self.all.append(dashboard)

    def _add(self, output: _Counted, name: str) -> None:
        self.all.append(output)
        self._counted[name] = output

    def _queue(self, output: Output, name: str) -> None:
        queued = Queued(output, name, lossless=self._lossless, listener=self._listener, stop=self._stop)
        self._queued.append(queued)
        self._add(queued, name)

    def close(self) -> None:
        """Close all, at the same time where they may take long; safe to call twice.

        Raises:
            OutputError: one could not be finished. All are closed, or left behind.

        """
        rest = [output for output in self.all if not isinstance(output, Queued)]
        closers = [threading.Thread(target=_close, args=(output,), daemon=True) for output in rest]
        for closer in closers:
            closer.start()
        try:
            close_all(self._queued)
        finally:
            for closer in closers:
                closer.join()


def _close(output: Output) -> None:
    try:
        output.close()
    except OutputError as error:
        _log.error("%s", error)
