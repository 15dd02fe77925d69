"""A checkpoint as version 0.1.0 wrote it: it loads, and gives the boxes that version 0.1.0 gave."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from detection.models.build import build_model
from detection.models.checkpoint import HEADER_KEY, CheckpointError, load_trained, save_trained
from detection.models.detector_config import DetectorConfig
from detection.models.torch_detector import TorchDetector
from detection.models.weights import load_weights
from detection.recipe.reading import load_written_recipe, written_recipe

OLD = Path(__file__).parent / "version_0_1"


def inputs_rgb() -> np.ndarray:
    inputs = np.random.default_rng(5).integers(0, 256, (3, 128, 160, 3), np.uint8)
    inputs[1] = np.linspace(0, 255, 128 * 160 * 3).reshape(128, 160, 3).astype(np.uint8)
    return inputs


def header(path: Path) -> dict:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[HEADER_KEY])


def test_it_gives_the_same_boxes() -> None:
    expected = np.load(OLD / "expected.npz")
    found = TorchDetector.of(load_trained(OLD)).on_inputs(inputs_rgb())
    assert len(found) == 3
    for number, detections in enumerate(found):
        assert len(detections) == 100
        # on the machine that made the file they are equal; another CPU may sum in another order
        np.testing.assert_allclose(detections.boxes_xyxy, expected[f"boxes_{number}"], rtol=0, atol=1e-3)
        np.testing.assert_allclose(detections.scores, expected[f"scores_{number}"], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(detections.labels, expected[f"labels_{number}"])


def test_its_names_are_read_as_todays() -> None:
    old = header(OLD / "best.safetensors")["recipe"]
    assert (old["model"]["assign"], old["model"]["quality"], old["postprocess"]["candidates"]) == (
        "centre",
        "qfl",
        200,
    )
    trained = load_trained(OLD)
    assert trained.config == DetectorConfig(
        preset="fcos_lite",
        options={
            "backbone": "test_efficientnet",
            "channels": 32,
            "head_convs": 1,
            "neck": "fpn",
            "assign": "center_sampling",
        },
        size_hw=(128, 160),
        pre_nms_score_threshold=0.01,
        pre_nms_top_k=200,
    )
    assert written_recipe(trained.recipe).detector == trained.config


def test_written_again_it_is_todays_and_the_same_detector(tmp_path: Path) -> None:
    trained = load_trained(OLD)
    save_trained(
        tmp_path / "best.safetensors",
        trained.model.state_dict(),
        config=trained.config,
        recipe=written_recipe(trained.recipe).model_dump(mode="json"),
        class_names=trained.class_names,
        dataset_fingerprint=trained.dataset_fingerprint,
        weights_licence=trained.weights_licence,
        metrics=trained.metrics,
    )
    again = load_trained(tmp_path)
    assert again.config == trained.config and again.class_names == trained.class_names
    assert again.recipe["model"]["assign"] == "center_sampling" and "quality" not in again.recipe["model"]
    for one, other in zip(*(TorchDetector.of(t).on_inputs(inputs_rgb()) for t in (trained, again)), strict=True):
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_weights_start_from_it() -> None:
    names = header(OLD / "best.safetensors")["class_names"]
    options = {"backbone": "test_efficientnet", "channels": 32, "head_convs": 1}
    model = build_model("fcos_lite", len(names), **options)
    report = load_weights(model, "fcos_lite", "test_efficientnet", str(OLD), class_names=names)
    assert not report.missing and not report.remade and report.classes_kept == tuple(names)


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("ssdlite320_mobilenet_v3_large", {}),
        ("fcos_lite_n", {"backbone": "pruned:tf_efficientnet_lite0", "assign": "task_aligned", "channels": 64}),
    ],
)
def test_a_run_that_lists_the_options_of_all_presets_is_read(preset: str, options: dict, tmp_path: Path) -> None:
    recipe = header(OLD / "best.safetensors")["recipe"]
    aligned = preset == "fcos_lite_n"
    recipe["model"] |= {
        "preset": preset,
        "backbone": "slim:tf_efficientnet_lite0" if aligned else None,
        "assign": "task_aligned" if aligned else "centre",
        "channels": None,
        "head_convs": None,
        "quality": "vfl",
    }
    config = DetectorConfig.of_header({"recipe": recipe})
    assert (config.preset, config.size_hw, config.pre_nms_top_k) == (preset, (128, 160), 200)
    assert options.items() <= config.options.items() and bool(config.options) == aligned
    (tmp_path / "config.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    read = load_written_recipe(tmp_path)
    assert read is not None and read.detector == config
    assert "quality" not in read.to_yaml()


def test_a_file_whose_tensors_do_not_fit_is_damaged(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path / "run")
    content = (tmp_path / "run" / "best.safetensors").read_bytes()
    (tmp_path / "run" / "best.safetensors").write_bytes(content.replace(b'channels\\": 32', b'channels\\": 64'))
    with pytest.raises(CheckpointError, match="its tensors do not fit its own header; the file is damaged"):
        load_trained(tmp_path / "run")
