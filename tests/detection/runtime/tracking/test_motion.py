"""How far the ground moved: measured in images, or from odometry."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from detection.runtime.detections import Frame
from detection.runtime.tracking.motion import ImageMotion, Motion, OdometryMotion, small_grey

SIZE_HW = (240, 320)


def ground(seed: int = 0) -> np.ndarray:
    """Clods of many sizes: uint8 (1200, 1200, 3)."""
    rng = np.random.default_rng(seed)
    grey = sum(cv2.resize(rng.normal(0, 12, (1200 // n, 1200 // n)), (1200, 1200)) for n in (4, 10, 40))
    return np.repeat(np.clip(110 + np.asarray(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def view(field: np.ndarray, x: float, y: float) -> np.ndarray:
    """What a camera sees whose top left corner is at (x, y) of the field."""
    height, width = SIZE_HW
    move = np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
    return cv2.warpAffine(field, move, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def frame(image: np.ndarray, index: int, seconds: float | None = None) -> Frame:
    at_s = index / 10 if seconds is None else seconds
    return Frame(image, "left", index, round(at_s * 1e9), at_s)


def shifts(motion: Motion, frames: list[Frame]) -> list[tuple[float, float] | None]:
    return [motion.shift(f) for f in frames]


@pytest.mark.parametrize("step", [(0, 0), (0, 31.4), (0, -100), (90.5, 3), (-150, -20), (0, 150)])
def test_the_shift_is_seen_whichever_way_the_ground_goes(step: tuple[float, float]) -> None:
    field = ground()
    frames = [frame(view(field, 450 - step[0] * i, 450 - step[1] * i), i) for i in range(4)]
    seen = shifts(ImageMotion(), frames)
    assert seen[0] is None
    for shift in seen[1:]:
        assert shift == pytest.approx(step, abs=0.6)


def test_a_large_image_is_measured_in_its_own_pixels() -> None:
    field = ground()
    big = [cv2.resize(view(field, 400, 400 - 20 * i), (1920, 1440)) for i in range(2)]
    assert max(small_grey(big[0]).shape) == 160
    assert shifts(ImageMotion(), [frame(b, i) for i, b in enumerate(big)])[1] == pytest.approx((0, 120), abs=4)


def test_leaves_that_move_by_themselves_do_not_count() -> None:
    field, leaves = ground(1), ground(2)
    frames = []
    for i in range(3):
        image = view(field, 400, 600 - 40 * i)
        for x in range(20, 300, 80):  # a third of the image blows about
            image[:, x : x + 27] = view(leaves, 300 + 9 * (-1) ** i, 300 - 7 * i)[:, x : x + 27]
        frames.append(frame(image, i))
    assert shifts(ImageMotion(), frames)[2] == pytest.approx((0, 40), abs=0.6)


def test_dropped_images_are_forecast_from_the_speed() -> None:
    field = ground()
    # Of frame 5 nothing is left in frame 8 that could be compared.
    frames = [frame(view(field, 400, 960 - 80 * i), i) for i in (0, 1, 2, 3, 4, 5, 8)]
    seen = shifts(ImageMotion(), frames)
    assert seen[5] == pytest.approx((0, 80), abs=0.6)
    assert seen[6] == pytest.approx((0, 240), abs=3)


def test_blind_it_coasts_for_a_while_then_says_so() -> None:
    field = ground()
    frames = [frame(view(field, 400, 900 - 30 * i), i) for i in range(4)]
    dark = [frame(np.zeros((*SIZE_HW, 3), np.uint8), i) for i in range(4, 20)]
    seen = shifts(ImageMotion(coast_s=1.0), frames + dark)
    assert seen[4] == pytest.approx((0, 30), abs=1)
    assert all(s is not None for s in seen[4:13])
    assert seen[15:] == [None] * 5


def test_after_a_long_gap_the_same_ground_is_known_again_and_other_ground_is_not() -> None:
    field = ground()
    before = [frame(view(field, 400, 900 - 30 * i), i) for i in range(4)]
    same = frame(view(field, 405, 900 - 90 - 60), 4, seconds=60)
    assert shifts(ImageMotion(), [*before, same])[4] == pytest.approx((-5, 60), abs=1)
    other = frame(view(ground(9), 400, 400), 4, seconds=60)
    assert shifts(ImageMotion(), [*before, other])[4] is None


def test_another_image_size_is_a_new_start() -> None:
    image = view(ground(), 400, 400)
    motion = ImageMotion()
    assert shifts(motion, [frame(image, 0), frame(image, 1)])[1] == pytest.approx((0, 0), abs=0.1)
    assert motion.shift(frame(np.ascontiguousarray(image[:200]), 2)) is None


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 300), (7, 5), (33, 33)])
def test_tiny_images_do_no_harm(size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    frames = [frame(rng.integers(0, 255, (*size_hw, 3), np.uint8), i) for i in range(3)]
    for shift in shifts(ImageMotion(), frames):
        assert shift is None or all(math.isfinite(v) for v in shift)


def test_frames_stay_as_they_are() -> None:
    images = [view(ground(), 400, 400 - 20 * i)[..., :].copy() for i in range(3)]
    small = [cv2.resize(image, (96, 64)) for image in images]
    for some in (images, small):
        kept = [image.copy() for image in some]
        shifts(ImageMotion(), [frame(image, i) for i, image in enumerate(some)])
        assert all((a == b).all() for a, b in zip(kept, some, strict=True))


@pytest.mark.parametrize(
    ("direction", "wanted"), [("down", (0, 50)), ("up", (0, -50)), ("left", (-50, 0)), ("right", (50, 0))]
)
def test_odometry_gives_speed_times_time(direction: str, wanted: tuple[float, float]) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    motion = OdometryMotion(0.5, 1000, direction)  # type: ignore[arg-type]
    assert shifts(motion, [frame(image, 0), frame(image, 1)]) == [None, pytest.approx(wanted)]
    assert motion.shift(frame(image, 4)) == pytest.approx(tuple(3 * v for v in wanted))  # two were dropped


def test_odometry_is_read_at_each_frame_and_may_be_unknown() -> None:
    image, speeds = np.zeros((4, 4, 3), np.uint8), iter([1.0, 1.0, -2.0, math.nan, 0.0])
    motion = OdometryMotion(lambda: next(speeds), 100)
    seen = shifts(motion, [frame(image, i) for i in range(5)])
    assert seen == [None, pytest.approx((0, 10)), pytest.approx((0, -20)), None, pytest.approx((0, 0))]


def test_time_is_the_streams_own_where_it_has_one() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    motion = OdometryMotion(1.0, 100)
    motion.shift(Frame(image, "left", 0, 0, 0.0))
    assert motion.shift(Frame(image, "left", 1, 5_000_000, 0.1)) == pytest.approx((0, 10))  # a file, read fast
    assert motion.shift(Frame(image, "left", 2, 205_000_000, 0.0)) == pytest.approx((0, 20))  # it began anew
    assert motion.shift(Frame(image, "left", 3, 305_000_000, None)) == pytest.approx((0, 10))


def test_odometry_forecasts_what_the_image_then_refines() -> None:
    field = ground()
    # 150 px a frame: more than half of the image, which nobody could guess at the first frame.
    frames = [frame(view(field, 400, 900 - 170 * i), i) for i in range(3)]
    seen = shifts(ImageMotion(OdometryMotion(1.65, 1000)), frames)
    assert seen[1:] == [pytest.approx((0, 170), abs=0.6)] * 2
    dark = frame(np.zeros((*SIZE_HW, 3), np.uint8), 30)
    motion = ImageMotion(OdometryMotion(1.65, 1000))
    shifts(motion, frames)
    assert motion.shift(dark) == pytest.approx((0, 28 * 165))  # odometry works in the dark too


def test_wrong_scales_and_directions_are_refused() -> None:
    for scale in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="pixels per metre must be above 0"):
            OdometryMotion(1.0, scale)
    with pytest.raises(ValueError, match="direction must be one of down, up, left, right, got 'north'"):
        OdometryMotion(1.0, 100.0, "north")  # type: ignore[arg-type]
