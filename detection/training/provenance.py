"""What a run was made with, so that it can be made again."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import detection
from detection.runtime.backends.wheels import installed_versions

_PACKAGES = (
    "torch torchvision timm lightning-fabric albumentations opencv-python opencv-python-headless numpy pycocotools "
    "safetensors"
).split()


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
