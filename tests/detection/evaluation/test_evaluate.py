import json
import re
from pathlib import Path

import numpy as np
import pytest

from data import load_dataset
from detection.evaluation.detectors import load_detector
from detection.evaluation.evaluate import EvaluationOptions, evaluate
from detection.evaluation.metrics_json import metrics_json
from detection.evaluation.report import write_evaluation
from detection.evaluation.spraying import Sprayer
from detection.runtime.detections import Detections
from detection.runtime.errors import SwathError
from tests.detection.conftest import swath


class Oracle:
    """Finds the same boxes in every image."""

    def __init__(self, class_names: tuple[str, ...], *rows: tuple[float, float, float, float, float, int]) -> None:
        self.class_names = class_names
        table = np.array(rows, np.float32).reshape(-1, 6)
        self.answer = Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))

    def __call__(self, image_bgr: np.ndarray, /) -> Detections:
        assert image_bgr.shape == (100, 200, 3)
        return self.answer


BOX = (10.0, 10.0, 50.0, 60.0)


def test_classes_are_matched_by_name_not_by_number(coco_file) -> None:
    dataset = load_dataset(coco_file([[(7, (10, 10, 40, 50))]]))  # one weed
    swapped = Oracle(("weed", "stone", "crop"), (*BOX, 0.9, 0), (100, 10, 120, 30, 0.95, 1))
    outcome = evaluate(swapped, dataset)
    assert outcome.metrics.coco["AP"] == pytest.approx(1)  # the stone is no class of the dataset and harms nothing
    assert [r["category_id"] for r in outcome.results] == [7]
    assert outcome.notices[0] == "the dataset has no class stone: such detections are left out"


def test_a_class_that_the_model_does_not_know_is_said_and_missed(coco_file) -> None:
    dataset = load_dataset(coco_file([[(3, (100, 10, 40, 50)), (7, (10, 10, 40, 50))]]))
    outcome = evaluate(Oracle(("weed",), (*BOX, 0.9, 0)), dataset)
    assert outcome.metrics.coco["AP"] == pytest.approx(0.5)
    assert "does not know the class crop" in outcome.notices[0]


def test_no_class_in_common_is_an_error(coco_file) -> None:
    dataset = load_dataset(coco_file([[(3, (10, 10, 40, 50))]]))
    with pytest.raises(SwathError, match="has the classes crop, weed; the model knows only apple"):
        evaluate(Oracle(("apple",)), dataset)


def test_slices_are_scored_apart_and_an_unknown_key_is_refused(coco_file) -> None:
    path = coco_file([[(7, (10, 10, 40, 50))], [(7, (100, 10, 40, 50))]])
    content = json.loads(path.read_text())
    for image, soil in zip(content["images"], ("wet", "dry"), strict=True):
        image["attributes"] = {"soil": soil}
    path.write_text(json.dumps(content))
    dataset = load_dataset(path)
    oracle = Oracle(("crop", "weed"), (*BOX, 0.9, 1))
    outcome = evaluate(oracle, dataset, EvaluationOptions(slice_by="soil"))
    scored = {value: part.coco["AP50"] for value, part in outcome.slices.items()}
    assert scored == pytest.approx({"dry": 0, "wet": 1})
    with pytest.raises(SwathError, match="--slice-by farm: .* there are: soil"):
        evaluate(oracle, dataset, EvaluationOptions(slice_by="farm"))


