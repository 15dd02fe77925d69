import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from detection.cli.terminal import differences_table
from detection.evaluation.curves import Matches, average_precision, resampled_precision
from detection.evaluation.intervals import (
    HEADLINE,
    Difference,
    Interval,
    class_intervals,
    differences,
    draw_groups,
    headline,
    intervals,
)

IOU = np.array([0.3, *np.arange(0.5, 1.0, 0.05)])


def matches(hit, image, score=None, images=None):
    """One class, one box to find in each image; detections hit at every overlap or at none."""
    hit, image = np.asarray(hit, bool), np.asarray(image, np.int64)
    score = np.linspace(1, 0.5, len(hit)) if score is None else np.asarray(score, float)
    boxes = np.ones((len(hit) if images is None else images, 1), np.int64)
    every = np.repeat(hit[None], len(IOU), axis=0)
    return Matches.in_order(IOU, image, np.zeros(len(hit), np.int64), score, every, np.zeros_like(every), boxes)


def fields(rng, count, rate_spread=0.25):
    """Fields of 6 images, each field with its own rate of hits; a detection in every image."""
    rates = np.clip(rng.normal(0.6, rate_spread, count), 0, 1)
    hit = rng.random((count, 6)) < rates[:, None]
    return matches(hit.ravel(), np.arange(6 * count), rng.random(6 * count)), [
        str(g) for g in np.arange(count).repeat(6)
    ]


def test_groups_are_drawn_whole_and_as_many_as_there_are():
    groups = ["a", "b", "a", "c", "c", "c"]
    drawn = draw_groups(groups, 500, seed=3)
    assert drawn.shape == (500, 6)
    assert (drawn[:, 0] == drawn[:, 2]).all() and (drawn[:, 3:] == drawn[:, 3:4]).all()
    of_groups = drawn[:, [0, 1, 3]]
    assert (of_groups.sum(axis=1) == 3).all()
    assert of_groups.mean(axis=0) == pytest.approx(1, abs=0.15)
    assert (drawn == draw_groups(groups, 500, seed=3)).all() and (drawn != draw_groups(groups, 500, seed=4)).any()
    assert draw_groups([], 5, 0).shape == (5, 0)


def test_headline_worked_on_paper():
    # a hit and a false one before it: precision 0.5 up to recall 0.5 (51 of 101 samples); a second box not found
    paper = matches([False, True], [0, 1])
    got = headline(paper)
    assert {name: got[name][0] for name in HEADLINE} == pytest.approx(
        dict.fromkeys(("AP", "AP50", "AP75", "AP30"), 51 * 0.5 / 101) | {"AR100": 0.5}
    )
    # only the image of the hit, twice: 1; only the other: 0; none at all: undefined
    rows = headline(paper, np.array([[0.0, 2.0], [2.0, 0.0], [0.0, 0.0]]))
    assert rows["AP"].tolist() == pytest.approx([1, 0, -1])


def test_intervals_hold_the_truth_as_often_as_they_say():
    truth = headline(fields(np.random.default_rng(0), 20_000)[0])
    inside = {"AP50": 0, "AR100": 0}
    of_images = 0
    for seed in range(100):
        sample, groups = fields(np.random.default_rng(1000 + seed), 40)
        found = intervals(sample, draw_groups(groups, 300, seed))
        for name in inside:
            inside[name] += found[name].low <= truth[name][0] <= found[name].high
        alone = intervals(sample, draw_groups([str(i) for i in range(len(groups))], 300, seed))["AR100"]
        of_images += alone.low <= truth["AR100"][0] <= alone.high
    assert all(88 <= count <= 99 for count in inside.values())  # 95 % of 100, a deviation of 2.2
    assert of_images < 88  # drawn image by image, it would promise too much


def test_one_group_has_no_spread_and_nothing_to_find_is_undefined():
    found = intervals(matches([True, False], [0, 1]), draw_groups(["a", "a"], 50, 0))
    assert found["AP"].low == found["AP"].value == found["AP"].high
    empty = intervals(matches([], []), draw_groups([], 50, 0))
    assert {(i.value, i.low, i.high) for i in empty.values()} == {(-1, -1, -1)}
    assert differences(matches([], []), matches([], []), draw_groups([], 50, 0))["AP"].change is None


