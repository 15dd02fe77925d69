"""Are boxes in the unit and order that their format has? A repair that hits nearly all of them says no.

A slip of the hand clips a box or leaves it thin, here and there. Where most boxes of a dataset are so, they are
fractions where pixels are wanted, corners where sizes are, or labels of another image: repairing them would
leave a dataset of background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_FEWEST = 4  # boxes from which on a share of them says something
_MOST = 0.5  # from this share on they are not slips
_LOST = 0.25  # a slip cuts less of a box's area off
_THIN_PX = 0.999
_SPREAD = 10  # boxes that cover what there is of the unit


@dataclass
class Units:
    """Counts over all boxes of a dataset.

    Attributes:
        boxes: all.
        fractions: those within 0 to 1 that cannot be pixels.
        thin: those without a whole pixel inside their image.
        cut: those that lose a quarter of their area by clipping.
        swapped: those whose second corner lies before the first.
        sized: those wider than their distance from the left and higher than that from the top.
        whole: images of at least two boxes that are all fractions.
        images: images with boxes.
        far: the largest x and the largest y of any box.
        smallest: the smallest side of any image with boxes.
        first: kind -> the first image with one.

    """

    boxes: int = 0
    fractions: int = 0
    thin: int = 0
    cut: int = 0
    swapped: int = 0
    sized: int = 0
    whole: int = 0
    images: int = 0
    far: tuple[float, float] = (0.0, 0.0)
    smallest: float = math.inf
    first: dict[str, str] = field(default_factory=dict)

    def saw(
        self, boxes_xyxy: NDArray[np.float64], swapped: NDArray[np.bool_], size_hw: tuple[int, int], image: str
    ) -> None:
        """Count the boxes (N, 4) of an image, in absolute pixels as given; those `swapped` are zeros."""
        if not len(boxes_xyxy):
            return
        with np.errstate(over="ignore", invalid="ignore"):
            self._count(boxes_xyxy, swapped, size_hw, image)

    def _count(
        self, boxes_xyxy: NDArray[np.float64], swapped: NDArray[np.bool_], size_hw: tuple[int, int], image: str
    ) -> None:
        height, width = size_hw
        span = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
        inside = np.clip(boxes_xyxy, 0.0, np.array([width, height, width, height], np.float64))
        left = inside[:, 2:] - inside[:, :2]
        within = (boxes_xyxy >= 0).all(axis=1) & (boxes_xyxy <= 1.0).all(axis=1) & (span > 0).all(axis=1)
        fractions = within & (boxes_xyxy != np.rint(boxes_xyxy)).any(axis=1) & ~swapped
        thin = (left < _THIN_PX).any(axis=1) & ~swapped
        cut = ~thin & ~swapped & (left.prod(axis=1) < (1 - _LOST) * span.prod(axis=1))
        sized = (span >= boxes_xyxy[:, :2]).all(axis=1)
        self.images += 1
        self.far = max(self.far[0], float(boxes_xyxy[:, 2].max())), max(self.far[1], float(boxes_xyxy[:, 3].max()))
        self.smallest = min(self.smallest, height, width)
        self.boxes += len(boxes_xyxy)
        self.whole += len(boxes_xyxy) > 1 and bool(fractions.all())
        self.first.setdefault("any", image)
        for kind, hit in (("fractions", fractions), ("thin", thin), ("cut", cut), ("swapped", swapped)):
            if hit.any():
                self.first.setdefault(kind, image)
                setattr(self, kind, getattr(self, kind) + int(hit.sum()))
        self.sized += int(sized.sum())

    def faults(self) -> list[tuple[str, str]]:
        """What is wrong with the dataset's boxes as a whole, with its likely cause and the first image."""
        many = self.boxes >= _FEWEST
        for limit, unit in ((100.0, "percent"), (1000.0, "thousandths")):
            # Boxes of large images that all lie in the upper left corner, and fill it up to this number.
            full = 0.8 * limit <= min(self.far) and max(self.far) <= limit and self.smallest >= 3 * limit
            if full and self.boxes >= _SPREAD and self.images > 2:
                line = (
                    f"{self._of(self.boxes)} lie within 0 to {limit:g} px, and all images have {self.smallest:g} px "
                    f"and more: {unit} where pixels are wanted: convert them"
                )
                return [(line, self.first["any"])]
        found = []
        if self.fractions and (self.whole or self.fractions >= _MOST * self.boxes):
            line = (
                f"{self._of(self.fractions)} lie within 0 to 1: they are fractions of the image, and this format has "
                "pixels: multiply x by the image's width and y by its height"
            )
            found.append((line, "fractions"))
        elif self.thin == self.boxes > 0 or (many and self.thin >= 0.9 * self.boxes):
            line = (
                f"{self._of(self.thin)} are thinner than a pixel: points, or in another unit: export boxes in pixels"
            )
            found.append((line, "thin"))
        if many and self.swapped >= _MOST * self.boxes:
            line = (
                f"{self._of(self.swapped)} end before they begin: x, y, width, height where corners x1, y1, x2, y2 "
                "are wanted, or x and y in another order: rename or reorder them"
            )
            found.append((line, "swapped"))
        if (
            many
            and self.cut >= _MOST * self.boxes
            or (many and self.sized == self.boxes and self.cut >= 0.25 * self.boxes)
        ):
            cause = (
                "corners x1, y1, x2, y2 where x, y, width, height are wanted"
                if self.sized == self.boxes
                else "of another image size, or x and y in another order"
            )
            line = f"{self._of(self.cut)} reach far outside their image: {cause}: convert them"
            found.append((line, "cut"))
        return [(line, self.first.get(kind, self.first["any"])) for line, kind in found]

    def _of(self, n: int) -> str:
        return f"{n} of {self.boxes} boxes" if n < self.boxes else f"all {n} boxes"
