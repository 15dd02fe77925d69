"""The camera itself: where it stands, how sharp it is, how it hisses, and what sticks to its glass."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from data.augmentation.effects import PAD_VALUE
from data.augmentation.effects.linear import cloud, encoded, linear, ramp

_VIEW_DEG = 60.0  # along the longer side: a usual lens
_FULL_WELL = (9000.0, 400.0)  # electrons at white, at `amount` 0 and 1: base sensitivity, and dusk


def pose(
    image_bgr: NDArray[np.uint8], boxes_xyxy: NDArray[np.float64], *, height: float = 1.0, pitch_deg: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The same ground from another height and under another pitch, aimed at the same point.

    Exact for flat ground seen from straight above; the field of view is taken as 60 degrees along the
    longer side. The image is enlarged so far that the pitch leaves no empty corner; a higher camera
    sees ground that nobody photographed, which becomes grey.

    Args:
        image_bgr: uint8 (H, W, 3).
        boxes_xyxy: float64 (N, 4), pixels.
        height: of the camera, 1 being what it was; 0.5 shows everything twice as large.
        pitch_deg: above 0 the upper edge comes nearer.

    Returns:
        The image, of the same size, and the boxes around the moved corners: float64 (N, 4), not clipped.

    """
    rows, columns = image_bgr.shape[:2]
    focal_px = max(rows, columns) / 2 / math.tan(math.radians(_VIEW_DEG / 2))
    tilt = math.radians(pitch_deg)
    # A point (x, y) of the ground, seen by a camera that has swung round the point it looks at.
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
        at_xy: where it lies: 0 left or top, 1 right or bottom.

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


def noise(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A sensor's noise: photons counted (variance grows with light) and read-out, a little smeared by demosaicing."""
    light = linear(image_bgr)
    start, end = _FULL_WELL
    full_well = start * (end / start) ** amount
    read = 3.0 / full_well * (1 + 2 * amount)
    grain = rng.standard_normal(light.shape, np.float32)
    grain = np.asarray(cv2.GaussianBlur(grain, (3, 3), 0.55), np.float32) * 1.5  # 1.5: the spread that it had
    return encoded(light + grain * np.sqrt(light / full_well + read**2, dtype=np.float32))


def lens_dust(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Dust and a splash or two of mud on the front glass: far out of focus, soft, never wholly dark.

    At least 0.3 of the scene's light comes through anywhere.
    """
    rows, columns = image_bgr.shape[:2]
    side = min(rows, columns)
    # So soft that a quarter of the size is enough.
    small_hw = (max(8, rows // 4), max(8, columns // 4))
    stuck = np.zeros(small_hw, np.float32)
    y, x = np.ogrid[0 : small_hw[0], 0 : small_hw[1]]
    for _ in range(int(rng.random() * (2 + 3 * amount))):
        centre = rng.uniform(0, 1, 2) * (small_hw[1], small_hw[0])
        radius_px = side / 4 * float(rng.uniform(0.05, 0.13))
        lumps = 0.7 * cloud(small_hw, 12, rng, octaves=2)
        far = np.hypot(x - centre[0], y - centre[1]) / radius_px
        splash = 1 - ramp(np.asarray(far + lumps, np.float32), 0.75, 1.5)
        stuck = np.maximum(stuck, float(rng.uniform(0.6, 1)) * splash)
    for _ in range(round(8 + 40 * amount)):
        layer_at = np.rint(rng.uniform(0, 1, 2) * (small_hw[1], small_hw[0])).astype(int).tolist()
        radius = max(1, round(side / 4 * float(rng.uniform(0.008, 0.03))))
        strength = float(rng.uniform(0.3, 0.8))
        disc = np.zeros(small_hw, np.float32)
        cv2.circle(disc, layer_at, radius, strength, cv2.FILLED, cv2.LINE_AA)
        stuck += np.asarray(cv2.GaussianBlur(disc, (0, 0), 0.35 * radius + 0.5), np.float32)
    film = 0.12 * cloud(small_hw, 4, rng)
    blocked = np.clip(stuck * (0.45 + 0.55 * amount) + film * amount, 0, 0.7)
    blocked = np.asarray(cv2.resize(blocked, (columns, rows), interpolation=cv2.INTER_CUBIC), np.float32)
    blocked = np.clip(blocked, 0, 0.7)[..., None]
    light = linear(image_bgr)
    # Lit from behind by the field, what sticks to the glass is brown and dim; in the sun it shines.
    glow = np.array([0.75, 0.95, 1.15], np.float32) * (0.02 + float(rng.uniform(0.4, 1.8)) * float(light.mean()))
    return encoded(light * (1 - blocked) + glow * blocked)


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
