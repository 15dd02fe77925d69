"""The camera on the implement: geometry of a slightly shaking pinhole camera, exposure, blur and sensor noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

FOOTPRINT_M = 0.48
"""Ground that the width of an image covers when the camera is level at its usual height, metres."""

_HEIGHT_M = 0.75
_FULL_WELL = 1.6


@dataclass(frozen=True)
class Pose:
    """Where the camera is: the point of the ground below it in metres, height as a factor, angles in radians."""

    x_m: float
    y_m: float
    height: float = 1.0
    pitch: float = 0.0
    roll: float = 0.0
    yaw: float = 0.0


@dataclass(frozen=True)
class Sensor:
    """How an image is taken.

    Attributes:
        exposure: gain on the light.
        white: gains (B, G, R).
        vignette: share of light lost in the corners.
        noise: spread of the sensor noise.
        blur_px: motion blur along the driving axis.
        softness_px: sigma of the lens blur.

    """

    exposure: float = 1.0
    white: tuple[float, float, float] = (1.0, 1.0, 1.0)
    vignette: float = 0.0
    noise: float = 0.008
    blur_px: float = 0.0
    softness_px: float = 0.28


def px_per_m(size_hw: tuple[int, int]) -> float:
    """Scale of a level image of `size_hw` at the usual height, image pixels per metre of ground."""
    return size_hw[1] / FOOTPRINT_M


def ground_to_image(pose: Pose, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """The homography from metres on the ground (x along, y across) to continuous image pixels: (3, 3).

    The machine drives towards the top of the image, so plants enter there and move down.
    """
    height_px, width_px = size_hw
    distance = _HEIGHT_M * pose.height
    focal = px_per_m(size_hw) * _HEIGHT_M
    # Camera axes for a level camera: right, down in the image, and the view axis to the ground.
    level = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    cp, sp, cr, sr = math.cos(pose.pitch), math.sin(pose.pitch), math.cos(pose.roll), math.sin(pose.roll)
    cy, sy = math.cos(pose.yaw), math.sin(pose.yaw)
    pitch = np.array([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
    roll = np.array([[cr, 0.0, sr], [0.0, 1.0, 0.0], [-sr, 0.0, cr]])
    yaw = np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
    rotation = pitch @ roll @ yaw @ level
    offset = -rotation @ np.array([pose.x_m, pose.y_m, distance])
    inner = np.array([[focal, 0.0, 0.5 * width_px], [0.0, focal, 0.5 * height_px], [0.0, 0.0, 1.0]])
    return np.asarray(inner @ np.column_stack([rotation[:, 0], rotation[:, 1], offset]), np.float64)


def _centres(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same homography for OpenCV, whose whole numbers are pixel centres."""
    half = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    return np.asarray(np.linalg.inv(half) @ matrix @ half, np.float64)


def photograph(
    ortho: NDArray[np.uint8],
    ids: NDArray[np.int32],
    ortho_to_image: NDArray[np.float64],
    size_hw: tuple[int, int],
    sensor: Sensor,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Take one image of a piece of orthophoto.

    Args:
        ortho: (h, w, 3) uint8 B, G, R as `encode` writes it.
        ids: (h, w) int32, plant id of each pixel, 0 where none.
        ortho_to_image: (3, 3) between continuous pixel coordinates.
        size_hw: of the image.
        sensor: how it is taken.
        rng: for the noise.

    Returns:
        The image (H, W, 3) uint8 BGR, and the plant id of each of its pixels (H, W) int32.

    """
    height, width = size_hw
    scale = math.sqrt(abs(np.linalg.det(ortho_to_image[:2, :2])))
    finer = max(1, int(1.0 / max(scale / ortho_to_image[2, 2], 1e-6) / 1.1))
    blow = np.diag([float(finer), float(finer), 1.0])
    size = (width * finer, height * finer)
    matrix = _centres(blow @ ortho_to_image)
    mirror = cv2.BORDER_REFLECT_101
    warped = cv2.warpPerspective(ortho, matrix, size, flags=cv2.INTER_LINEAR, borderMode=mirror)
    linear = decode(np.asarray(warped, np.uint8))
    if finer > 1:
        linear = np.asarray(cv2.resize(linear, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    matrix = _centres(ortho_to_image)
    plants = cv2.warpPerspective(ids, matrix, (width, height), flags=cv2.INTER_NEAREST)
    return _develop(linear, sensor, rng), np.asarray(plants, np.int32)


def encode(linear: FloatArray) -> NDArray[np.uint8]:
    """Linear light as uint8, through a square root, which keeps more steps in the shadows."""
    coded = np.clip(linear * np.float32(255.0**2 / _FULL_WELL), 0.0, 255.0**2)
    np.sqrt(coded, out=coded)
    coded += np.float32(0.5)
    return np.asarray(coded, np.float32).astype(np.uint8)


_DECODED = (_FULL_WELL * (np.arange(256) / 255.0) ** 2).astype(np.float32)


def decode(coded: NDArray[np.uint8]) -> FloatArray:
    """The inverse of `encode`: float32 linear light."""
    return _DECODED[coded]


def _smear(linear: FloatArray, length_px: float) -> FloatArray:
    """Average over `length_px` along the image's vertical axis, centred, with fractional weights at the ends."""
    reach = int(math.ceil(0.5 * (length_px - 1.0)))
    if reach < 1:
        return linear
    kernel = np.ones(2 * reach + 1, np.float32)
    kernel[[0, -1]] = 0.5 * (length_px - (2 * reach - 1))
    kernel /= kernel.sum()
    still = np.ones(1, np.float32)
    return np.asarray(cv2.sepFilter2D(linear, -1, still, kernel, borderType=cv2.BORDER_REPLICATE), np.float32)


def _develop(linear: FloatArray, sensor: Sensor, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Blur, exposure, vignette, noise and tone curve: linear light to uint8 BGR."""
    height, width = linear.shape[:2]
    linear = _smear(linear, sensor.blur_px)
    if sensor.softness_px > 0.0:
        linear = np.asarray(cv2.GaussianBlur(linear, (0, 0), sensor.softness_px), np.float32)
    gain = sensor.exposure * np.array(sensor.white, np.float32)
    linear = linear * gain
    if sensor.vignette > 0.0:
        y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
        x = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
        linear *= (1.0 - sensor.vignette * 0.5 * (x * x + y * y))[..., None]
    # Shot noise grows with the square root of the light; read-out noise is added.
    spread = sensor.noise * np.sqrt(np.maximum(linear, 0.0) * 0.35 + 0.004)
    linear += spread * rng.standard_normal(linear.shape, dtype=np.float32)
    np.maximum(linear, 0.0, out=linear)
    # A film-like shoulder keeps highlights from clipping, a slight toe keeps blacks dark.
    toned = linear * (1.0 + linear / 2.4) / (1.0 + linear)
    np.clip(toned * 1.28, 0.0, 1.0, out=toned)
    return np.asarray(np.power(toned, 1.0 / 2.2) * 255.0 + 0.5, np.float32).astype(np.uint8)
