import contextlib
import io
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data import load_dataset
from data.formats.coco import save_coco
from detection.evaluation.coco_metrics import NAMES, SizeMetrics, coco_metrics, coco_results
from detection.evaluation.intervals import headline
from detection.runtime.detections import Detections

CROP, WEED = 3, 7  # category ids of `coco_file`, with a gap


def seen(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Rows x, y, width, height, score, label."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Detections(boxes, table[:, 4], table[:, 5].astype(np.int64))


def by_pycocotools(path: Path, results: Sequence[Mapping[str, object]]) -> np.ndarray:
    """COCO's 12 numbers of results against the labels of a file, by pycocotools itself."""
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(path))
        judge = COCOeval(theirs, theirs.loadRes(json.loads(json.dumps(results))), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats


def test_ap_of_a_case_worked_on_paper(coco_file) -> None:
    # Two crops in one image. Detections by score: a hit, a false one, a hit.
    # Precision 1 up to recall 0.5; at recall 1 it is 2/3. COCO samples 101 recalls: 51 of them up to
    # 0.5, 50 above: AP = (51 * 1 + 50 * 2/3) / 101, at every IoU, since the hits are exact.
    dataset = load_dataset(coco_file([[(CROP, (10, 10, 40, 40)), (CROP, (100, 10, 40, 40))]], names=("crop",)))
    found = [seen((10, 10, 40, 40, 0.9, 0), (50, 55, 40, 40, 0.8, 0), (100, 10, 40, 40, 0.7, 0))]
    metrics = coco_metrics(dataset, coco_results(dataset, found))
    worked = (51 + 50 * 2 / 3) / 101
    for name in ("AP", "AP50", "AP75", "APm"):
        assert metrics.coco[name] == pytest.approx(worked, abs=1e-9), name
    assert metrics.coco["AR1"] == 0.5  # one detection an image finds one of two
    assert metrics.coco["AR10"] == metrics.coco["AR100"] == 1
    assert metrics.coco["APs"] == metrics.coco["APl"] == -1  # 40 x 40 is medium
    crop = metrics.per_class["crop"]
    assert crop.AP == pytest.approx(worked)
    # F1 is 2/3 at the first hit, 0.8 with all three: the threshold takes all three in
    assert (crop.threshold, crop.precision, crop.recall) == pytest.approx((0.7, 2 / 3, 1.0), abs=1e-6)


def test_a_box_at_iou_two_thirds_counts_up_to_0_65(coco_file) -> None:
    # 40 x 40 against its left 40 x 60 extension: IoU 1600 / 2400 = 0.667: right for 0.50 to 0.65, 4 of 10
    dataset = load_dataset(coco_file([[(WEED, (10, 10, 40, 40))]]))
    metrics = coco_metrics(dataset, coco_results(dataset, [seen((10, 10, 60, 40, 0.9, 1))]))
    assert metrics.coco["AP"] == pytest.approx(0.4)
    assert (metrics.coco["AP50"], metrics.coco["AP75"]) == pytest.approx((1, 0))
    assert metrics.per_class["crop"].AP == -1  # none to find
    assert metrics.per_class["weed"].AP == pytest.approx(0.4)


def test_sizes_are_scored_apart(coco_file) -> None:
    # a small box that is found, a medium one that is not; none is large
    dataset = load_dataset(coco_file([[(CROP, (10, 10, 20, 20)), (CROP, (100, 10, 40, 40))]], names=("crop",)))
    metrics = coco_metrics(dataset, coco_results(dataset, [seen((10, 10, 20, 20, 0.9, 0))]))
    assert metrics.sizes["small"] == SizeMetrics(pytest.approx(1), pytest.approx(1), 1)
    assert metrics.sizes["medium"] == SizeMetrics(0, 0, 1)
    assert metrics.sizes["large"] == SizeMetrics(-1, -1, 0)
    assert [size.AP for size in metrics.sizes.values()] == [metrics.coco[name] for name in ("APs", "APm", "APl")]


def test_nothing_found_is_zero_and_nothing_to_find_is_undefined(coco_file) -> None:
    dataset = load_dataset(coco_file([[(CROP, (10, 10, 40, 40))], []]))
    none = coco_metrics(dataset, coco_results(dataset, [Detections.empty()] * 2))
    assert none.coco["AP"] == 0
    assert none.per_class["crop"].threshold is None
    background = dataset.subset([1])
    undefined = coco_metrics(background, coco_results(background, [seen((0, 0, 9, 9, 0.9, 0))]))
    assert set(undefined.coco.values()) == {-1}


def test_equal_to_pycocotools_run_on_the_files_to_the_last_digit(coco_file) -> None:
    generator = np.random.default_rng(5)
    truth, found = [], []
    for _ in range(12):
        boxes = np.round(generator.uniform((0, 0, 4, 4), (140, 60, 60, 40), (generator.integers(0, 6), 4)), 2)
        truth.append([(int(generator.choice((CROP, WEED))), tuple(map(float, box))) for box in boxes])
        rows = []
        for category, box in truth[-1]:
            for _ in range(generator.integers(0, 3)):  # missed, found, or found twice, and moved a little
                moved = np.clip(np.array(box) + generator.normal(0, 2, 4), 1, None)
                label = {CROP: 0, WEED: 1}[category] if generator.random() < 0.8 else 0
                rows.append((*moved, generator.choice((0.2, 0.5, 0.9)), label))  # many ties
        found.append(seen(*rows))
    path = coco_file(truth)
    dataset = load_dataset(path)
    results = coco_results(dataset, found)
    ours = coco_metrics(dataset, results)

    stats = by_pycocotools(path, results)
    assert len(results) > 20
    assert 0.05 < ours.coco["AP"] < 0.95
    assert [ours.coco[name] for name in NAMES] == pytest.approx(stats.tolist(), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_every_digit_counts_at_an_iou_of_exactly_a_threshold(seed, coco_file) -> None:
    # Fractions that float32 cannot hold, areas beside COCO's limits of sizes, and detections whose IoU is a threshold
    # but for the last bit of the arithmetic: only the very same numbers give the very same decisions.
    generator = np.random.default_rng(seed)
    truth, results = [], []
    for image_id in range(20):
        x, y, width, height = generator.uniform((0, 0, 20, 20), (60, 30, 90, 50)).round(2).tolist()
        if image_id % 4 == 0:
            width, height = 32.1, 1024 / 32.1  # an area of 1024, more or less
        truth.append([(WEED, (x, y, width, height))])
        for _ in range(2):
            share = float(generator.choice(np.linspace(0.5, 0.95, 10)))
            box = [x, y, width * share, height] if generator.random() < 0.5 else [x, y, width, height * share]
            score = float(generator.choice((0.3, 0.6, 0.9)))
            results.append({"image_id": 10 + image_id, "category_id": WEED, "bbox": box, "score": score})
    path = coco_file(truth)
    dataset = load_dataset(path)
    assert {image.image_id for image in dataset.images} == {result["image_id"] for result in results}
    ours = coco_metrics(dataset, results)
    stats = by_pycocotools(path, results)
    assert [ours.coco[name] for name in NAMES] == stats.tolist()
    own = {name: float(values[0]) for name, values in headline(ours.matches).items()}
    assert (own["AP"], own["AP50"], own["AP75"]) == pytest.approx(stats[:3].tolist(), abs=1e-9)


def test_every_digit_is_written_and_read_again(coco_file, tmp_path) -> None:
    path = coco_file([[(WEED, (0.1, 0.2, 30.3, 40.7)), (CROP, (150.3, 10, 49.7001, 20))]])
    dataset = load_dataset(path)
    given = [annotation["bbox"] for annotation in json.loads(path.read_text())["annotations"]]
    assert dataset.images[0].boxes_xywh.tolist() == given  # the second one reaches out by less than a hundredth
    save_coco(dataset, tmp_path / "again.json")
    assert [a["bbox"] for a in json.loads((tmp_path / "again.json").read_text())["annotations"]] == given
    moved = replace(dataset.images[0], boxes_xyxy=dataset.images[0].boxes_xyxy - [0, 0, 1, 0])
    assert moved.boxes_xywh[:, 2] == pytest.approx([29.3, 48.7], abs=1e-4)
    assert replace(moved, boxes_xyxy=moved.boxes_xyxy[:1], labels=moved.labels[:1], areas_px=moved.areas_px[:1],
                   iscrowd=moved.iscrowd[:1], truncated=moved.truncated[:1]).boxes_xywh.shape == (1, 4)  # fmt: skip
    again = pickle.loads(pickle.dumps(dataset.images[0]))
    assert again.boxes_xywh.tolist() == given and not again.boxes_xywh.flags.writeable


def test_results_carry_the_datasets_own_ids(coco_file) -> None:
    dataset = load_dataset(coco_file([[], [(WEED, (1, 2, 3, 4))]]))
    assert coco_results(dataset, [Detections.empty(), seen((1, 2, 3, 4, 0.5, 1))]) == [
        {"image_id": 11, "category_id": WEED, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
    ]
