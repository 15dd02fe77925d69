"""The graphs that scripts/bench_letterbox.py times do what the runtime's letterbox does, where they can."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime as ort
import pytest

from detection.runtime.letterbox import letterbox

SIZE_HW = (48, 64)


@pytest.fixture(scope="module")
def graphs() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "scripts" / "letterbox_graph.py"
    spec = importlib.util.spec_from_file_location("letterbox_graph", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def given(graphs: ModuleType, way: str, image: np.ndarray, factor: int = 1) -> np.ndarray:
    model = graphs.graph(way, SIZE_HW, 20, 10, factor)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"picture": np.ascontiguousarray(image[None, ..., ::-1])})[0][0]


@pytest.mark.parametrize("picture_hw", [(97, 130), (144, 192), (150, 100), (48, 64), (300, 40), (97, 300)])
def test_areas_are_those_of_opencv(graphs: ModuleType, picture_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*picture_hw, 3), np.uint8)
    wanted = letterbox(image, SIZE_HW)[0]
    off = np.abs(given(graphs, "areas", image).astype(int) - wanted)
    assert off.max() <= 1 and (off > 0).mean() < 0.01
    assert len(np.unique(wanted)) > 20


def test_a_pool_of_whole_factors_is_too(graphs: ModuleType) -> None:
    image = np.random.default_rng(0).integers(0, 256, (144, 192, 3), np.uint8)
    np.testing.assert_array_equal(given(graphs, "pool", image, 3), letterbox(image, SIZE_HW)[0])


@pytest.mark.parametrize("way", ["antialias", "antialias, uint8"])
def test_antialiasing_is_something_else(graphs: ModuleType, way: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (97, 130, 3), np.uint8)
    wanted, found = letterbox(image, SIZE_HW)[0].astype(int), given(graphs, way, image)
    assert np.abs(found - wanted).max() > 10
    flat = np.full((150, 100, 3), 77, np.uint8)  # but without a structure, and in the grey part
    np.testing.assert_array_equal(given(graphs, way, flat), letterbox(flat, SIZE_HW)[0])
