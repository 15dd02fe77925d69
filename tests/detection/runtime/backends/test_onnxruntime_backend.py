import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from detection.runtime.backends.contract import OUTPUTS
from detection.runtime.backends.onnxruntime_backend import BoundRuns, OnnxruntimeBackend
from detection.runtime.detector import Detector
from detection.runtime.errors import DeviceError


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 96, 3), np.uint8)


def test_bound_runs_give_what_plain_runs_give_and_keep_it(tiny: ModuleType, model_path: Path) -> None:
    # as on CUDA, but with the place for images on the CPU
    plain = OnnxruntimeBackend(model_path, tiny.metadata())
    bound = BoundRuns(ort.InferenceSession(model_path, providers=["CPUExecutionProvider"]), "cpu")
    kept = []
    for seed, count in enumerate((1, 2, 1, 8, 5, 1)):
        given = images(count, seed)
        given[0] //= 2  # the first image finds nothing: padding too must come out right
        kept.append((plain.run(given), bound.run(given)))
    kept.append((plain.run(images(2)[:, ::-1]), bound.run(images(2)[:, ::-1])))  # not contiguous
    for expected, found in kept:  # compared after all runs: none wrote over another's arrays
        for name, (dtype, axes) in OUTPUTS.items():
            one, other = getattr(expected, name), getattr(found, name)
            np.testing.assert_array_equal(one, other)
            assert other.dtype == dtype and other.ndim == axes
    assert len({float(found.scores.sum()) for _, found in kept}) > 2


class Pretender:
    """A session that names CUDA and computes on the CPU."""

    def __init__(self, content: Any, options: Any, **_: Any) -> None:
        self._real = _SESSION(content, options, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


_SESSION = ort.InferenceSession


def test_a_provider_that_is_named_but_computes_nothing_is_an_error(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", Pretender)
    with pytest.raises(DeviceError, match="is live but does not run this graph: 0 of [1-9][0-9]* nodes") as error:
        Detector(model_path, providers=["cuda"])
    assert "by provider: CPUExecutionProvider" in str(error.value) and "\n" not in str(error.value)


def test_two_wheels_of_onnxruntime_are_an_error_for_all_but_the_cpu(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"):
        about = tmp_path / f"{name.replace('-', '_')}-1.31.1.dist-info" / "METADATA"
        about.parent.mkdir()
        about.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.31.1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(DeviceError) as error:
        Detector(model_path, providers=["cuda"])
    assert str(error.value) == (
        "CUDAExecutionProvider: onnxruntime and onnxruntime-gpu and onnxruntime-openvino are installed side by side: "
        "they overwrite each other; pip uninstall onnxruntime onnxruntime-gpu onnxruntime-openvino, then install one"
    )
    assert Detector(model_path).providers == ("CPUExecutionProvider",)


@pytest.mark.skipif(
    "TensorrtExecutionProvider" not in ort.get_available_providers() or Path("/dev/nvidia0").exists(),
    reason="needs onnxruntime-gpu on a machine without a GPU",
)
def test_tensorrt_that_does_not_come_to_life_is_one_line(
    model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # so that it is taken back after the test
    with pytest.raises(DeviceError, match="TensorrtExecutionProvider") as error:
        Detector(model_path, providers=["tensorrt"])
    assert "\n" not in str(error.value) and capfd.readouterr() == ("", "")
    assert len(list(tmp_path.glob("swath/tensorrt/*"))) == 1  # where engines would lie
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DeviceError, match="TensorRT keeps its engines there; set XDG_CACHE_HOME"):
        Detector(model_path, providers=["tensorrt"])
