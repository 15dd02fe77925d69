"""The camera's position: height, pitch, and the image's scale in the network's input."""

from __future__ import annotations

import math
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from data.augmentation.effect import Draw, Effect, EffectSettings
from data.augmentation.sample import PAD_VALUE, Sample

_VIEW_DEG = 60.0  # along the longer side: a usual lens


def _around_one(height_range: tuple[float, float]) -> tuple[float, float]:
    if not 0.25 <= height_range[0] <= 1.0 <= height_range[1] <= 4.0:
        raise ValueError("must include 1, within 0.25 to 4")
    return height_range


class HeightSettings(EffectSettings):
    """The keys of `camera_height`."""

    height_range: Annotated[tuple[float, float], AfterValidator(_around_one)] = Field(
        (0.8, 1.25), description="lowest and highest camera; 1 is the photos' own"
    )


class PitchSettings(EffectSettings):
    """The keys of `camera_pitch`."""

    pitch_deg: float = Field(8.0, ge=0, le=30, description="largest pitch either way, degrees")


class ScaleSettings(EffectSettings):
    """The keys of `multi_scale`."""

    smallest_scale: float = Field(0.5, ge=0.1, le=1, description="side of the smallest image under multi_scale")


def pose(
    image_bgr: NDArray[np.uint8], boxes_xyxy: NDArray[np.float64], *, height: float = 1.0, pitch_deg: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The same ground from another height and under another pitch, aimed at the same point.

    Exact for flat ground seen from straight above; the field of view is taken as 60 degrees along the
    longer side. The image is enlarged so far that the pitch leaves no empty corner; a higher camera
    sees ground that was not photographed, which becomes grey.

    Args:
        image_bgr: uint8 (H, W, 3).
        boxes_xyxy: float64 (N, 4), pixels.
        height: of the camera, 1 being what it was; 0.5 shows everything twice as large.
        pitch_deg: positive tilts the upper edge of the image towards the camera.

    Returns:
        The image, of the same size, and the boxes around the moved corners: float64 (N, 4), not clipped.

    """
    rows, columns = image_bgr.shape[:2]
    focal_px = max(rows, columns) / 2 / math.tan(math.radians(_VIEW_DEG / 2))
    tilt = math.radians(pitch_deg)
    # Maps a point (x, y) of the ground to a camera rotated about the point it is aimed at.
    swing = np.array([[1, 0, 0], [0, math.cos(tilt), 0], [0, math.sin(tilt) / focal_px, 1]])
    centred = np.array([[1, 0, -columns / 2], [0, 1, -rows / 2], [0, 0, 1]])
    zoom = _zoom_to_cover(swing, (rows, columns)) / height
    matrix = np.linalg.inv(centred) @ np.diag([zoom, zoom, 1]) @ swing @ centred
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts from the middle of the first pixel
    moved = cv2.warpPerspective(
        image_bgr,
        np.linalg.inv(half) @ matrix @ half,
        (columns, rows),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(PAD_VALUE,) * 3,
    )
    x1, y1, x2, y2 = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4).T
    corners = np.stack([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]).transpose(2, 0, 1)  # (N, 4, 2)
    there = np.concatenate([corners, np.ones((len(corners), 4, 1))], axis=2) @ matrix.T
    points = there[..., :2] / there[..., 2:]
    return np.asarray(moved, np.uint8), np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def smaller(
    image_bgr: NDArray[np.uint8], boxes_xyxy: NDArray[np.float64], *, scale: float, at_xy: tuple[float, float]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The whole image at `scale` (0 to 1) inside a frame of its own size, the rest grey.

    Args:
        image_bgr: uint8 (H, W, 3).
        boxes_xyxy: float64 (N, 4), pixels.
        scale: length of a side against what it was.
        at_xy: its place in the frame: 0 left or top, 1 right or bottom.

    """
    rows, columns = image_bgr.shape[:2]
    new_w, new_h = max(1, round(columns * scale)), max(1, round(rows * scale))
    left, top = round((columns - new_w) * at_xy[0]), round((rows - new_h) * at_xy[1])
    canvas = np.full_like(image_bgr, PAD_VALUE)
    canvas[top : top + new_h, left : left + new_w] = cv2.resize(
        image_bgr, (new_w, new_h), interpolation=cv2.INTER_AREA
    )
    factor = np.array([new_w / columns, new_h / rows] * 2)
    return canvas, np.asarray(boxes_xyxy, np.float64).reshape(-1, 4) * factor + (left, top, left, top)


def _zoom_to_cover(swing: NDArray[np.float64], size_hw: tuple[int, int]) -> float:
    """The least enlargement, 1 or more, under which the whole frame shows ground that was photographed."""
    half_h, half_w = size_hw[0] / 2, size_hw[1] / 2
    back = np.linalg.inv(swing)
    low, high = 1.0, 4.0
    for _ in range(30):
        zoom = (low + high) / 2
        seen = [back @ (sx * half_w / zoom, sy * half_h / zoom, 1) for sx in (-1, 1) for sy in (-1, 1)]
        inside = all(abs(p[0] / p[2]) <= half_w + 1e-6 and abs(p[1] / p[2]) <= half_h + 1e-6 for p in seen)
        low, high = (low, zoom) if inside else (zoom, high)
    return high if high > 1 + 1e-6 else 1.0


def _at_another_height(sample: Sample, draw: Draw[HeightSettings]) -> Sample:
    height = float(draw.rng.choice(draw.settings.height_range)) ** draw.amount
    return Sample(*pose(sample.image_bgr, sample.boxes_xyxy, height=height), sample.labels)


def _pitched(sample: Sample, draw: Draw[PitchSettings]) -> Sample:
    pitch_deg = draw.amount * draw.settings.pitch_deg * float(draw.rng.choice((-1, 1)))
    return Sample(*pose(sample.image_bgr, sample.boxes_xyxy, pitch_deg=pitch_deg), sample.labels)


def _smaller_in_the_input(sample: Sample, draw: Draw[ScaleSettings]) -> Sample:
    scale, (x, y) = draw.settings.smallest_scale**draw.amount, draw.rng.random(2)
    return Sample(
        *smaller(sample.image_bgr, sample.boxes_xyxy, scale=scale, at_xy=(float(x), float(y))), sample.labels
    )


CAMERA_HEIGHT = Effect(
    "camera_height",
    "geometry",
    _at_another_height,
    title="Camera height",
    caption="lower or higher than the one that took the photos",
    description="another camera height",
    settings=HeightSettings,
)
CAMERA_PITCH = Effect(
    "camera_pitch",
    "geometry",
    _pitched,
    title="Camera pitch",
    caption="tilted forwards or backwards",
    description="a pitched camera",
    settings=PitchSettings,
)
MULTI_SCALE = Effect(
    "multi_scale",
    "framing",
    _smaller_in_the_input,
    title="Multi-scale",
    caption="smaller in the network's input",
    description="the image lying smaller in the input",
    settings=ScaleSettings,
)
