from pathlib import Path
from types import ModuleType

import pytest

from detection.runtime.backends.names import COREML, CPU, CUDA, TENSORRT
from detection.runtime.backends.provider_options import (
    cuda_options,
    engine_folder,
    forbid_tf32,
    tensorrt_options,
    with_options,
)
from detection.runtime.errors import DeviceError


def test_cuda_computes_in_float32_unless_tf32_is_asked_for() -> None:
    assert cuda_options(None) == {
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "arena_extend_strategy": "kSameAsRequested",
    }
    assert cuda_options("tf32")["use_tf32"] == "1"


@pytest.mark.parametrize(
    ("precision", "compute", "fp16", "bf16", "int8"),
    [
        ("fp32", None, "0", "0", "0"),
        ("fp16", None, "1", "0", "0"),
        ("int8", None, "0", "0", "1"),
        ("fp32", "fp16", "1", "0", "0"),
        ("fp16", "fp32", "0", "0", "0"),
        ("int8", "bf16", "0", "1", "1"),
    ],
)
def test_tensorrt_by_the_files_precision(
    tiny: ModuleType, tmp_path: Path, precision: str, compute: str | None, fp16: str, bf16: str, int8: str
) -> None:
    told = tensorrt_options(tiny.metadata(precision=precision, max_batch=5), compute, tmp_path)
    assert (told["trt_fp16_enable"], told["trt_bf16_enable"], told["trt_int8_enable"]) == (fp16, bf16, int8)
    shapes = [told[f"trt_profile_{which}_shapes"] for which in ("min", "opt", "max")]
    assert shapes == ["images:1x64x96x3", "images:1x64x96x3", "images:5x64x96x3"]
    assert told["trt_engine_cache_path"] == told["trt_timing_cache_path"] == str(tmp_path)


def test_engines_are_kept_by_content_versions_and_precision(
    tiny: ModuleType, model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    same = tmp_path / "copy.onnx"
    same.write_bytes(model_path.read_bytes())
    other = tiny.write(tmp_path / "other.onnx", tiny.metadata(nms_iou=0.5))
    told = tiny.metadata()
    folder = engine_folder(model_path, told, None, "1.31.1")
    assert folder.parent == tmp_path / "swath" / "tensorrt"
    assert folder == engine_folder(same, told, None, "1.31.1")
    others = [
        engine_folder(other, told, None, "1.31.1"),
        engine_folder(model_path, told, "fp16", "1.31.1"),
        engine_folder(model_path, told, None, "1.32.0"),
        engine_folder(model_path, tiny.metadata(max_batch=4), None, "1.31.1"),
    ]
    assert len({folder, *others}) == 5


def test_tensorrt_has_cuda_behind_it(tiny: ModuleType, model_path: Path) -> None:
    told = with_options([TENSORRT, CPU], model_path, tiny.metadata(), None, "1.31.1")
    assert [name for name, _ in told] == [TENSORRT, CUDA, CPU]
    assert told[1][1] == cuda_options(None) and told[2][1] == {}
    assert with_options([COREML], model_path, tiny.metadata(), None, "1")[0][1] == {"ModelFormat": "MLProgram"}


def test_a_precision_that_a_provider_cannot_choose_is_refused(tiny: ModuleType, model_path: Path) -> None:
    for name, compute, can in ((CPU, "bf16", "the file's own precision"), (CUDA, "fp16", "fp32, tf32")):
        with pytest.raises(DeviceError, match=f"does not compute in {compute}; it supports: {can}"):
            with_options([name], model_path, tiny.metadata(), compute, "1")


def test_tensorrt_may_not_take_tf32_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "7")
    forbid_tf32([TENSORRT], None)
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "7"  # who set it knows better
    for providers, compute, value in (
        ([TENSORRT], "tf32", None),
        ([CUDA], None, None),
        ([TENSORRT, CUDA], None, "0"),
    ):
        monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
        forbid_tf32(providers, compute)
        assert os.environ.get("NVIDIA_TF32_OVERRIDE") == value
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
