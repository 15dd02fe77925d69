"""How sure a figure is: images drawn again by whole groups, and two detectors compared on the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.curves import Matches, average_precision, recall_at_end, resampled_precision

HEADLINE = ("AP", "AP50", "AP75", "AP30", "AR100")
"""The numbers that get an interval."""

CONFIDENCE = 0.95
FEW_GROUPS = 10
"""With fewer, an interval comes out too narrow: what varies between fields is not among so few."""


@dataclass(frozen=True)
class Interval:
    """A figure and where it would lie if other groups had been photographed.

    Attributes:
        value: of the dataset as it is, -1 where undefined.
        low, high: ends of the 95 % interval; equal to `value` where there is but one group.

    """

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Difference:
    """How much better the second detector is.

    Attributes:
        first, second: the figure of each.
        change: second minus first, with the interval of that difference on the same images.

    """

    first: float
    second: float
    change: Interval

    @property
    def real(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.change.low > 0 or self.change.high < 0

    @property
    def by_chance(self) -> float:
        """How much of the change's size may be chance: down to the near end of its interval, or all of it."""
        surely = max(self.change.low, -self.change.high, 0.0)
        return max(abs(self.change.value) - surely, 0.0)


def draw_groups(groups: Sequence[str], count: int, seed: int) -> NDArray[np.float64]:
    """Resamples that take groups whole, as many as there are, with replacement.

    A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application" (1997), section 3.8: images of one
    field are alike, so that drawing them one by one would promise too much.

    Args:
        groups: of each image.
        count: resamples.
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
    """The numbers of `HEADLINE` for each resample, float (B,), -1 where undefined.

    Args:
        matches: of the dataset.
        weights: as `average_precision` takes them; None: the dataset as it is.

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
    """Each number of `HEADLINE` with its 95 % interval (percentiles of the resamples).

    Args:
        matches: of the dataset.
        weights: resamples, as `draw_groups` gives them.

    """
    value, drawn = headline(matches), headline(matches, weights)
    return {name: Interval(float(value[name][0]), *_ends(drawn[name], float(value[name][0]))) for name in HEADLINE}


def class_intervals(matches: Matches, weights: NDArray[np.float64]) -> list[Interval]:
    """AP50 of each class, by label, with its 95 % interval."""
    t = matches.at(0.5)
    at_50 = replace(
        matches, iou=matches.iou[t : t + 1], hit=matches.hit[t : t + 1], ignored=matches.ignored[t : t + 1]
    )
    value, drawn = average_precision(at_50)[0, 0], resampled_precision(at_50, weights)[:, 0]
    return [Interval(float(one), *_ends(drawn[:, label], float(one))) for label, one in enumerate(value)]


def differences(first: Matches, second: Matches, weights: NDArray[np.float64]) -> dict[str, Difference]:
    """Two detectors on the same images: each number's change, with the interval of the paired difference.

    Args:
        first: one detector's.
        second: the other's, of the same images in the same order.
        weights: resamples; both are judged on the same ones, so that what makes an image hard cancels out.

    """
    values, drawn = [headline(m) for m in (first, second)], [headline(m, weights) for m in (first, second)]
    found = {}
    for name in HEADLINE:
        one, other = (float(v[name][0]) for v in values)
        defined = (drawn[0][name] > -1) & (drawn[1][name] > -1)
        change = other - one if min(one, other) > -1 else 0.0
        ends = _ends((drawn[1][name] - drawn[0][name])[defined], change, least=-np.inf)
        found[name] = Difference(one, other, Interval(change, *ends))
    return found


def _ends(drawn: NDArray[np.float64], value: float, *, least: float = -1.0) -> tuple[float, float]:
    drawn = drawn[drawn > least]
    if not len(drawn):
        return value, value
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _mean_of_rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    defined = values > -1
    count = defined.sum(axis=1)
    sums = np.where(defined, values, 0).sum(axis=1)
    return np.where(count > 0, sums / np.maximum(count, 1), -1.0)
