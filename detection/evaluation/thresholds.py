"""Score thresholds chosen for a stated goal, with the rate that they give."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv  # scipy.stats would take a second to import

from data import Dataset
from detection.evaluation.curves import Matches
from detection.evaluation.intervals import CONFIDENCE
from detection.evaluation.matching import MATCH_IOU
from detection.runtime.detections import Detections

Kind = Literal["f1", "recall", "precision", "crop-hits"]

_GOAL = re.compile(r"(?:(?P<name>.+):)?(?P<kind>f1|recall>=|precision>=|crop-hits<=)(?P<limit>[0-9.eE+-]+)?")
_ABOVE_ALL = 1.0  # scores stay below it
_MARGIN = 0.01  # another backend's scores may differ by this much


@dataclass(frozen=True)
class Goal:
    """Goal of a score threshold.

    Attributes:
        kind: `f1`: the best F1; `recall`: the highest threshold with a recall of `limit`; `precision`: the highest
            recall with a precision of `limit`; `crop-hits`: the most weeds such that, at 95 % confidence, at most
            `limit` of the crop plants are detected as weeds (their center lies in a detection of a weed).
        limit: a fraction; None for `f1`.
        class_name: the class; None: every class that the goal applies to.

    """

    kind: Kind
    limit: float | None = None
    class_name: str | None = None

    @classmethod
    def parse(cls, text: str) -> Goal:
        """`f1`, `recall>=0.95`, `precision>=0.9`, `crop-hits<=0.01`, each after `CLASS:` for one class.

        Raises:
            ValueError: anything else.

        """
        match = _GOAL.fullmatch(text.strip())
        if match:
            kind = match["kind"].rstrip("<>=")
            try:
                limit = float(match["limit"]) if match["limit"] is not None else None
            except ValueError:
                limit = -1.0
            wanted = kind != "f1"
            if wanted == (limit is not None) and (limit is None or 0 < limit <= 1) and kind in get_args(Kind):
                return cls(kind, limit, match["name"])  # type: ignore[arg-type]
        raise ValueError(
            f"{text!r} is no goal: f1, recall>=0.95, precision>=0.9 or crop-hits<=0.01, or one of them after CLASS:"
        )

    def __str__(self) -> str:
        sign = "<=" if self.kind == "crop-hits" else ">="
        return self.kind if self.limit is None else f"{self.kind}{sign}{self.limit:g}"


@dataclass(frozen=True)
class Rate:
    """A proportion with its 95 % interval.

    Attributes:
        count: numerator.
        of: denominator.
        low, high: ends of the interval.

    """

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The proportion; 0 if there is nothing to count."""
        return self.count / self.of if self.of else 0.0

    def to_dict(self) -> dict[str, float | int]:
        """For JSON."""
        return {"value": self.value, "count": self.count, "of": self.of, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Choice:
    """A threshold chosen for a goal.

    Attributes:
        goal: as text.
        threshold: a detection counts at or above this score.
        reached: whether the goal is reached on the images that it was chosen on.
        rate: the rate that the goal is about (precision for `f1`), on these images.

    """

    goal: str
    threshold: float
    reached: bool
    rate: Rate


def share(hit: NDArray[np.bool_], image: NDArray[np.int64], weights: NDArray[np.float64]) -> Rate:
    """A proportion with an interval that accounts for groups of images.

    At each end the wider of two: C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits
    illustrated in the case of the binomial" (Biometrika 1934), which is valid at 0 and 1 too; and the
    percentiles of the bootstrap resamples, which account for the similarity within a group.

    Args:
        hit: bool (N,), whether an item counts.
        image: int (N,), index of its image.
        weights: (B, P), resamples of the images, as `detection.evaluation.intervals.draw_groups` gives them.

    """
    count, of = int(hit.sum()), len(hit)
    if not of:
        return Rate(0, 0, 0.0, 1.0)
    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(count, of - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0
    images = weights.shape[1]
    so = weights @ np.bincount(image, weights=hit, minlength=images)
    there = weights @ np.bincount(image, minlength=images)
    drawn = so[there > 0] / there[there > 0]
    if len(drawn):
        low, high = min(low, float(np.quantile(drawn, tail))), max(high, float(np.quantile(drawn, 1 - tail)))
    return Rate(count, of, low, high)


def recall_at(matches: Matches, label: int, threshold: float, weights: NDArray[np.float64]) -> Rate:
    """Recall of a class at a score threshold, at IoU 0.5."""
    own, t = matches.of_class(label), matches.at(MATCH_IOU)
    good = matches.true_positive[t, own] & ~matches.ignored[t, own] & (matches.score[own] >= threshold)
    found = np.bincount(matches.image[own][good], minlength=len(matches.boxes))
    boxes = matches.boxes[:, label]
    image = np.repeat(np.arange(len(boxes)), boxes)
    first = np.cumsum(boxes) - boxes
    return share(np.arange(len(image)) - first[image] < found[image], image, weights)


def precision_at(matches: Matches, label: int, threshold: float, weights: NDArray[np.float64]) -> Rate:
    """Precision of a class at a score threshold, at IoU 0.5."""
    own, t = matches.of_class(label), matches.at(MATCH_IOU)
    kept = ~matches.ignored[t, own] & (matches.score[own] >= threshold)
    return share(matches.true_positive[t, own][kept], matches.image[own][kept], weights)


@dataclass(frozen=True, eq=False)
class CropPlants:
    """Every crop plant, with the highest score at which it is detected as a weed.

    Attributes:
        image: int64 (N,), index of its image.
        score: float64 (N,), the best score of a detection of no crop whose box contains the plant's center; 0: none.

    """

    image: NDArray[np.int64]
    score: NDArray[np.float64]

    def hits(self, threshold: float, weights: NDArray[np.float64]) -> Rate:
        """Share of them that are detected as weeds at a score threshold."""
        return share(self.score >= threshold, self.image, weights)

    def detected_as_weeds(self, weights: NDArray[np.float64]) -> Rate:
        """Share of them with any such detection."""
        return share(self.score > 0, self.image, weights)


def crop_plants(
    dataset: Dataset, found: Sequence[Detections], crops: Sequence[int], thresholds: NDArray[np.float64] | None = None
) -> CropPlants:
    """The crop plants of a dataset, compared with the detections of weeds.

    Args:
        dataset: the ground truth; crowd regions are left out.
        found: detections, one for each image in its order, labelled as the dataset.
        crops: labels of the classes that must not be hit.
        thresholds: per class; detections below are left out. None: all.

    """
    image, score = [np.zeros(0, np.int64)], [np.zeros(0)]
    for index, (truth, seen) in enumerate(zip(dataset.images, found, strict=True)):
        plants = truth.boxes_xyxy[~truth.iscrowd & np.isin(truth.labels, crops)].astype(np.float64)
        weeds = seen[~np.isin(seen.labels, crops)]
        if thresholds is not None:
            weeds = weeds[weeds.scores >= thresholds[weeds.labels]]
        middle = (plants[:, None, :2] + plants[:, None, 2:]) / 2
        inside = ((weeds.boxes_xyxy[:, :2] <= middle) & (middle <= weeds.boxes_xyxy[:, 2:])).all(
            axis=2
        )  # (plants, weeds)
        image.append(np.full(len(plants), index))
        score.append(np.where(inside, weeds.scores, 0.0).max(axis=1, initial=0.0))
    return CropPlants(np.concatenate(image), np.concatenate(score).astype(np.float64))


def choose(
    goal: Goal, matches: Matches, label: int, plants: CropPlants | None, weights: NDArray[np.float64]
) -> Choice:
    """Choose the threshold of a class for a goal.

    It lies half-way between the last score that counts and the next below, so that rounding changes nothing; for
    `crop-hits` 0.01 above the score of the next crop plant, or half-way where that is nearer.

    Args:
        goal: to reach.
        matches: on images that training did not see.
        label: of the class.
        plants: as `crop_plants` gives them; needed for `crop-hits`.
        weights: resamples of these images.

    Raises:
        ValueError: `crop-hits` without plants.

    """
    if goal.kind == "crop-hits":
        if plants is None or goal.limit is None:
            raise ValueError("crop-hits needs the crop plants and a limit")
        return _fewest_crops(goal, plants, weights)
    own, t = matches.of_class(label), matches.at(MATCH_IOU)
    kept = ~matches.ignored[t, own]
    score, hit = matches.score[own][kept], matches.true_positive[t, own][kept]
    last = np.append(score[1:] < score[:-1], True)[: len(score)]  # equal scores count together
    score, hits, count = score[last], np.cumsum(hit)[last], np.arange(1, len(hit) + 1)[last]
    boxes = int(matches.boxes[:, label].sum())
    precision, recall = hits / np.maximum(count, 1), hits / max(boxes, 1)
    if goal.kind == "f1":
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        at = int(f1.argmax()) if len(f1) and f1.max() > 0 else -1
        reached = at >= 0
    else:
        figure = recall if goal.kind == "recall" else precision
        enough = np.flatnonzero(figure >= (goal.limit or 0))
        reached = bool(len(enough))
        if goal.kind == "recall":
            at = int(enough[0]) if reached else len(score) - 1  # all detections
        else:
            at = int(enough[-1]) if reached else -1
    threshold = _between(score, at)
    rate = (recall_at if goal.kind == "recall" else precision_at)(matches, label, threshold, weights)
    return Choice(str(goal), threshold, reached, rate)


def _fewest_crops(goal: Goal, plants: CropPlants, weights: NDArray[np.float64]) -> Choice:
    """The lowest threshold at which the interval's upper end is within the limit; else the one without crop hits."""
    scores = np.unique(plants.score[plants.score > 0])[::-1]
    best: Choice | None = None
    for at in range(-1, len(scores)):
        threshold = _just_above(scores, at)
        rate = plants.hits(threshold, weights)
        reached = rate.high <= (goal.limit or 0)
        if best is None or reached:
            best = Choice(str(goal), threshold, reached, rate)
        if not reached:
            break
    assert best is not None
    return best


def _between(scores: NDArray[np.float64], at: int) -> float:
    """A threshold at which the descending `scores` up to `at` count, and the next does not; -1: none counts."""
    above = float(scores[at]) if at >= 0 else _ABOVE_ALL
    below = float(scores[at + 1]) if at + 1 < len(scores) else 0.0
    return (above + below) / 2


def _just_above(scores: NDArray[np.float64], at: int) -> float:
    """The same, but as low as possible: all scores between those of two crop plants are of weeds."""
    below = float(scores[at + 1]) if at + 1 < len(scores) else 0.0
    return min(_between(scores, at), below + _MARGIN)