def test_what_is_written(coco_file, tmp_path: Path) -> None:
    dataset = load_dataset(coco_file([[(7, (10, 10, 40, 50))], [(3, (100, 10, 40, 50))], []]))
    outcome = evaluate(Oracle(("crop", "weed"), (*BOX, 0.9, 1)), dataset)
    write_evaluation(tmp_path / "out", outcome, model="<m>")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(metrics["coco"]) == [
        *("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    ]
    assert metrics["per_class"]["crop"]["AP"] == 0
    # weed: a true positive among three detections of one score, the other two on background; the crop is missed
    assert metrics["error_breakdown"]["mean_iou"] == 1
    kinds = metrics["error_breakdown"]["kinds"]
    assert {name: kind["count"] for name, kind in kinds.items() if kind["count"]} == {"background": 2, "missed": 1}
    assert kinds["missed"]["AP50"] == pytest.approx(0.5)
    assert (metrics["images"], metrics["boxes"]) == (3, 2)
    # of the weed alone, or of it and the crop, or of neither
    ends = metrics["intervals"]["AP50"]
    assert (ends["low"], ends["high"]) == (0, 1) and metrics["coco"]["AP50"] == ends["value"]
    assert (metrics["intervals"]["grouped_by"], metrics["intervals"]["groups"]) == ("photo", 3)
    assert "the intervals rest on 3 groups of images (by photo)" in metrics["notices"][0]
    assert metrics == json.loads(metrics_json(outcome, "<m>"))
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 3
    page = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;m&gt;" in page and "<m>" not in page
    # one true positive, two false positives (in the image of the crop and in the empty one), one crop missed
    for number, caption in ((1, "true positives"), (1, "false negatives"), (2, "false positives")):
        assert f"<b>{number}</b>{caption}" in page
    # the one score of all weeds, at which precision is 1/3 and recall 1; F1 has its points there
    assert "F1 over the score threshold" in page and " 90.0," in page
    assert list(metrics["latency_ms"]) == ["p50", "p95", "p99", "max"]
    assert 0 < metrics["latency_ms"]["p50"] <= metrics["latency_ms"]["max"]
    assert metrics["dataset_statistics"]["classes"]["weed"]["boxes"] == 1 and "1 of them without a box" in page
    assert metrics["per_class"]["weed"]["AP50_interval"]["value"] == metrics["per_class"]["weed"]["AP50"]
    assert metrics["sizes"]["medium"]["boxes"] == 2
    assert "labelled object without any detection" in page and "<td>+0.500</td>" in page
    # each image, and a crop of each of the three mistakes
    assert page.count("data:image/jpeg") == 3 + 3
    assert "http" not in page.replace("http://www.w3.org", "")


def test_every_key_is_explained(coco_file) -> None:
    dataset = load_dataset(coco_file([[(7, (10, 10, 40, 50))]]))
    sprayer = Sprayer.parse("gsd_mm=1")
    outcome = evaluate(Oracle(("crop", "weed"), (*BOX, 0.9, 1)), dataset, EvaluationOptions(sprayer=sprayer))
    metrics = json.loads(metrics_json(outcome, "m"), parse_constant=pytest.fail)  # nan is no JSON
    page = Path(__file__).parents[3] / "docs/reference/metrics.md"
    explained = set(re.findall(r"`(\w+)`", page.read_text(encoding="utf-8")))
    keys = set(metrics)
    for whole in ("coco", "intervals", "operating_point", "spraying", "dataset_statistics", "error_breakdown"):
        keys |= set(metrics[whole])
    keys |= {*metrics["error_breakdown"]["kinds"], *metrics["calibration"], *metrics["confusion"]}
    for by_name in ("per_class", "counting", "sizes", "parts"):
        one = metrics[by_name]
        keys |= set(next(iter(one.values())) if isinstance(one, dict) else one[0] if one else ())
    keys |= set(metrics["operating_point"]["classes"]["weed"]) | set(metrics["dataset_statistics"]["classes"]["weed"])
    assert keys <= explained


def test_a_run_and_its_file_are_loaded_and_nothing_else(run: Path, tmp_path: Path) -> None:
    assert load_detector(run).class_names == load_detector(run / "best.safetensors").class_names
    (tmp_path / "x.safetensors").write_bytes(b"not tensors")
    for path, said in (
        (tmp_path / "none", "no such run"),
        (tmp_path, "no best.safetensors in it"),
        (tmp_path / "x.safetensors", "damaged"),
        (run / "config.yaml", "give a run folder"),
        (tmp_path / "none.onnx", "no such model file"),
    ):
        with pytest.raises(SwathError, match=said):
            load_detector(path)


def test_a_sprayer_is_driven_over_the_images(run, rendered, tmp_path, capsys) -> None:
    out = tmp_path / "sprayed"
    asked = ("--sprayer", "gsd_mm=1,pitch_mm=50,pulse_mm=50,height_mm=50", "--crop", "sugar_beet", "--out", out)
    code, _, _ = swath(capsys, "evaluate", run, rendered, *asked)
    metrics = json.loads((out / "metrics.json").read_text())
    spraying = metrics["spraying"]
    assert code == 0 and spraying["sprayer"]["width_mm"] == pytest.approx(57.7, abs=0.1)
    assert 0 <= spraying["weeds_hit"]["value"] <= 1 and len(spraying["trade_off"]) == 19
    assert spraying["perfect_detections"]["weeds_hit"]["value"] > 0.99
    assert spraying["area_sprayed"] + spraying["herbicide_saved"] == pytest.approx(1)
    assert set(metrics["counting"]) == set(load_dataset(rendered).class_names)
    page = (out / "report.html").read_text()
    assert "crop plants hit" in page and "perfect detector" in page
    for wrong in ("pitch_mm=50", "gsd_mm=-1"):
        code, _, error = swath(capsys, "evaluate", run, rendered, "--sprayer", wrong)
        assert code == 2 and "gsd_mm" in error
