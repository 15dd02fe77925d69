import pytest

from detection.runtime.backends.names import (
    CPU,
    CUDA,
    DIRECTML,
    OPENVINO,
    TENSORRT,
    full_name,
    same,
    short_name,
    split,
)


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        ("cpu", CPU),
        ("CUDA", CUDA),
        ("cudaexecutionprovider", CUDA),
        ("TensorRT", TENSORRT),
        ("TensorrtExecutionProvider", TENSORRT),
        ("CoreML", "CoreMLExecutionProvider"),
        ("directml", DIRECTML),
        ("dml", DIRECTML),
        ("OpenVINO", OPENVINO),
        ("OpenVINOExecutionProvider", "OpenVINOExecutionProvider"),  # onnxruntime's own
        ("warp", "warp"),
    ],
)
def test_short_and_full_names(typed: str, full: str) -> None:
    assert full_name(typed) == full
    assert same(typed, full)
    assert full_name(short_name(full)) == full


def test_what_to_compute_in_stands_behind_a_colon() -> None:
    assert split("openvino:BF16") == ("openvino", "bf16")
    assert split("CUDAExecutionProvider") == ("CUDAExecutionProvider", None) == split("CUDAExecutionProvider:")


def test_the_package_openvino_is_not_onnxruntimes_provider_of_that_name() -> None:
    assert not same("openvino", "OpenVINOExecutionProvider")
    assert same("openvinoexecutionprovider", "OpenVINOExecutionProvider")
    assert not same("cpu", "cuda")


def test_a_provider_without_a_short_name_of_ours_goes_by_its_first_part() -> None:
    assert same("qnn", "QNNExecutionProvider") and same("ROCMExecutionProvider", "rocm")
