import numpy as np
import pytest

from data import Dataset
from data.dataset import LabelledImage
from detection.evaluation.curves import Matches
from detection.evaluation.intervals import draw_groups
from detection.evaluation.thresholds import (
    CropPlants,
    Goal,
    choose,
    crop_plants,
    precision_at,
    recall_at,
    share,
)
from detection.runtime.detections import Detections

IOU = np.array([0.3, *np.arange(0.5, 1.0, 0.05)])
CROP, WEED = 0, 1


def matches(score, hit, image, boxes):
    """One class; `boxes` to find in each image."""
    every = np.repeat(np.asarray(hit, bool)[None], len(IOU), axis=0)
    label, none = np.zeros(len(score), np.int64), np.zeros_like(every)
    return Matches.in_order(IOU, np.asarray(image), label, np.asarray(score, float), every, none,
                            np.asarray(boxes)[:, None])  # fmt: skip


def alone(images):
    return draw_groups([str(i) for i in range(images)], 200, 0)


def test_goals_are_parsed_and_nonsense_is_refused():
    assert Goal.parse("f1") == Goal("f1")
    assert Goal.parse("recall>=0.95") == Goal("recall", 0.95)
    assert Goal.parse("weed:crop-hits<=0.01") == Goal("crop-hits", 0.01, "weed")
    assert Goal.parse("a:b:precision>=1") == Goal("precision", 1.0, "a:b")
    assert [str(Goal.parse(t)) for t in ("f1", "recall>=0.5", "weed:crop-hits<=0.01")] == [
        "f1", "recall>=0.5", "crop-hits<=0.01"
    ]  # fmt: skip
    for text in ("", "best", "f1>=0.5", "f10.5", "recall", "recall>=", "recall<=0.5", "recall>=2", "recall>=e",
                 "crop-hits>=0.1", ":f1", "recall>=0"):  # fmt: skip
        with pytest.raises(ValueError, match="is no goal"):
            Goal.parse(text)


def test_each_goal_worked_on_paper():
    # hits by score: yes no yes yes no; five boxes in two images, so recall 0.2 0.2 0.4 0.6 0.6,
    # precision 1 1/2 2/3 3/4 3/5, F1 0.33 0.29 0.5 0.667 0.6
    found = matches([0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 1, 0], [0, 0, 0, 1, 1], [3, 2])
    weights = alone(2)

    def choice(text):
        return choose(Goal.parse(text), found, 0, None, weights)

    assert choice("f1").threshold == pytest.approx(0.55)
    assert (choice("f1").rate.count, choice("f1").rate.of) == (3, 4)
    assert choice("recall>=0.4").threshold == pytest.approx(0.65)
    assert choice("recall>=0.4").rate.value == 0.4
    assert choice("precision>=0.7").threshold == pytest.approx(0.55)  # not at 0.9: more boxes are found here
    assert choice("precision>=0.9").threshold == pytest.approx(0.85)
    never = choice("recall>=0.9")
    assert not never.reached and never.threshold == pytest.approx(0.25) and never.rate.value == 0.6
    assert not choose(Goal("precision", 1.0), matches([0.9], [0], [0], [1]), 0, None, alone(1)).reached
    nothing = choose(Goal("f1"), matches([], [], np.zeros(0, int), [1]), 0, None, alone(1))
    assert not nothing.reached and nothing.threshold == 0.5
    with pytest.raises(ValueError, match="needs the crop plants"):
        choose(Goal("crop-hits", 0.01), found, 0, None, weights)


def test_equal_scores_count_together():
    found = matches([0.9, 0.5, 0.5, 0.5], [1, 1, 0, 0], [0, 0, 0, 0], [2])
    assert choose(Goal("precision", 0.6), found, 0, None, alone(1)).threshold == pytest.approx(0.7)
    assert recall_at(found, 0, 0.5, alone(1)).value == 1
    assert precision_at(found, 0, 0.5, alone(1)).value == 0.5


