"""Options of onnxruntime's providers, chosen so that they reproduce the boxes of the file's parity check.

Names and meanings: onnxruntime.ai/docs/execution-providers, CUDA, TensorRT, CoreML and DirectML pages.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from platformdirs import user_cache_path

from detection.runtime.backends.contract import INPUT
from detection.runtime.backends.names import COREML, CUDA, TENSORRT, short_name
from detection.runtime.backends.wheels import installed_versions
from detection.runtime.errors import DeviceError
from detection.runtime.metadata import ModelMetadata

Options = dict[str, str]

_CHOICES = {CUDA: ("fp32", "tf32"), TENSORRT: ("fp32", "tf32", "bf16", "fp16")}
"""Precisions that a provider supports; the others have no option for it."""

TENSORRT_WHEELS = ("tensorrt", "tensorrt-cu12", "tensorrt-cu13")


def with_options(
    providers: list[str], path: Path, metadata: ModelMetadata, compute: str | None, runtime_version: str
) -> list[tuple[str, Options]]:
    """Providers with their options; TensorRT gets CUDA behind it, for nodes that it does not take.

    Args:
        providers: full names, in order of preference.
        path: the model file; TensorRT's engines are kept by its content.
        metadata: of it.
        compute: precision of the first of them; None is that of the file's parity check.
        runtime_version: of onnxruntime.

    Raises:
        DeviceError: the provider does not support `compute`.

    """
    if TENSORRT in providers and CUDA not in providers:
        at = providers.index(TENSORRT) + 1
        providers = [*providers[:at], CUDA, *providers[at:]]
    for name in providers[:1] if compute else ():
        choices = _CHOICES.get(name, ())
        if compute not in choices:
            supported = ", ".join(choices) or "the file's own precision"
            raise DeviceError(f"{short_name(name)} does not compute in {compute}; it supports: {supported}")
    chosen = []
    for name in providers:
        options: Options = {}
        if name == CUDA:
            options = cuda_options(compute)
        elif name == TENSORRT:
            options = tensorrt_options(metadata, compute, engine_folder(path, metadata, compute, runtime_version))
        elif name == COREML:
            options = {"ModelFormat": "MLProgram"}
        chosen.append((name, options))
    return chosen


def cuda_options(compute: str | None) -> Options:
    """Options of CUDA.

    TF32 rounds the factors of a product to 10 bits: boxes differ from PyTorch's by more than the parity check allows.
    The default exhaustive search for convolutions delays the first image of each batch size by seconds.
    """
    return {
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "1" if compute == "tf32" else "0",
        # the graph has few shapes: a doubling arena only wastes memory on a Jetson
        "arena_extend_strategy": "kSameAsRequested",
    }


def tensorrt_options(metadata: ModelMetadata, compute: str | None, folder: Path) -> Options:
    """Options of TensorRT: engines for 1 to `max_batch` images, optimised for one, kept in `folder`."""
    height, width = metadata.input_size_hw
    lowest = compute or metadata.precision
    return {
        "trt_fp16_enable": "1" if lowest == "fp16" else "0",
        "trt_bf16_enable": "1" if lowest == "bf16" else "0",
        "trt_int8_enable": "1" if metadata.precision == "int8" else "0",  # by the file's own Q and DQ nodes
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_profile_min_shapes": f"{INPUT}:1x{height}x{width}x3",
        "trt_profile_opt_shapes": f"{INPUT}:1x{height}x{width}x3",
        "trt_profile_max_shapes": f"{INPUT}:{metadata.max_batch}x{height}x{width}x3",
    }


def forbid_tf32(providers: list[str], compute: str | None) -> None:
    """Disable TF32 in TensorRT, which uses it by default; onnxruntime has no option for it.

    Must be called before the CUDA libraries are loaded. A variable that the user has set is kept.
    """
    if TENSORRT in providers and compute != "tf32":
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")


def engine_folder(path: Path, metadata: ModelMetadata, compute: str | None, runtime_version: str) -> Path:
    """Where TensorRT's engines of this very file lie: by its content, the versions, and what it computes in.

    TensorRT itself adds the GPU's architecture to the names of the files.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    tensorrt = next(iter(installed_versions(TENSORRT_WHEELS).values()), "system")
    by = f"{digest}-{compute or metadata.precision}-b{metadata.max_batch}-ort{runtime_version}-trt{tensorrt}"
    return user_cache_path("swath", appauthor=False) / "tensorrt" / by
