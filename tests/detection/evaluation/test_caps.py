"""Limits below the boxes of an image: said wherever they cost recall."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from data import load_dataset
from data.check.labels import label_findings
from detection.cli.stream_tables import summary_tables
from detection.evaluation.caps import cap_notices
from detection.evaluation.evaluate import evaluate, score
from detection.models.checkpoint import load_trained, save_trained
from detection.runtime.detections import Detections
from detection.runtime.streaming.slices import is_full
from detection.runtime.streaming.summary import CameraSummary, StreamSummary
from tests.detection.conftest import swath

CROP, WEED = 3, 7


def grid(count: int, category: int = WEED) -> list[tuple[int, tuple[float, float, float, float]]]:
    return [(category, (1.0 + 9 * (n % 20), 1.0 + 9 * (n // 20), 8.0, 8.0)) for n in range(count)]


class Perfect:
    """Finds every box of the one image."""

    class_names = ("crop", "weed")
    max_detections = 120

    def __init__(self, found: Detections) -> None:
        self.found = found

    def __call__(self, image_bgr: np.ndarray, /) -> Detections:
        return self.found


def test_a_perfect_detector_of_160_plants_is_told_of_both_limits(coco_file) -> None:
    dataset = load_dataset(coco_file([grid(160)]))
    (image,) = dataset.images
    found = Detections(image.boxes_xyxy, np.linspace(0.9, 0.5, 160).astype(np.float32), image.labels)
    scored = score(dataset, [found])
    assert scored.metrics.coco["AR100"] == pytest.approx(0.625)  # COCO's own limit stays
    (line,) = [n for n in scored.notices if "COCO" in n]
    assert "1 image has more boxes (up to 160) than the 100 of a class" in line and "at most 0.625" in line
    notices = evaluate(Perfect(found), dataset).notices
    (own,) = [n for n in notices if "the detector gives" in n]
    assert "than the 120 that the detector gives: recall is at most 0.750" in own
    assert "postprocess.max_detections" in own and line in notices


def test_each_limit_by_itself(coco_file) -> None:
    dataset = load_dataset(coco_file([grid(101), grid(60) + grid(60, CROP), []]))
    (of_class,) = cap_notices(dataset)
    assert "1 image has more boxes (up to 101) than the 100 of a class" in of_class  # 60 and 60 are two classes
    assert f"{(100 + 60 + 60) / 221:.3f}" in of_class
    detector, nms = cap_notices(dataset, max_detections=100, pre_nms_top_k=110, metrics=False)
    assert "2 images have more boxes (up to 120) than the 100 that the detector gives" in detector
    assert "1 image has more boxes (up to 120) than the 110 that enter NMS" in nms
    assert cap_notices(dataset, max_detections=120, pre_nms_top_k=120, metrics=False) == ()
    assert cap_notices(dataset.subset([2])) == cap_notices(dataset.subset([]), max_detections=1) == ()
    crowds = replace(dataset.images[0], iscrowd=np.ones(101, bool))  # neither learned nor counted
    assert cap_notices(replace(dataset, images=(crowds,)), max_detections=100) == ()


def test_data_check_names_the_fullest_image_first(coco_file) -> None:
    dataset = load_dataset(coco_file([grid(100), grid(101), grid(150)]))
    (found,) = [one for one in label_findings("train", dataset, (512, 512)) if one.kind == "boxes-above-cap"]
    assert (found.severity, found.count) == ("warning", 2)
    assert [example.detail for example in found.examples] == ["150 boxes", "101 boxes"]


def test_a_row_is_full_where_its_last_place_counts() -> None:
    scores = np.array([[0.9, 0.5], [0.9, 0.2], [0.9, 0.0]], np.float32)
    labels = np.array([[0, 1], [0, 1], [0, -1]])
    assert is_full(scores, labels, np.array([0.1, 0.3], np.float32)).tolist() == [True, False, False]
    assert not is_full(scores[:0], labels[:0], np.array([0.1, 0.3], np.float32)).any()


def test_the_stream_says_in_how_many_frames() -> None:
    counts = {
        "camera": "left",
        "frames": 9,
        "dropped": 0,
        "unreadable": 0,
        "too_old": 0,
        "faulty": 0,
        "failure": None,
    }
    age_ms = {"p50": 1.0, "p95": 1.0, "p99": 1.0, "max": 1.0}
    for at_cap in (0, 4):
        summary = StreamSummary((CameraSummary(**counts, at_cap=at_cap),), 400, 1.0, {}, age_ms)
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(summary_tables(summary))
        said = "as many boxes as the model can give in 4 of 9 frames" in console.export_text()
        assert said == bool(at_cap) and summary.to_json()["at_cap"] == at_cap


def test_export_and_evaluate_say_the_limits_of_a_run_and_of_its_file(run: Path, rendered, tmp_path, capsys) -> None:
    trained = load_trained(run)
    save_trained(
        tmp_path / "narrow.safetensors",
        trained.model.state_dict(),
        config=trained.config.model_copy(update={"max_detections": 4, "pre_nms_top_k": 5}),
        recipe=trained.recipe,
        class_names=trained.class_names,
        dataset_fingerprint=trained.dataset_fingerprint,
        weights_licence=trained.weights_licence,
        metrics=trained.metrics,
    )
    most = max(len(image.labels) for image in load_dataset(rendered).images)
    limits = [f"boxes (up to {most}) than the {n} that " for n in ("4", "5")]
    limits = [limits[0] + "the detector gives: recall is", limits[1] + "enter NMS of a level or class"]
    narrow, out = tmp_path / "narrow.safetensors", tmp_path / "narrow.onnx"
    code, _, said = swath(capsys, "export", narrow, "--out", out)
    assert code == 0 and all(line in said for line in limits), said
    for model in (narrow, out):
        assert swath(capsys, "evaluate", model, rendered, "--out", tmp_path / "report")[0] == 0
        notices = json.loads((tmp_path / "report" / "metrics.json").read_text())["notices"]
        assert all(any(line in notice for notice in notices) for line in limits), (model, notices)
