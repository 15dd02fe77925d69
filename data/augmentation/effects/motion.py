"""What driving does to an image: blur while the shutter is open, and shear while the rows are read out."""

from __future__ import annotations

import math
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from data.augmentation.effect import Draw, Effect, EffectSettings
from data.augmentation.sample import PAD_VALUE, Sample

_MM_PER_MS_AT_KMH = 1 / 3.6
_MOST_BLUR = 0.08  # of the shorter side: beyond that, small plants are gone
_MOST_SHIFT = 0.2  # of the height, between the first and the last row
_FINEST = 8  # samples of the blur's path per pixel
_LARGEST_WOBBLE_PX, _WOBBLE_CYCLES = 2.5, (1.5, 5.0)


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if not 0.0 <= ends[0] <= ends[1] < math.inf:
        raise ValueError("must be 0 <= lowest <= highest")
    return ends


_Range = Annotated[tuple[float, float], AfterValidator(_rising)]


class _Driving(EffectSettings):
    """What blur and rolling shutter both need to know of the machine."""

    speed_kmh: _Range = Field((3.0, 15.0), description="lowest and highest driving speed")
    gsd_mm: float = Field(1.0, gt=0, description="ground that one pixel of the photo covers, millimetres")
    heading_deg: float = Field(0.0, description="where the machine drives in the photo: 0 up, 90 right")


class RollingShutterSettings(_Driving):
    """The keys of `rolling_shutter`."""

    readout_ms: float = Field(15.0, ge=0, description="time in which a rolling shutter reads all rows")


class MotionBlurSettings(_Driving):
    """The keys of `motion_blur`."""

    exposure_ms: _Range = Field((0.5, 4.0), description="shortest and longest exposure")


def travel_px(speed_kmh: float, time_ms: float, gsd_mm: float) -> float:
    """How far the ground moves through the image, in pixels: speed x time / ground sampling distance.

    Args:
        speed_kmh: of the machine.
        time_ms: exposure (for blur) or read-out of all rows (for a rolling shutter).
        gsd_mm: ground that one pixel covers, in millimetres.

    """
    return speed_kmh * _MM_PER_MS_AT_KMH * time_ms / gsd_mm


def ground_moves_xy(heading_deg: float) -> tuple[float, float]:
    """Unit vector in which the ground moves through an image: against the heading (0 up, 90 right)."""
    heading = math.radians(heading_deg)
    return -math.sin(heading), math.cos(heading)


def motion_blur(image_bgr: NDArray[np.uint8], shift_xy: tuple[float, float]) -> NDArray[np.uint8]:
    """Even blur along a straight path, centred on each object: boxes stay.

    Args:
        image_bgr: uint8 (H, W, 3).
        shift_xy: the path in pixels; its length is limited to 8 % of the shorter side.

    """
    length = math.hypot(*shift_xy)
    if length < 0.5:
        return image_bgr.copy()
    factor = min(1.0, _MOST_BLUR * min(image_bgr.shape[:2]) / length)
    dx, dy = shift_xy[0] * factor, shift_xy[1] * factor
    half = math.ceil(max(abs(dx), abs(dy)) / 2) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float64)
    for t in np.linspace(-0.5, 0.5, _FINEST * math.ceil(length) + 1):
        x, y = half + t * dx, half + t * dy
        left, top = math.floor(x), math.floor(y)
        u, v = x - left, y - top
        kernel[top : top + 2, left : left + 2] += np.outer((1 - v, v), (1 - u, u))
    kernel /= kernel.sum()
    blurred = cv2.filter2D(image_bgr, -1, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, np.uint8)


