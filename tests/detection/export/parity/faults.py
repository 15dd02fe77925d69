"""The faults that scripts/bench/parity_faults.py plants."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx

from detection.export.parity.graph_check import check_graph, side_of
from detection.models.checkpoint import Trained
from detection.models.torch_detector import TorchDetector


def _load() -> ModuleType:
    path = Path(__file__).parents[4] / "scripts" / "bench" / "parity_faults.py"
    spec = importlib.util.spec_from_file_location("parity_faults", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLANTED = _load()


def planted_are_refused(model: onnx.ModelProto, trained: Trained) -> None:
    """The faults that look different in each kind of graph; test_graph_check.py plants the others."""
    side = side_of(TorchDetector.of(trained))
    noise = [np.random.default_rng(0).integers(0, 256, (*trained.config.size_hw, 3), np.uint8)]
    faults = PLANTED.faults_of(model)
    planted = [name for name in faults if name.endswith(("NMS threshold +0.02", "anchors"))]
    large = model.ByteSize() >= 80e6  # slow to take apart
    for name in planted[-1:] if large else planted:
        assert check_graph(PLANTED.spoilt(model, faults[name]), side, noise)[0].faults, name
