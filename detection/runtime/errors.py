"""Errors for the user; each message is one line."""

from __future__ import annotations

_LONGEST = 2000  # characters of a message; what is quoted in it may be a whole file


def one_line(text: str) -> str:
    """`text` as one printable line: names from files and servers may hold line ends, escape codes or half characters.

    `data.errors` has the same.
    """
    shown = text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def reason(error: BaseException | None) -> str:
    """What an error of a library says, whole and in one line; its class where it says nothing."""
    lines = [line.strip() for line in str(error or "").splitlines()]
    return one_line("; ".join(line for line in lines if line) or type(error).__name__)


class SwathError(Exception):
    """An error that the user can fix; its message is one line: what, where and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class ModelFileError(SwathError):
    """An .onnx that is missing, damaged, not written by Swath, or written by a newer one."""


class ModelOutputError(SwathError):
    """Outputs of a model that are no detections, such as scores that are not a number."""


class DeviceError(SwathError):
    """An execution provider (GPU, NPU) that was requested and is not available."""


class SourceError(SwathError):
    """A camera, video or image folder that cannot be opened or read."""


class OutputError(SwathError):
    """A file that cannot be written."""
