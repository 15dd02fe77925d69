"""What a run was made from and with, so that it can be made again."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

import detection
from detection.models.checkpoint import save_trained, write_whole
from detection.models.detector_config import DetectorConfig
from detection.models.weights import WeightsReport
from detection.runtime.backends.wheels import installed_versions

_PACKAGES = (
    "torch torchvision timm lightning-fabric albumentations opencv-python opencv-python-headless numpy pycocotools "
    "safetensors"
).split()


@dataclass(frozen=True, eq=False)
class Provenance:
    """What a run is made from; it is written into the run folder and into its checkpoints.

    Attributes:
        recipe: the resolved recipe, section by section, as JSON knows it.
        detector: what the detector is built from.
        class_names: label 0, 1, ... by name.
        dataset_fingerprint: of the training images.
        weights_licence: of the initial weights, and of whatever else the detector learned from.
        weights: what became of every tensor of the initial weights; None where a run is resumed.

    """

    recipe: Mapping[str, Any]
    detector: DetectorConfig
    class_names: tuple[str, ...]
    dataset_fingerprint: str
    weights_licence: str
    weights: WeightsReport | None = None

    def write(self, out: Path) -> None:
        """Write `config.yaml`, `environment.json` and, where the run is new, `weights.json`; `out` is made."""
        made_with = json.dumps(environment() | {"dataset": self.dataset_fingerprint}, indent=1) + "\n"
        config = yaml.safe_dump(dict(self.recipe), sort_keys=False, allow_unicode=True)
        texts = {"config.yaml": config, "environment.json": made_with}
        if self.weights is not None:
            texts["weights.json"] = self.weights.to_json()
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_whole(out / name, partial(Path.write_text, data=text, encoding="utf-8"))

    def save_trained(self, path: Path, state: dict[str, Tensor], metrics: dict[str, float]) -> None:
        """Write a detector's tensors with all that `load_trained` needs."""
        save_trained(
            path,
            state,
            config=self.detector,
            recipe=self.recipe,
            class_names=self.class_names,
            dataset_fingerprint=self.dataset_fingerprint,
            weights_licence=self.weights_licence,
            metrics=metrics,
        )


def environment() -> dict[str, Any]:
    """Versions of everything that changes a number, and the state of the checkout.

    Returns:
        `swath`, `python`, `platform`, `packages` by name (those that are installed), and `git`: `commit` and
        `changed` (whether files differ from it) of the checkout that Swath runs from; None where it is installed.

    """
    return {
        "swath": detection.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": installed_versions(_PACKAGES),
        "git": git_state(Path(detection.__file__).parent),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of a checkout and whether its files differ from it; None outside of one or without git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        # a virtual environment may lie inside somebody else's checkout: ours is the one that tracks this very file
        git("ls-files", "--error-unmatch", "__init__.py")
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
