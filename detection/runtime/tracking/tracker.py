"""`PlantTracker`: gives each plant one number while it is in the image, one class, and counts it once."""

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

_MIN_IOU = 0.2  # a plant's box now and where it must be by the ground's motion
_SAME_IOU = 0.5  # two boxes of one image that are one plant, whatever their classes
_IN_VIEW = 0.5  # share of its box that an image must cover for it to have a chance to show the plant
_BEYOND = 0.5  # of an image's side, outside of which a plant is forgotten
_MISSES = 50  # images in a row without a plant that should be there, after which it is forgotten
_LOOK_BACK = 4  # images before a plant's first sighting that may speak against it
_NO_TRACK = -1

# What sightings are worth, as log odds that there is a plant; chosen by figures, see docs/design/tracking.md.
_AT_THRESHOLD = 0.5  # a box with just the score of its class's threshold is a plant rather than not
_PER_SCORE = 12.0  # ... and with 0.1 more it is one in five times of six
_AGAIN = 1.0  # chance seldom puts a second box on the same ground
_MISSED = -1.5  # what is there is found in most images
_BELIEVED = 1.5  # from here on it is numbered and counted
_FAINT = 0.7  # of its threshold, from which score on a box says something


@dataclass
class _Track:
    """One plant, or what may be one: votes (summed scores) by label, log odds, and its number, 0 until believed."""

    log_odds: float
    votes: dict[int, float] = field(default_factory=dict)
    misses: int = 0
    track_id: int = 0

    def label(self) -> int:
        return max(self.votes, key=lambda label: (self.votes[label], -label))


