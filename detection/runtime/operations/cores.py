"""`share_cores`: how many threads infer one image, and how many images are inferred at once."""

from __future__ import annotations

import os

from detection.runtime.backends.names import CPU, same
from detection.runtime.cameras.sources import is_recording
from detection.runtime.operations.machine import Machine

_MOST_WORKERS = 8  # more than one thread can decode for


def share_cores(machine: Machine, cores: int | None = None) -> tuple[int | None, int]:
    """Cameras want low latency, recordings high throughput; docs/robot/stream.md has the figures.

    Args:
        machine: what is to run.
        cores: None: those that this process may use.

    Returns:
        `threads` of `Detector` and `workers` of `run_stream`. For cameras, and for whatever the CPU does not
        compute, what the machine says, and one. For recordings one thread, or what the machine says, and as
        many workers as the cores then have room for.

    """
    model, limits = machine.model, machine.limits
    steady = limits.duty_cycle == 1 and limits.cool_below_c is None
    on_cpu = model.provider is None or same(model.provider, CPU)
    if not (steady and on_cpu and all(is_recording(camera.source) for camera in machine.cameras)):
        return model.threads, 1
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = model.threads or 1
    return threads, max(1, min(_MOST_WORKERS, cores // threads))
