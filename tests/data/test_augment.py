from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import albumentations
import albumentations as A
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.augment import Augment
from data.augment_settings import EFFECTS, LOOKS, MIXES
from data.augment_stock import _blur, _Window

NOTHING = {
    "hflip": 0,
    "vflip": 0,
    "rotate90": 0,
    "scale_crop": 0,
    "brightness": 0,
    "contrast": 0,
    "hue": 0,
    "saturation": 0,
    "blur": 0,
}
NO_BOXES = np.zeros((0, 4), np.float32)
NO_LABELS = np.zeros(0, np.int64)
SIZE_HW = (40, 60)
RED = (0, 0, 255)  # BGR


def only(size_hw=SIZE_HW, **changes) -> Augment:
    return Augment(size_hw=size_hw, **{**NOTHING, **changes})


def painted(boxes, size_hw=SIZE_HW) -> np.ndarray:
    image = np.full((*size_hw, 3), 90, np.uint8)
    for x1, y1, x2, y2 in np.asarray(boxes, int):
        image[y1:y2, x1:x2] = RED
    return image


def found(image) -> list[int]:
    rows, columns = np.nonzero((image == RED).all(axis=2))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def run(augment, image, boxes, seed=0):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return augment(image, boxes, np.arange(len(boxes)), seed=seed)


BOX = [5, 7, 25, 12]  # in 60 x 40


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, BOX), ({"hflip": 1}, [35, 7, 55, 12]), ({"vflip": 1}, [5, 28, 25, 33])],
)
def test_flips_by_hand(changes, expected):
    image, boxes, labels = run(only(**changes), painted([BOX]), [BOX])
    assert boxes.tolist() == [expected] == [found(image)]
    assert boxes.dtype == np.float32 and labels.tolist() == [0] and labels.dtype == np.int64


def test_quarter_turns_by_hand():
    # Counter-clockwise a point (x, y) of a w x h picture goes to (y, w - x).
    expected = {
        (40, 60): {(5, 7, 25, 12), (35, 28, 55, 33)},
        (60, 40): {(7, 35, 12, 55), (28, 5, 33, 25)},
    }
    seen = set()
    for seed in range(40):
        image, boxes, _ = run(only(rotate90=1), painted([BOX]), [BOX], seed)
        assert boxes.tolist() == [found(image)]
        assert tuple(boxes[0]) in expected[image.shape[:2]]
        seen.add(tuple(boxes[0]))
    assert len(seen) == 4


def test_fractional_and_border_boxes_are_exact_to_float32():
    boxes = np.array([[0.1, 0.2, 33.3, 7.7], [0, 0, 61, 37], [60, 36, 61, 37]], np.float32)
    image = np.zeros((37, 61, 3), np.uint8)
    _, flipped, _ = run(only(hflip=1, vflip=1), image, boxes)
    whole = np.array([61, 37, 61, 37], np.float32)
    assert np.abs(flipped - (whole - boxes)[:, [2, 3, 0, 1]]).max() < 4e-6
    assert flipped[1].tolist() == [0, 0, 61, 37]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    x=st.integers(0, 50),
    y=st.integers(0, 30),
    width=st.integers(1, 10),
    height=st.integers(1, 10),
)
def test_boxes_follow_their_pixels_through_every_geometry(seed, x, y, width, height):
    augment = only(hflip=0.5, vflip=0.5, rotate90=0.7, scale_crop=0.7, min_visibility=0, size_hw=(30, 30))
    box = [x, y, x + width, y + height]
    image, boxes, _ = run(augment, painted([box]), [box], seed)
    if len(boxes):
        assert boxes[0].tolist() == found(image)
    else:
        assert not (image == RED).all(axis=2).any()


def test_steps_are_drawn_independently():
    augment = only(hflip=0.5, vflip=0.5)
    corner = [0, 0, 1, 1]
    image = painted([corner])
    places = Counter(tuple(run(augment, image, [corner], seed)[1][0]) for seed in range(400))
    assert len(places) == 4 and min(places.values()) > 60


