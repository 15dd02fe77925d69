"""The lens: dirt on its glass, and focus."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from data.augmentation.effect import photometric
from data.augmentation.effects.linear import cloud, encoded, linear, ramp


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


def defocus(image_bgr: NDArray[np.uint8], amount: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Out of focus by up to a disc of 5 px radius (albumentations' defocus)."""
    from albumentations.augmentations.blur.functional import defocus as blurred

    return np.asarray(blurred(image_bgr, 1 + round(4 * amount), 0.5), np.uint8)


LENS_DUST = photometric(
    "lens_dust",
    lens_dust,
    title="Dust on the lens",
    caption="and a splash of mud",
    description="dust and mud on the lens",
)
DEFOCUS = photometric(
    "defocus",
    defocus,
    title="Defocus",
    caption="the lens is focused nearer or farther than the ground",
    description="an image out of focus",
)
