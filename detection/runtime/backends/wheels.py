"""Which wheels of onnxruntime are installed: two of them overwrite one another, and the GPU is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata

RUNTIMES = (
    *("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    *("onnxruntime-training", "onnxruntime-qnn", "onnxruntime-rocm", "onnxruntime-migraphx"),
)
"""Distributions that all put a package `onnxruntime` in the same place."""


def installed_versions(names: Sequence[str]) -> dict[str, str]:
    """Of packages, by name; those that are not installed are left out."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def runtime_conflict(wheels: Mapping[str, str]) -> str | None:
    """What is wrong with these wheels of onnxruntime (versions by name), and what to type; None: nothing."""
    if len(wheels) < 2:
        return None
    return f"they overwrite one another; pip uninstall {' '.join(wheels)}, then install one"
