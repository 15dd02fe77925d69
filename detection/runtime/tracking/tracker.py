"""`PlantTracker`: gives each plant one id while it is in the image, one class, and counts it once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detection.runtime.boxes import area, iou
from detection.runtime.detections import Detections, Frame
from detection.runtime.tracking.motion import ImageMotion, Motion

Boxes = NDArray[np.float64]
Places = NDArray[np.int64]

_MIN_IOU = 0.2  # of a detection and a track moved with the ground, to be matched
_SAME_IOU = 0.5  # of two boxes in one image that are one plant, whatever their classes
_IN_VIEW = 0.5  # fraction of a plant's box that an image must cover to be able to show the plant
_MARGIN = 0.5  # of an image's side; tracks further outside are removed
_MAX_MISSES = 50  # consecutive images without a plant that should be visible, after which its track is removed
_LOOK_BACK = 4  # images before a track's first detection that count as evidence against it
_NO_TRACK = -1

# Evidence of detections, as log odds that there is a plant; chosen by measurements, see docs/design/tracking.md.
_AT_THRESHOLD = 0.5  # a box whose score equals its class's threshold is more likely a plant than not
_PER_SCORE = 12.0  # ... and with a score 0.1 higher it is one in five cases of six
_AGAIN = 1.0  # chance seldom puts a second box on the same ground
_MISSED = -1.5  # a plant is detected in most images that show it
_CONFIRMED = 1.5  # a track with these odds is confirmed: it gets an id and is counted
_LOW_SCORE = 0.7  # times its class's threshold: minimum score of a low-score detection


@dataclass
class _Track:
    """A tentative or confirmed track of one plant.

    Attributes:
        log_odds: that there is a plant.
        class_scores: summed scores by label.
        misses: consecutive images that should have shown it and did not.
        track_id: its id, 0 while it is tentative.

    """

    log_odds: float
    class_scores: dict[int, float] = field(default_factory=dict)
    misses: int = 0
    track_id: int = 0

    def label(self) -> int:
        return max(self.class_scores, key=lambda label: (self.class_scores[label], -label))


class PlantTracker:
    """Tracks the plants of one camera that is driven over them, and counts each once.

        tracker = PlantTracker(detector.class_names, detector.metadata.score_thresholds)
        for frame in source:
            tracked = tracker.update(frame, detector(frame.image))
            print(tracked.track_ids, tracker.counted)  # [3 4 -1] {'crop': 2, 'weed': 2}

    The ground moves as a whole and plants stand on it. So a track is expected where the ground's motion
    puts it, however long it was not detected, and is removed only when it has left the image. Only what both
    images can show is compared: a plant that was cut by the image's edge fits its whole box a frame later. Otherwise
    this is ByteTrack (Y. Zhang et al., 2022, https://arxiv.org/abs/2110.06864) with the ground's motion instead of
    the Kalman filter; docs/design/tracking.md has the measurements behind it.

    As in ByteTrack, low-score detections, which are not reported, support a track too; unlike
    there, several of them can begin one. Tracks are confirmed by their odds (as in D. Musicki et
    al., "Integrated probabilistic data association", 1994): each detection is evidence for a plant, the more the
    higher its score; each image that should show the plant and does not is evidence against it, including those
    before its first detection. Confirmed tracks get an id and are counted; a tentative one that leaves the image is
    counted if there is more evidence for it than against it. The class of a track is the one with the highest sum
    of scores. Memory is bounded by what is in and near the image.

    Args:
        class_names: by label.
        thresholds: the model's own score thresholds, one or one per class; the model's own also where the stream's
            were changed.
        motion: measures the ground's shift; None: from the images.

    Attributes:
        low_score_thresholds: float32 (classes,): detections with lower scores are ignored.

    Raises:
        ValueError: thresholds for another number of classes.

    """

    def __init__(
        self, class_names: Sequence[str], thresholds: float | Sequence[float] = 0.3, motion: Motion | None = None
    ) -> None:
        self._class_names = tuple(class_names)
        self._thresholds = np.broadcast_to(np.asarray(thresholds, np.float64), len(self._class_names))
        self.low_score_thresholds: NDArray[np.float32] = (_LOW_SCORE * self._thresholds).astype(np.float32)
        self._motion: Motion = ImageMotion() if motion is None else motion
        self._tracks: list[_Track] = []
        # One row a track, in pixels of the newest image: its box, and the image that showed it last.
        self._boxes: Boxes = np.zeros((0, 4))
        self._views: Boxes = np.zeros((0, 4))
        self._past: Boxes = np.zeros((0, 4))  # the last images, in pixels of the newest
        self._final_counts = [0] * len(self._class_names)
        self._last_id = 0

    @property
    def counted(self) -> dict[str, int]:
        """Plants of each class so far, each once.

        A plant in the image counts for the class that it has now; it may still change its class, or turn out to
        be another's second box. Counts of plants that have left are final.
        """
        counts = list(self._final_counts)
        for track in self._tracks:
            if track.track_id:
                counts[track.label()] += 1
        return dict(zip(self._class_names, counts, strict=True))

    def update(self, frame: Frame, detections: Detections, low_score: Detections | None = None) -> Detections:
        """Track the detections of the next image; frames in order, gaps are fine.

        Args:
            frame: the image.
            detections: those that are reported.
            low_score: those that are not, with scores below the thresholds in force and not below
                `low_score_thresholds`: a plant with low scores in every image is counted all the same.

        Returns:
            The rows of `detections` with `track_ids`: 1, 2, 3, ... as tracks are confirmed, never given
            twice; -1 for a row of a tentative track, or a second box of a plant. The label of a row of a confirmed
            track is the track's class.

        """
        height, width = frame.image.shape[:2]
        view = np.array([0.0, 0.0, width, height])
        self._move(self._motion.shift(frame), view)
        rows = detections if low_score is None else detections + low_score
        used = np.flatnonzero(rows.scores >= self.low_score_thresholds[rows.labels])
        of_row = np.full(len(rows), _NO_TRACK, np.int64)
        of_row[used] = self._follow(rows[used], view)
        self._past = np.concatenate([self._past[1 - _LOOK_BACK :], view[None]])
        ids = np.full(len(detections), _NO_TRACK, np.int64)
        labels = detections.labels.copy()
        for row in np.flatnonzero(of_row[: len(ids)] >= 0):
            track = self._tracks[of_row[row]]
            if track.track_id:
                ids[row], labels[row] = track.track_id, track.label()
        return Detections(detections.boxes_xyxy, detections.scores, labels, ids)

    def _follow(self, detections: Detections, view: Boxes) -> Places:
        """The track of each row, -1 for second boxes of a plant; updates all tracks."""
        found = detections.boxes_xyxy.astype(np.float64)
        of_row, off = self._match(found, view)
        self._miss(of_row, view)
        of_row = self._begin(found, detections, of_row, view)
        self._update_tracks(found, detections, of_row, off, view)
        return self._merge(of_row)

    def _move(self, shift: tuple[float, float] | None, view: Boxes) -> None:
        """Move tracks with the ground and remove those that left the image; all where the shift is unknown."""
        if shift is None:
            self._remove(np.zeros(len(self._tracks), bool))
            self._past = self._past[:0]
            return
        for boxes in (self._boxes, self._views, self._past):
            boxes += (*shift, *shift)
        reach = _MARGIN * view[2:]
        near = (self._boxes[:, :2] < view[2:] + reach) & (self._boxes[:, 2:] > -reach)
        self._remove(near.all(axis=1) & np.array([track.misses < _MAX_MISSES for track in self._tracks], bool))

    def _match(self, found: Boxes, view: Boxes) -> tuple[Places, NDArray[np.bool_]]:
        """The track of each row, -1 where none matches, best overlap first; and which match poorly."""
        of_row, off = np.full(len(found), _NO_TRACK, np.int64), np.zeros(len(found), bool)
        # Of each track what is still in the image, of each row what the track's last image could show.
        overlap = iou(_clip(self._boxes, view)[:, None], _clip(found, self._views[:, None]))
        tracks, rows = np.nonzero(overlap >= _MIN_IOU)
        taken: set[int] = set()
        for pair in np.argsort(-overlap[tracks, rows], kind="stable"):
            track, row = int(tracks[pair]), int(rows[pair])
            if of_row[row] == _NO_TRACK and track not in taken:
                taken.add(track)
                of_row[row], off[row] = track, overlap[track, row] < _SAME_IOU
        return of_row, off

    def _miss(self, of_row: Places, view: Boxes) -> None:
        """Count the image against tracks that it should show and that have no detection in it."""
        missed = _covers(view, self._boxes)
        missed[of_row[of_row >= 0]] = False
        for place in np.flatnonzero(missed):
            self._tracks[place].misses += 1
            self._tracks[place].log_odds += _MISSED

    def _begin(self, found: Boxes, detections: Detections, of_row: Places, view: Boxes) -> Places:
        """A new track for each row that has none and is no second box of a plant, highest score first."""
        of_row = of_row.copy()
        alike = iou(found[:, None], found) >= _SAME_IOU
        missed = _covers(self._past, found[:, None]).sum(axis=1)
        for row in np.argsort(-detections.scores, kind="stable"):
            if of_row[row] == _NO_TRACK and not (alike[row] & (of_row >= 0)).any():
                of_row[row] = len(self._tracks)
                self._tracks.append(_Track(_MISSED * int(missed[row])))
        begun = len(self._tracks) - len(self._boxes)
        self._boxes = np.concatenate([self._boxes, np.zeros((begun, 4))])
        self._views = np.concatenate([self._views, np.tile(view, (begun, 1))])
        return of_row

    def _update_tracks(
        self, found: Boxes, detections: Detections, of_row: Places, off: NDArray[np.bool_], view: Boxes
    ) -> None:
        """Update each detected track: its box, class scores and odds; confirm it where they suffice."""
        for row in np.flatnonzero(of_row >= 0):
            place = of_row[row]
            # A poorly matching box may be chance, and must not replace the track's own.
            self._boxes[place] = (self._boxes[place] + found[row]) / 2 if off[row] else found[row]
            self._views[place] = view
            track = self._tracks[place]
            label, score = int(detections.labels[row]), float(detections.scores[row])
            track.log_odds += _AT_THRESHOLD + _PER_SCORE * (score - self._thresholds[label])
            if track.class_scores:
                track.log_odds += _AGAIN
            track.class_scores[label] = track.class_scores.get(label, 0.0) + score
            track.misses = 0
            if not track.track_id and track.log_odds >= _CONFIRMED:
                self._last_id += 1
                track.track_id = self._last_id

    def _merge(self, of_row: Places) -> Places:
        """Merge tracks that overlap: two boxes of one plant may have begun one each."""
        same = np.triu(iou(self._boxes[:, None], self._boxes) >= _SAME_IOU, 1)
        if not same.any():
            return of_row
        kept = np.ones(len(self._tracks), bool)
        of_row = of_row.copy()
        for stays, goes in np.argwhere(same):
            if not (kept[stays] and kept[goes]):
                continue
            if not self._tracks[stays].track_id:  # the older one stays, unless only the younger is confirmed
                stays, goes = goes, stays
            for label, score in self._tracks[goes].class_scores.items():
                self._tracks[stays].class_scores[label] = self._tracks[stays].class_scores.get(label, 0.0) + score
            kept[goes] = False
            of_row[of_row == goes] = _NO_TRACK if (of_row == stays).any() else stays
        self._keep(kept)
        places = np.cumsum(kept) - 1
        return np.where(of_row >= 0, places[of_row], _NO_TRACK)

    def _remove(self, kept: NDArray[np.bool_]) -> None:
        """Count and remove those that are not kept; a tentative one is counted if its odds are above even."""
        for place in np.flatnonzero(~kept):
            track = self._tracks[place]
            if track.track_id or track.log_odds > 0:
                self._final_counts[track.label()] += 1
        self._keep(kept)

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        self._tracks = [track for track, keep in zip(self._tracks, kept, strict=True) if keep]
        self._boxes, self._views = self._boxes[kept], self._views[kept]


def _clip(boxes_xyxy: Boxes, to_xyxy: Boxes) -> Boxes:
    """What of the boxes lies in others, broadcast; where nothing does, a box without area."""
    low = np.maximum(boxes_xyxy[..., :2], to_xyxy[..., :2])
    return np.concatenate([low, np.maximum(low, np.minimum(boxes_xyxy[..., 2:], to_xyxy[..., 2:]))], axis=-1)


def _covers(views_xyxy: Boxes, boxes_xyxy: Boxes) -> NDArray[np.bool_]:
    """Whether an image covers enough of a box to show what is in it, broadcast."""
    return np.asarray(area(_clip(boxes_xyxy, views_xyxy)) >= _IN_VIEW * area(boxes_xyxy), np.bool_)
