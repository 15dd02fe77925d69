import json
import shutil

import numpy as np
import onnx
import pytest

from data import load_dataset
from detection.evaluation.detectors import load_detector
from detection.evaluation.evaluate import evaluate
from detection.evaluation.intervals import differences, draw_groups
from detection.export.export import ExportError, ExportOptions, export
from detection.export.parity_check import CheckResult
from detection.export.precision.calibration import inputs_of, measure
from detection.export.precision.int8 import calibrated_tensors, to_int8
from detection.export.precision.lowering import Fp16, Int8, PrecisionError
from detection.export.precision.network import find_network, named, trunk
from detection.export.run_images import calibration_images
from detection.models.checkpoint import load_trained
from detection.runtime.detector import Detector
from detection.runtime.parity.agreement import Agreement
from tests.detection.conftest import resealed, swath


def scale_destroyed(model):
    """The same graph with the scale of the first tensor that is quantised an eighth of what it was."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    scale = next(node.input[1] for node in copy.graph.node if node.op_type == "QuantizeLinear")
    constant = next(w for w in copy.graph.initializer if w.name == scale)
    constant.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(constant) / 8, constant.name))
    return copy


class Spoiled:
    """Every layer in int8, calibrated on an image, and then one scale destroyed."""

    precision = "int8"

    def __init__(self, image_rgb):
        self.image_rgb = image_rgb

    def __call__(self, model, check, progress=None):
        model = named(model)
        network = find_network(model)
        ranges = measure(trunk(model, network), calibrated_tensors(model, network), [self.image_rgb])
        return scale_destroyed(to_int8(model, network, ranges, network.layers)), {}


@pytest.fixture
def whole(exported):
    """The float32 graph."""
    return onnx.load(exported)


@pytest.fixture(scope="module")
def int8(run, traced, tmp_path_factory):
    out = tmp_path_factory.mktemp("int8") / "model.onnx"
    from detection.cli.app import main

    with traced(), pytest.raises(SystemExit) as ended:
        main(["export", str(run), "--out", str(out), "--precision", "int8"])
    assert not ended.value.code
    return out


def test_int8_by_the_command(int8, run, rendered):
    report = json.loads(int8.with_suffix(".parity.json").read_text())
    assert report["precision"] == Detector(int8).metadata.precision == "int8"
    assert report["agreement"] >= report["agreement_required"] == 0.9 and report["boxes"] > 100
    assert report["delta_ap_points"] <= 0.5 and report["small_ap_fall_points"] <= 1
    evaluated = [evaluate(load_detector(one), load_dataset(rendered)).metrics.matches for one in (run, int8)]
    apart = differences(*evaluated, draw_groups([str(i) for i in range(12)], 400, seed=0))["AP"]
    assert report["delta_ap_points"] == pytest.approx(100 * abs(apart.change.value), abs=1e-3) != 0
    assert report["delta_ap_chance_points"] == pytest.approx(100 * apart.by_chance, abs=1e-3) != 0
    assert report["fp32_parity"]["delta_ap_chance_points"] == 0  # boxes must be the same in float32
    assert report["ap_pytorch"] > 0 and report["aps_pytorch"] > 0
    made = report["int8"]
    assert made["layers"] > 50 and len(made["layers_in_float"]) <= made["layers"] / 2
    figures = [one["sqnr_db_alone"] for one in made["layers_in_float"]]
    assert figures == sorted(figures) and made["trials"][0]["layers_in_float"] == 0
    calibration = calibration_images(load_trained(run), load_dataset)
    assert made["calibration"]["fingerprint"] == calibration.fingerprint()
    assert (made["calibration"]["images"], made["calibration"]["method"]) == (12, "minmax")
    assert report["fp32_parity"]["unmatched_boxes"] == 0  # the float32 graph, box by box
    gain = report["size_and_speed"]
    assert gain["bytes"] < gain["fp32_bytes"] / 2.5 and gain["cpu_speed_up"] > 0
    graph = onnx.load(int8)
    onnx.checker.check_model(graph, full_check=True)
    assert {w.data_type for w in graph.graph.initializer if w.name.endswith("weight_q")} == {onnx.TensorProto.INT8}


def test_int8_is_verified_anywhere_and_a_destroyed_scale_found(int8, rendered, tmp_path, capsys):
    code, said, error = swath(capsys, "verify", int8, rendered, "--json", tmp_path / "v.json")
    assert (code, error) == (0, "") and "agrees with PyTorch on" in said and "IoU >= 0.75" in said
    written = json.loads((tmp_path / "v.json").read_text())
    assert written["agrees"] and written["agreement"] >= 0.9 and written["delta_ap_points"] <= 0.5
    model = tmp_path / "model.onnx"
    shutil.copy(int8.with_suffix(".reference.npz"), model.with_suffix(".reference.npz"))
    model.write_bytes(resealed(scale_destroyed(onnx.load(int8)).SerializeToString()))
    code, said, error = swath(capsys, "verify", model)
    assert (code, said) == (1, "") and "boxes agree with PyTorch's (IoU >= 0.75" in error


def test_an_int8_graph_with_one_scale_destroyed_is_not_written(whole, run, rendered, tmp_path):
    images = load_dataset(rendered)
    options = ExportOptions(lowering=Spoiled(next(inputs_of(images, (128, 160)))), graph=whole)
    with pytest.raises(ExportError, match=r"not written, it would not agree with PyTorch: .*% of \d+ boxes agree"):
        export(load_trained(run), tmp_path / "m.onnx", images=images, held_out=True, options=options)
    assert list(tmp_path.iterdir()) == []


def test_fp16_has_its_own_tolerances_and_half_the_bytes(whole, run, rendered, tmp_path, capsys):
    out = tmp_path / "half.onnx"
    images = load_dataset(rendered)
    options = ExportOptions(lowering=Fp16(), graph=whole)
    report = export(load_trained(run), out, images=images, held_out=True, options=options)
    assert report["agreement"] >= 0.98 and report["delta_ap_points"] <= 0.2
    assert report["size_and_speed"]["bytes"] < 0.6 * report["size_and_speed"]["fp32_bytes"]
    assert Detector(out).metadata.precision == "fp16"
    code, said, _ = swath(capsys, "verify", out, rendered)
    assert code == 0 and "agrees with PyTorch" in said and "IoU >= 0.9," in said
    found = Detector(out, score_thresholds=0.0)(np.zeros((50, 70, 3), np.uint8))
    assert found.boxes_xyxy.dtype == np.float32


def test_a_budget_that_cannot_be_held_is_one_line(whole, rendered):
    asked = []

    def never(candidate, task):
        asked.append(task)
        return CheckResult(Agreement("int8", ()), 0, 0, 9, 0, 0, ("AP is off by 9.00 points",))

    images = load_dataset(rendered)
    with pytest.raises(PrecisionError, match=r"even with 30 of 61 layers in float \(AP is off by 9.00 p"):
        Int8(images.subset([0]))(whole, never)
    assert asked[:3] == ["0 layers in float", "1 layers in float", "2 layers in float"]
    with pytest.raises(PrecisionError, match="no images to calibrate on"):
        Int8(images.subset([]))


def test_calibration_is_for_int8(run, rendered, tmp_path, capsys):
    code, _, error = swath(capsys, "export", run, "--out", tmp_path / "m.onnx", "--calibration", rendered)
    assert code == 2 and "only --precision int8 is calibrated" in error
    code, _, error = swath(capsys, "export", run, "--out", tmp_path / "m.onnx", "--precision", "int4")
    assert code == 2 and "is none of fp32, fp16, int8" in error
