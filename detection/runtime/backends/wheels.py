"""Which wheels of onnxruntime are installed: two of them overwrite each other, and the GPU is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata

RUNTIMES = (
    *("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    *("onnxruntime-training", "onnxruntime-qnn", "onnxruntime-rocm", "onnxruntime-migraphx"),
)
"""Distributions that all install a package `onnxruntime`."""


def installed_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of installed packages, by name."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def runtime_conflict(wheels: Mapping[str, str]) -> str | None:
    """What is wrong with these wheels of onnxruntime (versions by name), and what to do; None: nothing."""
    if len(wheels) < 2:
        return None
    return f"they overwrite each other; pip uninstall {' '.join(wheels)}, then install one"
