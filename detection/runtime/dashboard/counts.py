"""`Counts`: detections of the last minutes by class, in constant memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUCKET_S = 5
BUCKETS = 120
"""Ten minutes."""


class Counts:
    """Sums per class and bucket of `BUCKET_S` seconds; the oldest bucket makes room for the newest.

    Args:
        class_names: by label.

    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = tuple(class_names)
        self._bucket = np.full(BUCKETS, -1, np.int64)  # which one, since the clock's zero, a row holds now
        self._images = np.zeros(BUCKETS, np.int64)
        self._boxes = np.zeros((BUCKETS, len(self._names)), np.int64)
        self._plants = np.zeros((BUCKETS, len(self._names)), np.int64)
        self._seen: dict[str, dict[str, int]] = {}

    def add(self, now_s: float, camera: str, labels: NDArray[np.int64], counted: Mapping[str, int] | None) -> None:
        """One image's boxes.

        Args:
            now_s: monotonic seconds.
            camera: whose image.
            labels: int64 (N,).
            counted: plants per class that this camera has seen so far; None where nothing is tracked.

        """
        bucket = int(now_s // BUCKET_S)
        row = bucket % BUCKETS
        if self._bucket[row] != bucket:
            self._bucket[row] = bucket
            self._images[row] = 0
            self._boxes[row] = 0
            self._plants[row] = 0
        self._images[row] += 1
        if len(labels):
            self._boxes[row] += np.bincount(labels, minlength=len(self._names))[: len(self._names)]
        if counted is not None:
            before = self._seen.get(camera, {})
            for label, name in enumerate(self._names):
                # Never below zero: a camera whose tracking begins anew begins its count anew.
                self._plants[row, label] += max(0, counted.get(name, 0) - before.get(name, 0))
            self._seen[camera] = dict(counted)

    def plants(self) -> dict[str, int] | None:
        """Plants per class over all cameras so far; None where nothing is tracked."""
        if not self._seen:
            return None
        return {name: sum(seen.get(name, 0) for seen in self._seen.values()) for name in self._names}

    def to_json(self, now_s: float) -> dict[str, Any]:
        """The last ten minutes, oldest first; None where no image came."""
        tracked = bool(self._seen)
        # A sum of a bucket that is not over would look as if the plants had ended.
        newest = int(now_s // BUCKET_S) - (1 if tracked else 0)
        wanted = np.arange(newest - BUCKETS + 1, newest + 1)
        rows = wanted % BUCKETS
        there = (self._bucket[rows] == wanted) & (self._images[rows] > 0)
        values = self._plants[rows] if tracked else self._boxes[rows] / np.maximum(self._images[rows], 1)[:, None]
        series = [
            [round(value, 2) if known else None for value, known in zip(column, there.tolist(), strict=True)]
            for column in values.T.tolist()
        ]
        return {"unit": "plants" if tracked else "boxes per image", "bucket_s": BUCKET_S, "series": series}
