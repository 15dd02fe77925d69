"""`CameraKind`: all that Swath knows of one kind of camera. The kinds are `detection.runtime.cameras.KINDS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detection.runtime.addresses import looks_like_address, shown_address
from detection.runtime.cameras.settings import CameraSettings
from detection.runtime.cameras.source import Source
from detection.runtime.events import Listener

Opens = Callable[[Any, str, Listener | None], Source]
"""Takes the kind's settings, the camera's name in outputs, and who receives changes of its status.

Without a listener a live camera is opened here and now, is an error where it is not there, and ends when it is lost.
With one it is supervised: opened, and reopened, in the background. Raises `SourceError`.
"""


def file_name(source: str) -> str:
    """The default name of a source that is a file or folder: `a/field.row.mp4` -> `field.row`."""
    path = Path(source).expanduser()
    if looks_like_address(source) and not path.exists():  # its scheme was forgotten
        return shown_address(source) or "camera"
    return path.resolve().name if path.is_dir() else path.stem


def no_path(source: str) -> Path | None:
    """Of kinds that are not in the file system."""
    return None


def nothing_missing(source: str) -> str | None:
    """Of kinds that every installation can read."""
    return None


@dataclass(frozen=True)
class CameraKind:
    """One kind of camera. Everything that lists kinds (recognition, help, checks, machine YAML) is derived from it.

    Attributes:
        name: in a word or two, for messages.
        form: how a SOURCE of this kind is written, for help texts.
        matches: whether a source is of this kind. The first kind in `KINDS` that matches gets it.
        opens: opens a source.
        live: whether it goes on without us: then the newest image counts. Otherwise every image is read.
        complete: whether all its images are there from the start, so that several may be worked on at once. Not of
            a pipe, which a camera may be behind.
        settings: model of what can be set.
        default_name: the name in outputs where none is given; must not hold a password.
        path: the file, folder or device that the source is on this machine; None where it is none.
        missing: what this installation lacks to read it, in a sentence with what to type; None: nothing.

    """

    name: str
    form: str
    matches: Callable[[str], bool]
    opens: Opens
    live: bool
    complete: bool = True
    settings: type[CameraSettings] = CameraSettings
    default_name: Callable[[str], str] = file_name
    path: Callable[[str], Path | None] = no_path
    missing: Callable[[str], str | None] = nothing_missing
