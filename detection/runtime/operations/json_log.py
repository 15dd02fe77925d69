"""`JsonLog`: log messages and events as JSON lines, without secrets."""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from detection.runtime.errors import OutputError
from detection.runtime.events import Event
from detection.runtime.operations.redaction import RedactedFormatter, Redaction

_OURS = "detection.runtime"
_FILE_BYTES = 20_000_000
_OLDER_FILES = 4


class _Lines(logging.Formatter):
    """A record as a JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("camera", "event"):
            if (value := getattr(record, name, None)) is not None:
                line[name] = value
        if record.exc_text:
            line["exception"] = record.exc_text
        return json.dumps(line, ensure_ascii=False, default=str)


class _Losing(logging.Handler):
    """A handler that loses lines on a full disk or without a reader, and does not stop a machine."""

    shown_as = "standard output"
    lost = 0

    def close(self) -> None:
        with suppress(OSError):  # what the buffer still holds does not fit either
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        self.lost += 1
        if self.lost == 1 and logging.lastResort is not None:  # by the loggers it would come back here
            text = f"error: {self.shown_as}: the log cannot be written; its lines are lost"
            logging.lastResort.handle(logging.makeLogRecord({"levelno": logging.ERROR, "msg": text}))


class _ToFile(_Losing, logging.handlers.RotatingFileHandler):
    pass


class _ToStandardOutput(_Losing, logging.StreamHandler[TextIO]):
    pass


class JsonLog:
    """A listener that writes events into the log.

    Args:
        handler: writes them.

    """

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler

    def __call__(self, event: Event) -> None:
        """Write an event: level WARNING where something is lost or refused, INFO otherwise."""
        level = logging.WARNING if event.is_warning else logging.INFO
        message = f"{event.kind} {event.subject}: {event.status}" + (event.message and f", {event.message}")
        fields = {
            "name": f"{_OURS}.events",
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "msg": message,
            "created": event.at_unix_s,
            "event": event.to_json(),
            "camera": event.subject if event.kind == "camera" else None,
        }
        # Not by a logger: a terminal that shows warnings receives events by itself.
        self._handler.handle(logging.makeLogRecord(fields))


@contextmanager
def json_log(to: Path | str, redaction: Redaction) -> Iterator[JsonLog]:
    """All that Swath logs from INFO on, and other libraries from WARNING on, as JSON lines.

    Each has `time` (UTC), `level`, `logger` and `message`; where it belongs to a camera, `camera`; of events
    `event`, of errors `exception`. A file is rotated at 20 MB, four older ones are kept.

    Args:
        to: a file to append to, or "-" for the standard output (which systemd's journal takes).
        redaction: takes secrets out.

    Raises:
        OutputError: the file cannot be written.

    """
    if str(to) == "-":
        handler: logging.Handler = _ToStandardOutput(sys.stdout)
    else:
        try:
            Path(to).parent.mkdir(parents=True, exist_ok=True)
            handler = _ToFile(to, maxBytes=_FILE_BYTES, backupCount=_OLDER_FILES, encoding="utf-8")
            handler.shown_as = str(to)
        except OSError as error:
            raise OutputError(f"{to}: cannot be written ({error.strerror})") from None
    handler.setFormatter(RedactedFormatter(redaction, _Lines()))
    ours, others = logging.getLogger(_OURS), logging.getLogger()
    foreign = _Foreign(handler)
    level = ours.level
    ours.setLevel(logging.INFO)
    ours.addHandler(handler)
    others.addHandler(foreign)
    try:
        yield JsonLog(handler)
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            ours.critical("%s", error, exc_info=error)
        raise
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        others.removeHandler(foreign)
        handler.close()


class _Foreign(logging.Handler):
    """Messages of other libraries; those of Swath have their own handler, propagated or not."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__(logging.WARNING)
        self._handler = handler
        self._inside = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(_OURS) and not getattr(self._inside, "now", False):
            self._inside.now = True  # a fault of the writing itself must not be written again and again
            try:
                self._handler.handle(record)
            finally:
                self._inside.now = False
