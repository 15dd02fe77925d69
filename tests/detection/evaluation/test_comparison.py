import json
from dataclasses import replace

import numpy as np
import pytest

from data import load_dataset
from detection.evaluation.comparison import compare
from detection.evaluation.evaluate import evaluate
from detection.runtime.detections import Detections
from detection.runtime.errors import SwathError
from tests.detection.conftest import swath


class Finds:
    """Finds a weed at one place in every image."""

    class_names = ("weed",)

    def __init__(self, *box: float) -> None:
        self.answer = Detections(np.array([box], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int64))

    def __call__(self, image_bgr: np.ndarray, /) -> Detections:
        return self.answer


def test_a_difference_on_every_image_is_real_and_none_is_none(coco_file):
    images = load_dataset(coco_file([[(7, (10, 10, 40, 50))]] * 3))
    right = evaluate(Finds(10, 10, 50, 60), images)
    beside = evaluate(Finds(20, 10, 60, 60), images)  # IoU 0.6
    changes = compare(beside, right)
    assert (changes["AP75"].first, changes["AP75"].second, changes["AP75"].significant) == (0, 1, True)
    assert changes["AP75"].change.low == pytest.approx(1)
    assert changes["AP50"].change.value == 0 and not changes["AP50"].significant
    back = compare(right, beside)
    assert back["AP75"].change.value == -1 and back["AP75"].significant


def test_different_images_are_not_compared(coco_file):
    images = load_dataset(coco_file([[(7, (10, 10, 40, 50))]] * 3))
    some = images.subset([0, 1])
    detector = Finds(10, 10, 50, 60)
    with pytest.raises(SwathError, match="see different images of .*3 and 2"):
        compare(evaluate(detector, images), evaluate(detector, some))
    moved = replace(images, images=tuple(replace(p, boxes_xyxy=p.boxes_xyxy + 1) for p in images.images))
    with pytest.raises(SwathError, match="see different images"):
        compare(evaluate(detector, images), evaluate(detector, moved))


def test_the_command_with_two_models(run, rendered, tmp_path, capsys):
    code, said, _ = swath(capsys, "evaluate", run, run, rendered, "--by", "field", "--out", tmp_path / "both")
    assert code == 0
    assert said.count("not significant") == 5
    written = json.loads((tmp_path / "both" / "comparison.json").read_text())
    metrics = json.loads((tmp_path / "both" / "second" / "metrics.json").read_text())
    assert written["grouped_by"] == "field" == metrics["intervals"]["grouped_by"]
    assert written["groups"] == metrics["intervals"]["groups"] > 1
    for name in ("AP", "AP50", "AP75", "AP30", "AR100"):
        difference = written["differences"][name]
        assert difference["first"] == difference["second"] == metrics["intervals"][name]["value"]
        assert difference["change"] == {"value": 0, "low": 0, "high": 0} and difference["significant"] is False
    assert metrics["intervals"]["AP"]["value"] == pytest.approx(metrics["coco"]["AP"], abs=1e-12)
    assert (tmp_path / "both" / "first" / "report.html").is_file()


def test_json_alone_is_on_standard_output(run, rendered, tmp_path, capsys):
    for models, name in (((run,), "metrics.json"), ((run, run), "comparison.json")):
        code, said, error = swath(capsys, "evaluate", *models, rendered, "--json", "--out", tmp_path / name)
        assert code == 0 and said == (tmp_path / name / name).read_text() and json.loads(said)["schema"] == 2
        assert "report.html" in error and "sugar_beet" in error


def test_three_models_and_an_unknown_key_are_refused(run, rendered, tmp_path, capsys):
    code, _, error = swath(capsys, "evaluate", run, run, run, rendered)
    assert code == 2 and "3 models: give one, or two to compare" in error
    code, _, error = swath(capsys, "evaluate", run, rendered, "--by", "farmer", "--out", tmp_path / "none")
    assert code == 1 and "no image has 'farmer' to group by" in error
    assert not (tmp_path / "none").exists()
