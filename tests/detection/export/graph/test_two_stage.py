"""Faster R-CNN's end-to-end graph against torchvision's own, in PyTorch; through onnxruntime in test_export."""

import copy

import numpy as np
import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from detection.export.graph.two_stage import TwoStageGraph
from detection.models.presets import preset_names
from detection.models.torch_detector import TorchDetector
from detection.runtime.parity.box_parity import BoxParity
from detection.runtime.parity.expected import Expected

from .test_one_stage import unpadded

TWO_STAGE = [name for name in preset_names() if name.startswith("fasterrcnn")]
SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"
SIZE_HW = (96, 128)


@pytest.fixture(scope="module")
def made_once(lively):
    return lively(SMALL)


@pytest.fixture
def small(made_once):
    """Faster R-CNN to change at will."""
    return copy.deepcopy(made_once)


def some_images(size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (3, *size_hw, 3), np.uint8)
    images[1] = 0  # a black image beside others
    images[2, 20:60, 30:90] = (20, 160, 40)
    return images


def compared(model: torch.nn.Module, graph: TwoStageGraph, images: np.ndarray) -> BoxParity:
    reference = TorchDetector(model, SMALL, ("a", "b", "c"), graph.size_hw)
    with torch.no_grad():
        answer = graph(torch.from_numpy(images))
    parity = BoxParity()
    for row, expected in enumerate(reference.on_inputs(images)):
        parity.add(Expected(expected), unpadded(answer, row))
    return parity


@pytest.mark.parametrize(("preset", "size_hw"), [*((p, SIZE_HW) for p in TWO_STAGE), (SMALL, (160, 96))])
def test_equal_to_torchvision_box_by_box(preset: str, size_hw: tuple[int, int], lively) -> None:
    model = lively(preset, size_hw)
    pool = model.roi_heads.box_roi_pool
    # Regions of an image so small would all be read from the finest level.
    pool.canonical_scale, pool.scales, pool.map_levels = 48, None, None
    graph = TwoStageGraph(model, size_hw).eval()
    images = some_images(size_hw)
    parity = compared(model, graph, images)
    assert parity.boxes > 100
    assert parity.passed, parity
    with torch.no_grad():
        _, scores, labels = graph(torch.from_numpy(images))
        inputs = graph.normalise(torch.from_numpy(images))
        maps = model.backbone(inputs)
        proposals, alive = graph._proposals(list(maps.values()))
        expected = model.rpn(ImageList(inputs, [size_hw] * 3), maps)[0]
    for own, there, torchvisions in zip(proposals, alive, expected, strict=True):
        torch.testing.assert_close(own[there], torchvisions, atol=0, rtol=0)  # of the same maps, to the last bit
    assert labels.dtype == torch.int64 and scores.dtype == torch.float32
    assert set(labels.unique().tolist()) >= {0, 1, 2}  # every class took part
    levels = pool.map_levels([proposals[alive]]).unique().tolist()
    assert levels == ([0, 1, 2, 3] if preset == "fasterrcnn_resnet50_fpn_v2" else [0])


def test_an_empty_field_is_all_padding(small) -> None:
    small.roi_heads.score_thresh = 0.99999
    graph = TwoStageGraph(small, SIZE_HW).eval()
    with torch.no_grad():
        boxes, scores, labels = graph(torch.zeros(2, *SIZE_HW, 3, dtype=torch.uint8))
    assert boxes.shape == (2, 100, 4) and boxes.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert (boxes == 0).all() and (scores == 0).all() and (labels == -1).all()


def test_where_no_region_is_proposed_there_is_nothing(small) -> None:
    small.rpn.score_thresh = 1.01
    graph = TwoStageGraph(small, SIZE_HW).eval()
    assert compared(small, graph, some_images()).boxes == 0
    with torch.no_grad():
        boxes, scores, labels = graph(torch.from_numpy(some_images()))
    assert (boxes == 0).all() and (scores == 0).all() and (labels == -1).all()


def test_few_regions_and_few_detections_are_cut_as_torchvision_cuts_them(small) -> None:
    small.roi_heads.detections_per_img = 7
    small.rpn._pre_nms_top_n["testing"], small.rpn._post_nms_top_n["testing"] = 20, 10
    graph = TwoStageGraph(small, SIZE_HW).eval()
    parity = compared(small, graph, some_images())
    assert parity.boxes == 21 and parity.passed
    with torch.no_grad():
        assert graph(torch.from_numpy(some_images()))[1].shape == (3, 7)
    small.rpn.score_thresh = 0.5  # fewer regions than places
    parity = compared(small, TwoStageGraph(small, SIZE_HW).eval(), some_images())
    assert parity.boxes > 0 and parity.passed


def test_more_detections_asked_for_than_there_are_regions_and_classes(small) -> None:
    small.rpn._post_nms_top_n["testing"] = 10
    graph = TwoStageGraph(small, SIZE_HW).eval()
    assert compared(small, graph, some_images()).passed
    with torch.no_grad():
        assert graph(torch.from_numpy(some_images()))[1].shape == (3, 30)


def test_images_of_a_batch_know_nothing_of_each_other(small) -> None:
    graph = TwoStageGraph(small, SIZE_HW).eval()
    image = torch.from_numpy(some_images()[:1])
    with torch.no_grad():
        alone = graph(image)
        together = graph(image.expand(5, -1, -1, -1))  # five times the same boxes
    assert (alone[2] >= 0).sum() > 30
    for one, many in zip(alone, together, strict=True):
        for row in range(5):
            torch.testing.assert_close(many[row], one[0], atol=1e-2, rtol=0)  # sums of batches round otherwise