def test_crops_have_the_asked_area_a_shape_between_and_every_place():
    augment = only(scale_crop=1, crop_scale=(0.4, 0.9), size_hw=(64, 64))
    image = np.zeros((120, 240, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(240), np.arange(120)[:, None]
    areas, aspects, corners = [], [], []
    for seed in range(200):
        cropped, _, _ = run(augment, image, [], seed)
        height, width = cropped.shape[:2]
        areas.append(height * width / image.shape[0] / image.shape[1])
        aspects.append(width / height)
        corners.append(tuple(cropped[0, 0, :2]))
        left, top = cropped[0, 0, :2]
        assert np.array_equal(cropped, image[top : top + height, left : left + width])
    # The smaller part of the range is always within reach; a square of 0.9 of a 2:1 picture is not.
    assert 0.39 <= min(areas) < 0.45 and 0.75 < max(areas) <= 0.91
    assert 0.98 <= min(aspects) < 1.1 and 1.8 < max(aspects) <= 2.03
    assert len(set(corners)) > 150


def test_a_crop_of_the_whole_picture_is_the_picture():
    image = painted([BOX])
    cropped, boxes, _ = run(only(scale_crop=1, crop_scale=(1, 1)), image, [BOX])
    assert np.array_equal(cropped, image) and boxes.tolist() == [BOX]


def test_boxes_with_little_left_are_dropped_with_their_labels():
    boxes = [[x, y, x + 10, y + 10] for x in range(0, 60, 12) for y in range(0, 40, 15)]
    image = np.zeros((*SIZE_HW, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(60), np.arange(40)[:, None]
    augment = only(scale_crop=1, crop_scale=(0.3, 0.6), min_visibility=0.5)
    dropped = kept_partly = 0
    for seed in range(50):
        cropped, left, labels = run(augment, image, boxes, seed)
        x, y = cropped[0, 0, :2].astype(int)
        height, width = cropped.shape[:2]
        moved = np.array(boxes, np.float64) - [x, y, x, y]
        clipped = np.clip(moved, 0, [width, height, width, height])
        visible = (clipped[:, 2] - clipped[:, 0]) * (clipped[:, 3] - clipped[:, 1]) / 100
        certain = np.abs(visible - 0.5) > 1e-3
        assert {i for i in range(len(boxes)) if certain[i] and visible[i] > 0.5} == set(labels[certain[labels]])
        assert np.abs(left - clipped[labels]).max(initial=0) < 1e-3
        dropped += len(boxes) - len(labels)
        kept_partly += int((visible[labels] < 1).sum())
    assert dropped > 100 and kept_partly > 50


def test_background_and_extreme_shapes():
    augment = Augment(size_hw=(64, 96), hflip=1, vflip=1, rotate90=1, scale_crop=1, blur=1)
    for size_hw in ((40, 60), (1, 1), (1, 500), (500, 1), (2, 3)):
        for seed in range(8):
            image, boxes, labels = augment(np.zeros((*size_hw, 3), np.uint8), NO_BOXES, NO_LABELS, seed=seed)
            assert image.dtype == np.uint8 and image.ndim == 3 and min(image.shape) >= 1
            assert boxes.shape == (0, 4) and boxes.dtype == np.float32
            assert labels.shape == (0,) and labels.dtype == np.int64


def test_the_same_seed_gives_the_same_and_others_differ():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    augment = Augment(size_hw=(64, 64), blur=0.5)
    copy = pickle.loads(pickle.dumps(augment))
    results = set()
    for seed in range(20):
        first = run(augment, image, [BOX], seed)
        random.seed(1)
        np.random.seed(1)  # no other generator may matter
        for again in (run(augment, image, [BOX], seed), run(copy, image, [BOX], seed)):
            assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        results.add(first[0].tobytes())
    assert len(results) == 20


def test_arguments_are_left_alone_and_may_be_read_only():
    image, boxes = painted([BOX]), np.array([BOX], np.float32)
    before = image.copy()
    for array in (image, boxes):
        array.setflags(write=False)
    for seed in range(5):
        out, _, _ = Augment(size_hw=(64, 64), blur=1)(image, boxes, np.zeros(1, np.int64), seed=seed)
        out[:] = 0  # the result is the caller's
    out, _, _ = only()(image, boxes, np.zeros(1, np.int64), seed=0)
    out[:] = 0
    assert np.array_equal(image, before)


def test_colours_are_changed_as_bgr():
    # Orange turned along the colour circle; read as RGB it would be blue and turn the other way.
    orange_bgr = np.full((4, 4, 3), (20, 110, 220), np.uint8)
    changed = 0
    for seed in range(10):
        image, _, _ = only(hue=0.1)(orange_bgr, NO_BOXES, NO_LABELS, seed=seed)
        theirs = albumentations.HueSaturationValue(18, 0, 0, p=1.0)
        theirs.set_random_state(np.random.default_rng(seed), random.Random(seed))
        theirs.py_random.random()  # the recipe itself draws once, for its own probability
        expected = theirs(image=orange_bgr[..., ::-1].copy())["image"][..., ::-1]
        assert np.array_equal(image, expected)
        changed += int(not np.array_equal(image, orange_bgr))
    assert changed >= 8


def test_brightness_and_contrast_stay_within_their_limits():
    grey = np.full((4, 4, 3), 100, np.uint8)
    values = [int(run(only(brightness=0.2), grey, [], seed)[0][0, 0, 0]) for seed in range(60)]
    assert 49 <= min(values) < 60 and 140 < max(values) <= 151  # 100 -+ 0.2 * 255
    values = [int(run(only(contrast=0.2), grey, [], seed)[0][0, 0, 0]) for seed in range(60)]
    assert 79 <= min(values) < 85 and 115 < max(values) <= 121  # 100 * (1 -+ 0.2)


def test_blur_smears_an_edge_and_keeps_boxes():
    image, boxes, _ = run(only(blur=1), painted([BOX]), [BOX], seed=3)
    assert len(np.unique(image)) > 3 and boxes.tolist() == [BOX]


@pytest.mark.parametrize(
    "changes",
    [
        {"hflip": 1.1},
        {"blur": -0.1},
        {"hue": float("nan")},
        {"crop_scale": (0.0, 1.0)},
        {"crop_scale": (0.9, 0.4)},
        {"crop_scale": (0.5, 1.5)},
        {"size_hw": (0, 5)},
        {"rain": 1.5},
        {"amount": (0.8, 0.2)},
        {"height_range": (1.1, 1.5)},
        {"pitch_deg": 31},
        {"smallest_scale": 0},
        {"speed_kmh": (5, 3)},
        {"gsd_mm": 0},
        {"readout_ms": -1},
        {"heading_deg": float("inf")},
        {"view": "sideways"},
    ],
)
def test_numbers_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        only(**changes)


def test_with_basic_keys_only_it_is_the_single_recipe_that_it_always_was():
    steps = [
        _Window(64 / 48, (0.4, 1.0), 0.7),
        A.HorizontalFlip(p=0.5),
        A.VerticalFlip(p=0.5),
        A.RandomRotate90(p=0.5),
        A.RandomBrightnessContrast(0.25, 0.25, p=1.0),
        A.HueSaturationValue(0.015 * 180, 0.15 * 255, 0, p=1.0),
        _blur(0.3),
    ]
    recipe = A.Compose(steps, bbox_params=A.BboxParams("albumentations", min_visibility=0.3))
    augment = Augment(size_hw=(48, 64), blur=0.3)
    image = np.random.default_rng(5).integers(0, 256, (90, 120, 3), np.uint8)
    boxes = np.array([[3, 4, 50, 60], [70, 20, 119, 88], [0.5, 80.2, 10.1, 90]], np.float32)
    frame = np.array([120, 90, 120, 90], np.float64)
    for seed in range(40):
        recipe.set_random_state(np.random.default_rng(seed), random.Random(seed))
        rows = np.column_stack([boxes.astype(np.float64) / frame, np.arange(3.0)])
        theirs = recipe(image=cv2.cvtColor(image, cv2.COLOR_BGR2RGB), bboxes=rows)
        left = np.asarray(theirs["bboxes"], np.float64).reshape(-1, 5)
        ours, moved, labels = augment(image, boxes, np.arange(3), seed=seed)
        height, width = ours.shape[:2]
        assert np.array_equal(ours, cv2.cvtColor(theirs["image"], cv2.COLOR_RGB2BGR))
        assert labels.tolist() == left[:, 4].astype(int).tolist()
        assert np.abs(moved - left[:, :4] * [width, height, width, height]).max(initial=0) < 1e-5


WIDE = [20, 15, 40, 27]  # in 60 x 40


def others(rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = int(rng.integers(0, 3))
    boxes = np.array([[4, 5, 16, 19], [40, 10, 52, 25]], np.float32)[:n]
    return painted(boxes, (44, 66)), boxes, np.arange(n)


def test_every_effect_is_reached_and_looks_leave_boxes_bit_equal():
    image = np.random.default_rng(0).integers(40, 120, (40, 60, 3), np.uint8)
    boxes = np.array([WIDE, [0.1, 0.2, 13.3, 7.7]], np.float32)
    for name in EFFECTS:
        augment = only(amount=(1, 1), **{name: 1})
        changed = 0
        for seed in range(6):
            seen, moved, labels = augment(image, boxes, np.arange(2), seed=seed, other=others)
            changed += int(seen.shape != image.shape or not np.array_equal(seen, image))
            if name in LOOKS:
                assert seen.shape == image.shape
                assert np.array_equal(moved, boxes) and labels.tolist() == [0, 1]
        assert changed >= 5 or (name == "copy_paste" and changed >= 1), name
    assert len(EFFECTS) == 23


@pytest.mark.parametrize("size_hw", [(4, 1), (1, 4), (1, 1), (4, 2)])
def test_a_sliver_of_a_picture_is_no_error(size_hw):
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    augment = Augment(size_hw=(48, 64))
    for seed in range(20):
        seen, boxes, _ = augment(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), seed=seed)
        assert min(seen.shape) >= 1 and len(boxes) == 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    chance=st.sampled_from([0.2, 1.0]),
    size_hw=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    data=st.data(),
)
def test_whatever_comes_boxes_stay_inside_with_their_labels(seed, chance, size_hw, data):
    height, width = size_hw
    corner = st.tuples(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.02, 1), st.floats(0.02, 1))
    drawn = data.draw(st.lists(corner, max_size=4))
    boxes = np.array([[x, y, min(1, x + w), min(1, y + h)] for x, y, w, h in drawn], np.float32).reshape(-1, 4)
    boxes *= np.array([width, height, width, height], np.float32)
    image = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8)
    augment = Augment(size_hw=(48, 64), **dict.fromkeys(EFFECTS, chance))
    first = augment(image, boxes, 10 + np.arange(len(boxes)), seed=seed, other=others)
    again = augment(image, boxes, 10 + np.arange(len(boxes)), seed=seed, other=others)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    seen, moved, labels = first
    assert seen.dtype == np.uint8 and seen.ndim == 3 and min(seen.shape) >= 1
    assert moved.dtype == np.float32 and moved.shape == (len(labels), 4) and labels.dtype == np.int64
    assert (moved >= 0).all() and (moved <= np.tile(seen.shape[1::-1], 2)).all()
    assert (moved[:, 2:] > moved[:, :2]).all()
    assert set(labels.tolist()) <= {0, 1, *range(10, 10 + len(boxes))}


def test_labels_stay_with_their_boxes_through_all_geometry():
    colours = [(0, 0, 255), (0, 255, 0), (255, 0, 0)]
    places = np.array([[8, 8, 40, 34], [60, 12, 84, 50], [30, 60, 80, 88]], np.float32)
    image = np.zeros((96, 96, 3), np.uint8)
    for (x1, y1, x2, y2), colour in zip(places.astype(int), colours, strict=True):
        image[y1:y2, x1:x2] = colour
    geometry = dict.fromkeys(("camera_height", "camera_pitch", "rolling_shutter", "multi_scale"), 0.7)
    augment = only(size_hw=(96, 96), hflip=0.5, vflip=0.5, rotate90=1, min_visibility=0.5, heading_deg=90, **geometry)
    seen_boxes = 0
    for seed in range(60):
        seen, boxes, labels = augment(image, places, np.arange(3), seed=seed)
        for box, label in zip(boxes, labels, strict=True):
            strong = seen[..., int(np.argmax(colours[label]))].astype(int)
            others_ = np.delete(seen, int(np.argmax(colours[label])), axis=2).max(axis=2)
            rows, columns = np.nonzero((strong > 127) & (others_ < 100))
            there = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(box - there).max() <= 2.0  # one for each of the four resamplings, halved
            seen_boxes += 1
    assert seen_boxes > 120


def test_switching_an_effect_on_changes_no_other():
    image = np.random.default_rng(0).integers(40, 120, (40, 60, 3), np.uint8)
    for seed in range(5):
        alone = run(only(camera_height=1), image, [WIDE], seed)
        both = run(only(camera_height=1, white_balance=1), image, [WIDE], seed)
        assert np.array_equal(alone[1], both[1])
        assert not np.array_equal(alone[0], both[0])


def test_mixes_need_other_pictures_and_nothing_else_does():
    image = painted([WIDE])
    for name in MIXES:
        with pytest.raises(ValueError, match=f"{name} needs other pictures"):
            run(only(**{name: 1}), image, [WIDE])
    run(only(**{name: 1 for name in EFFECTS if name not in MIXES}), image, [WIDE])


def test_an_oblique_view_is_never_turned():
    with pytest.raises(ValueError, match="vflip and rotate90 must be 0"):
        only(view="oblique", vflip=0.5)
    places = {tuple(run(only(view="oblique", hflip=0.5), painted([BOX]), [BOX], seed)[1][0]) for seed in range(30)}
    assert places == {(5, 7, 25, 12), (35, 7, 55, 12)}


def test_a_driving_direction_turns_along_with_the_picture():
    image = np.zeros((65, 65, 3), np.uint8)
    image[32, 32] = 255
    asked = {"motion_blur": 1, "speed_kmh": (7.2, 7.2), "exposure_ms": (5, 5), "gsd_mm": 2.0, "size_hw": (65, 65)}
    ways = set()
    for seed in range(30):
        for turned in (0, 1):
            seen, _, _ = only(rotate90=turned, **asked)(image, NO_BOXES, NO_LABELS, seed=seed)
            rows, columns = np.nonzero(seen[..., 0])
            assert sorted((np.ptp(rows), np.ptp(columns))) == [0, pytest.approx(5, abs=1)]  # 2 m/s x 5 ms / 2 mm
            ways.add((turned, bool(np.ptp(rows) > np.ptp(columns))))
    assert ways == {(0, True), (1, True), (1, False)}


def test_blur_is_scaled_with_the_photo():
    # 400 px shrunk to 100: a pixel then covers four times the ground, and the blur is a quarter as long.
    spreads = []
    for size in (400, 100):
        image = np.zeros((400, 400, 3), np.uint8)
        image[:, 200:] = 255
        augment = only(motion_blur=1, speed_kmh=(36, 36), exposure_ms=(2, 2), heading_deg=90, size_hw=(size, size))
        seen, _, _ = augment(image, NO_BOXES, NO_LABELS, seed=0)
        assert seen.shape == (size, size, 3)
        spreads.append(int(((seen[size // 2] > 0) & (seen[size // 2] < 255)).all(axis=1).sum()))
    assert spreads == [pytest.approx(20, abs=1), pytest.approx(5, abs=1)]  # 10 m/s x 2 ms = 20 mm


def test_the_import_never_asks_the_network():
    code = (
        "import urllib.request\n"
        "def refuse(*a, **k): raise SystemExit('asked the network')\n"
        "urllib.request.OpenerDirector.open = refuse\n"
        "import data.augment\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_scale_range_by_hand():
    picture_hw, input_hw = (300, 400), (100, 100)
    # no crop, no turn: the letterbox alone, 100 / 400
    assert only(input_hw).scale_range(picture_hw) == (0.25, 0.25)
    # a tall input takes a picture lying down at 60 / 400, turned at 60 / 300
    assert only((90, 60)).scale_range(picture_hw) == (0.15, 0.15)
    assert only((90, 60), rotate90=0.5).scale_range(picture_hw) == (0.15, 0.2)
    # a quarter of 300 x 400 pixels in the input's shape is a square of side sqrt(30000) = 173.2
    quarter = only(input_hw, scale_crop=0.5, crop_scale=(0.25, 1)).scale_range(picture_hw)
    assert quarter == (0.25, pytest.approx(100 / 173.205))
    # all of the area does not fit as a square: the largest square is 300 x 300
    whole = only(input_hw, scale_crop=0.5, crop_scale=(1, 1)).scale_range(picture_hw)
    assert whole == (0.25, pytest.approx(100 / 300))
    assert only(input_hw, scale_crop=0, crop_scale=(0.1, 1)).scale_range(picture_hw) == (0.25, 0.25)


@given(
    st.integers(0, 10**6),
    st.integers(60, 300),
    st.integers(60, 300),
    st.tuples(st.integers(32, 200), st.integers(32, 200)),
    st.floats(0.1, 1),
)
@settings(max_examples=150, deadline=None)
def test_no_draw_leaves_the_scale_range(seed, height, width, input_hw, smallest_crop):
    augment = only(input_hw, rotate90=0.5, scale_crop=0.7, crop_scale=(smallest_crop, 1))
    image, _, _ = run(augment, np.zeros((height, width, 3), np.uint8), NO_BOXES, seed)
    scale = min(input_hw[0] / image.shape[0], input_hw[1] / image.shape[1])
    smallest, largest = augment.scale_range((height, width))
    rounding = 1 / min(image.shape[:2])  # crops are whole pixels
    assert smallest * (1 - rounding) <= scale <= largest * (1 + rounding)
