"""`McapOutput`: images, boxes, records and events in one file that Foxglove plays.

`foxglove-sdk` 0.30.3 (MIT, no torch) was tried in place of `foxglove.py` and the chunks below. With seeking disabled
it is as safe: of 12 killed writers all left files that can be read to the last flush (by its defaults 11 of 12 ended
in a chunk of invalid length). It is not used because it takes 54 MB on a robot where `mcap` takes 0.3 MB, writes
protobuf where these files have always held JSON, and reports a full disk without its cause.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detection.runtime.errors import OutputError
from detection.runtime.outputs import foxglove
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.outputs.kind import Flag, OutputContext, OutputKind, Package
from detection.runtime.outputs.naming import plain, timed, unused
from detection.runtime.outputs.play_time import PlayTime
from detection.runtime.settings import HomePath

if TYPE_CHECKING:
    from detection.runtime.detections import Detections, Frame
    from detection.runtime.events import Event

JPEG_QUALITY = 85
"""Of the images."""

_CHUNK_BYTES = 4 << 20
_CHUNK_S = 1.0


class McapOutput(Output):
    """An MCAP file (https://mcap.dev), which Foxglove plays: three topics per camera, and one of events.

    `/<camera>/image` (foxglove.CompressedImage), `/<camera>/annotations` (foxglove.ImageAnnotations),
    `/<camera>/record` (the record of the JSON lines) and `/events` (foxglove.Log), all as JSON. Times are
    this machine's clock: of live images when they were grabbed; of recordings the run's begin and the
    image's own time from there.

    The file stands under its name from the start and grows by chunks, one a second or one per 4 MiB, each
    by one write call. What a killed writer leaves lacks the index at the end, but holds every chunk:
    `mcap recover` makes it whole.

    Args:
        path: missing folders are made. `{date}` and `{time}` in its name become those of its begin. What stood
            there is replaced where it has no `{time}`, and never where it has.
        cameras: by name, whether it is live and its rate (`Source.live`, `Source.fps`).
        minutes: begin a new file after so many; needs `{time}` in the name. None for one file.

    Raises:
        OutputError: the file cannot be written, or the package `mcap` is not there.

    """

    def __init__(
        self, path: Path | str, *, cameras: dict[str, tuple[bool, float | None]], minutes: float | None = None
    ) -> None:
        self._path = Path(path)
        self._is_series = "{time}" in self._path.name
        if minutes is not None and not self._is_series:
            raise OutputError(f"{path}: a new file every {minutes:g} minutes needs {{time}} in its name")
        self._began_ns = time.time_ns()
        self._live = {name: live for name, (live, _) in cameras.items()}
        self._times = {name: PlayTime(live=live, fps=fps) for name, (live, fps) in cameras.items()}
        self._file_s = None if minutes is None else minutes * 60
        path = timed(self._path, datetime.now())
        self._file = _File(unused(path) if self._is_series else path)

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Append a frame's image, boxes and record.

        Raises:
            OutputError: it cannot be written (disk full). The chunks before stay whole, and the next frame
                begins a new file: `NAME-2.mcap` where the name has no `{time}`.

        """
        at_ns = self._unix_ns(frame)
        topic = f"/{plain(frame.camera)}"
        image = foxglove.compressed_image(frame.image, frame.camera, at_ns, JPEG_QUALITY)
        boxes = foxglove.image_annotations(record, frame.image.shape[0], at_ns)
        file = self._open()
        file.add(f"{topic}/image", foxglove.COMPRESSED_IMAGE, image, at_ns)
        file.add(f"{topic}/annotations", foxglove.IMAGE_ANNOTATIONS, boxes, at_ns)
        file.add(f"{topic}/record", foxglove.RECORD, dict(record), at_ns)
        file.flush_when_due()

    def event(self, event: Event) -> None:
        """Append an event.

        Raises:
            OutputError: as `write`.

        """
        file = self._open()
        file.add("/events", foxglove.LOG, foxglove.log(event), round(event.at_unix_s * 1e9))
        file.flush_when_due()

    def close(self) -> None:
        """Write the index; safe to call twice.

        Raises:
            OutputError: it cannot be written.

        """
        self._file.close()

    def _open(self) -> _File:
        """The file to write to, a new one where it is time for it."""
        old = self._file_s is not None and time.monotonic() - self._file.began_s >= self._file_s
        if old or self._file.failed:
            self._file.close()
            self._file = _File(unused(timed(self._path, datetime.now())))
        return self._file

    def _unix_ns(self, frame: Frame) -> int:
        if self._live[frame.camera]:
            return time.time_ns() - (time.monotonic_ns() - frame.captured_ns)
        return self._began_ns + round(self._times[frame.camera].seconds(frame) * 1e9)


class _File:
    """One MCAP file.

    Raises:
        OutputError: it cannot be written, or the package `mcap` is not there.

    """

    def __init__(self, path: Path) -> None:
        try:
            from mcap.writer import Writer
        except ImportError:
            raise OutputError('an MCAP file needs the package mcap: pip install "swath[stream]"') from None
        self.began_s = time.monotonic()
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._blocks = _Blocks(path)
        except OSError as error:
            raise self._error(error) from None
        # Chunks end when `flush_when_due` says so: its own limit is out of reach.
        self._writer = Writer(self._blocks, chunk_size=1 << 60)  # type: ignore[arg-type]
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._waiting_bytes = 0
        self._flushed_s = self.began_s
        self._writer.start(library="swath")
        try:
            self._flush()
        except OutputError:
            self._blocks.close()
            path.unlink(missing_ok=True)  # there would be one more for each attempt on a full disk
            raise
        self._empty_bytes = self._blocks.end

    @property
    def failed(self) -> bool:
        """Whether nothing more can be written to it."""
        return self._blocks.failure is not None

    def add(self, topic: str, schema: dict[str, Any], message: dict[str, Any], at_ns: int) -> None:
        """Take a message; it is written with its chunk."""
        if topic not in self._channels:
            name = schema["title"]
            if name not in self._schemas:
                self._schemas[name] = self._writer.register_schema(name, "jsonschema", json.dumps(schema).encode())
            self._channels[topic] = self._writer.register_channel(topic, "json", self._schemas[name])
        data = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
        self._writer.add_message(self._channels[topic], at_ns, data, at_ns)
        self._waiting_bytes += len(data)

    def flush_when_due(self) -> None:
        """End the chunk and write it, where it is large or old enough.

        Raises:
            OutputError: it cannot be written.

        """
        if self._waiting_bytes >= _CHUNK_BYTES or time.monotonic() - self._flushed_s >= _CHUNK_S:
            self._flush()

    def close(self) -> None:
        """Write the index; safe to call twice.

        Raises:
            OutputError: it cannot be written.

        """
        if self._blocks.closed:
            return
        try:
            if not self.failed:
                self._writer.finish()
                self._flush()
        finally:
            self._blocks.close()
            if self.failed and self._blocks.end == self._empty_bytes:
                self._path.unlink(missing_ok=True)

    def _flush(self) -> None:
        self._waiting_bytes = 0
        self._flushed_s = time.monotonic()
        try:
            self._writer.flush()
        except OSError as error:
            raise self._error(error) from None

    def _error(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: cannot be written ({error.strerror})")


class _Blocks:
    """A binary stream that keeps what is written to it until `flush`, which writes it by one call or not at all.

    After a failure nothing more is written: the library's offsets would be wrong.
    """

    def __init__(self, path: Path) -> None:
        self.failure: OSError | None = None
        self._file = FileIO(path, "w")
        self._waiting = bytearray()
        self.end = 0

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes) -> int:
        self._waiting += data
        return len(data)

    def tell(self) -> int:
        return self.end + len(self._waiting)

    def flush(self) -> None:
        """Write what waits.

        Raises:
            OSError: it cannot be written, or could not before; the file ends where it did.

        """
        waiting, self._waiting = self._waiting, bytearray()
        try:
            if self.failure is not None:
                raise self.failure
            if self._file.write(waiting) != len(waiting):  # a full disk takes the part that fits
                raise OSError(None, "disk full")
            self.end += len(waiting)
        except OSError as error:
            self.failure = error
            with suppress(OSError):
                self._file.truncate(self.end)
            raise

    def close(self) -> None:
        self._file.close()


def _open(path: Path, context: OutputContext) -> list[Output]:
    cameras = {source.camera: (source.live, source.fps) for source in context.sources}
    return [McapOutput(path, cameras=cameras, minutes=context.new_file_minutes)]


KIND = OutputKind(
    key="mcap",
    about="images, boxes and records for Foxglove",
    settings=HomePath,
    opens=_open,
    flags=(Flag("F", "MCAP with images, boxes and records, for Foxglove."),),
    example='"season/{date}-{time}.mcap"',
    needs=Package("mcap"),
    writes=lambda path: [path],
)
