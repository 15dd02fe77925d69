from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.augmentation.augment import Augment
from data.augmentation.effect import stream
from data.augmentation.effects import KINDS
from data.augmentation.settings import AugmentSettings
from tests.data.painted import BOX, NO_BOXES, NO_LABELS, only, painted, run

EFFECTS = tuple(kind.name for kind in KINDS)
MIXES = tuple(kind.name for kind in KINDS if kind.group == "mix")
WIDE = [20, 15, 40, 27]  # in 60 x 40


def others(rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = int(rng.integers(0, 3))
    boxes = np.array([[4, 5, 16, 19], [40, 10, 52, 25]], np.float32)[:n]
    return painted(boxes, (44, 66)), boxes, np.arange(n)


def test_every_effect_is_reached_and_photometric_ones_leave_boxes_bit_equal():
    image = np.random.default_rng(0).integers(40, 120, (40, 60, 3), np.uint8)
    boxes = np.array([WIDE, [0.1, 0.2, 13.3, 7.7]], np.float32)
    photometric = 0
    for name, group in ((kind.name, kind.group) for kind in KINDS):
        augment = only(amount=(1, 1), **{name: 1})
        changed = 0
        for seed in range(6):
            seen, moved, labels = augment(image, boxes, np.arange(2), seed=seed, other=others)
            changed += int(seen.shape != image.shape or not np.array_equal(seen, image))
            if group == "photometric":
                photometric += 1
                assert seen.shape == image.shape
                assert np.array_equal(moved, boxes) and labels.tolist() == [0, 1]
        assert changed >= 5 or (name == "copy_paste" and changed >= 1), name
    assert photometric == 6 * 16 and len(KINDS) >= 23


@pytest.mark.parametrize("size_hw", [(4, 1), (1, 4), (1, 1), (4, 2)])
def test_a_sliver_of_a_image_is_no_error(size_hw):
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8)
    augment = Augment(AugmentSettings(), size_hw=(48, 64))
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
    augment = Augment(AugmentSettings(**dict.fromkeys(EFFECTS, chance)), size_hw=(48, 64))
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
    for seed in range(100, 160):
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


def draws(kinds, monkeypatch, image, seed) -> dict[str, bytes]:
    """What each of `kinds` makes of the image, when all come and are then the only one to come."""
    from data.augmentation import augment as module

    monkeypatch.setattr(module, "KINDS", kinds)
    made = {}
    for kind in kinds:
        alone = only(**{kind.name: 1})
        seen, boxes, _ = alone(image, np.array([WIDE], np.float32), np.zeros(1, np.int64), seed=seed, other=others)
        made[kind.name] = seen.tobytes() + boxes.tobytes()
    return made


def test_removing_or_moving_effects_leaves_the_draws_of_the_others(monkeypatch):
    image = np.random.default_rng(0).integers(40, 120, (40, 60, 3), np.uint8)
    rng = np.random.default_rng(1)
    for seed in range(3):
        whole = draws(KINDS, monkeypatch, image, seed)
        moved = [KINDS[i] for i in rng.permutation(len(KINDS))]
        assert draws(tuple(moved), monkeypatch, image, seed) == whole
        fewer = draws(tuple(moved[::2]), monkeypatch, image, seed)
        assert fewer == {name: whole[name] for name in fewer} and len(fewer) == 12


def test_which_effects_come_depends_on_their_own_names_only(monkeypatch):
    from data.augmentation import augment as module

    def come(kinds, seed) -> set[str]:
        monkeypatch.setattr(module, "KINDS", kinds)
        augment = only(**{kind.name: 0.3 for kind in KINDS})
        return {kind.name for kind, _, _ in augment._chosen(seed, True)}

    counts = Counter()
    for seed in range(400):
        whole = come(KINDS, seed)
        assert come(KINDS[::-1], seed) == whole
        assert come(KINDS[::2], seed) == whole & {kind.name for kind in KINDS[::2]}
        counts.update(whole)
    assert set(counts) == set(EFFECTS) and all(85 <= n <= 155 for n in counts.values())  # 120 +- 4 sigma
    assert len({zlib.crc32(name.encode()) for name in EFFECTS}) == len(EFFECTS)


def test_a_stream_is_the_same_on_every_machine():
    assert stream(5, "rain").integers(0, 1000, 4).tolist() == [709, 572, 461, 128]


def test_mixes_need_other_images_and_nothing_else_does():
    image = painted([WIDE])
    for name in MIXES:
        with pytest.raises(ValueError, match=f"{name} needs other images"):
            run(only(**{name: 1}), image, [WIDE])
    run(only(**{name: 1 for name in EFFECTS if name not in MIXES}), image, [WIDE])


def test_an_oblique_view_is_never_turned():
    with pytest.raises(ValueError, match="vflip and rotate90 must be 0"):
        only(view="oblique", vflip=0.5)
    places = {tuple(run(only(view="oblique", hflip=0.5), painted([BOX]), [BOX], seed)[1][0]) for seed in range(30)}
    assert places == {(5, 7, 25, 12), (35, 7, 55, 12)}


def test_a_driving_direction_turns_along_with_the_image():
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
        "import data.augmentation.augment\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_scale_range_by_hand():
    image_hw, input_hw = (300, 400), (100, 100)
    # no crop, no turn: the letterbox alone, 100 / 400
    assert only(input_hw).scale_range(image_hw) == (0.25, 0.25)
    # a tall input takes an image lying down at 60 / 400, turned at 60 / 300
    assert only((90, 60)).scale_range(image_hw) == (0.15, 0.15)
    assert only((90, 60), rotate90=0.5).scale_range(image_hw) == (0.15, 0.2)
    # a quarter of 300 x 400 pixels in the input's shape is a square of side sqrt(30000) = 173.2
    quarter = only(input_hw, scale_crop=0.5, crop_scale=(0.25, 1)).scale_range(image_hw)
    assert quarter == (0.25, pytest.approx(100 / 173.205))
    # all of the area does not fit as a square: the largest square is 300 x 300
    whole = only(input_hw, scale_crop=0.5, crop_scale=(1, 1)).scale_range(image_hw)
    assert whole == (0.25, pytest.approx(100 / 300))
    assert only(input_hw, scale_crop=0, crop_scale=(0.1, 1)).scale_range(image_hw) == (0.25, 0.25)


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
