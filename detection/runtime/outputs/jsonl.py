"""`JsonlOutput`: one JSON line per frame. `EventsOutput`: one per event."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detection.runtime.outputs.contract import Output, Record
from detection.runtime.outputs.kind import Flag, OutputContext, OutputKind
from detection.runtime.outputs.lines import LinesFile
from detection.runtime.settings import HomePath

if TYPE_CHECKING:
    from detection.runtime.detections import Detections, Frame
    from detection.runtime.events import Event

EVENT_SCHEMA = 1
"""Of the events' lines; raised when a key changes its meaning or goes."""


class JsonlOutput(Output):
    """One JSON object per line and frame (`Record`); lines are always complete (`LinesFile`).

        with JsonlOutput("detections.jsonl") as output:
            run_stream(detector, [source], [output])

    Args:
        path: what stood there is replaced; with `{date}` in its name there is one file per day, and an
            existing one is continued.

    Raises:
        OutputError: the file cannot be written.

    """

    needs_image = False

    def __init__(self, path: Path | str) -> None:
        self._lines = _json_lines(path)

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Append the record's line.

        Raises:
            OutputError: it cannot be written (disk full); the lines before it stay whole.

        """
        self._lines.append(_dumps(record))

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


class EventsOutput(Output):
    """One JSON object per line and event (`Event`), in a separate file, so that all lines of a file have one form.

    Args:
        path: as for `JsonlOutput`.

    Raises:
        OutputError: the file cannot be written.

    """

    needs_image = False

    def __init__(self, path: Path | str) -> None:
        self._lines = _json_lines(path)

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Do nothing: this file holds events only."""

    def event(self, event: Event) -> None:
        """Append the event's line.

        Raises:
            OutputError: it cannot be written (disk full); the lines before it stay whole.

        """
        self._lines.append(_dumps({"schema": EVENT_SCHEMA, **event.to_json()}))

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def _json_lines(path: Path | str) -> LinesFile:
    # JSON allows spaces after a value.
    return LinesFile(Path(path), newline=b"\n", fill=b" ")


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _open(path: Path, context: OutputContext) -> list[Output]:
    return [JsonlOutput(path)]


def _open_events(path: Path, context: OutputContext) -> list[Output]:
    return [EventsOutput(path)]


KIND = OutputKind(
    key="jsonl",
    about="one JSON line per image",
    settings=HomePath,
    opens=_open,
    flags=(Flag("F", "One JSON line per image; with {date} in the name, one file per day."),),
    example="season/detections.jsonl",
    writes=lambda path: [path],
)
EVENTS_KIND = OutputKind(
    key="events",
    about="one JSON line per event",
    settings=HomePath,
    opens=_open_events,
    flags=(Flag("F", "One JSON line per event."),),
    example="season/events.jsonl",
    writes=lambda path: [path],
)
