import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data import Dataset
from data.dataset import LabelledImage
from detection.evaluation.coco_metrics import NAMES, coco_metrics, coco_results
from detection.evaluation.curves import average_precision, log_average_miss_rate, recall_at_end
from detection.runtime.detections import Detections

CATEGORIES = (7, 3)  # with a gap, and not in order
CROP, WEED = 0, 1


def image(number, rows):
    """Rows x, y, width, height, label, crowd, area as a share of the box's."""
    table = np.array(rows, np.float32).reshape(-1, 7)
    xyxy = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    areas = table[:, 2] * table[:, 3] * table[:, 6]
    labels, crowd = table[:, 4].astype(np.int64), table[:, 5].astype(bool)
    return LabelledImage(number, f"/{number}.png", (300, 300), xyxy, labels, areas, crowd, {})


def dataset(*images):
    return Dataset("made", ("crop", "weed"), CATEGORIES, tuple(images))


def seen(*rows):
    """Rows x, y, width, height, label, score."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Detections(boxes, table[:, 5], table[:, 4].astype(np.int64))


def bare_pycocotools(truth, found, iou=None):
    """The judge, given dicts that this test writes itself."""
    images = [{"id": p.image_id, "width": 300, "height": 300} for p in truth.images]
    annotations = [
        {"image_id": p.image_id, "bbox": [*map(float, b[:2]), *map(float, b[2:] - b[:2])], "area": float(a)}
        | {"category_id": CATEGORIES[k], "iscrowd": int(c)}
        for p in truth.images
        for b, k, a, c in zip(p.boxes_xyxy, p.labels, p.areas_px, p.iscrowd, strict=True)
    ]
    answers = [
        {"image_id": p.image_id, "bbox": [*map(float, b[:2]), *map(float, b[2:] - b[:2])], "score": float(s)}
        | {"category_id": CATEGORIES[k]}
        for p, f in zip(truth.images, found, strict=True)
        for b, s, k in zip(f.boxes_xyxy, f.scores, f.labels, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        ours, theirs = COCO(), COCO()
        ours.dataset = {
            "images": images,
            "annotations": [a | {"id": n} for n, a in enumerate(annotations, 1)],
            "categories": [{"id": c} for c in CATEGORIES],
        }
        ours.createIndex()
        theirs.dataset = ours.dataset | {
            "annotations": [
                a | {"id": n, "iscrowd": 0, "area": a["bbox"][2] * a["bbox"][3]} for n, a in enumerate(answers, 1)
            ]
        }
        theirs.createIndex()
        judge = COCOeval(ours, theirs, "bbox")
        if iou:
            judge.params.iouThrs = np.array(iou)
        judge.evaluate()
        judge.accumulate()
        if not iou:
            judge.summarize()
    return judge


def the_same(truth, found):
    """All that is said of these detections is what pycocotools says."""
    ours, judge = coco_metrics(truth, coco_results(truth, found)), bare_pycocotools(truth, found)
    assert [ours.coco[name] for name in NAMES] == judge.stats.tolist()
    faster = coco_metrics(truth, coco_results(truth, found), "faster-coco-eval")
    assert faster.coco == pytest.approx(ours.coco, abs=1e-12)
    for name, one in ours.per_class.items():
        assert faster.per_class[name].to_dict() == pytest.approx(one.to_dict(), abs=1e-12)
    loose = bare_pycocotools(truth, found, [0.3]).eval["precision"][0, :, :, 0, -1]
    assert ours.AP30 == pytest.approx(loose[loose > -1].mean() if (loose > -1).any() else -1, abs=1e-12)
    aps = average_precision(ours.matches)[0]
    recall = judge.eval["recall"][:, [1, 0], 0, -1]
    assert recall_at_end(ours.matches)[0][1:] == pytest.approx(recall, abs=1e-12)
    curves = judge.eval["precision"][:, :, [1, 0], 0, -1]  # as the dataset orders its classes
    assert aps[1:] == pytest.approx(curves.mean(axis=1), abs=1e-12)
    return ours


places = st.integers(0, 60)
sides = st.sampled_from([8, 20, 33, 60, 110])  # small, medium and large
labels = st.integers(0, 1)
boxes = st.tuples(places, places, sides, sides, labels, st.sampled_from([0, 0, 0, 1]), st.sampled_from([0.3, 1.0]))
moves = st.integers(-9, 9)
answers = st.tuples(st.integers(0, 9), moves, moves, moves, moves, labels, st.sampled_from([0.25, 0.5, 0.75, 0.875]))


@st.composite
def cases(draw):
    """A dataset with gaps between its ids, empty images, crowds and areas unlike the boxes; ties of scores."""
    truth, found = [], []
    for number in draw(st.lists(st.integers(1, 50), max_size=4, unique=True)):
        rows = draw(st.lists(boxes, max_size=5))
        near = []
        for which, x, y, w, h, label, score in draw(st.lists(answers, max_size=8)):
            start = rows[which % len(rows)] if rows else (20, 20, 30, 30)
            at = (start[0] + x, start[1] + y, max(1, start[2] + w), max(1, start[3] + h))
            near += [(*at, label, score)] * (30 if which == 9 else 1)  # up to more than COCO counts
        truth.append(image(number, rows))
        found.append(seen(*near))
    return dataset(*truth), found


@pytest.mark.parametrize("examples", [500, pytest.param(2000, marks=pytest.mark.slow)])
def test_equal_to_pycocotools_to_the_last_digit(examples):
    @settings(max_examples=examples, deadline=None)
    @given(cases())
    def equal(case):
        truth, found = case
        if truth.images:
            the_same(truth, found)

    equal()


def box(x, y, w, h, label=CROP, crowd=0, area=1.0):
    return (x, y, w, h, label, crowd, area)


@pytest.mark.parametrize(
    ("rows", "near"),
    [
        ([box(0, 0, 40, 40)], [(0, 0, 40, 20, CROP, 0.5)]),  # at an IoU of exactly 0.5
        ([box(0, 0, 40, 40), box(0, 0, 40, 40)], [(0, 0, 40, 40, CROP, 0.5)] * 3),  # twins, and a third
        ([box(0, 0, 90, 90, crowd=1)], [(9 * k, 0, 9, 9, CROP, 0.5) for k in range(9)]),  # a crowd alone
        ([box(0, 0, 90, 90, crowd=1), box(5, 5, 20, 20)], [(5, 5, 20, 20, CROP, 0.5), (5, 5, 19, 20, CROP, 0.5)]),
        ([box(0, 0, 32, 32), box(100, 0, 96, 96)], [(0, 0, 32, 32, CROP, 0.5), (100, 0, 96, 96, CROP, 0.5)]),  # edges
        ([box(0, 0, 40, 40, area=0.1)], [(0, 0, 40, 40, CROP, 0.5)]),  # small by its mask, medium by its box
        ([box(0, 0, 40, 40)], [(0, 0, 40, 40, WEED, 0.5)]),
        ([box(0, 0, 40, 40)], [(0, 0, 40, 40, CROP, 0.0)]),  # a score of nothing
        ([], [(0, 0, 40, 40, CROP, 0.5)]),
        ([box(0, 0, 40, 40)], [(50, 50, 9, 9, CROP, 0.9)] * 100 + [(0, 0, 40, 40, CROP, 0.5)]),  # the 101st
        ([box(0, 0, 40, 40), box(9, 0, 40, 40)], [(4, 0, 40, 40, CROP, 0.5), (0, 0, 40, 40, CROP, 0.4)]),  # stolen
    ],
)  # fmt: skip
def test_equal_where_it_is_hard(rows, near):
    the_same(dataset(image(5, rows), image(2, [box(0, 0, 50, 50, WEED)])), [seen(*near), seen()])


@pytest.mark.parametrize("engine", ["pycocotools", "faster-coco-eval"])
def test_of_two_thresholds_with_the_same_f1_the_higher_is_taken(engine):
    truth = dataset(image(1, [[x, 0, 8, 8, CROP, 0, 1] for x in (0, 50, 100, 150)]))
    # at 0.5 one of one is right (F1 2 x 1 x 1/4 / (5/4) = 0.4), at 0.25 two of six (2 x 1/3 x 1/2 / (5/6) = 0.4)
    found = [seen([0, 0, 8, 8, CROP, 0.5], *([x, 0, 8, 8, CROP, 0.25] for x in (200, 220, 240, 260, 50)))]
    crop = coco_metrics(truth, coco_results(truth, found), engine).per_class["crop"]
    assert (crop.threshold, crop.precision, crop.recall) == pytest.approx((0.5, 1.0, 0.25), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(cases(), st.data())
def test_a_image_of_weight_two_counts_as_if_it_were_there_twice(case, data):
    truth, found = case
    if not truth.images:
        return
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(found), max_size=len(found)))
    step = iter(range(10_000))  # equal scores would make the order of images count
    found = [
        Detections(f.boxes_xyxy, f.scores + np.float32([1e-5 * next(step) for _ in f.scores]), f.labels)
        for f in found
    ]
    twice, answers = [], []
    for p, f, weight in zip(truth.images, found, weights, strict=True):
        for copy in range(weight):
            twice.append(replace(p, image_id=p.image_id + 100 * copy))
            answers.append(f)
    got = average_precision(
        coco_metrics(truth, coco_results(truth, found)).matches, np.array([weights, [1] * len(found)])
    )
    if twice:
        again = dataset(*twice)
        wanted = average_precision(coco_metrics(again, coco_results(again, answers)).matches)[0]
        assert got[0] == pytest.approx(wanted, abs=1e-12)
    else:
        assert (got[0] == -1).all()
    assert got[1] == pytest.approx(average_precision(coco_metrics(truth, coco_results(truth, found)).matches)[0])


def test_miss_rate_worked_on_paper():
    # Two boxes in two images: a hit, a false one, a hit. False detections an image: 0, 0.5, 0.5.
    # Of the nine rates from 0.01 to 1, a quarter decade apart, 7 lie below 0.5, where half of the boxes are missed.
    truth = dataset(image(1, [box(0, 0, 40, 40)]), image(2, [box(0, 0, 40, 40)]))
    found = [seen((0, 0, 40, 40, CROP, 0.9), (90, 90, 9, 9, CROP, 0.8)), seen((0, 0, 40, 40, CROP, 0.7))]
    metrics = coco_metrics(truth, coco_results(truth, found))
    rates = log_average_miss_rate(metrics.matches)
    assert rates == pytest.approx([np.exp((7 * np.log(0.5) + 2 * np.log(1e-10)) / 9), -1])
    assert metrics.LAMR == rates[0] == metrics.per_class["crop"].LAMR
    nothing = coco_metrics(truth, coco_results(truth, [seen(), seen()]))
    assert nothing.LAMR == 1
