"""`share_cores`: how many threads an image gets, and how many images are in the network at once."""

from __future__ import annotations

import os

from detection.runtime.backends.names import CPU, same
from detection.runtime.cameras.sources import is_recording
from detection.runtime.operations.machine import Machine

_MOST_WORKERS = 8  # more than one thread can decode for


def share_cores(machine: Machine, cores: int | None = None) -> tuple[int | None, int]:
    """Cameras want each image's boxes soon, recordings many images a second; docs/robot/stream.md has the figures.

    Args:
        machine: what is to run.
        cores: None: those that this process may use.

    Returns:
        `threads` of `Detector` and `workers` of `run_stream`. For cameras, and for whatever the CPU does not
        compute, what the machine says, and one. For recordings one thread, or what the machine says, and as
        many workers as the cores then have room for.

    """
    told, limits = machine.model, machine.limits
    steady = limits.duty_cycle == 1 and limits.cool_below_c is None
    on_cpu = told.provider is None or same(told.provider, CPU)
    if not (steady and on_cpu and all(is_recording(camera.source) for camera in machine.cameras)):
        return told.threads, 1
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = told.threads or 1
    return threads, max(1, min(_MOST_WORKERS, cores // threads))
