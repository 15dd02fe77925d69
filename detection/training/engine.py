"""Devices and processes of a training: Lightning Fabric, launched."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from detection.runtime.errors import SwathError

_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, MPS and XLA
    "can't allocate memory",  # the CPU
    "not enough memory",  # the CPU under Windows
    "could not create a primitive",  # oneDNN's convolutions; it gives no reason
)


Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


def make_fabric(accelerator: str = "auto", devices: int | str = 1, precision: Precision = "32-true") -> Fabric:
    """Launch Lightning Fabric: from here on this may be one of several processes.

    The number of processes that `torchrun` and `fabric run` set in the environment takes precedence over `devices`.
    Otherwise further processes are started with this process's own command line.

    Args:
        accelerator: auto, cpu, cuda, mps or tpu.
        devices: how many of them, or auto: all.
        precision: of the arithmetic.

    Raises:
        SwathError: there is no such device, or not that many.

    """
    parts: dict[str, Any] = {"devices": devices}
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 0))
    if os.environ.get("LT_CLI_USED"):
        parts = {}  # `fabric run` sets its own, and refuses others
    elif local:
        nodes = int(os.environ["WORLD_SIZE"]) // local
        parts = {"devices": local, "num_nodes": nodes, "strategy": "ddp" if local * nodes > 1 else "auto"}
    elif accelerator == "tpu":
        parts["accelerator"] = xla_accelerator()
    elif devices != 1 and accelerator == "cpu":
        parts["strategy"] = "ddp"  # on CPU, devices are processes, and Fabric would start threads of its own kind
    try:
        fabric = Fabric(**{"accelerator": accelerator, "precision": precision, **parts})
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise SwathError(f"train.accelerator {accelerator}, train.devices {devices}: {error}") from None
    return fabric


def xla_accelerator() -> Any:
    """Fabric's XLA accelerator; with `PJRT_DEVICE=CPU` it computes on the CPU, to be tried where there is no TPU.

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
    """Whether an error says that the device or the machine is out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
