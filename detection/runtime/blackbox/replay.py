"""`Comparison`: the detections of a replay against those that were recorded."""

from __future__ import annotations

import collections
from dataclasses import dataclass

import numpy as np

from detection.runtime.blackbox.recording import RecordedFrame, Recording
from detection.runtime.detections import Detections, Frame
from detection.runtime.outputs.contract import Output, Record

BOX_TOLERANCE_PX = 1e-3
SCORE_TOLERANCE = 1e-4
"""Detections within these tolerances are the same: what float32 leaves open."""

_SHOWN = 10


@dataclass(frozen=True)
class Difference:
    """One image in which the replay's detections differ.

    Attributes:
        camera, frame: which.
        recorded, replayed: number of boxes then, and now.
        only_recorded, only_replayed: of these, unmatched.

    """

    camera: str
    frame: int
    recorded: int
    replayed: int
    only_recorded: int
    only_replayed: int


class Comparison(Output):
    """Compares the detections of a replay with the recorded ones.

    Boxes match if class, corners (within 0.001 px) and score (within 0.0001) agree; each is matched once.
    Thresholds are those in use when the image was recorded. Track ids are not compared: they depend on
    what came before the recording. Images that were kept as JPEG are not those that the detector saw: they are
    counted, and not compared.

    Args:
        recording: what is replayed.

    Attributes:
        compared: number of images compared.
        lossy: number of images that could not be compared.
        boxes: recorded ones, in the compared images.
        differing: number of images in which the detections differ.
        shown: the first differences.

    """

    def __init__(self, recording: Recording) -> None:
        self._waiting: dict[tuple[str, int], collections.deque[RecordedFrame]] = collections.defaultdict(
            collections.deque
        )
        for recorded in recording.frames:
            self._waiting[recorded.camera, recorded.frame].append(recorded)
        self.compared = 0
        self.lossy = 0
        self.boxes = 0
        self.differing = 0
        self.shown: list[Difference] = []

    @property
    def missing(self) -> int:
        """Number of recorded images that the replay did not reach."""
        return sum(map(len, self._waiting.values()))

    @property
    def same(self) -> bool:
        """Whether all images were reached and at least one was compared, without a difference."""
        return bool(self.compared) and not self.differing and not self.missing

    def close(self) -> None:
        """Nothing is held open."""
        return None

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Compare one image."""
        recorded = self._waiting[frame.camera, frame.index].popleft()
        if not recorded.lossless:
            self.lossy += 1
            return
        thresholds = np.asarray(recorded.score_thresholds, np.float32)
        then, now = recorded.detections, detections
        if len(now) and now.labels.max() < len(thresholds):
            now = now[now.scores >= thresholds[now.labels]]
        matched = _matched(then, now)
        self.compared += 1
        self.boxes += len(then)
        if matched == len(then) == len(now):
            return
        self.differing += 1
        if len(self.shown) < _SHOWN:
            only = (len(then) - matched, len(now) - matched)
            self.shown.append(Difference(frame.camera, frame.index, len(then), len(now), *only))


def _matched(then: Detections, now: Detections) -> int:
    free = np.ones(len(now), bool)
    count = 0
    for box, score, label in zip(then.boxes_xyxy, then.scores, then.labels, strict=True):
        fits = free & (now.labels == label)
        fits &= np.abs(now.boxes_xyxy - box).max(axis=1, initial=0.0) <= BOX_TOLERANCE_PX
        fits &= np.abs(now.scores - score) <= SCORE_TOLERANCE
        if fits.any():
            free[int(fits.argmax())] = False
            count += 1
    return count
