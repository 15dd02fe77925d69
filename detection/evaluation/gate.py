"""Figures that must be reached, so that a script can stop where they are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detection.evaluation.coco_metrics import NAMES
from detection.evaluation.evaluate import Evaluation
from detection.runtime.errors import SwathError

FIGURES = (*NAMES, "AP30")
"""What a floor can be set for."""

OF_A_CLASS = ("AP", "AP50", "AP75", "AP30", "AR100")
"""Those of them that each class has."""


@dataclass(frozen=True)
class Floor:
    """A figure, of one class where one is named, and the least that it may be."""

    figure: str
    least: float
    class_name: str | None = None

    @classmethod
    def parse(cls, text: str) -> Floor:
        """`AP50=0.6`, or `weed:AP50=0.5` for one class.

        Raises:
            ValueError: anything else.

        """
        left, _, number = text.partition("=")
        class_name, colon, figure = left.rpartition(":")
        try:
            least = float(number)
        except ValueError:
            least = -1.0
        known = OF_A_CLASS if class_name else FIGURES
        if figure not in known or not 0 <= least <= 1 or (colon and not class_name):
            raise ValueError(f"{text!r} is not like AP50=0.6 or weed:AP50=0.5; figures: {', '.join(known)}")
        return cls(figure, least, class_name or None)

    def check(self, class_names: Sequence[str]) -> None:
        """Before a detector runs for minutes.

        Raises:
            SwathError: there is no such class.

        """
        if self.class_name is not None and self.class_name not in class_names:
            raise SwathError(f"--fail-below: no class {self.class_name}: there are {', '.join(class_names)}")


def failures(
    evaluation: Evaluation, floors: Sequence[Floor], worst_slice: float | None, key: str | None = None
) -> tuple[str, ...]:
    """What is not reached, a line each.

    An undefined figure (-1: nothing to find) has not been reached.

    Args:
        evaluation: of a detector.
        floors: that it must reach.
        worst_slice: the least AP50 of every slice; None: slices may be as they are.
        key: only slices by this key; None: all.

    """
    lines = []
    for floor in floors:
        value = _figure(evaluation, floor)
        if value < floor.least:
            of = f" of {floor.class_name}" if floor.class_name else ""
            got = "undefined: nothing to find" if value < 0 else f"{value:.3f}"
            lines.append(f"{floor.figure}{of} is {got}, at least {floor.least:g} is wanted")
    if worst_slice is not None:
        for part in evaluation.parts:
            if key in (None, part.key) and part.AP50.value < worst_slice:
                lines.append(
                    f"AP50 is {part.AP50.value:.3f} where {part.key} is {part.value} ({part.images} images, "
                    f"{part.boxes} boxes), at least {worst_slice:g} is wanted"
                )
    return tuple(lines)


def _figure(evaluation: Evaluation, floor: Floor) -> float:
    metrics = evaluation.metrics
    if floor.class_name is not None:
        return float(getattr(metrics.per_class[floor.class_name], floor.figure))
    return metrics.AP30 if floor.figure == "AP30" else float(metrics.coco[floor.figure])
