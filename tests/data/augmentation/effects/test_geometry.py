from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.augmentation.effects.camera import pose, smaller
from data.augmentation.effects.motion import ground_moves_xy, motion_blur, rolling_shutter, travel_px
from data.augmentation.sample import PAD_VALUE

SIZE_HW = (160, 200)


def painted(box, size_hw=SIZE_HW) -> np.ndarray:
    """A white box on black."""
    image = np.zeros((*size_hw, 3), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 255
    return image


def found(image, level=127) -> list[int]:
    """The box around what is white."""
    rows, columns = np.nonzero((image > level).all(axis=2))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


boxes = st.tuples(st.integers(60, 110), st.integers(50, 80), st.integers(8, 30), st.integers(8, 30)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@settings(max_examples=60, deadline=None)
@given(box=boxes, height=st.floats(0.75, 1.6), pitch_deg=st.floats(-15, 15))
def test_boxes_follow_height_and_pitch_within_a_pixel(box, height, pitch_deg):
    image, moved = pose(painted(box), np.array([box], float), height=height, pitch_deg=pitch_deg)
    image[(image == PAD_VALUE).all(axis=2)] = 0
    assert np.abs(moved[0] - found(image)).max() <= 1.0


def test_height_by_hand():
    # Half the height: twice as large about the middle (100, 80).
    _, moved = pose(painted((90, 70, 110, 90)), np.array([[90, 70, 120, 90]], float), height=0.5)
    assert moved[0] == pytest.approx([80, 60, 140, 100])
    image, moved = pose(painted((0, 0, 200, 160)), np.array([[0, 0, 200, 160]], float), height=2)
    assert moved[0] == pytest.approx([50, 40, 150, 120])
    assert (image[60:100, 60:140] == 255).all() and (image[:38] == PAD_VALUE).all()


def test_pitch_brings_the_upper_edge_nearer_and_leaves_no_corner_empty():
    box = np.array([[90, 20, 110, 40], [90, 120, 110, 140]], float)
    sizes = {}
    for pitch_deg in (10, -10):
        image, moved = pose(np.full((*SIZE_HW, 3), 255, np.uint8), box, pitch_deg=pitch_deg)
        assert image[2:-2, 2:-2].min() == 255
        sizes[pitch_deg] = moved[:, 2] - moved[:, 0]
    assert sizes[10][0] > sizes[10][1] and sizes[-10][0] < sizes[-10][1]
    assert sizes[10][0] == pytest.approx(sizes[-10][1])


def test_no_change_is_no_change():
    image = np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), np.uint8)
    box = np.array([[10, 20, 50, 60]], float)
    still = rolling_shutter(image, box, shift_xy=(0, 0))
    for same, moved in (pose(image, box), still, smaller(image, box, scale=1, at_xy=(0.3, 1))):
        assert np.array_equal(same, image) and moved[0] == pytest.approx(box[0])
    assert np.array_equal(motion_blur(image, (0.2, 0)), image)


@settings(max_examples=60, deadline=None)
@given(
    box=boxes,
    shift=st.tuples(st.floats(-60, 60), st.floats(-60, 60)),
    wobble_px=st.floats(0, 4),
    phase=st.floats(0, 6),
)
def test_boxes_follow_a_rolling_shutter_within_a_pixel(box, shift, wobble_px, phase):
    shutter = {"shift_xy": shift, "wobble_px": wobble_px, "cycles": 3.0, "phase": phase}
    image, moved = rolling_shutter(painted(box), np.array([box], float), **shutter)
    image[(image == PAD_VALUE).all(axis=2)] = 0
    # A lean of half a pixel may fall on one side of a pixel's middle or the other.
    assert np.abs(moved[0] - found(image)).max() <= 1.3


