import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from data import load_dataset
from detection.evaluation.detectors import load_detector
from detection.evaluation.evaluate import evaluate
from detection.export.export import ExportError, ExportOptions, export
from detection.models.checkpoint import load_trained
from detection.models.presets import preset_names
from detection.models.torch_detector import TorchDetector
from detection.runtime.detector import Detector
from detection.runtime.parity.verify import verify
from tests.detection.conftest import swath, trained_of
from tests.detection.export.parity.faults import PLANTED, planted_are_refused


def test_one_file_with_its_report_beside_it(exported: Path) -> None:
    assert sorted(p.name for p in exported.parent.iterdir()) == [
        "model.onnx",
        "model.parity.json",
        "model.reference.npz",
    ]
    onnx.checker.check_model(onnx.load(exported), full_check=True)
    report = json.loads((exported.parent / "model.parity.json").read_text())
    assert report["unmatched_boxes"] == report["malformed_outputs"] == 0
    assert report["boxes"] > 100
    assert report["images"] >= 12 + 4
    assert report["max_box_error_px"] < 0.05
    assert report["delta_ap_points"] <= 0.1
    assert report["batches"] == [1, 2, 5, 8]
    assert report["schema"] == 3 and report["network"]["noise_of_allowed"] < 0.1
    assert report["postprocessing"]["unmatched_boxes"] == 0 and report["postprocessing"]["boxes"] > 200
    assert report["borderline_above_thresholds"] <= report["boxes_above_thresholds"]


def test_the_file_explains_itself_and_names_no_folder_of_this_machine(exported: Path, run: Path) -> None:
    metadata = Detector(exported).metadata
    assert metadata.class_names == ("sugar_beet", "fat_hen", "chamomile", "thistle", "foxtail")
    assert (metadata.preset, metadata.backbone, metadata.precision) == ("fcos_lite", "tf_efficientnet_lite0", "fp32")
    assert metadata.input_size_hw == (128, 160)
    assert metadata.dataset_fingerprint == load_trained(run).dataset_fingerprint
    assert set(metadata.metrics) >= {"AP", "AP50"}
    assert metadata.parity["unmatched_boxes"] == 0
    assert metadata.licences.weights == "EfficientNet-Lite0 on ImageNet, Apache-2.0"
    assert str(Path.cwd()).encode() not in exported.read_bytes()


def test_the_file_and_the_checkpoint_score_the_same(exported: Path, run: Path, rendered: Path) -> None:
    dataset = load_dataset(rendered)
    torch_side = evaluate(load_detector(run), dataset).metrics.coco
    onnx_side = evaluate(load_detector(exported), dataset).metrics.coco
    assert 100 * abs(torch_side["AP"] - onnx_side["AP"]) <= 0.1
    assert onnx_side == pytest.approx(torch_side, abs=1e-3)


def test_the_detector_gives_the_checkpoints_boxes_in_pixels_of_any_image(exported: Path, run: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 220, 3), np.uint8)
    expected = TorchDetector.of(load_trained(run))(image)
    found = Detector(exported, score_thresholds=0.0)(image)
    assert len(expected) == len(found) > 0
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=0.05)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


# the same graphs as other presets', with more regions or a larger backbone; RetinaNet's is in test_added_preset.py
NIGHTLY = (
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
)


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(p, marks=[pytest.mark.slow] if p in NIGHTLY else [])
        for p in preset_names()
        if not p.startswith("fcos_lite")
    ],
)
def test_every_other_preset_passes_the_gate(preset: str, lively_exported, lively) -> None:
    out = lively_exported(preset)
    report = json.loads(out.with_suffix(".parity.json").read_text())
    assert report["boxes"] > 100
    assert report["unmatched_boxes"] == 0
    planted_are_refused(onnx.load(out), trained_of(preset, lively(preset)))
    assert Detector(out).metadata.score_thresholds == (0.3, 0.3, 0.3)  # nothing held out to choose better by


@pytest.mark.parametrize("fault", ["BGR", "NMS threshold +0.02"])
def test_a_graph_that_disagrees_is_refused_and_nothing_is_written(
    fault: str, exported: Path, run: Path, rendered: Path, tmp_path: Path
) -> None:
    options = ExportOptions(graph=PLANTED.spoilt(onnx.load(exported), PLANTED.FAULTS[fault]))
    with pytest.raises(ExportError, match="not written, it would not agree with PyTorch: .*(off by|suppresses)"):
        export(load_trained(run), tmp_path / "m.onnx", images=load_dataset(rendered), held_out=True, options=options)
    assert list(tmp_path.iterdir()) == []


def test_a_detector_that_has_learned_nothing_is_exported_with_a_warning(exported, run, tmp_path, coco_file) -> None:
    trained = load_trained(run)
    images = load_dataset(coco_file([[(3, (70, 50, 6, 6))], []], names=trained.class_names))
    out = tmp_path / "m.onnx"
    report = export(trained, out, images=images, held_out=True, options=ExportOptions(graph=onnx.load(exported)))
    assert report["ap_pytorch"] == 0 and report["unmatched_boxes"] == 0
    assert report["warnings"][0] == (
        "PyTorch's AP is 0.0000: the detector has learned next to nothing; train it longer"
    )
    assert verify(out, Detector(out, score_thresholds=0.0)).parity.passed
    bare = load_dataset(coco_file([[], []], names=trained.class_names))
    report = export(trained, out, images=bare, held_out=True, options=ExportOptions(graph=onnx.load(exported)))
    assert report["warnings"][0].startswith("PyTorch's AP is undefined, the images have no boxes")


def test_thresholds_of_a_goal_go_into_the_file_and_into_the_evaluation(run, rendered, traced, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    wanted = ("--goal", "recall>=0.2", "--goal", "thistle:crop-hits<=0.9", "--crop", "sugar_beet")
    with traced():
        code, _, notes = swath(capsys, "export", run, "--out", out, *wanted)
    assert code == 0 and "thistle: threshold 0." in notes and "crop-hits<=0.9 reached" in notes
    report = json.loads(out.with_suffix(".parity.json").read_text())["thresholds"]
    thresholds = dict(zip(Detector(out).class_names, Detector(out).metadata.score_thresholds, strict=True))
    assert thresholds == pytest.approx({name: chosen["threshold"] for name, chosen in report.items()}, abs=1e-6)
    assert report["thistle"]["goal"] == "crop-hits<=0.9" and report["thistle"]["rate"]["high"] <= 0.9
    code, _, _ = swath(capsys, "evaluate", out, rendered, "--crop", "sugar_beet", "--out", tmp_path / "scored")
    point = json.loads((tmp_path / "scored" / "metrics.json").read_text())["operating_point"]
    assert point["thresholds"] == "the model's own"
    for name, chosen in report.items():  # chosen on these very images, so that they give the same here
        if chosen["goal"] == "recall>=0.2" and chosen["reached"]:
            assert point["classes"][name]["recall"]["value"] == pytest.approx(chosen["rate"]["value"], abs=0.02)
            assert point["classes"][name]["recall"]["value"] >= 0.2
    assert any(chosen["reached"] for chosen in report.values())
    assert point["crop_hits"]["of"] > 0


def test_goals_that_are_none_or_cannot_be_chosen_are_refused(run, tmp_path, capsys):
    out = tmp_path / "m.onnx"
    code, _, error = swath(capsys, "export", run, "--out", out, "--goal", "best")
    assert code == 2 and "is no goal" in error
    code, _, error = swath(capsys, "export", run, "--out", out, "--goal", "nettle:f1")
    assert code == 1 and "no class nettle" in error
    assert not out.exists()
