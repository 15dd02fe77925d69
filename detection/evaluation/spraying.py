"""Field metrics: plants counted, weeds hit, crop hit, ground sprayed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from data import Dataset
from detection.evaluation.thresholds import Rate, share
from detection.runtime.detections import Detections

CURVE_SCORES = tuple(round(0.05 * k, 2) for k in range(1, 20))
"""Score thresholds of the trade-off curve."""

_MASK_PX = 480  # the longer side of the ground that is sprayed on: a box's share is right to about a hundredth


@dataclass(frozen=True)
class Counted:
    """Counting errors of one class, image by image.

    Attributes:
        images: number of images.
        truth, found: plants in all of them.
        mean_error: mean of |found - truth| in an image (MAE).
        bias: mean of found - truth.
        r2: coefficient of determination R²; None where the truth never varies.
        mean_error_per_m, bias_per_m: the same per metre driven (up the image); None: the ground sampling distance
            is not known.

    """

    images: int
    truth: int
    found: int
    mean_error: float
    bias: float
    r2: float | None
    mean_error_per_m: float | None = None
    bias_per_m: float | None = None

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Sprayer:
    """A row of nozzles across the direction of travel, switched in pulses; the machine drives up the image.

    Attributes:
        gsd_mm: ground sampling distance, the ground that one pixel covers.
        pitch_mm: distance between nozzles.
        pulse_mm: the shortest length of ground that a nozzle can spray.
        height_mm: of the nozzles above the ground.
        angle_deg: spray angle; with the height it gives the width that a nozzle wets.

    Raises:
        ValueError: a number out of its range.

    """

    gsd_mm: float
    pitch_mm: float = 100.0
    pulse_mm: float = 100.0
    height_mm: float = 100.0
    angle_deg: float = 60.0

    def __post_init__(self) -> None:
        for name in ("gsd_mm", "pitch_mm", "pulse_mm", "height_mm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 < self.angle_deg < 170:
            raise ValueError(f"angle_deg must be between 0 and 170, got {self.angle_deg}")

    @property
    def width_mm(self) -> float:
        """Width of the ground that one nozzle wets."""
        return 2 * self.height_mm * math.tan(math.radians(self.angle_deg) / 2)

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"width_mm": self.width_mm}

    @classmethod
    def parse(cls, text: str) -> Sprayer:
        """`gsd_mm=0.5,pitch_mm=50,pulse_mm=40`; `gsd_mm` must be there.

        Raises:
            ValueError: anything else.

        """
        known = [field.name for field in fields(cls)]
        values: dict[str, float] = {}
        for part in text.split(","):
            name, _, number = part.strip().partition("=")
            try:
                values[name] = float(number)
            except ValueError:
                name = ""
            if name not in known:
                raise ValueError(
                    f"{part.strip()!r} is none of {', '.join(f'{k}=MM' for k in known[:-1])}, angle_deg=DEG"
                )
        if "gsd_mm" not in values:
            raise ValueError("gsd_mm is missing: how many millimetres of ground one pixel covers")
        return cls(**values)


@dataclass(frozen=True)
class Sprayed:
    """Result of simulated spraying.

    Attributes:
        weeds_hit: weeds whose center is wetted.
        crop_hit: crop plants whose center is wetted.
        weed_coverage: share of the area of all weeds' boxes that is wetted.
        area: share of the ground that is wetted; the herbicide saved against broadcast spraying is 1 - area.

    """

    weeds_hit: Rate
    crop_hit: Rate
    weed_coverage: float
    area: float

    @property
    def saved(self) -> float:
        """Herbicide saved against broadcast spraying, a fraction."""
        return 1 - self.area

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        rates = {"weeds_hit": self.weeds_hit.to_dict(), "crop_hit": self.crop_hit.to_dict()}
        return rates | {"weed_coverage": self.weed_coverage, "area_sprayed": self.area, "herbicide_saved": self.saved}


def counted(
    dataset: Dataset, found: Sequence[Detections], thresholds: NDArray[np.floating], gsd_mm: float | None = None
) -> dict[str, Counted]:
    """Count every class, by name; for a class, images with a crowd region of it are left out.

    Args:
        dataset: the ground truth.
        found: detections, one for each image in its order, labelled as the dataset.
        thresholds: score thresholds per class.
        gsd_mm: ground sampling distance; None: not known.

    """
    results = {}
    for label, name in enumerate(dataset.class_names):
        rows = [
            (
                int((p.labels == label).sum()),
                int(((f.labels == label) & (f.scores >= thresholds[label])).sum()),
                p.size_hw[0],
            )
            for p, f in zip(dataset.images, found, strict=True)
            if not (p.iscrowd & (p.labels == label)).any()
        ]
        if not rows:
            continue
        truth, seen, height_px = np.array(rows, np.float64).T
        off = seen - truth
        off_per_m = off / (height_px * gsd_mm / 1000) if gsd_mm else None
        varies = float(((truth - truth.mean()) ** 2).sum())
        results[name] = Counted(
            len(rows),
            int(truth.sum()),
            int(seen.sum()),
            float(np.abs(off).mean()),
            float(off.mean()),
            1 - float((off**2).sum()) / varies if varies else None,
            float(np.abs(off_per_m).mean()) if off_per_m is not None else None,
            float(off_per_m.mean()) if off_per_m is not None else None,
        )
    return results


def sprayed(
    dataset: Dataset,
    found: Sequence[Detections],
    thresholds: NDArray[np.floating],
    sprayer: Sprayer,
    crops: Sequence[int],
    resamples: NDArray[np.float64],
) -> Sprayed:
    """Simulate spraying of every image: a nozzle is on wherever its ground meets a detection of no crop.

    Args:
        dataset: the ground truth.
        found: detections, one for each image in its order, labelled as the dataset.
        thresholds: score thresholds per class.
        sprayer: its first nozzle's ground begins at the image's left edge.
        crops: labels of the classes that must not be hit; all others are weeds.
        resamples: (B, P), for the intervals.

    """
    weeds, crop = _Plants(), _Plants()
    wet_px = ground_px = weed_px = wet_weed_px = 0.0
    for index, (truth, seen) in enumerate(zip(dataset.images, found, strict=True)):
        height, width = truth.size_hw
        scale = min(1.0, _MASK_PX / max(height, width))
        kept = seen[(seen.scores >= thresholds[seen.labels]) & ~np.isin(seen.labels, crops)]
        mask = wetted(kept.boxes_xyxy, truth.size_hw, sprayer, scale)
        wet_px += float(mask.mean()) * height * width
        ground_px += height * width
        sums = cv2.integral(mask).astype(np.float64) / scale**2
        is_crop = np.isin(truth.labels, crops)
        for boxes, plants in ((truth.boxes_xyxy[~truth.iscrowd & ~is_crop], weeds),
                              (truth.boxes_xyxy[~truth.iscrowd & is_crop], crop)):  # fmt: skip
            middle = np.floor((boxes[:, :2] + boxes[:, 2:]) / 2 * scale).astype(int)
            x, y = (np.minimum(middle[:, k], mask.shape[1 - k] - 1) for k in (0, 1))
            plants.add(index, mask[y, x] > 0)
            if plants is weeds and len(boxes):
                corners = np.rint(boxes * scale).astype(int)
                x1, y1, x2, y2 = (np.clip(corners[:, k], 0, mask.shape[1 - k % 2]) for k in range(4))
                wet_weed_px += float((sums[y2, x2] - sums[y1, x2] - sums[y2, x1] + sums[y1, x1]).sum())
                weed_px += float(((x2 - x1) * (y2 - y1)).sum()) / scale**2
    return Sprayed(
        weeds.rate(resamples),
        crop.rate(resamples),
        wet_weed_px / weed_px if weed_px else 0.0,
        wet_px / ground_px if ground_px else 0.0,
    )


def perfect(dataset: Dataset) -> list[Detections]:
    """The detections of a perfect detector: the upper bound for a sprayer."""
    real = [~image.iscrowd for image in dataset.images]
    return [
        Detections(p.boxes_xyxy[own], np.ones(int(own.sum()), np.float32), p.labels[own])
        for p, own in zip(dataset.images, real, strict=True)
    ]


def trade_off(
    dataset: Dataset,
    found: Sequence[Detections],
    sprayer: Sprayer,
    crops: Sequence[int],
    resamples: NDArray[np.float64],
) -> list[tuple[float, Sprayed]]:
    """Weeds hit against ground sprayed, for each threshold of `CURVE_SCORES` common to all classes."""
    classes = len(dataset.class_names)
    return [(s, sprayed(dataset, found, np.full(classes, s), sprayer, crops, resamples)) for s in CURVE_SCORES]


def wetted(
    boxes_xyxy: NDArray[np.float32], size_hw: tuple[int, int], sprayer: Sprayer, scale: float = 1.0
) -> NDArray[np.uint8]:
    """Mask of the wetted ground.

    Args:
        boxes_xyxy: float32 (N, 4), the boxes to spray, in pixels of the image.
        size_hw: height and width of the image in pixels.
        sprayer: the nozzles.
        scale: of the mask relative to the image.

    Returns:
        uint8 (h, w), 1 where it is wet.

    """
    height, width = size_hw
    mask = np.zeros((max(1, round(height * scale)), max(1, round(width * scale))), np.uint8)
    pitch, pulse, wide = (mm / sprayer.gsd_mm for mm in (sprayer.pitch_mm, sprayer.pulse_mm, sprayer.width_mm))
    on: set[tuple[int, int]] = set()
    for x1, y1, x2, y2 in boxes_xyxy.tolist():
        columns = range(int(x1 // pitch), math.ceil(x2 / pitch))
        rows = range(int(y1 // pulse), math.ceil(y2 / pulse))
        on.update((row, column) for row in rows for column in columns)
    for row, column in on:
        middle = (column + 0.5) * pitch
        left, right = (round(max(0.0, v) * scale) for v in (middle - wide / 2, middle + wide / 2))
        top, bottom = round(row * pulse * scale), round((row + 1) * pulse * scale)
        mask[top:bottom, left:right] = 1
    return mask


class _Plants:
    """Plants by image, and whether each is wetted."""

    def __init__(self) -> None:
        self.wet: list[NDArray[np.bool_]] = [np.zeros(0, bool)]
        self.image: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]

    def add(self, image: int, wet: NDArray[np.bool_]) -> None:
        self.wet.append(wet)
        self.image.append(np.full(len(wet), image))

    def rate(self, resamples: NDArray[np.float64]) -> Rate:
        return share(np.concatenate(self.wet), np.concatenate(self.image), resamples)