def test_a_paired_difference_is_surer_than_two_intervals():
    rng = np.random.default_rng(5)
    first, groups = fields(rng, 40)
    better = first.true_positive[0] | (rng.random(240) < 0.15)  # mends some of the same images' mistakes
    second = matches(better, first.image, first.score, 240)
    drawn = draw_groups(groups, 400, 1)
    apart = [intervals(m, drawn)["AR100"] for m in (first, second)]
    assert apart[0].high > apart[1].low  # two intervals that overlap would settle nothing
    change = differences(first, second, drawn)["AR100"]
    assert change.significant and change.change.low > 0
    assert change.change.value == pytest.approx(change.second - change.first)
    same = differences(first, first, drawn)
    assert not any(d.significant for d in same.values())
    assert {(d.change.value, d.change.low, d.change.high) for d in same.values()} == {(0, 0, 0)}


def test_each_class_has_an_interval_of_its_own():
    one, groups = fields(np.random.default_rng(3), 12)
    other, _ = fields(np.random.default_rng(4), 12)
    both = Matches.in_order(
        IOU,
        np.concatenate([one.image, other.image]),
        np.repeat([0, 1], [len(one.image), len(other.image)]),
        np.concatenate([one.score, other.score]),
        np.hstack([one.true_positive, other.true_positive]),
        np.hstack([one.ignored, other.ignored]),
        np.hstack([one.boxes, other.boxes]),
    )
    drawn = draw_groups(groups, 200, 0)
    for own, interval in zip((one, other), class_intervals(both, drawn), strict=True):
        assert interval == intervals(own, drawn)["AP50"]


def test_many_resamples_at_once_are_each_by_itself_to_the_last_bit():
    rng = np.random.default_rng(2)
    score = rng.integers(1, 9, 80) / 10  # many ties
    some = matches(rng.random(80) < 0.4, rng.integers(0, 12, 80), score, images=12)
    weights = np.vstack([draw_groups([str(k // 3) for k in range(12)], 30, 0), np.zeros(12), np.full(12, 7.0)])
    alone = [average_precision(some, row[None]) for row in weights]
    assert (average_precision(some, weights) == np.concatenate(alone)).all()


@pytest.mark.parametrize("rate", [0.3, 0.9])
def test_curves_in_steps_differ_little_from_whole_ones(rate):
    rng = np.random.default_rng(1)
    score = rng.random(5000)
    many = matches(rng.random(5000) < score**0.5 * rate, rng.integers(0, 300, 5000), score, images=5000)
    weights = draw_groups([str(k) for k in range(5000)], 40, 0)
    whole, steps = average_precision(many, weights), resampled_precision(many, weights)
    assert np.abs(whole - steps).max() < 0.1 * whole.std(axis=0).max()  # far below what is to be shown
    assert (resampled_precision(many, np.ones((1, 5000))) == average_precision(many)).all()
    assert resampled_precision(many, np.zeros((1, 5000))).max() == -1


@pytest.mark.parametrize(
    ("change", "by_chance"),
    [
        ((0.72, 0.30, 1.10), 0.42),
        ((-0.5, -0.9, -0.2), 0.3),
        ((0.72, -0.1, 1.4), 0.72),  # the interval holds zero: all of it
        ((0.0, 0.0, 0.0), 0.0),
        ((0.2, 0.25, 0.4), 0.0),  # percentiles need not hold the value itself
    ],
)
def test_what_of_a_change_may_be_chance(change, by_chance):
    assert Difference(0.5, 0.5 + change[0], Interval(*change)).by_chance == pytest.approx(by_chance)


def test_the_difference_of_what_is_undefined_is_no_number():
    none = matches(np.zeros(3, bool), np.arange(3))
    bare = replace(none, boxes=np.zeros_like(none.boxes))
    for name, difference in differences(bare, bare, np.ones((10, 3))).items():
        assert (difference.first, difference.second, difference.change) == (-1, -1, None), name
        assert not difference.significant and difference.by_chance is None
    table = io.StringIO()
    changes = differences(bare, bare, np.ones((10, 3)))
    Console(file=table, width=120).print(differences_table(changes, [Path("a"), Path("b")]))
    assert table.getvalue().count("undefined: no boxes") == 5 and "1.000" not in table.getvalue()
