"""The settings of the augmentation, checked; free of albumentations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

MIXES = ("mosaic", "copy_paste", "mixup")
GEOMETRY = ("camera_height", "camera_pitch", "rolling_shutter")
LOOKS = (
    "wet_soil",
    "daylight",
    "low_sun",
    "hard_shadow",
    "haze",
    "dust",
    "rain",
    "sun_flare",
    "lens_dust",
    "defocus",
    "motion_blur",
    "exposure",
    "white_balance",
    "noise",
    "jpeg",
    "video",
)
EFFECTS = (*MIXES, *GEOMETRY, *LOOKS, "multi_scale")
"""The field effects, in the order in which they happen: scene, camera, light, air, glass, sensor, file.

The place of a name is also the number of its random stream: a new one changes the draws of those after it.
"""

BASICS = ("hflip", "vflip", "rotate90", "scale_crop", "brightness", "contrast", "hue", "saturation", "blur")


@dataclass(frozen=True)
class AugmentSettings:
    """How an image is varied. All effects from `mosaic` on are off unless asked for.

    Attributes:
        hflip: probability of mirroring left to right.
        vflip: probability of mirroring top to bottom.
        rotate90: probability of drawing one of 0, 1, 2 or 3 quarter turns.
        scale_crop: probability of cropping.
        crop_scale: smallest and largest crop, as fractions of the image's area.
        brightness: largest change, as a fraction of full white, either way.
        contrast: largest change of the contrast factor, either way.
        hue: largest shift, as a fraction of the colour circle, either way. Small: green means plant.
        saturation: largest shift, as a fraction of full saturation, either way.
        blur: probability of a motion or Gaussian blur of up to 7 px.
        min_visibility: boxes with less than this fraction of their area left in the frame are dropped.
        view: `top_down` looks at the ground; `oblique` has an up and a down, and is only mirrored.
        amount: how strong a field effect is when it comes, least and most: 0 hardly to be seen, 1 the strongest.
        mosaic: probability of four images in one.
        copy_paste: probability of plants copied in from another image.
        mixup: probability of another image showing through.
        camera_height: probability of another height of the camera.
        camera_pitch: probability of a pitched camera.
        rolling_shutter: probability of rows read one after another while driving.
        wet_soil: probability of soil after rain.
        daylight: probability of warmer or colder daylight.
        low_sun: probability of a sun at a few degrees.
        hard_shadow: probability of the shadow of the machine or of leaves above.
        haze: probability of mist.
        dust: probability of dust in the air.
        rain: probability of falling rain.
        sun_flare: probability of the sun shining into the lens.
        lens_dust: probability of dust and mud on the front glass.
        defocus: probability of an image out of focus.
        motion_blur: probability of blur along the driving direction.
        exposure: probability of a wrong exposure.
        white_balance: probability of a wrong white balance.
        noise: probability of sensor noise.
        jpeg: probability of a strongly compressed JPEG.
        video: probability of a strongly compressed video frame.
        multi_scale: probability of the image lying smaller in the network's input.
        height_range: lowest and highest camera, 1 being the one that took the photos.
        pitch_deg: largest pitch either way, degrees.
        smallest_scale: length of a side under `multi_scale` at its strongest.
        speed_kmh: lowest and highest driving speed.
        exposure_ms: shortest and longest exposure.
        readout_ms: time in which a rolling shutter reads all rows.
        gsd_mm: ground that one pixel of the photo covers (ground sampling distance), millimetres.
        heading_deg: where the machine drives in the photo: 0 up, 90 right.

    Raises:
        ValueError: a number out of its range, or turns asked of an oblique view.

    """

    hflip: float = 0.5
    vflip: float = 0.5
    rotate90: float = 0.5
    scale_crop: float = 0.7
    crop_scale: tuple[float, float] = (0.4, 1.0)
    brightness: float = 0.25
    contrast: float = 0.25
    hue: float = 0.015
    saturation: float = 0.15
    blur: float = 0.1
    min_visibility: float = 0.3
    view: Literal["top_down", "oblique"] = "top_down"
    amount: tuple[float, float] = (0.2, 0.8)
    mosaic: float = 0.0
    copy_paste: float = 0.0
    mixup: float = 0.0
    camera_height: float = 0.0
    camera_pitch: float = 0.0
    rolling_shutter: float = 0.0
    wet_soil: float = 0.0
    daylight: float = 0.0
    low_sun: float = 0.0
    hard_shadow: float = 0.0
    haze: float = 0.0
    dust: float = 0.0
    rain: float = 0.0
    sun_flare: float = 0.0
    lens_dust: float = 0.0
    defocus: float = 0.0
    motion_blur: float = 0.0
    exposure: float = 0.0
    white_balance: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0
    video: float = 0.0
    multi_scale: float = 0.0
    height_range: tuple[float, float] = (0.8, 1.25)
    pitch_deg: float = 8.0
    smallest_scale: float = 0.5
    speed_kmh: tuple[float, float] = (3.0, 15.0)
    exposure_ms: tuple[float, float] = (0.5, 4.0)
    readout_ms: float = 15.0
    gsd_mm: float = 1.0
    heading_deg: float = 0.0

    def __post_init__(self) -> None:
        for name in (*BASICS, "min_visibility", *EFFECTS):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)}")
        if not 0.0 < self.crop_scale[0] <= self.crop_scale[1] <= 1.0:
            raise ValueError(f"crop_scale must be 0 < smallest <= largest <= 1, got {self.crop_scale}")
        if not 0.0 <= self.amount[0] <= self.amount[1] <= 1.0:
            raise ValueError(f"amount must be 0 <= least <= most <= 1, got {self.amount}")
        if not 0.25 <= self.height_range[0] <= 1.0 <= self.height_range[1] <= 4.0:
            raise ValueError(f"height_range must hold 1, within 0.25 to 4, got {self.height_range}")
        if not 0.0 <= self.pitch_deg <= 30.0:
            raise ValueError(f"pitch_deg must be between 0 and 30, got {self.pitch_deg}")
        if not 0.1 <= self.smallest_scale <= 1.0:
            raise ValueError(f"smallest_scale must be between 0.1 and 1, got {self.smallest_scale}")
        for name in ("speed_kmh", "exposure_ms"):
            low, high = getattr(self, name)
            if not 0.0 <= low <= high < math.inf:
                raise ValueError(f"{name} must be 0 <= lowest <= highest, got {(low, high)}")
        if not 0.0 <= self.readout_ms < math.inf or not 0.0 < self.gsd_mm < math.inf:
            raise ValueError(f"readout_ms must be 0 or more and gsd_mm above 0, got {self.readout_ms}, {self.gsd_mm}")
        if not math.isfinite(self.heading_deg):
            raise ValueError(f"heading_deg must be a number of degrees, got {self.heading_deg}")
        if self.view not in ("top_down", "oblique"):
            raise ValueError(f"view must be top_down or oblique, got {self.view!r}")
        if self.view == "oblique" and (self.vflip > 0 or self.rotate90 > 0):
            raise ValueError("view oblique has an up and a down: vflip and rotate90 must be 0")
