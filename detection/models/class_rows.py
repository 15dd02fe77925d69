"""Which rows of a class head stand for which class, so that they can move from one detector to another by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

BACKGROUND = "__background__"
"""The row of a detector that has one for "nothing here", by the name that torchvision's COCO weights give it."""

# A score per anchor and class, the classes innermost: FCOS, RetinaNet, SSDLite; Faster R-CNN has one anchor.
_SCORES = re.compile(r"(?:cls_logits|cls_score|classification_head\.module_list\.\d+\.1)\.(?:weight|bias)$")
# Four sides per class, the sides innermost: Faster R-CNN.
_BOXES = re.compile(r"box_predictor\.bbox_pred\.(?:weight|bias)$")


@dataclass(frozen=True)
class Mapped:
    """A tensor of a class head with the rows that could be kept.

    Attributes:
        tensor: shaped as the new detector's.
        kept: classes, without the background, whose rows come from the old one; none: the tensor is all new.
        whole: whether no row is new.

    """

    tensor: Tensor
    kept: tuple[str, ...]
    whole: bool


def rows_by_name(
    name: str, fresh: Tensor, fresh_rows: Sequence[str], old: Tensor, old_rows: Sequence[str]
) -> Mapped | None:
    """Put the old detector's rows where the new one has the same class.

    Args:
        name: of the tensor.
        fresh: of the new detector, (rows x anchors, ...) or (rows x 4, ...).
        fresh_rows: what its rows stand for.
        old: of the old detector, the same but for its rows.
        old_rows: what they stand for.

    Returns:
        None where the tensor is no class head, or its shape says that it has not these rows.

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
