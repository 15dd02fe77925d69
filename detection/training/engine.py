"""Where a training computes: one device, or several processes that share the images of every step."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning_fabric import Fabric

from detection.recipe.schema import Train
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
    elif settings.accelerator == "tpu":
        parts["accelerator"] = xla_accelerator()
    elif settings.devices != 1 and settings.accelerator == "cpu":
        parts["strategy"] = "ddp"  # on CPU, devices are processes, and Fabric would start threads of its own kind
    try:
        fabric = Fabric(**{"accelerator": settings.accelerator, "precision": settings.precision, **parts})
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise SwathError(
            f"train.accelerator {settings.accelerator}, train.devices {settings.devices}: {error}"
        ) from None
    return fabric


def xla_accelerator() -> Any:
    """Fabric's XLA accelerator; `PJRT_DEVICE=CPU` has it compute on the CPU, for a try where there is no TPU.

    Raises:
        SwathError: torch_xla is not installed.

    """
    try:
        from lightning_fabric.accelerators.xla import XLAAccelerator

        if os.environ.get("PJRT_DEVICE") != "CPU":
            return XLAAccelerator()

        class XlaOnCpu(XLAAccelerator):
            """Fabric counts TPU chips; XLA's client for the CPU is one device."""

            @staticmethod
            def parse_devices(devices: Any) -> int:
                return 1

            @staticmethod
            def get_parallel_devices(devices: Any) -> list[torch.device]:
                return [torch.device("xla", 0)]

            @staticmethod
            def auto_device_count() -> int:  # type: ignore[override]
                return 1

            @staticmethod
            def is_available() -> bool:  # type: ignore[override]
                return True

        return XlaOnCpu()
    except (ImportError, RuntimeError) as error:
        raise SwathError(
            f"train.accelerator tpu: torch_xla cannot be used here ({error}); it needs the torch that it was built "
            "for, such as torch_xla 2.9.0 with torch 2.9.1, in an environment of their own"
        ) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the machine, had no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)
