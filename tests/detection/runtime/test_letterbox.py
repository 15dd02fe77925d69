from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.runtime.letterbox import PAD_VALUE, letterbox, placement

IMAGES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
INPUTS = st.tuples(st.integers(8, 1280), st.integers(8, 1280))


@settings(max_examples=200, deadline=None)
@given(IMAGES, INPUTS, st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4))
def test_boxes_go_there_and_back(image_hw: tuple[int, int], size_hw: tuple[int, int], corners: list[float]) -> None:
    height, width = image_hw
    place = placement(image_hw, size_hw)
    (x1, x2), (y1, y2) = sorted(corners[:2]), sorted(corners[2:])
    boxes = np.array([[x1 * width, y1 * height, x2 * width, y2 * height]], np.float32)
    there = place.to_input(boxes)
    np.testing.assert_allclose(place.to_image(there), boxes, atol=1e-3 * max(image_hw) / 1000 + 1e-3)


@settings(max_examples=300, deadline=None)
@given(IMAGES, INPUTS)
def test_the_image_just_fits_and_less_than_a_pixel_of_it_is_left_out(
    image_hw: tuple[int, int], size_hw: tuple[int, int]
) -> None:
    place = placement(image_hw, size_hw)
    assert all(1 <= fitted <= room for fitted, room in zip(place.fitted_hw, size_hw, strict=True))
    assert place.fitted_hw[0] == size_hw[0] or place.fitted_hw[1] == size_hw[1]
    whole = np.multiply(place.scale_xy, image_hw[::-1])
    left_out = whole - place.fitted_hw[::-1]
    assert (left_out > -1e-6).all()
    # a side of one pixel cannot be halved, so that it is not to scale
    assert (left_out < 1)[np.array(place.fitted_hw[::-1]) > 1].all()
    scale_x, scale_y = place.scale_xy
    if min(place.fitted_hw) >= 20:
        assert abs(scale_x / scale_y - 1) < 1 / 20


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.integers(40, 900), st.integers(40, 900)),
    st.tuples(st.integers(16, 128), st.integers(16, 128)),
)
def test_the_pixels_lie_where_the_placement_says(image_hw: tuple[int, int], size_hw: tuple[int, int]) -> None:
    height, width = image_hw
    # one colour says how far right a pixel is, another how far down
    ramps = np.zeros((height, width, 3), np.float64)
    ramps[..., 0] = (np.arange(width) + 0.5) * 255 / width
    ramps[..., 2] = (np.arange(height)[:, None] + 0.5) * 255 / height
    pixels, place = letterbox(np.rint(ramps).astype(np.uint8), size_hw)
    rows, columns = place.fitted_hw
    assert pixels.shape == (*size_hw, 3)
    x = (np.arange(columns) + 0.5) / place.scale_xy[0] * 255 / width
    y = (np.arange(rows) + 0.5) / place.scale_xy[1] * 255 / height
    # the first and last half pixel of an enlarged image repeat its edge
    edge = 2 if min(place.scale_xy) > 1 else 0
    seen = pixels[edge : rows - edge, edge : columns - edge].astype(float)
    assert seen.size or min(rows, columns) <= 4
    rounding = 1.6 + 0.5 * max(0, -np.log2(max(place.scale_xy)))  # each halving rounds
    assert (np.abs(seen[..., 2] - x[edge : columns - edge]) < rounding).all()
    assert (np.abs(seen[..., 0] - y[edge : rows - edge, None]) < rounding).all()
    assert (seen[..., 1] == 0).all()
    assert (pixels[rows:] == PAD_VALUE).all() and (pixels[:, columns:] == PAD_VALUE).all()


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_halved_pixel_is_the_mean_of_all_that_it_covers(times: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32 << times, 48 << times, 3), np.uint8)
    pixels, place = letterbox(image, (32, 48))
    blocks = image.reshape(32, 1 << times, 48, 1 << times, 3).mean(axis=(1, 3))[..., ::-1]
    assert np.abs(pixels - blocks).max() <= 0.5 * times + 1e-9  # each halving rounds
    assert place.scale_xy == (0.5**times, 0.5**times)


