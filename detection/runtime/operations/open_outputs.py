"""`OpenOutputs`: all that a machine's detections go to, opened; what may be slow gets a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from detection.runtime.cameras.source import Source
from detection.runtime.closing import Closing
from detection.runtime.errors import OutputError
from detection.runtime.events import Listener
from detection.runtime.operations.machine import Machine
from detection.runtime.outputs.contract import Output
from detection.runtime.outputs.kind import OutputContext
from detection.runtime.outputs.queued import Queued, close_all
from detection.runtime.streaming.controls import Controls

_log = logging.getLogger(__name__)


@runtime_checkable
class _Dropping(Protocol):
    @property
    def dropped(self) -> int:
        """Frames or records that it did not take."""


class OpenOutputs(Closing):
    """A machine's outputs; a context manager that closes them.

    Files are queued: of recordings every image is written, of live cameras none makes the stream wait.
    The broker, the webhook, the black box and the dashboard have threads of their own.

    Args:
        machine: its outputs and limits.
        sources: opened.
        controls: of the stream.
        listener: receives events of outputs that are lost, behind or back.
        stop: once set, closing takes a second at most.

    Attributes:
        all: what `run_stream` is given.
        urls: what to open in a browser, by output; holds tokens, so it is for the user's eyes and not for logs.

    Raises:
        OutputError: one of them cannot be opened; those before it are closed again.

    """

    def __init__(
        self,
        machine: Machine,
        sources: Sequence[Source],
        controls: Controls,
        *,
        listener: Listener,
        stop: threading.Event,
    ) -> None:
        self.all: list[Output] = []
        self.urls: dict[str, str] = {}
        self._queued: list[Queued] = []
        self._dropping: dict[str, Callable[[], int]] = {}
        lossless = not any(source.live for source in sources)
        context = OutputContext(
            sources=sources,
            controls=controls,
            model=machine.model.path,
            listener=listener,
            slicers={camera.name: camera.slicer for camera in machine.cameras},
            max_age_ms=machine.limits.max_age_ms,
            new_file_minutes=machine.outputs.video_minutes,
            dropped=self.dropped,
        )
        try:
            for kind, settings in reversed(machine.outputs.chosen):
                for opened in kind.opens(settings, context):
                    name = f"{kind.key} {opened.camera}" if opened.camera and len(sources) > 1 else kind.key
                    output: Output = opened
                    if kind.queued:
                        queued = Queued(opened, name, lossless=lossless, listener=listener, stop=stop)
                        self._queued.append(queued)
                        output = queued
                    self._add(output, name, opened.url)
        except BaseException:
            self.close()
            raise

    def dropped(self) -> dict[str, int]:
        """Frames or records that each output did not take, by name; of those that count them."""
        return {name: count() for name, count in self._dropping.items()}

    def _add(self, output: Output, name: str, url: str | None) -> None:
        self.all.append(output)
        if url is not None:
            self.urls[name] = url
        if isinstance(output, _Dropping):
            self._dropping[name] = lambda: output.dropped

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
