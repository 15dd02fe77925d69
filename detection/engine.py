"""Where a training computes: one device, or several processes that share the pictures of every step."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning_fabric import Fabric

from detection.config import Train
from detection.runtime.errors import SwathError

_FULL = (
    "out of memory",  # CUDA, MPS and XLA
    "can't allocate memory",  # the CPU
    "not enough memory",  # the CPU under Windows
    "could not create a primitive",  # oneDNN's convolutions; it gives no reason
)


def make_fabric(settings: Train) -> Fabric:
    """Lightning Fabric as the recipe wants it, launched: from here on this may be one of several processes.

    `torchrun` and `fabric run` say in the environment how many processes there are, and that wins; else
    `train.devices` does, and further processes start with this one's own command line.

    Raises:
        SwathError: there is no such device, or not that many.

    """
    parts: dict[str, Any] = {"devices": settings.devices}
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 0))
    if os.environ.get("LT_CLI_USED"):
        parts = {}  # `fabric run` hands its own over, and refuses a second opinion
    elif local:
        nodes = int(os.environ["WORLD_SIZE"]) // local
        parts = {"devices": local, "num_nodes": nodes, "strategy": "ddp" if local * nodes > 1 else "auto"}
    elif settings.devices != 1 and settings.accelerator == "cpu":
        parts["strategy"] = "ddp"  # on CPU, devices are processes, and Fabric would start threads of its own kind
    try:
        fabric = Fabric(accelerator=settings.accelerator, precision=settings.precision, **parts)
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise SwathError(
            f"train.accelerator {settings.accelerator}, train.devices {settings.devices}: {error}"
        ) from None
    return fabric


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the machine, had no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)
