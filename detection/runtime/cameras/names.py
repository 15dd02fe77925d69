"""What a source is called in outputs, messages and on pages: never by anything secret."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
PIPELINE_PREFIX = "gst:"
GENICAM_PREFIX = "genicam:"
RAW_PREFIX = "raw:"


def is_pipeline(spec: str) -> bool:
    """Whether it is a GStreamer pipeline: `gst:...`, or elements with ` ! ` between them."""
    return spec.startswith(PIPELINE_PREFIX) or " ! " in spec


def is_device(spec: str) -> bool:
    """Whether it is a camera of this machine: an index or a path under /dev."""
    return spec.isdecimal() or spec.startswith("/dev/")


def camera_name(spec: str) -> str:
    """The name in outputs that a source has by default; never holds a password."""
    if is_pipeline(spec):
        return "gstreamer"  # not the pipeline: the address in it may hold a password
    if spec.startswith(GENICAM_PREFIX):
        return f"genicam-{spec.rpartition('#')[2]}" if "#" in spec else "genicam"
    if spec.startswith(RAW_PREFIX):
        return "stdin"
    if URL.match(spec):
        return without_secrets(spec)
    if spec.isdecimal():
        return f"camera-{spec}"
    path = Path(spec).expanduser()
    return path.resolve().name if path.is_dir() else path.stem


def different(names: Sequence[str]) -> list[str]:
    """The names, those that came before numbered: "left", "left-2"."""
    taken: list[str] = []
    for name in names:
        unique, count = name, 1
        while unique in taken:
            count += 1
            unique = f"{name}-{count}"
        taken.append(unique)
    return taken


def without_secrets(url: str) -> str:
    """Host and path of a URL: what may be shown. User, password, query and fragment are left out."""
    rest = URL.sub("", url, count=1)
    # The last @ of all, not of the host alone: passwords with / and ? in them are pasted as they are.
    rest = rest.rpartition("@")[2]
    return re.split(r"[?#]", rest, maxsplit=1)[0].rstrip("/")