def test_rolling_shutter_by_hand():
    # 32 px sideways in 160 rows: row y moves by 0.2 (y - 80). Cut to a fifth of the height at most.
    box = np.array([[100, 30, 120, 130]], float)
    for asked in (32, 500):
        _, moved = rolling_shutter(painted((100, 30, 120, 130)), box, shift_xy=(asked, 0))
        assert moved[0] == pytest.approx([90, 30, 130, 130])
    # 32 px downwards: y = (Y - 16) / (1 - 0.2); what moves along with the read-out grows by a quarter.
    _, moved = rolling_shutter(painted((100, 30, 120, 130)), box, shift_xy=(0, 32))
    assert moved[0] == pytest.approx([100, 17.5, 120, 142.5])


@settings(max_examples=40, deadline=None)
@given(box=boxes, scale=st.floats(0.2, 1), x=st.floats(0, 1), y=st.floats(0, 1))
def test_boxes_follow_a_smaller_image(box, scale, x, y):
    image, moved = smaller(painted(box), np.array([box], float), scale=scale, at_xy=(x, y))
    assert image.shape == (*SIZE_HW, 3)
    image[(image == PAD_VALUE).all(axis=2)] = 0
    # Where less than half a pixel is covered, the image shows grey.
    assert np.abs(moved[0] - found(image, 100)).max() <= 1.0
    assert moved[0, 2] - moved[0, 0] == pytest.approx((box[2] - box[0]) * round(200 * scale) / 200)


def test_how_far_the_ground_moves():
    # 20 km/h is 5.56 mm in a millisecond.
    assert travel_px(20, 1.0, 1.0) == pytest.approx(5.5556, abs=1e-4)
    assert travel_px(7.2, 10.0, 2.0) == pytest.approx(10.0)
    assert ground_moves_xy(0) == pytest.approx((0, 1))  # driving up: the ground comes down
    assert ground_moves_xy(90) == pytest.approx((-1, 0))


@pytest.mark.parametrize(("shift", "spread"), [((9, 0), (9, 0)), ((0, 9), (0, 9)), ((6, 6), (6, 6))])
def test_motion_blur_spreads_a_point_along_its_path_only(shift, spread):
    image = np.zeros((201, 201, 3), np.uint8)
    image[100, 100] = 255
    rows, columns = np.nonzero(motion_blur(image, shift)[..., 0])
    assert (np.ptp(columns), np.ptp(rows)) == pytest.approx(spread, abs=2)
    assert (columns.mean(), rows.mean()) == pytest.approx((100, 100), abs=0.01)  # centred: boxes stay
    line = np.zeros((200, 200, 3), np.uint8)
    line[:, 100:] = 255  # the blur of an edge is as long as the way
    edge = motion_blur(line, shift)[100, :, 0].astype(int)
    grey = ((edge > 0) & (edge < 255)).sum()
    assert abs(grey - abs(shift[0])) <= 1


def test_motion_blur_is_cut_to_8_percent_and_keeps_the_light():
    image = np.zeros((200, 300, 3), np.uint8)
    image[80:120, 100:200] = 200
    blurred = motion_blur(image, (400, 0))
    assert abs(float(blurred.mean()) - float(image.mean())) < 0.5
    assert np.nonzero(blurred[100, :, 0])[0].min() == pytest.approx(100 - 8, abs=2)


def test_pad_value_is_the_letterboxes():
    from detection.runtime.letterbox import PAD_VALUE as LETTERBOX

    assert PAD_VALUE == LETTERBOX


def test_pose_is_the_projection_of_flat_ground():
    # A point of the ground (30, 40) from the middle, the camera swung round it by 10 degrees: by hand.
    tilt, focal = math.radians(10), 100 / math.tan(math.radians(30))
    depth = focal + 40 * math.sin(tilt)
    u, v = focal * 30 / depth, focal * 40 * math.cos(tilt) / depth
    one = np.array([[130, 120, 130, 120], [100, 80, 100, 80], [130, 80, 130, 80]], float)
    _, moved = pose(np.zeros((*SIZE_HW, 3), np.uint8), one, pitch_deg=10)
    assert moved[1, :2] == pytest.approx([100, 80])
    zoom = (moved[2, 0] - 100) / 30
    assert moved[0, :2] == pytest.approx([100 + zoom * u, 80 + zoom * v])
