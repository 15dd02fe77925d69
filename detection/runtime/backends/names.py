"""Names of providers: short ones to type, full ones as onnxruntime has them."""

from __future__ import annotations

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
COREML = "CoreMLExecutionProvider"
DIRECTML = "DmlExecutionProvider"
OPENVINO = "openvino"
"""The package of that name; onnxruntime's own OpenVINO provider goes by its full name only."""

_SHORT = {
    "cpu": CPU,
    "cuda": CUDA,
    "tensorrt": TENSORRT,
    "coreml": COREML,
    "directml": DIRECTML,
    "dml": DIRECTML,
    "openvino": OPENVINO,
}
_SUFFIX = "executionprovider"


def split(name: str) -> tuple[str, str | None]:
    """`openvino:bf16` -> `openvino` and the precision `bf16`; `openvino` -> `openvino` and None."""
    provider, _, compute = name.partition(":")
    return provider, compute.lower() or None


def full_name(name: str) -> str:
    """`cuda`, `CUDA` or `CUDAExecutionProvider` -> `CUDAExecutionProvider`; a name not known here stays as it is."""
    lower = name.lower()
    if lower in _SHORT:
        return _SHORT[lower]
    by_lower = {full.lower(): full for full in _SHORT.values()}
    return by_lower.get(lower, name)


def short_name(full: str) -> str:
    """The name to type: `CUDAExecutionProvider` -> `cuda`."""
    for short, known in _SHORT.items():
        if known == full:
            return short
    lower = full.lower()
    # onnxruntime's OpenVINO must not be taken for the package
    return full if lower == OPENVINO + _SUFFIX else lower.removesuffix(_SUFFIX)


def same(one: str, other: str) -> bool:
    """Whether two names mean the same provider, including those without a short name here (`rocm`, `qnn`)."""
    a, b = full_name(one), full_name(other)
    if OPENVINO in (a.lower().removesuffix(_SUFFIX), b.lower().removesuffix(_SUFFIX)):
        return a.lower() == b.lower()
    return a.lower().removesuffix(_SUFFIX) == b.lower().removesuffix(_SUFFIX)
