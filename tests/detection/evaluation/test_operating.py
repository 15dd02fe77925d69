import numpy as np
import pytest

from data import Dataset
from data.dataset import LabelledImage
from detection.evaluation.coco_metrics import coco_metrics, coco_results
from detection.evaluation.intervals import draw_groups
from detection.evaluation.operating import ScoredDetections, choose_thresholds, crop_labels, operating_point
from detection.evaluation.thresholds import Goal
from detection.runtime.detections import Detections
from detection.runtime.errors import SwathError

BEET, THISTLE = 0, 1


@pytest.fixture(scope="module")
def scored():
    """400 images of a beet and a thistle; beets are found at 0.8, thistles at 0.6, 1 beet in 50 as both."""
    boxes = np.array([[0, 0, 40, 40], [50, 50, 90, 90]], np.float32)
    images, found = [], []
    for number in range(400):
        images.append(
            LabelledImage(number, f"/{number}.png", (100, 100), boxes, np.array([BEET, THISTLE]), np.full(2, 1600.0),
                    np.zeros(2, bool), {})
        )  # fmt: skip
        wrong = number % 50 == 0
        found.append(
            Detections(
                boxes[[0, 1, 0]] if wrong else boxes,
                np.array([0.8, 0.6, 0.5] if wrong else [0.8, 0.6], np.float32),
                np.array([BEET, THISTLE, THISTLE] if wrong else [BEET, THISTLE]),
            )
        )
    dataset = Dataset("made", ("beet", "thistle"), (1, 2), tuple(images))
    matches = coco_metrics(dataset, coco_results(dataset, found)).matches
    return ScoredDetections(dataset, found, matches, draw_groups([str(n) for n in range(400)], 200, 0))


def test_goals_by_class(scored):
    chosen = choose_thresholds(scored, [Goal("crop-hits", 0.01), Goal("recall", 0.9, "beet")], ["beet"])
    assert chosen["thistle"].threshold == pytest.approx(0.51)  # 8 of 400 beets would be hit from 0.5 on
    assert (chosen["thistle"].goal, chosen["thistle"].rate.count) == ("crop-hits<=0.01", 0)
    assert chosen["thistle"].rate.high == pytest.approx(1 - 0.025 ** (1 / 400), abs=1e-6)
    assert chosen["beet"].goal == "recall>=0.9" and chosen["beet"].rate.value == 1
    loose = choose_thresholds(scored, [Goal("crop-hits", 0.05)], ["beet"])
    assert loose["thistle"].threshold == pytest.approx(0.01) and loose["thistle"].rate.count == 8
    assert loose["beet"].goal == "f1"  # a beet cannot be taken for itself
    assert {c.goal for c in choose_thresholds(scored, []).values()} == {"f1"}


@pytest.mark.parametrize(
    ("goals", "crops", "said"),
    [
        ([Goal("f1", None, "nettle")], [], "--goal: no class nettle: there are beet, thistle"),
        ([Goal("f1"), Goal("recall", 0.5)], [], "two for all classes: f1 and recall>=0.5"),
        ([Goal("f1", None, "beet"), Goal("recall", 0.5, "beet")], [], "two for beet"),
        ([Goal("crop-hits", 0.01)], [], "which class is the crop"),
        ([Goal("crop-hits", 0.01, "beet")], ["beet"], "beet is the crop itself"),
        ([], ["nettle"], "--crop: no class nettle"),
        ([], ["beet", "thistle"], "every class is a crop"),
    ],
)
def test_goals_that_cannot_be(scored, goals, crops, said):
    with pytest.raises(SwathError, match=said):
        choose_thresholds(scored, goals, crops)


def test_the_crop_is_the_class_of_that_name_where_nobody_says():
    assert crop_labels(("weed", "crop"), []) == [1]
    assert crop_labels(("crop",), []) == crop_labels(("a", "b"), []) == []
    assert crop_labels(("a", "b", "c"), ["c", "a", "c"]) == [2, 0]


def test_the_operating_point_worked_on_paper(scored):
    point = operating_point(scored, np.array([0.7, 0.3], np.float32), ["beet"])
    assert point.crop_hits is not None and (point.crop_hits.count, point.crop_hits.of) == (8, 400)
    thistle = point.classes["thistle"]
    assert (thistle.precision.count, thistle.precision.of, thistle.recall.value) == (400, 408, 1)
    assert thistle.f1 == pytest.approx(2 * 400 / (408 + 400))
    higher = operating_point(scored, np.array([1.1, 0.55], np.float32), ["beet"])
    assert higher.crop_hits.count == 0 and list(higher.classes) == ["thistle"]
    assert higher.to_dict()["classes"]["thistle"]["precision"]["value"] == 1
    assert operating_point(scored, np.array([0.5, 0.5], np.float32)).crop_hits is None
