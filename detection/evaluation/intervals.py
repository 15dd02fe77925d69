"""Confidence intervals: bootstrap resampling of whole groups of images, also of paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.curves import Matches, average_precision, recall_at_end, resampled_precision

HEADLINE = ("AP", "AP50", "AP75", "AP30", "AR100")
"""The metrics with an interval."""

CONFIDENCE = 0.95
FEW_GROUPS = 10
"""With fewer groups an interval is too narrow: so few do not show how fields vary."""


@dataclass(frozen=True)
class Interval:
    """A metric with its 95 % interval: the range expected with other groups of images.

    Attributes:
        value: of the dataset, -1 where undefined.
        low, high: ends of the interval; equal to `value` with a single group.

    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Difference:
    """Difference of a metric between two detectors.

    Attributes:
        first, second: the metric of each, -1 where undefined.
        change: second minus first, with the interval of that difference on the same images; None where undefined.

    """

    first: float
    second: float
    change: Interval | None

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.change is not None and (self.change.low > 0 or self.change.high < 0)

    @property
    def by_chance(self) -> float | None:
        """The part of the change that may be sampling error: down to the near end of its interval, or all of it.

        None where the change is undefined.
        """
        if self.change is None:
            return None
        surely = max(self.change.low, -self.change.high, 0.0)
        return max(abs(self.change.value) - surely, 0.0)


def draw_groups(groups: Sequence[str], count: int, seed: int) -> NDArray[np.float64]:
    """Bootstrap resamples of whole groups, with replacement.

    A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application" (1997), section 3.8: images of one
    field are similar, so that resampling single images would give too narrow intervals.

    Args:
        groups: of each image.
        count: number of resamples.
        seed: 0 or more.

    Returns:
        float64 (count, images), how often each image is in each resample.

    """
    names, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if not len(names):
        return np.zeros((count, 0))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    return np.asarray(drawn[:, group], np.float64)


def headline(matches: Matches, weights: NDArray[np.float64] | None = None) -> dict[str, NDArray[np.float64]]:
    """The metrics of `HEADLINE` for each resample, float (B,), -1 where undefined.

    Args:
        matches: of the dataset.
        weights: as `average_precision` takes them; None: the dataset itself.

    """
    ap = average_precision(matches) if weights is None else resampled_precision(matches, weights)
    recall = recall_at_end(matches, weights)
    rows = {
        "AP": ap[:, 1:],
        "AP50": ap[:, [matches.at(0.5)]],
        "AP75": ap[:, [matches.at(0.75)]],
        "AP30": ap[:, [matches.at(0.3)]],
        "AR100": recall[:, 1:],
    }
    return {name: _mean_of_rows(values.reshape(len(values), -1)) for name, values in rows.items()}


def intervals(matches: Matches, weights: NDArray[np.float64]) -> dict[str, Interval]:
    """Each metric of `HEADLINE` with its 95 % interval (percentiles of the resamples).

    Args:
        matches: of the dataset.
        weights: resamples, as `draw_groups` gives them.

    """
    value, resampled = headline(matches), headline(matches, weights)
    return {
        name: Interval(float(value[name][0]), *_ends(resampled[name], float(value[name][0]))) for name in HEADLINE
    }


def class_intervals(matches: Matches, weights: NDArray[np.float64]) -> list[Interval]:
    """AP50 of each class, by label, with its 95 % interval."""
    t = matches.at(0.5)
    at_50 = replace(
        matches,
        iou=matches.iou[t : t + 1],
        true_positive=matches.true_positive[t : t + 1],
        ignored=matches.ignored[t : t + 1],
    )
    value, resampled = average_precision(at_50)[0, 0], resampled_precision(at_50, weights)[:, 0]
    return [Interval(float(one), *_ends(resampled[:, label], float(one))) for label, one in enumerate(value)]


def differences(first: Matches, second: Matches, weights: NDArray[np.float64]) -> dict[str, Difference]:
    """Differences of two detectors on the same images, with the intervals of the paired differences.

    Args:
        first: one detector's.
        second: the other's, of the same images in the same order.
        weights: resamples, the same for both, so that the difficulty of an image cancels out.

    """
    values, resampled = [headline(m) for m in (first, second)], [headline(m, weights) for m in (first, second)]
    found = {}
    for name in HEADLINE:
        one, other = (float(v[name][0]) for v in values)
        defined = (resampled[0][name] > -1) & (resampled[1][name] > -1)
        change = None
        if min(one, other) > -1:
            ends = _ends((resampled[1][name] - resampled[0][name])[defined], other - one, least=-np.inf)
            change = Interval(other - one, *ends)
        found[name] = Difference(one, other, change)
    return found


def _ends(resampled: NDArray[np.float64], value: float, *, least: float = -1.0) -> tuple[float, float]:
    resampled = resampled[resampled > least]
    if not len(resampled):
        return value, value
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _mean_of_rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    defined = values > -1
    count = defined.sum(axis=1)
    sums = np.where(defined, values, 0).sum(axis=1)
    return np.where(count > 0, sums / np.maximum(count, 1), -1.0)
