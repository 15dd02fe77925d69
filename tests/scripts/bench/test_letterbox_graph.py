"""The graphs that scripts/bench/letterbox.py times do what the runtime's letterbox does, where they can."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import onnxruntime as ort
import pytest

from detection.runtime.letterbox import PAD_VALUE, letterbox

SIZE_HW = (48, 64)


@pytest.fixture(scope="module")
def graphs() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "scripts" / "bench" / "letterbox_graph.py"
    spec = importlib.util.spec_from_file_location("letterbox_graph", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def given(graphs: ModuleType, way: str, image: np.ndarray, halvings: int = 0) -> np.ndarray:
    model = graphs.graph(way, SIZE_HW, 20, 10, halvings)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": np.ascontiguousarray(image[None, ..., ::-1])})[0][0]


def by_areas(image: np.ndarray) -> np.ndarray:
    """Fitted as the letterbox would, had it no halves."""
    scale = min(SIZE_HW[0] / image.shape[0], SIZE_HW[1] / image.shape[1])
    fitted = np.rint(np.multiply(image.shape[:2], scale)).astype(int)
    canvas = np.full((*SIZE_HW, 3), PAD_VALUE, np.uint8)
    small = cv2.resize(image, (int(fitted[1]), int(fitted[0])), interpolation=cv2.INTER_AREA)
    canvas[: fitted[0], : fitted[1]] = small[..., ::-1]
    return canvas


IMAGES = [(97, 130), (144, 192), (150, 100), (48, 64), (300, 40), (97, 300)]


@pytest.mark.parametrize("image_hw", IMAGES)
def test_areas_are_those_of_opencv(graphs: ModuleType, image_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*image_hw, 3), np.uint8)
    wanted = by_areas(image)
    off = np.abs(given(graphs, "areas", image).astype(int) - wanted)
    assert off.max() <= 1 and (off > 0).mean() < 0.01
    assert len(np.unique(wanted)) > 20


@pytest.mark.parametrize(("image_hw", "halvings"), list(zip(IMAGES, [1, 1, 1, 0, 2, 2], strict=True)))
def test_halves_are_those_of_the_runtime(graphs: ModuleType, image_hw: tuple[int, int], halvings: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*image_hw, 3), np.uint8)
    wanted = letterbox(image, SIZE_HW)[0]
    off = np.abs(given(graphs, "halved", image, halvings).astype(int) - wanted)
    assert off.max() <= 1
    assert len(np.unique(wanted)) > 20


@pytest.mark.parametrize("way", ["antialias", "antialias, uint8"])
def test_antialiasing_is_something_else(graphs: ModuleType, way: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (97, 130, 3), np.uint8)
    wanted, found = letterbox(image, SIZE_HW)[0].astype(int), given(graphs, way, image)
    assert np.abs(found - wanted).max() > 10
    flat = np.full((150, 100, 3), 77, np.uint8)  # but without a structure, and in the grey part
    np.testing.assert_array_equal(given(graphs, way, flat), letterbox(flat, SIZE_HW)[0])
