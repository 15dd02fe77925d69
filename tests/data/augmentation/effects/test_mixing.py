from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.augmentation.effects.mixing import copy_paste, mixup, mosaic
from data.augmentation.sample import Sample, at_most, cut_to_frame

COLOURS = ((0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255))
NONE = np.zeros((0, 4))


def image(box, colour, label, size_hw=(120, 160)) -> Sample:
    image = np.full((*size_hw, 3), 20, np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = colour
    return Sample(image, np.array([box], float), np.array([label], np.int64))


def found(image, colour) -> list[int] | None:
    """The box around what is nearer to `colour` than to the ground and the other colours, or None."""
    known = np.array([(20, 20, 20), *COLOURS], float)
    nearest = np.linalg.norm(image[:, :, None] - known, axis=3).argmin(axis=2)
    rows, columns = np.nonzero(nearest == 1 + COLOURS.index(colour))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.sampled_from([(120, 160), (90, 90), (300, 200)]), min_size=4, max_size=4),
)
def test_a_mosaics_boxes_lie_around_their_pixels(seed, sizes):
    rng = np.random.default_rng(seed)
    samples = []
    for label, (size_hw, colour) in enumerate(zip(sizes, COLOURS, strict=True)):
        x, y = int(rng.integers(5, size_hw[1] - 50)), int(rng.integers(5, size_hw[0] - 50))
        samples.append(image((x, y, x + 40, y + 35), colour, label, size_hw))
    made = mosaic(samples, (120, 160), rng, min_visibility=0)
    assert made.image_bgr.shape == (120, 160, 3)
    seen = dict(zip(made.labels.tolist(), made.boxes_xyxy, strict=True))
    for label, colour in enumerate(COLOURS):
        there = found(made.image_bgr, colour)
        if label in seen and there is not None:
            assert np.abs(seen[label] - there).max() <= 1.0
        else:  # slivers of less than a pixel may be in one and not in the other
            assert there is None or min(there[2] - there[0], there[3] - there[1]) <= 1
            assert label not in seen or (seen[label][2:] - seen[label][:2]).min() <= 1


def test_a_mosaic_is_filled_drops_cut_boxes_and_takes_four():
    whole = np.array([[0, 0, 60, 60]], float)
    full = [Sample(np.full((60, 60, 3), 40 * k + 40, np.uint8), whole, np.array([k])) for k in range(4)]
    made = mosaic(full, (60, 60), np.random.default_rng(0), min_visibility=0)
    assert set(np.unique(made.image_bgr)) == {40, 80, 120, 160}
    assert made.labels.tolist() == [0, 1, 2, 3]
    for box, label in zip(made.boxes_xyxy.round().astype(int), made.labels, strict=True):
        assert (made.image_bgr[box[1] : box[3], box[0] : box[2]] == 40 * label + 40).all()
    assert np.prod(made.boxes_xyxy[:, 2:] - made.boxes_xyxy[:, :2], axis=1).sum() == pytest.approx(3600)
    assert len(mosaic(full, (60, 60), np.random.default_rng(0), min_visibility=1).labels) == 0
    with pytest.raises(ValueError, match="4 samples"):
        mosaic(full[:3], (60, 60), np.random.default_rng(0), min_visibility=0)


def test_mixup_shows_both_and_keeps_both_boxes():
    one, other = image((10, 10, 40, 40), (255, 255, 255), 0), image((90, 70, 130, 110), (255, 255, 255), 1)
    made = mixup(one, other, np.random.default_rng(0), min_visibility=0.3)
    assert made.labels.tolist() == [0, 1]
    assert made.boxes_xyxy.tolist() == [[10, 10, 40, 40], [90, 70, 130, 110]]
    inside = [made.image_bgr[25, 25, 0], made.image_bgr[90, 110, 0]]
    assert all(0.4 * 235 + 19 <= value <= 0.6 * 235 + 21 for value in inside)
    assert sum(int(value) for value in inside) == pytest.approx(255 + 20, abs=2)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(8, 40), height=st.integers(8, 40), any_turn=st.booleans())
