"""The end-to-end graph against torchvision's own postprocessing, in PyTorch; through onnxruntime in test_export."""

from typing import Any

import numpy as np
import pytest
import torch

from detection.export.graph.one_stage import OneStageGraph
from detection.models.build import build_model
from detection.models.presets import preset_named, preset_names
from detection.models.torch_detector import TorchDetector
from detection.runtime.detections import Detections
from detection.runtime.errors import SwathError
from detection.runtime.parity.box_parity import BoxParity
from detection.runtime.parity.expected import Expected

SIZE_HW = (96, 128)
# the size m of fcos_lite differs from s in widths only
ONE_STAGE = [name for name in preset_names() if not name.startswith(("fasterrcnn", "fcos_lite_m"))]


def unpadded(answer: tuple[torch.Tensor, ...], row: int) -> Detections:
    boxes, scores, labels = (part[row].numpy() for part in answer)
    filled = labels >= 0
    assert (scores[~filled] == 0).all() and (boxes[~filled] == 0).all()
    assert (np.diff(scores) <= 0).all()
    return Detections(boxes[filled], scores[filled], labels[filled])


@pytest.mark.parametrize(
    ("preset", "options"), [*((name, {}) for name in ONE_STAGE), ("fcos_lite", {"assign": "task_aligned"})]
)
def test_equal_to_torchvision_box_by_box(preset: str, options: dict[str, Any], lively) -> None:
    model = lively(preset, **options)
    offset = preset_named(preset).label_offset
    graph = OneStageGraph(model, offset, SIZE_HW).eval()
    reference = TorchDetector(model, preset, ("a", "b", "c"), SIZE_HW)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (3, *SIZE_HW, 3), np.uint8)
    images[1] = 0  # a black image beside others
    images[2, 20:60, 30:90] = (20, 160, 40)
    with torch.no_grad():
        answer = graph(torch.from_numpy(images))
    parity = BoxParity()
    for row, expected in enumerate(reference.on_inputs(images)):
        parity.add(Expected(expected), unpadded(answer, row))
    assert parity.boxes > 50
    assert len(np.unique(answer[2].numpy())) >= 3  # several classes took part
    assert parity.passed, parity
    assert parity.max_box_error_px < 0.01


def test_an_empty_field_is_all_padding(lively) -> None:
    model = lively("fcos_lite", pre_nms_score_threshold=0.99)
    graph = OneStageGraph(model, 0, SIZE_HW).eval()
    with torch.no_grad():
        boxes, scores, labels = graph(torch.zeros(2, *SIZE_HW, 3, dtype=torch.uint8))
    assert boxes.shape == (2, 100, 4) and boxes.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert (boxes == 0).all() and (scores == 0).all() and (labels == -1).all()


def test_a_small_top_k_and_few_detections_are_limited_as_in_torchvision(lively) -> None:
    model = lively("fcos_lite", pre_nms_top_k=20, max_detections=7)
    graph = OneStageGraph(model, 0, SIZE_HW).eval()
    images = np.random.default_rng(1).integers(0, 256, (1, *SIZE_HW, 3), np.uint8)
    with torch.no_grad():
        answer = graph(torch.from_numpy(images))
    assert answer[1].shape == (1, 7)
    expected = TorchDetector(model, "fcos_lite", ("a", "b", "c"), SIZE_HW).on_inputs(images)[0]
    assert len(expected) == 7
    parity = BoxParity()
    parity.add(Expected(expected), unpadded(answer, 0))
    assert parity.passed


def test_no_box_of_one_image_suppresses_another_images(lively) -> None:
    model = lively("fcos_lite")
    graph = OneStageGraph(model, 0, SIZE_HW).eval()
    image = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (1, *SIZE_HW, 3), np.uint8))
    with torch.no_grad():
        alone = graph(image)
        together = graph(image.expand(5, -1, -1, -1))  # five times the same boxes
    for one, many in zip(alone, together, strict=True):
        for row in range(5):
            torch.testing.assert_close(many[row], one[0], atol=1e-3, rtol=0)


def test_faster_rcnn_is_no_one_stage_detector() -> None:
    with torch.device("meta"):
        model = build_model("fasterrcnn_mobilenet_v3_large_320_fpn", 3)
    with pytest.raises(SwathError, match="no one-stage graph for FasterRCNN: only for FCOS"):
        OneStageGraph(model, 1, SIZE_HW)
