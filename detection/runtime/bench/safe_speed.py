"""`highest_safe_speed`: how fast a sprayer may drive so that no plant reaches the nozzle before its decision.

Two things must hold, and the stricter one limits:

*Time.* A plant that lay just outside of one image is in the next one, taken `gap` later. That one may wait, the
detector runs, and the valve opens. Meanwhile the plant has come nearer, by `ahead_m` at most:

    ahead / speed  >=  exposure + gap + wait + call + valve

*Pulse.* A decision opens the nozzle over `pulse_m` of ground, so one must come for every `pulse_m` driven:

    pulse / speed  >=  gap            (decisions a second  >=  speed / pulse)

`call` is the p99 of the whole call, never the mean: one late image in a hundred is a plant missed. A detector that
asks for the next image as soon as it is done has `gap = call` and `wait = 0`. Behind a camera of `fps` images a
second whose newest image is taken (as `swath stream` does), the gap is `call` rounded up to whole images; where
the detector is slower than the camera, the image that it takes may have waited up to `1 / fps`.

Worked by hand: a p99 of 36.7 ms, which is 27.2 decisions a second, with the camera 0.30 m ahead, a pulse of 0.10 m
and a valve of 15 ms gives 0.10 m / 36.7 ms = 9.8 km/h by the pulse, and 0.30 m / (36.7 + 36.7 + 15 ms) = 12.2 km/h by
time: 9.8 km/h, limited by the pulse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

_KMH = 3.6  # km/h in 1 m/s


@dataclass(frozen=True)
class Sprayer:
    """The machine around the detector.

    Attributes:
        ahead_m: along the ground, from the foremost line of the image in which a plant is seen to the nozzle.
        pulse_m: ground that one decision covers, along the driving direction.
        valve_ms: from the decision to the drop on the ground.
        exposure_ms: of the camera; counted whole, a plant was seen as late as its first moment.
        camera_fps: images a second; None: as many as the detector asks for.

    Raises:
        ValueError: a length or a rate that is not above 0, or a time below 0.

    """

    ahead_m: float = 0.30
    pulse_m: float = 0.10
    valve_ms: float = 15.0
    exposure_ms: float = 0.0
    camera_fps: float | None = None

    def __post_init__(self) -> None:
        lengths = (self.ahead_m, self.pulse_m, 1.0 if self.camera_fps is None else self.camera_fps)
        if not all(math.isfinite(value) and value > 0 for value in lengths):
            raise ValueError("camera ahead, pulse and frames a second must be above 0")
        if not all(math.isfinite(value) and value >= 0 for value in (self.valve_ms, self.exposure_ms)):
            raise ValueError("valve and exposure cannot take less than 0 ms")


@dataclass(frozen=True)
class SafeSpeed:
    """The highest safe speed, and what limits it.

    Attributes:
        kmh: the highest safe speed, the lower of the next two.
        limited_by: which of them it is.
        pulse_kmh, time_kmh: above this pulses leave gaps; above this the decision comes too late.
        gap_ms: between two images that the detector gets.
        delay_ms: from a plant's entry into the view to the drop on the ground, at worst.
        blur_mm: how far the image smears at `kmh` while it is exposed.

    """

    kmh: float
    limited_by: Literal["pulse", "time"]
    pulse_kmh: float
    time_kmh: float
    gap_ms: float
    delay_ms: float
    blur_mm: float


def highest_safe_speed(call_p99_ms: float, sprayer: Sprayer) -> SafeSpeed:
    """The highest speed at which both conditions hold; the method stands above.

    Args:
        call_p99_ms: from the image in memory to its detections, above 0.
        sprayer: the machine.

    Raises:
        ValueError: a latency that is not above 0.

    """
    if not (math.isfinite(call_p99_ms) and call_p99_ms > 0):
        raise ValueError(f"a latency must be above 0 ms, got {call_p99_ms}")
    gap_ms, wait_ms = call_p99_ms, 0.0
    if sprayer.camera_fps is not None:
        image_ms = 1000 / sprayer.camera_fps
        images = max(1, math.ceil(call_p99_ms / image_ms - 1e-9))  # 40 ms at 25 a second is one
        gap_ms, wait_ms = images * image_ms, image_ms if images > 1 else 0.0
    delay_ms = sprayer.exposure_ms + gap_ms + wait_ms + call_p99_ms + sprayer.valve_ms
    by_pulse = _KMH * sprayer.pulse_m / (gap_ms / 1000)
    by_time = _KMH * sprayer.ahead_m / (delay_ms / 1000)
    kmh = min(by_pulse, by_time)
    blur_mm = kmh / _KMH * sprayer.exposure_ms  # m/s x ms
    return SafeSpeed(kmh, "pulse" if by_pulse <= by_time else "time", by_pulse, by_time, gap_ms, delay_ms, blur_mm)


def budget_ms(speed_kmh: float, ahead_m: float) -> float:
    """How long the ground takes from the camera's line to the nozzle."""
    return 1000 * ahead_m / (speed_kmh / _KMH)


def decisions_needed_per_s(speed_kmh: float, pulse_m: float) -> float:
    """How many decisions a second leave no ground between pulses."""
    return speed_kmh / _KMH / pulse_m
