"""What a lossy file format does to an image: JPEG, and the key frames of a video codec."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.augmentation.effect import photometric


def jpeg(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """JPEG of quality 75 (`amount` 0) to 12 (1)."""
    from albumentations.augmentations.pixel.functional import image_compression

    return np.asarray(image_compression(image_bgr, round(75 - 63 * amount), ".jpg"), np.uint8)


def video(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A video codec at a low bit rate: VP8's key frames (as WebP stores them), closely related to H.264's.

    Both predict blocks from their neighbours, quantise and smooth the seams; against JPEG, texture is smeared and
    blocks run into each other.
    """
    from albumentations.augmentations.pixel.functional import image_compression

    return np.asarray(image_compression(image_bgr, round(30 - 26 * amount), ".webp"), np.uint8)


JPEG = photometric("jpeg", jpeg, title="JPEG", caption="strongly compressed", description="strong JPEG compression")
VIDEO = photometric(
    "video", video, title="Video", caption="at a low bit rate", description="strong video compression"
)