def test_a_share_has_clopper_and_pearsons_interval_and_a_wider_one_where_groups_are_alike():
    image = np.arange(100)
    none = share(np.zeros(100, bool), image, alone(100))
    assert (none.value, none.low) == (0, 0) and none.high == pytest.approx(1 - 0.025 ** (1 / 100))
    every = share(np.ones(100, bool), image, alone(100))
    assert every.high == 1 and every.low == pytest.approx(0.025 ** (1 / 100))
    half = np.arange(100) < 50
    apart = share(half, image, alone(100))
    assert (apart.low, apart.high) == pytest.approx((0.398, 0.602), abs=0.012)
    fields = draw_groups([str(i // 10) for i in range(100)], 400, 0)  # ten fields, each all or nothing
    alike = share(half, image, fields)
    assert alike.low < 0.25 and alike.high > 0.75
    assert share(np.zeros(0, bool), np.zeros(0, int), alone(3)).to_dict() == {
        "value": 0.0, "count": 0, "of": 0, "low": 0.0, "high": 1.0
    }  # fmt: skip


def test_a_crop_plant_is_hit_where_its_middle_lies_in_a_weed():
    boxes = np.array([[0, 0, 40, 40], [60, 0, 100, 40], [0, 60, 40, 100], [60, 60, 100, 100]], np.float32)
    labels, crowd = np.array([CROP, CROP, WEED, CROP]), np.array([False, False, False, True])
    truth = Dataset("made", ("beet", "thistle"), (1, 2), (
        LabelledImage(1, "/1.png", (100, 100), boxes, labels, np.full(4, 1600.0), crowd, {}),
        LabelledImage(2, "/2.png", (100, 100), boxes[:0], labels[:0], np.zeros(0), crowd[:0], {}),
    ))  # fmt: skip
    seen = Detections(
        np.array([[0, 0, 19, 40], [18, 18, 22, 22], [60, 0, 100, 40], [70, 0, 90, 40]], np.float32),
        np.array([0.9, 0.3, 0.8, 0.6], np.float32),  # beside the middle; on it; a crop; on the second's middle
        np.array([WEED, WEED, CROP, WEED]),
    )
    plants = crop_plants(truth, [seen, Detections.empty()], [CROP])
    assert plants.image.tolist() == [0, 0] and plants.score == pytest.approx([0.3, 0.6])
    at = crop_plants(truth, [seen, Detections.empty()], [CROP], np.array([0.0, 0.5]))
    assert at.score == pytest.approx([0, 0.6])
    assert plants.hits(0.5, alone(2)).count == 1
    assert len(crop_plants(truth, [seen, Detections.empty()], []).score) == 0


def field(rng, count):
    """Crop plants of fields that differ: how surely each is taken for a weed."""
    easy = rng.beta(2, 20, count // 20).repeat(20)
    score = np.where(rng.random(count) < easy, rng.beta(2, 3, count), 0)
    return CropPlants(np.arange(count) // 5, score), [str(p // 4) for p in range(count // 5)]


def test_a_limit_on_crop_hits_holds_on_other_fields():
    none = matches([], [], np.zeros(0, int), np.zeros(160, int))
    held = used = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        plants, groups = field(rng, 800)
        chosen = choose(Goal("crop-hits", 0.01), none, 0, plants, draw_groups(groups, 300, seed))
        assert chosen.reached and chosen.rate.high <= 0.01
        other, others = field(rng, 800)
        rate = other.hits(chosen.threshold, draw_groups(others, 300, seed))
        held += rate.value <= chosen.rate.high
        used += chosen.threshold < 0.95
    assert held >= 18
    assert used == 20  # and not by never spraying


def test_too_few_crop_plants_promise_nothing():
    none = matches([], [], np.zeros(0, int), np.zeros(10, int))
    few = CropPlants(np.arange(10), np.array([0.8, *[0.0] * 9]))
    chosen = choose(Goal("crop-hits", 0.01), none, 0, few, alone(10))
    assert not chosen.reached and chosen.threshold == pytest.approx(0.81)
    assert chosen.rate.count == 0 and chosen.rate.high == pytest.approx(0.308, abs=0.001)