@pytest.mark.parametrize("factor", [2.0, 2.03, 2.6, 3.0, 3.9, 4.0, 5.5, 6.25, 7.9])
def test_grain_is_averaged_nearly_as_by_areas(factor: float) -> None:
    shape = (round(64 * factor), round(96 * factor), 3)
    image = np.random.default_rng(0).normal(128, 40, shape).clip(0, 255).astype(np.uint8)
    areas = cv2.resize(image.astype(np.float32), (96, 64), interpolation=cv2.INTER_AREA)
    lines = cv2.resize(image, (96, 64), interpolation=cv2.INTER_LINEAR)
    assert letterbox(image, (64, 96))[0].std() < 1.45 * areas.std()
    assert factor < 2.6 or lines.std() > 1.5 * areas.std()


@pytest.mark.parametrize("factor", [1.1, 1.5, 1.95, 2.03, 3.9, 6.25, 7.9])
def test_nothing_as_large_as_a_pixel_of_the_input_is_skipped(factor: float) -> None:
    height, width = round(32 * factor), round(48 * factor)
    thick, seen = int(np.ceil(factor)), 0
    for row in range(height - thick - int(factor)):
        image = np.zeros((height, width, 3), np.uint8)
        image[row : row + thick] = 255
        assert letterbox(image, (32, 48))[0][:32].max() >= 100
        seen += 1
    assert seen >= 30


@pytest.mark.parametrize("image_hw", [(1, 1), (1, 3000), (3000, 1), (3, 3000), (64, 96), (63, 96), (129, 193)])
def test_extreme_shapes(image_hw: tuple[int, int]) -> None:
    pixels, place = letterbox(np.full((*image_hw, 3), 77, np.uint8), (64, 96))
    rows, columns = place.fitted_hw
    assert (pixels[:rows, :columns] == 77).all()
    assert (pixels[rows:] == PAD_VALUE).all() and (pixels[:, columns:] == PAD_VALUE).all()


def test_it_turns_bgr_into_rgb_and_leaves_the_image_alone() -> None:
    image = np.zeros((32, 96, 3), np.uint8)
    image[..., 2] = 255
    before = image.copy()
    pixels, _ = letterbox(image, (64, 96))
    np.testing.assert_array_equal(pixels[0, 0], [255, 0, 0])
    np.testing.assert_array_equal(pixels[32:], PAD_VALUE)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("image_hw", "size_hw", "fitted_hw", "scale_xy"),
    [
        ((100, 200), (64, 64), (32, 64), (64 / 200, 32 / 100)),
        ((128, 128), (64, 64), (64, 64), (0.5, 0.5)),  # just twice too large: halved
        ((127, 126), (64, 64), (64, 63), (63 / 126, 64 / 127)),
        ((301, 90), (64, 96), (64, 19), (19 / 88, 64 / 300)),  # halved twice, a row and two columns left out
        ((1, 3000), (64, 96), (1, 96), (96 / (187 * 16), 1.0)),  # one row cannot be halved
        ((3000, 1), (96, 64), (96, 1), (1.0, 96 / (187 * 16))),
    ],
)
def test_placements_by_hand(image_hw, size_hw, fitted_hw, scale_xy) -> None:
    place = placement(image_hw, size_hw)
    assert (place.image_hw, place.fitted_hw, place.scale_xy) == (image_hw, fitted_hw, scale_xy)


def test_boxes_are_scaled_by_side_and_clipped_to_the_image() -> None:
    place = placement((100, 200), (64, 64))
    there, back = place.to_input(np.float32([[10, 20, 50, 100]])), place.to_image(np.float32([[-1, -1, 99, 99]]))
    np.testing.assert_allclose(there, [[3.2, 6.4, 16, 32]], rtol=1e-6)
    assert back.tolist() == [[0, 0, 200, 100]] and there.dtype == back.dtype == np.float32
