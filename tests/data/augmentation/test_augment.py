from __future__ import annotations

import pickle
import random
from collections import Counter

import albumentations
import albumentations as A
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.augmentation.augment import Augment
from data.augmentation.basics import _blur, _Crop
from data.augmentation.settings import AugmentSettings
from tests.data.painted import BOX, NO_BOXES, NO_LABELS, RED, SIZE_HW, found, only, painted, run


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, BOX), ({"hflip": 1}, [35, 7, 55, 12]), ({"vflip": 1}, [5, 28, 25, 33])],
)
def test_flips_by_hand(changes, expected):
    image, boxes, labels = run(only(**changes), painted([BOX]), [BOX])
    assert boxes.tolist() == [expected] == [found(image)]
    assert boxes.dtype == np.float32 and labels.tolist() == [0] and labels.dtype == np.int64


def test_quarter_turns_by_hand():
    # Counter-clockwise a point (x, y) of a w x h image goes to (y, w - x).
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
    # The smaller part of the range is always within reach; a square of 0.9 of a 2:1 image is not.
    assert 0.39 <= min(areas) < 0.45 and 0.75 < max(areas) <= 0.91
    assert 0.98 <= min(aspects) < 1.1 and 1.8 < max(aspects) <= 2.03
    assert len(set(corners)) > 150


def test_a_crop_of_the_whole_image_is_the_image():
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
    augment = Augment(AugmentSettings(hflip=1, vflip=1, rotate90=1, scale_crop=1, blur=1), size_hw=(64, 96))
    for size_hw in ((40, 60), (1, 1), (1, 500), (500, 1), (2, 3)):
        for seed in range(8):
            image, boxes, labels = augment(np.zeros((*size_hw, 3), np.uint8), NO_BOXES, NO_LABELS, seed=seed)
            assert image.dtype == np.uint8 and image.ndim == 3 and min(image.shape) >= 1
            assert boxes.shape == (0, 4) and boxes.dtype == np.float32
            assert labels.shape == (0,) and labels.dtype == np.int64


def test_the_same_seed_gives_the_same_and_others_differ():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    augment = Augment(AugmentSettings(blur=0.5), size_hw=(64, 64))
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
        out, _, _ = Augment(AugmentSettings(blur=1), size_hw=(64, 64))(image, boxes, np.zeros(1, np.int64), seed=seed)
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
        _Crop(64 / 48, (0.4, 1.0), 0.7),
        A.HorizontalFlip(p=0.5),
        A.VerticalFlip(p=0.5),
        A.RandomRotate90(p=0.5),
        A.RandomBrightnessContrast(0.25, 0.25, p=1.0),
        A.HueSaturationValue(0.015 * 180, 0.15 * 255, 0, p=1.0),
        _blur(0.3),
    ]
    recipe = A.Compose(steps, bbox_params=A.BboxParams("albumentations", min_visibility=0.3))
    augment = Augment(AugmentSettings(blur=0.3), size_hw=(48, 64))
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
