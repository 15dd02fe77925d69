"""Rows of a class head by class name, so that they can be copied from one detector to another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

BACKGROUND = "__background__"
"""Name of the background's row, as torchvision's COCO weights call it."""

# A score per anchor and class, the classes innermost: FCOS, RetinaNet, SSDLite; Faster R-CNN has one anchor.
_SCORES = re.compile(r"(?:cls_logits|cls_score|classification_head\.module_list\.\d+\.1)\.(?:weight|bias)$")
# Four sides per class, the sides innermost: Faster R-CNN.
_BOXES = re.compile(r"box_predictor\.bbox_pred\.(?:weight|bias)$")


@dataclass(frozen=True)
class Mapped:
    """A tensor of a class head into which the rows of known classes were copied.

    Attributes:
        tensor: shaped as the new detector's.
        kept: classes, without the background, whose rows come from the old detector; none: all rows are new.
        whole: whether no row is new.

    """

    tensor: Tensor
    kept: tuple[str, ...]
    whole: bool


def rows_by_name(
    name: str, fresh: Tensor, fresh_rows: Sequence[str], old: Tensor, old_rows: Sequence[str]
) -> Mapped | None:
    """Copy the old detector's rows to where the new one has the same class.

    Args:
        name: of the tensor.
        fresh: of the new detector, float (rows x anchors, ...) or (rows x 4, ...).
        fresh_rows: class names of its rows.
        old: of the old detector, the same shape but for the number of rows.
        old_rows: class names of its rows.

    Returns:
        None where the tensor is not a class head, or its shape does not match the number of rows.

    """
    boxes = _BOXES.search(name)
    if not boxes and not _SCORES.search(name):
        return None
    new_count, old_count = len(fresh_rows), len(old_rows)
    per_row = fresh.shape[0] // new_count
    if (fresh.shape[0], old.shape[0]) != (per_row * new_count, per_row * old_count) or fresh.shape[1:] != old.shape[
        1:
    ]:
        return None
    kept = tuple(row for row in fresh_rows if row in old_rows and row != BACKGROUND)
    if not kept:  # the background alone would be a learned row among new ones
        return Mapped(fresh, (), False)
    into = fresh.clone().unflatten(0, (new_count, per_row) if boxes else (per_row, new_count))
    source = old.unflatten(0, (old_count, per_row) if boxes else (per_row, old_count))
    axis = 0 if boxes else 1
    for index, row in enumerate(fresh_rows):
        if row in old_rows:
            into.select(axis, index).copy_(source.select(axis, list(old_rows).index(row)))
    return Mapped(into.flatten(0, 1), kept, all(row in old_rows for row in fresh_rows))
