"""`Snapshots`: single frames for download: plain, annotated, and as JSON."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from detection.runtime.dashboard.images import to_jpeg
from detection.runtime.dashboard.live_state import ShownFrame
from detection.runtime.draw import annotate
from detection.runtime.outputs.naming import plain

KEPT = 8
"""Snapshots that can be downloaded; older ones are dropped."""

_QUALITY = 95


class Snapshots:
    """The last few snapshots, in memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, dict[str, tuple[str, bytes]]] = OrderedDict()
        self._number = 0

    def take(
        self, shown: ShownFrame, class_names: Sequence[str], about: dict[str, Any]
    ) -> tuple[int, dict[str, str]]:
        """Keep an image in its full size; some tens of milliseconds.

        Args:
            shown: the frame to keep.
            class_names: by label.
            about: further content of the JSON (model, thresholds).

        Returns:
            Its number, and per kind ("annotated", "plain", "json") the name of the file.

        """
        image, record = shown.frame.image, shown.record
        captured_unix_s = time.time() - (time.monotonic_ns() - shown.frame.captured_ns) / 1e9
        numbers = {
            **record,
            "captured_unix_s": round(captured_unix_s, 3),
            "size_wh": [image.shape[1], image.shape[0]],
            **about,
        }
        annotated = annotate(image, shown.detections, class_names, counted=shown.record["counted"])
        camera = plain(record["camera"])
        stem = f"{camera}-{time.strftime('%Y-%m-%d_%H-%M-%S', time.localtime(captured_unix_s))}-{record['frame']}"
        files = {
            "annotated": (f"{stem}-annotated.jpg", to_jpeg(annotated, _QUALITY)),
            "plain": (f"{stem}.jpg", to_jpeg(image, _QUALITY)),
            "json": (f"{stem}.json", json.dumps(numbers, indent=2).encode()),
        }
        self._number += 1
        self._kept[self._number] = files
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._number, {kind: name for kind, (name, _) in files.items()}

    def file(self, number: int, kind: str) -> tuple[str, bytes] | None:
        """Name and content of a file; None where it is not there (any more)."""
        return self._kept.get(number, {}).get(kind)
