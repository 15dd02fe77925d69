"""A model file of schema 1, written by the version before: an int8 export of a tiny run on the rendered field."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from data import load_dataset
from detection.runtime.compatibility import current_model_metadata, current_parity_report, renamed
from detection.runtime.detector import Detector
from detection.runtime.metadata import KEY
from detection.runtime.parity.report import parity_fault
from tests.detection.conftest import swath

FIXTURE = Path(__file__).parents[2] / "fixtures" / "model_schema_1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The model file, in a folder of its own, so that each test is told of the old names anew."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "old")) / "model.onnx"


def test_old_names_become_the_new_ones_and_a_new_one_wins() -> None:
    assert renamed({"a": 1, "b": 2}, {"a": "x"}) == {"b": 2, "x": 1}
    assert renamed({"a": 1, "x": 3}, {"a": "x"}) == {"x": 3}


def test_the_old_file_is_loaded_and_one_line_names_what_changed(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        metadata = Detector(old).metadata
        Detector(old)
    assert caplog.messages == [
        f"{old}: written by an older Swath; score_floor is now pre_nms_score_threshold",
        f"{old}: of an older Swath, without a digest: damage to it goes unnoticed; export it again",
    ]
    assert (metadata.schema_version, metadata.pre_nms_score_threshold) == (1, 0.05)
    assert metadata.class_names == ("sugar_beet", "fat_hen", "chamomile", "thistle", "foxtail")


def test_its_parity_report_passes_under_todays_names(old: Path) -> None:
    metadata = Detector(old).metadata
    assert parity_fault(old, metadata) == ""
    report = metadata.parity
    assert report["images"] == 32 and report["malformed_outputs"] == 0 and report["agreement_required"] == 0.9
    assert report["fp32_parity"]["borderline_boxes"] == 0 and report["fp32_parity"]["images"] == 32
    assert report["int8"]["calibration"]["images"] == report["int8"]["calibration"]["images_available"] == 12
    assert report["int8"]["trials"] == [{"layers_in_float": 0, "passed": True, "result": "AP off by 0.30 points"}]
    assert current_parity_report(report) == report  # of this version: nothing to rename
    beside = old.with_suffix(".parity.json")
    beside.write_text(beside.read_text().replace('"pictures": 32', '"pictures": 31'))
    assert "of another model than" in parity_fault(old, metadata)


def test_it_gives_the_same_boxes_as_the_same_graph_with_todays_metadata(old: Path, rendered: Path) -> None:
    model = onnx.load(old)
    content = json.loads(next(p.value for p in model.metadata_props if p.key == KEY))
    assert "score_floor" in content
    onnx.helper.set_model_props(model, {KEY: json.dumps({**current_model_metadata(content), "schema_version": 2})})
    new = old.with_name("new.onnx")
    onnx.save(model, new)
    before, after = Detector(old, score_thresholds=0.0), Detector(new, score_thresholds=0.0)
    assert Detector(new).score_thresholds.tolist() == Detector(old).score_thresholds.tolist()
    count = 0
    for _, image in load_dataset(rendered).read():
        one, other = before(image), after(image)
        count += len(one)
        for name in ("boxes_xyxy", "scores", "labels"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert count > 500


def test_a_float32_file_gives_the_boxes_that_the_version_before_gave(version_0_1: Path) -> None:
    stored = json.loads((version_0_1 / "boxes.json").read_text())
    made_with, expected = stored["made_with"], stored["model.onnx"]
    detector = Detector(version_0_1 / "model.onnx", threads=1)
    found = detector(cv2.imread(str(version_0_1 / "field.png")))
    assert len(found) == len(expected["scores"]) > 0
    # another runtime or processor may sum in another order; with the same ones the boxes are equal to the last bit
    same = (onnxruntime.__version__, cpu()) == (made_with["onnxruntime"], made_with["cpu"])
    atol = 0 if same else 1e-3
    np.testing.assert_array_equal(found.labels, expected["labels"])
    np.testing.assert_allclose(found.scores, np.array(expected["scores"], np.float32), rtol=0, atol=atol)
    np.testing.assert_allclose(found.boxes_xyxy, np.array(expected["boxes_xyxy"], np.float32), rtol=0, atol=atol)
    assert parity_fault(detector.path, detector.metadata) == ""


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(": ")[2].strip() for line in lines if line.startswith("model name"))


def test_it_is_verified_and_evaluated(old: Path, rendered: Path, tmp_path: Path, capsys) -> None:
    code, said, error = swath(capsys, "verify", old, rendered, "--json", tmp_path / "v.json")
    assert code == 0, error
    assert "agrees with PyTorch on" in said and "AP within" in said
    written = json.loads((tmp_path / "v.json").read_text())
    assert written["same_file"] and written["reference_images"] == 12 and written["agreement"] >= 0.9
    out = tmp_path / "scored"
    code, _, _ = swath(capsys, "evaluate", old, rendered, "--out", out)
    metrics = json.loads((out / "metrics.json").read_text())
    ap_at_export = Detector(old).metadata.parity["ap_onnx"]
    assert code == 0 and metrics["coco"]["AP"] == pytest.approx(ap_at_export, abs=0.01)