def rolling_shutter(
    image_bgr: NDArray[np.uint8],
    boxes_xyxy: NDArray[np.float64],
    *,
    shift_xy: tuple[float, float],
    wobble_px: float = 0.0,
    cycles: float = 3.0,
    phase: float = 0.0,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Rows read one after another while the ground moves: sideways motion leans, motion along stretches.

    The middle row stays where it is. The first row of the result is the oldest.

    Args:
        image_bgr: uint8 (H, W, 3).
        boxes_xyxy: float64 (N, 4), pixels.
        shift_xy: how far the ground moves in the image from the first row to the last, in pixels; each
            is limited to a fifth of the height.
        wobble_px: amplitude of the machine's shaking, sideways.
        cycles: of that shaking, while the image is read.
        phase: where the shaking starts, radians.

    Returns:
        The image, grey where nothing was photographed, and the boxes around the same objects: float64
        (N, 4), not clipped.

    """
    height, width = image_bgr.shape[:2]
    most = _MOST_SHIFT * height
    shift_x, shift_y = (min(max(s, -most), most) for s in shift_xy)

    def sideways(y: NDArray[Any]) -> NDArray[np.float64]:
        time = y / height - 0.5
        return np.asarray(shift_x * time + wobble_px * np.sin(2 * math.pi * cycles * time + phase), np.float64)

    rows = np.arange(height) + 0.5
    from_x = (np.arange(width)[None] - sideways(rows)[:, None]).astype(np.float32)
    from_y = np.repeat((rows - 0.5 - shift_y * (rows / height - 0.5))[:, None], width, axis=1).astype(np.float32)
    # Grey rather than mirrored: mirrored plants would have no box.
    grey = (PAD_VALUE,) * 3
    moved = cv2.remap(image_bgr, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=grey)
    boxes = np.array(boxes_xyxy, np.float64).reshape(-1, 4)
    # An object at row Y is read when y = Y + shift_y (y / H - 1/2).
    boxes[:, [1, 3]] = (boxes[:, [1, 3]] - shift_y / 2) / (1 - shift_y / height)
    for box in boxes:
        lean = sideways(np.asarray(np.linspace(box[1], box[3], 33), np.float64))
        box[[0, 2]] += lean.min(), lean.max()
    return np.asarray(moved, np.uint8), boxes


def _shift_xy(draw: Draw[Any], time_ms: float) -> tuple[float, float]:
    """How far the ground moves through the image in `time_ms`; one speed for blur and shutter."""
    settings: _Driving = draw.settings
    speed_kmh = _between(settings.speed_kmh, draw.shared_amount("driving speed"))
    length = travel_px(speed_kmh, time_ms, settings.gsd_mm * draw.photo_px)
    x, y = ground_moves_xy(settings.heading_deg)
    return length * x, length * y


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


def _blurred(sample: Sample, draw: Draw[MotionBlurSettings]) -> Sample:
    exposure_ms = _between(draw.settings.exposure_ms, draw.amount)
    return sample._replace(image_bgr=motion_blur(sample.image_bgr, _shift_xy(draw, exposure_ms)))


def _read_by_rows(sample: Sample, draw: Draw[RollingShutterSettings]) -> Sample:
    rng = draw.rng
    image, boxes = rolling_shutter(
        sample.image_bgr,
        sample.boxes_xyxy,
        shift_xy=_shift_xy(draw, draw.settings.readout_ms),
        wobble_px=draw.amount * _LARGEST_WOBBLE_PX * float(rng.random()),
        cycles=float(rng.uniform(*_WOBBLE_CYCLES)),
        phase=float(rng.uniform(0, 2 * math.pi)),
    )
    return Sample(image, boxes, sample.labels)


ROLLING_SHUTTER = Effect(
    "rolling_shutter",
    "geometry",
    _read_by_rows,
    title="Rolling shutter",
    caption="rows read one after another while driving",
    description="rows read one after another while driving",
    settings=RollingShutterSettings,
)
MOTION_BLUR = Effect(
    "motion_blur",
    "photometric",
    _blurred,
    title="Motion blur",
    caption="speed x exposure / gsd, along the heading",
    description="blur along the driving direction",
    settings=MotionBlurSettings,
)
