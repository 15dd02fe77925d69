"""Metrics that must be reached, for scripts: `swath evaluate --fail-below` and `--worst-slice`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detection.evaluation.coco_metrics import NAMES
from detection.evaluation.evaluation import Evaluation
from detection.runtime.errors import SwathError

METRICS = (*NAMES, "AP30")
"""Metrics for which a minimum can be required."""

OF_A_CLASS = ("AP", "AP50", "AP75", "AP30", "AR100")
"""Those that each class has too."""


@dataclass(frozen=True)
class Minimum:
    """The least acceptable value of a metric.

    Attributes:
        metric: one of `METRICS`.
        value: a fraction.
        class_name: the class; None: the mean over classes.

    """

    metric: str
    value: float
    class_name: str | None = None

    @classmethod
    def parse(cls, text: str) -> Minimum:
        """`AP50=0.6`, or `weed:AP50=0.5` for one class.

        Raises:
            ValueError: anything else.

        """
        left, _, number = text.partition("=")
        class_name, colon, metric = left.rpartition(":")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        known = OF_A_CLASS if class_name else METRICS
        if metric not in known or not 0 <= value <= 1 or (colon and not class_name):
            raise ValueError(f"{text!r} is not like AP50=0.6 or weed:AP50=0.5; metrics: {', '.join(known)}")
        return cls(metric, value, class_name or None)

    def check(self, class_names: Sequence[str]) -> None:
        """Check the class name, before a detector runs for minutes.

        Raises:
            SwathError: there is no such class.

        """
        if self.class_name is not None and self.class_name not in class_names:
            raise SwathError(f"--fail-below: no class {self.class_name}: there are {', '.join(class_names)}")


def failures(
    evaluation: Evaluation, minimums: Sequence[Minimum], worst_slice: float | None, key: str | None = None
) -> tuple[str, ...]:
    """The requirements that are not met, one line each.

    An undefined metric (-1: no boxes) does not meet a requirement.

    Args:
        evaluation: of a detector.
        minimums: that it must reach.
        worst_slice: least AP50 of every slice; None: no requirement.
        key: only slices by this key; None: all.

    """
    lines = []
    for minimum in minimums:
        value = _value(evaluation, minimum)
        if value < minimum.value:
            of = f" of {minimum.class_name}" if minimum.class_name else ""
            got = "undefined: no boxes" if value < 0 else f"{value:.3f}"
            lines.append(f"{minimum.metric}{of} is {got}, at least {minimum.value:g} is required")
    if worst_slice is not None:
        for part in evaluation.parts:
            if key in (None, part.key) and part.AP50.value < worst_slice:
                lines.append(
                    f"AP50 is {part.AP50.value:.3f} where {part.key} is {part.value} ({part.images} images, "
                    f"{part.boxes} boxes), at least {worst_slice:g} is required"
                )
    return tuple(lines)


def _value(evaluation: Evaluation, minimum: Minimum) -> float:
    metrics = evaluation.metrics
    if minimum.class_name is not None:
        return float(getattr(metrics.per_class[minimum.class_name], minimum.metric))
    return metrics.AP30 if minimum.metric == "AP30" else float(metrics.coco[minimum.metric])