class PlantTracker:
    """Follows the plants of one camera that is driven over them.

    The ground moves as a whole and plants stand on it, so a plant is looked for where the ground's motion
    puts it, however long it was not seen, and forgotten only when it has left. Only what both images can
    show is compared: a plant that was cut by the image's edge fits its whole box a frame later. Otherwise
    this is ByteTrack (Y. Zhang et al., 2022, https://arxiv.org/abs/2110.06864) with the ground's motion in
    the Kalman filter's place; docs/design/tracking.md has the figures that led here.

    As in ByteTrack, boxes below the threshold, which nobody else is told of, speak for a plant too; unlike
    there, several of them can make one. Whether there is a plant is a matter of odds (as in D. Musicki et
    al., "Integrated probabilistic data association", 1994): each sighting speaks for it, the more the
    higher its score, each image that should show it and does not speaks against it, those before its
    first sighting too. Believed plants are numbered and counted; when one leaves that was seen too little,
    the odds decide. Its class is the one with the highest sum of scores. Memory is bounded by what stands
    in and near the image.

    Args:
        class_names: by label.
        thresholds: the model's own score thresholds, one or one a class; where the stream's were changed, still
            the model's.
        motion: tells the ground's shift; None: seen in the images.

    Attributes:
        score_floors: float32 (classes,): boxes with lower scores say nothing of a plant.

    Raises:
        ValueError: thresholds for another number of classes.

    """

    def __init__(
        self, class_names: Sequence[str], thresholds: float | Sequence[float] = 0.3, motion: Motion | None = None
    ) -> None:
        self._class_names = tuple(class_names)
        self._thresholds = np.broadcast_to(np.asarray(thresholds, np.float64), len(self._class_names))
        self.score_floors: NDArray[np.float32] = (_FAINT * self._thresholds).astype(np.float32)
        self._motion: Motion = ImageMotion() if motion is None else motion
        self._tracks: list[_Track] = []
        # One row a track, in pixels of the newest image: its box, and the image that showed it last.
        self._boxes: Boxes = np.zeros((0, 4))
        self._views: Boxes = np.zeros((0, 4))
        self._past: Boxes = np.zeros((0, 4))  # the last images, in pixels of the newest
        self._settled = [0] * len(self._class_names)
        self._last_id = 0

    @property
    def counted(self) -> dict[str, int]:
        """Plants of each class so far, each once.

        A plant in the image counts for the class that it has now, and may still change it or turn out to
        be another's second box; one that has left is settled.
        """
        counts = list(self._settled)
        for track in self._tracks:
            if track.track_id:
                counts[track.label()] += 1
        return dict(zip(self._class_names, counts, strict=True))

    def update(self, frame: Frame, detections: Detections, faint: Detections | None = None) -> Detections:
        """Take the next image's detections; frames in order, gaps are fine.

        Args:
            frame: the image.
            detections: what is reported of it.
            faint: what is not, because its scores are below the thresholds in force but not below
                `score_floors`: a plant whose every sighting is a bit too weak is still counted.

        Returns:
            The rows of `detections` with `track_ids`: 1, 2, 3, ... as plants come to be believed, never given
            twice; -1 for a row that is not believed (yet) or is a second box of a plant. The labels of believed
            rows are their plant's class.

        """
        height, width = frame.image.shape[:2]
        view = np.array([0.0, 0.0, width, height])
        self._move(self._motion.shift(frame), view)
        rows = detections if faint is None else detections + faint
        telling = np.flatnonzero(rows.scores >= self.score_floors[rows.labels])
        of_row = np.full(len(rows), _NO_TRACK, np.int64)
        of_row[telling] = self._follow(rows[telling], view)
        self._past = np.concatenate([self._past[1 - _LOOK_BACK :], view[None]])
        ids = np.full(len(detections), _NO_TRACK, np.int64)
        labels = detections.labels.copy()
        for row in np.flatnonzero(of_row[: len(ids)] >= 0):
            track = self._tracks[of_row[row]]
            if track.track_id:
                ids[row], labels[row] = track.track_id, track.label()
        return Detections(detections.boxes_xyxy, detections.scores, labels, ids)

    def _follow(self, detections: Detections, view: Boxes) -> Places:
        """The track of each row, -1 for second boxes of a plant; all tracks know better afterwards."""
        found = detections.boxes_xyxy.astype(np.float64)
        of_row, off = self._match(found, view)
        self._miss(of_row, view)
        of_row = self._begin(found, detections, of_row, view)
        self._sight(found, detections, of_row, off, view)
        return self._merge(of_row)

    def _move(self, shift: tuple[float, float] | None, view: Boxes) -> None:
        """Move all with the ground, and forget what left; all where it is other ground, for all one can tell."""
        if shift is None:
            self._forget(np.zeros(len(self._tracks), bool))
            self._past = self._past[:0]
            return
        for boxes in (self._boxes, self._views, self._past):
            boxes += (*shift, *shift)
        reach = _BEYOND * view[2:]
        near = (self._boxes[:, :2] < view[2:] + reach) & (self._boxes[:, 2:] > -reach)
        self._forget(near.all(axis=1) & np.array([track.misses < _MISSES for track in self._tracks], bool))

    def _match(self, found: Boxes, view: Boxes) -> tuple[Places, NDArray[np.bool_]]:
        """The track of each row, -1 where none fits, the best overlap first; and which fit badly."""
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
        """Hold it against those that should be in the image and were not found."""
        missed = _covers(view, self._boxes)
        missed[of_row[of_row >= 0]] = False
        for place in np.flatnonzero(missed):
            self._tracks[place].misses += 1
            self._tracks[place].log_odds += _MISSED

    def _begin(self, found: Boxes, detections: Detections, of_row: Places, view: Boxes) -> Places:
        """A track for each row that has none and is no second box of a plant, the surest first."""
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

    def _sight(
        self, found: Boxes, detections: Detections, of_row: Places, off: NDArray[np.bool_], view: Boxes
    ) -> None:
        """Let each sighting say where its plant is, of which class, and that it is there."""
        for row in np.flatnonzero(of_row >= 0):
            place = of_row[row]
            # A box that fits badly may be chance, and must not carry the plant's own off with it.
            self._boxes[place] = (self._boxes[place] + found[row]) / 2 if off[row] else found[row]
            self._views[place] = view
            track = self._tracks[place]
            label, score = int(detections.labels[row]), float(detections.scores[row])
            track.log_odds += _AT_THRESHOLD + _PER_SCORE * (score - self._thresholds[label])
            if track.votes:
                track.log_odds += _AGAIN
            track.votes[label] = track.votes.get(label, 0.0) + score
            track.misses = 0
            if not track.track_id and track.log_odds >= _BELIEVED:
                self._last_id += 1
                track.track_id = self._last_id

    def _merge(self, of_row: Places) -> Places:
        """Make one of tracks that lie on each other: two boxes of one plant may have begun one each."""
        same = np.triu(iou(self._boxes[:, None], self._boxes) >= _SAME_IOU, 1)
        if not same.any():
            return of_row
        kept = np.ones(len(self._tracks), bool)
        of_row = of_row.copy()
        for stays, goes in np.argwhere(same):
            if not (kept[stays] and kept[goes]):
                continue
            if not self._tracks[stays].track_id:  # the older one stays, unless only the younger has a number
                stays, goes = goes, stays
            for label, votes in self._tracks[goes].votes.items():
                self._tracks[stays].votes[label] = self._tracks[stays].votes.get(label, 0.0) + votes
            kept[goes] = False
            of_row[of_row == goes] = _NO_TRACK if (of_row == stays).any() else stays
        self._keep(kept)
        places = np.cumsum(kept) - 1
        return np.where(of_row >= 0, places[of_row], _NO_TRACK)

    def _forget(self, kept: NDArray[np.bool_]) -> None:
        """Settle and drop those that are not kept; of one that was never believed the odds decide."""
        for place in np.flatnonzero(~kept):
            track = self._tracks[place]
            if track.track_id or track.log_odds > 0:
                self._settled[track.label()] += 1
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
