"""Calibration: whether scores are the precision that they suggest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.curves import Matches
from detection.evaluation.matching import MATCH_IOU

BINS = 10
"""Number of bins of the score, from 0 to 1."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A reliability diagram of the scores.

    Attributes:
        count: int64 (BINS,), detections in each bin.
        score: float64 (BINS,), their mean score, 0 where there are none.
        precision: float64 (BINS,), the share of them that are true positives.
        error: expected calibration error, the mean of |precision - score| weighted by `count`; None without
            detections.

    """

    count: NDArray[np.int64]
    score: NDArray[np.float64]
    precision: NDArray[np.float64]
    error: float | None


def calibration(matches: Matches, label: int | None = None, iou: float = MATCH_IOU) -> Calibration:
    """Detection expected calibration error over the score: of detections of score 0.7, seven in ten should be right.

    F. Kueppers et al., "Multivariate Confidence Calibration for Object Detection" (CVPR Workshops 2020).

    Args:
        matches: of the dataset.
        label: one class; None: all together.
        iou: from which IoU on a detection is a true positive.

    """
    own = slice(None) if label is None else matches.of_class(label)
    t = matches.at(iou)
    counts = ~matches.ignored[t, own]
    score, true_positive = matches.score[own][counts], matches.true_positive[t, own][counts]
    place = np.minimum((score * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    scale = np.maximum(count, 1)
    scores = np.bincount(place, weights=score, minlength=BINS) / scale
    precision = np.bincount(place, weights=true_positive, minlength=BINS) / scale
    error = float((count * np.abs(scores - precision)).sum() / count.sum()) if len(score) else None
    return Calibration(count, scores, precision, error)
