"""How far the average precision of an exported file may be from PyTorch's, by precision."""

from __future__ import annotations

DELTA_AP_POINTS = {"fp32": 0.1, "fp16": 0.2, "int8": 0.5}
"""By how many points (hundredths of AP) a file may differ from PyTorch, beyond what sampling error explains."""

CHANCE_IN_BUDGETS = 2.0
"""Sampling error is allowed for up to this multiple of the budget, however few the images were."""

SMALL_AP_FALL_POINTS = {"int8": 1.0}
"""By how many points the AP of small objects may fall, for the precisions where that is checked."""


LEARNED = 0.01
"""AP in PyTorch below which a detector has learned next to nothing: all its boxes have nearly the same score, and the
last bits decide between them. That is said, and not held against its file."""


def has_learned(ap_pytorch: float) -> bool:
    """Whether a detector has learned something, by its AP in PyTorch: a fraction, -1 where undefined."""
    return ap_pytorch >= LEARNED


def ap_faults(
    precision: str, delta_points: float | None, small_fall_points: float | None, chance_points: float | None = 0.0
) -> list[str]:
    """What is wrong with a file's AP, one clause each; empty where it is within its budget.

    Args:
        precision: of the file: fp32, fp16 or int8.
        delta_points: absolute difference of its AP from PyTorch's, in hundredths; None: not known, undefined.
        small_fall_points: by how much the AP of small objects is lower; None: not known, or there are none.
        chance_points: how much of `delta_points` may be sampling error: other images of the same kind could have
            shown that much less; None: not known.

    """
    faults = []
    budget, chance_points = DELTA_AP_POINTS[precision], chance_points or 0.0
    if delta_points is not None and delta_points - min(chance_points, CHANCE_IN_BUDGETS * budget) > budget:
        by_chance = f", of which {chance_points:.2f} may be chance" if chance_points else ""
        faults.append(f"AP is off by {delta_points:.2f} points{by_chance}")
    most = SMALL_AP_FALL_POINTS.get(precision)
    if most is not None and small_fall_points is not None and small_fall_points > most:
        faults.append(f"AP of small objects is {small_fall_points:.2f} points lower")
    return faults
