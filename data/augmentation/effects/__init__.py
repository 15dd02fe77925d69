"""The effects: what sun, weather, motion, camera, lens and file do to an image, one file for each group.

Images are uint8 (H, W, 3) BGR; `amount` is 0 (hardly visible) to 1 (the strongest that leaves every plant visible);
`rng` is the only source of chance. Arguments are left as they are. Importing this needs numpy and OpenCV only.

An effect is added in one file and one line here: the recipe's keys, `swath data preview` and the robustness
evaluation derive from `KINDS`. The order is that of a real image: scene, camera, light, air, glass, sensor, file.
"""

from typing import Any

from data.augmentation.effect import Effect
from data.augmentation.effects import camera, compression, light, mixing, motion, optics, sensor, weather

KINDS: tuple[Effect[Any], ...] = (
    mixing.MOSAIC,
    mixing.COPY_PASTE,
    mixing.MIXUP,
    camera.CAMERA_HEIGHT,
    camera.CAMERA_PITCH,
    motion.ROLLING_SHUTTER,
    weather.WET_SOIL,
    light.DAYLIGHT,
    light.LOW_SUN,
    light.HARD_SHADOW,
    weather.HAZE,
    weather.DUST,
    weather.RAIN,
    light.SUN_FLARE,
    optics.LENS_DUST,
    optics.DEFOCUS,
    motion.MOTION_BLUR,
    sensor.EXPOSURE,
    sensor.WHITE_BALANCE,
    sensor.NOISE,
    compression.JPEG,
    compression.VIDEO,
    camera.MULTI_SCALE,
)
"""All effects; within a group they are applied in this order."""
