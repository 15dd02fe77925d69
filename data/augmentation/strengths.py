"""Named strengths of the augmentation: each a fragment of a recipe's `augment` section.

`basic` leaves all keys at their defaults. Keys given in the recipe itself take precedence.
"""

from __future__ import annotations

from typing import Any, Literal

StrengthName = Literal["none", "basic", "light", "field", "season"]

STRENGTHS: dict[StrengthName, dict[str, Any]] = {
    # The photos as they are.
    "none": {
        "hflip": 0.0,
        "vflip": 0.0,
        "rotate90": 0.0,
        "scale_crop": 0.0,
        "brightness": 0.0,
        "contrast": 0.0,
        "hue": 0.0,
        "saturation": 0.0,
        "blur": 0.0,
    },
    # Flips, turns, crops, brightness, colour, a little blur.
    "basic": {},
    # One camera on one day: what varies from image to image.
    "light": {
        "amount": (0.1, 0.5),
        "motion_blur": 0.1,
        "defocus": 0.05,
        "noise": 0.15,
        "exposure": 0.1,
        "white_balance": 0.15,
        "daylight": 0.1,
        "jpeg": 0.1,
        "multi_scale": 0.15,
    },
    # Many hours in many fields with one machine: sun, dust, driving, a camera remounted, plants rearranged.
    "field": {
        "amount": (0.15, 0.7),
        "copy_paste": 0.2,
        "mosaic": 0.1,
        "camera_height": 0.15,
        "camera_pitch": 0.15,
        "rolling_shutter": 0.1,
        "daylight": 0.2,
        "low_sun": 0.1,
        "hard_shadow": 0.15,
        "dust": 0.05,
        "lens_dust": 0.1,
        "motion_blur": 0.15,
        "defocus": 0.1,
        "exposure": 0.15,
        "white_balance": 0.15,
        "noise": 0.2,
        "jpeg": 0.1,
        "video": 0.05,
        "multi_scale": 0.2,
    },
    # From the first dry day to the last wet one, from dawn to dusk, with other cameras.
    "season": {
        "amount": (0.2, 0.9),
        "copy_paste": 0.3,
        "mosaic": 0.2,
        "mixup": 0.05,
        "camera_height": 0.25,
        "camera_pitch": 0.2,
        "rolling_shutter": 0.15,
        "wet_soil": 0.15,
        "daylight": 0.25,
        "low_sun": 0.15,
        "hard_shadow": 0.2,
        "haze": 0.08,
        "dust": 0.08,
        "rain": 0.08,
        "sun_flare": 0.08,
        "lens_dust": 0.15,
        "motion_blur": 0.2,
        "defocus": 0.12,
        "exposure": 0.2,
        "white_balance": 0.2,
        "noise": 0.25,
        "jpeg": 0.12,
        "video": 0.1,
        "multi_scale": 0.3,
    },
}
"""By name, from no variation to the most."""
