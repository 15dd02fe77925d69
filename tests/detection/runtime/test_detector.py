from __future__ import annotations

import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from detection.runtime.backends.contract import Raw, malformed
from detection.runtime.detector import Detector, to_detections
from detection.runtime.errors import DeviceError, ModelFileError, ModelOutputError
from detection.runtime.letterbox import placement
from detection.runtime.metadata import KEY
from detection.runtime.model_file import sealed


def test_finds_the_pixels_in_a_image_of_the_input_size(detector: Detector, make_image: Any) -> None:
    found = detector(make_image(box=(30, 10, 50, 20)))
    np.testing.assert_array_equal(found.boxes_xyxy, [[30, 10, 50, 20]])
    np.testing.assert_array_equal(found.scores, [1.0])
    np.testing.assert_array_equal(found.labels, [0])
    assert found.boxes_xyxy.dtype == np.float32 and found.labels.dtype == np.int64
    assert detector.class_names == ("weed", "crop")
    assert detector.providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize(
    ("image_hw", "box"),
    [
        ((128, 192), (60, 20, 100, 40)),  # halved
        ((32, 48), (12, 8, 20, 16)),  # doubled
        ((128, 96), (20, 20, 40, 60)),  # halved, grey at the right
        ((64, 192), (60, 20, 100, 40)),  # halved, grey below
        ((640, 960), (300, 100, 500, 200)),  # a tenth
    ],
)
def test_boxes_come_back_in_pixels_of_the_image(
    detector: Detector, make_image: Any, image_hw: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    found = detector(make_image(*image_hw, box=box))
    assert len(found) == 1
    # Enlarging interpolates: an edge may lie one input pixel off, half a pixel of the image.
    np.testing.assert_allclose(found.boxes_xyxy[0], box, atol=0.5 if image_hw[0] < 64 else 1e-4)


@pytest.mark.parametrize("value", [0, 114, 255])
def test_empty_field_gives_empty_detections(detector: Detector, value: int) -> None:
    found = detector(np.full((480, 640, 3), value, np.uint8))
    assert found.boxes_xyxy.shape == (0, 4) and found.scores.shape == (0,) and found.labels.shape == (0,)


def test_batches_of_every_size_give_what_single_images_give(model_path: Path, make_image: Any) -> None:
    detector = Detector(model_path)
    sizes: list[int] = []
    infer = detector.infer
    detector.infer = lambda pixels: (sizes.append(len(pixels)), infer(pixels))[1]  # type: ignore[method-assign, func-returns-value]
    images = [make_image(64 + i, 96 + 2 * i, (i, i, 20 + i, 10 + i)) for i in range(19)]
    images[3] = make_image()
    single = [detector(p) for p in images]
    checked = 0
    for count in [*range(10), 16, 17, 19]:
        sizes.clear()
        together = detector.detect_batch(images[:count])
        assert sizes == [8] * (count // 8) + ([count % 8] if count % 8 else [])
        assert len(together) == count
        for one, other in zip(single[:count], together, strict=True):
            np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
            np.testing.assert_array_equal(one.scores, other.scores)
            np.testing.assert_array_equal(one.labels, other.labels)
            checked += 1
    assert checked == sum(range(10)) + 16 + 17 + 19
    assert len(single[3]) == 0 and len(single[4]) == 1


def _two_objects() -> np.ndarray:
    image = np.zeros((64, 96, 3), np.uint8)
    image[10:20, 30:50, 2] = 204  # weed at 0.8
    image[40:50, 5:9, 1] = 224  # crop at 0.878
    return image


@pytest.mark.parametrize(
    ("given_thresholds", "labels"),
    [
        (None, [0]),  # the file's own: weed 0.7, crop 0.9
        (0.0, [1, 0]),
        (0.85, [1]),
        (0.99, []),
        ((0.81, 0.87), [1]),
        ([0.8, 0.9], [0]),  # a score of float32(0.8) is at a threshold of 0.8
    ],
)
def test_thresholds_per_class(model_path: Path, given_thresholds: Any, labels: list[int]) -> None:
    found = Detector(model_path, score_thresholds=given_thresholds)(_two_objects())
    assert found.labels.tolist() == labels


def test_scores_of_the_graph_are_the_scores_reported(model_path: Path) -> None:
    found = Detector(model_path, score_thresholds=0.0)(_two_objects())
    np.testing.assert_allclose(found.scores, [224 / 255, 204 / 255], rtol=1e-6)
    np.testing.assert_array_equal(found.boxes_xyxy, [[5, 40, 9, 50], [30, 10, 50, 20]])


def test_wrong_number_of_thresholds(model_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one number or 2, got shape \(3,\)"):
        Detector(model_path, score_thresholds=[0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(detector: Detector, image: Any) -> None:
    with pytest.raises(ValueError, match="an image must be uint8"):
        detector(image)


def test_boxes_in_the_grey_part_are_no_detections() -> None:
    place = placement((32, 96), (64, 96))
    boxes = np.array([[10, 40, 20, 60], [10, 20, 20, 60], [-5, 0, 3, 4]], np.float32)
    found = to_detections(boxes, np.float32([0.9, 0.8, 0.7]), np.int64([0, 0, 0]), place, [0.5])
    np.testing.assert_array_equal(found.boxes_xyxy, [[10, 20, 20, 32], [0, 0, 3, 4]])


def test_label_without_a_name_is_refused() -> None:
    place = placement((64, 96), (64, 96))
    with pytest.raises(ModelOutputError, match="label 2 but names 1 classes"):
        to_detections(np.zeros((1, 4), np.float32), np.float32([1]), np.int64([2]), place, [0.5])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 7, -0.5])
def test_scores_that_say_nothing_are_no_empty_field(tiny: Any, tmp_path: Path, make_image: Any, value: float) -> None:
    detector = Detector(tiny.write(tmp_path / "m.onnx", faulty_if_blue=value), score_thresholds=0.0)
    detector.warm_up()  # neither grey nor noise is blue
    sound, blue = make_image(box=(30, 10, 50, 20)), make_image(box=(30, 10, 50, 20))
    blue[0, 0, 0] = 255
    assert detector(sound).boxes_xyxy.tolist() == [[30, 10, 50, 20]]
    with pytest.raises(ModelOutputError, match=r"m.onnx: the model gave .*: no answer for this image") as error:
        detector(blue)
    assert "\n" not in str(error.value)


def test_boxes_that_are_not_finite_are_no_empty_field() -> None:
    place = placement((64, 96), (64, 96))
    boxes = np.float32([[0, 0, 9, 9], [np.nan, 0, 9, 9]])
    with pytest.raises(ModelOutputError, match="not finite"):
        to_detections(boxes, np.float32([0.9, 0.1]), np.int64([0, 0]), place, [0.5])


def test_malformed_outputs_end_the_warm_up(model_path: Path) -> None:
    sound = Detector(model_path).infer(np.zeros((1, 64, 96, 3), np.uint8))
    row = {"boxes": np.zeros((1, 4), np.float32), "scores": np.float32([0.5]), "labels": np.int64([0])}

    def gives(**changes: Any) -> Raw:
        raw = {key: np.repeat(value[None], 2, 1) for key, value in row.items()}
        return Raw(**{**raw, **changes})

    assert malformed(sound, 2) == malformed(gives(), 2) == ""
    for changes, why in (
        ({"boxes": np.zeros((1, 2, 3), np.float32)}, "do not go together"),
        ({"scores": np.zeros((1, 3), np.float32)}, "do not go together"),
        ({"scores": np.float32([[0.4, 0.5]])}, "not sorted"),
        ({"labels": np.int64([[0, -1]])}, "not 0, 0 and -1"),
        ({"labels": np.int64([[0, 2]])}, "label 2 but names 2"),
        ({"scores": np.float32([[0.4, np.nan]])}, "not finite"),
    ):
        assert why in malformed(gives(**changes), 2)
    detector = Detector(model_path)
    detector.infer = lambda pixels: gives(scores=np.float32([[np.nan, 0.5]]))  # type: ignore[method-assign]
    with pytest.raises(ModelFileError, match=r"tiny.onnx: its outputs are malformed here \(.*not finite"):
        detector.warm_up()


def test_many_threads_share_one_detector(detector: Detector, make_image: Any) -> None:
    results: list[tuple[int, float]] = []

    def work(i: int) -> None:
        for _ in range(20):
            results.append((i, float(detector(make_image(box=(i, 0, i + 10, 10))).boxes_xyxy[0, 0])))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert len(results) == 80
    assert all(i == x for i, x in results)


def test_warm_up_leaves_nothing_behind(detector: Detector, make_image: Any) -> None:
    detector.warm_up()
    assert len(detector(make_image())) == 0


# --- files that are no good ---


def _one_line(error: pytest.ExceptionInfo[Exception], path: Path | None) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert path is None or str(path) in text
    return text


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such model file") as error:
        Detector(tmp_path / "none.onnx")
    _one_line(error, tmp_path / "none.onnx")


def test_folder_as_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read") as error:
        Detector(tmp_path)
    _one_line(error, tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 100, -300, -1])
def test_damaged_file(model_path: Path, tmp_path: Path, kept: int, capfd: Any) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(model_path.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match=r"not a readable \.onnx model") as error:
        Detector(bad)
    _one_line(error, bad)
    assert capfd.readouterr() == ("", "")


def test_text_file(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_text("not an onnx\nat all\n")
    with pytest.raises(ModelFileError, match=r"not a readable \.onnx model") as error:
        Detector(bad)
    _one_line(error, bad)


def test_foreign_onnx(tiny: ModuleType, tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.onnx", with_metadata=False)
    with pytest.raises(ModelFileError, match="not a Swath model") as error:
        Detector(path)
    _one_line(error, path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 4}, "schema 4 is newer"),
        ({"schema_version": 3}, "damaged: no file_sha256"),
        ({"schema_version": "x"}, "damaged"),
        ({"class_names": []}, "damaged at class_names"),
        ({"nms_iou": None}, "damaged at nms_iou"),
        ({"score_thresholds": [0.5]}, "one score threshold per class"),
        ({"letterbox_rule": "centre"}, "letterbox rule 'centre'.*export the model again"),
        (
            {"input_size_hw": [32, 96]},
            r"its input is \['N', 64, 96, 3\], its metadata says \['N', 32, 96, 3\]",
        ),
    ],
)
def test_metadata_that_is_no_good(tiny: ModuleType, tmp_path: Path, changes: Any, message: str) -> None:
    path = tiny.write(tmp_path / "m.onnx", text=tiny.changed_json(**changes))
    with pytest.raises(ModelFileError, match=message) as error:
        Detector(path)
    _one_line(error, path)


def test_metadata_that_is_no_json(tiny: ModuleType, tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.onnx", text="{")
    with pytest.raises(ModelFileError, match="damaged"):
        Detector(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rename": {"images": "input"}}, "its inputs are input"),
        ({"rename": {"boxes": "dets"}}, "its outputs are dets"),
        ({"batch": 1}, r"its input is \[1, 64, 96, 3\]"),
    ],
)
def test_graph_of_another_signature(tiny: ModuleType, tmp_path: Path, changes: Any, message: str) -> None:
    path = tiny.write(tmp_path / "m.onnx", **changes)
    with pytest.raises(ModelFileError, match=message) as error:
        Detector(path)
    _one_line(error, path)


def test_graph_with_labels_of_the_wrong_type(tiny: ModuleType, model_path: Path, tmp_path: Path) -> None:
    model = onnx.load(model_path)
    model.graph.node.append(onnx.helper.make_node("Cast", ["labels"], ["labels32"], to=onnx.TensorProto.INT32))
    model.graph.output[2].CopyFrom(onnx.helper.make_tensor_value_info("labels32", onnx.TensorProto.INT32, ["N", 4]))
    onnx.helper.set_model_props(model, {KEY: tiny.metadata().to_json()})
    path = tmp_path / "m.onnx"
    path.write_bytes(sealed(model.SerializeToString()))
    with pytest.raises(ModelFileError, match="its outputs are .*int32"):
        Detector(path)


# --- providers ---


def test_provider_by_short_name_and_by_full_name(model_path: Path) -> None:
    for name in ("cpu", "CPU", "CPUExecutionProvider"):
        assert Detector(model_path, providers=[name]).providers == ("CPUExecutionProvider",)
    assert Detector(model_path, providers=[]).providers == ("CPUExecutionProvider",)


def test_provider_that_is_unknown(model_path: Path) -> None:
    with pytest.raises(DeviceError, match="'warp' is not in this onnxruntime, which has: .*cpu") as error:
        Detector(model_path, providers=["warp"])
    _one_line(error, None)


def test_the_cpu_of_onnxruntime_has_no_choice_of_precision(model_path: Path) -> None:
    with pytest.raises(DeviceError, match="cpu does not compute in bf16; it supports: the file's own precision"):
        Detector(model_path, providers=["cpu:bf16"])


def _has_cuda_device() -> bool:
    return Path("/dev/nvidia0").exists() or Path("/dev/dxg").exists()


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in ort.get_available_providers() or _has_cuda_device(),
    reason="needs onnxruntime-gpu on a machine without a GPU",
)
def test_cuda_that_does_not_come_to_life_is_an_error_not_the_cpu(model_path: Path, capfd: Any) -> None:
    with pytest.raises(DeviceError, match="CUDAExecutionProvider") as error:
        Detector(model_path, providers=["cuda"])
    _one_line(error, None)
    assert capfd.readouterr() == ("", "")


def test_provider_that_silently_is_not_live_is_an_error(model_path: Path, monkeypatch: Any) -> None:
    # Any onnxruntime that says "yes" and then runs on the CPU.
    real = ort.InferenceSession
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(
        ort,
        "InferenceSession",
        lambda content, options, **_: real(content, options, providers=["CPUExecutionProvider"]),
    )
    with pytest.raises(DeviceError, match="CUDAExecutionProvider was requested but is not live"):
        Detector(model_path, providers=["cuda"])


def test_threads_below_one(model_path: Path) -> None:
    with pytest.raises(ValueError, match="threads must be 1 or more"):
        Detector(model_path, threads=0)