def test_a_copied_plant_lies_in_its_box_and_hides_no_other(seed, width, height, any_turn):
    field = image((70, 50, 90, 70), COLOURS[0], 0)
    before = field.image_bgr.copy()
    donor = image((30, 40, 30 + width, 40 + height), COLOURS[1], 1)
    made = copy_paste(field, donor, np.random.default_rng(seed), most=3, any_turn=any_turn)
    assert np.array_equal(field.image_bgr, before)
    assert made.labels.tolist() == [0, 1]  # one plant in the donor: never set down twice
    assert found(made.image_bgr, COLOURS[0]) is not None
    assert made.boxes_xyxy[0].tolist() == [70, 50, 90, 70]
    assert made.boxes_xyxy[1].tolist() == found(made.image_bgr, COLOURS[1])
    sides = made.boxes_xyxy[1, 2:] - made.boxes_xyxy[1, :2]
    assert sides.tolist() in ([[width, height], [height, width]] if any_turn else [[width, height]])
    old, new = made.boxes_xyxy
    shared = np.minimum(old[2:], new[2:]) - np.maximum(old[:2], new[:2])
    assert (shared <= 0).any() or shared.prod() <= 0.05 * sides.prod()


def test_only_clear_plants_are_copied():
    field = Sample(np.full((120, 160, 3), 20, np.uint8), NONE, np.zeros(0, np.int64))
    rng = np.random.default_rng(0)
    nothing_there = Sample(field.image_bgr, np.array([[10, 10, 40, 40]], float), np.array([0]))
    tiny = image((10, 10, 14, 14), COLOURS[1], 0)
    twice = image((10, 10, 40, 40), COLOURS[1], 0)
    twice = Sample(twice.image_bgr, np.array([[10, 10, 40, 40], [12, 12, 40, 40]], float), np.array([0, 1]))
    huge = image((10, 10, 100, 100), COLOURS[1], 0)
    empty = Sample(field.image_bgr, NONE, np.zeros(0, np.int64))
    for donor in (nothing_there, tiny, twice, huge, empty):
        made = copy_paste(field, donor, rng, most=5, any_turn=True)
        assert len(made.labels) == 0 and made.boxes_xyxy.shape == (0, 4)
        assert np.array_equal(made.image_bgr, field.image_bgr)


def test_a_full_field_takes_no_more_plants():
    field = Sample(np.full((120, 160, 3), 20, np.uint8), np.array([[0, 0, 160, 120]], float), np.array([0]))
    made = copy_paste(field, image((30, 40, 60, 70), COLOURS[1], 1), np.random.default_rng(0), most=5, any_turn=True)
    assert made.labels.tolist() == [0] and np.array_equal(made.image_bgr, field.image_bgr)


def test_cutting_by_hand():
    image = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array([[-50, 0, 50, 10], [-51, 0, 49, 10], [100, 0, 120, 10], [10, 10, 20, 20], [0, -9, 10, 0]], float)
    cut = cut_to_frame(Sample(image, boxes, np.arange(5)), 0.5)
    assert cut.labels.tolist() == [0, 3] and cut.boxes_xyxy.tolist() == [[0, 0, 50, 10], [10, 10, 20, 20]]
    assert cut_to_frame(Sample(image, boxes, np.arange(5)), 0).labels.tolist() == [0, 1, 3]


def test_shrinking_by_hand():
    sample = Sample(np.zeros((400, 800, 3), np.uint8), np.array([[80, 40, 160, 80]], float), np.array([0]))
    # Lying, 800 x 400 fits 320 x 200 (w x h) at 0.4; standing, 400 x 800 at 0.25: the larger is kept.
    shrunk = at_most(sample, (200, 320))
    assert shrunk.image_bgr.shape == (160, 320, 3) and shrunk.boxes_xyxy.tolist() == [[32, 16, 64, 32]]
    assert at_most(sample, (400, 800)) is sample and at_most(sample, (4000, 4000)) is sample
