"""Throughput of a training: images per second, the share of time spent waiting for data, and memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

_KEPT = 0.95  # what a step leaves of the sums of those before it: about the last twenty count

Item = TypeVar("Item")


@dataclass(frozen=True)
class Throughput:
    """Speed of a training over about the last twenty steps, and its memory.

    Attributes:
        images_per_s: images per second, waiting for data included, validation not; 0 before the first step.
        waiting: share of that time spent waiting for the next batch, 0 to 1.
        memory_bytes: peak memory so far; None where the system does not tell.
        memory_total_bytes: the accelerator's whole memory; None where `memory_bytes` is this process's.

    """

    images_per_s: float = 0.0
    waiting: float = 0.0
    memory_bytes: int | None = None
    memory_total_bytes: int | None = None

    def memory(self) -> str:
        """The memory as text, such as "1.3 GiB" or "3.1 of 139.8 GiB on the GPU"; "" where it is not known."""
        if self.memory_bytes is None:
            return ""
        if self.memory_total_bytes is None:
            return f"{self.memory_bytes / 2**30:.1f} GiB"
        return f"{self.memory_bytes / 2**30:.1f} of {self.memory_total_bytes / 2**30:.1f} GiB on the GPU"


class ThroughputMeter:
    """Measures the throughput of a loop over batches.

    Args:
        device: a CUDA device, whose own memory is measured; any other: this process's memory is.
        clock: seconds, never going back.

    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.monotonic) -> None:
        self._device, self._clock = device, clock
        self._images = self._waited_s = self._worked_s = 0.0
        self._wait_s, self._handed_over = 0.0, 0.0

    def batches(self, source: Iterable[Item]) -> Iterator[Item]:
        """Yield the batches of `source`, and measure the time until each is there as waiting.

        The time until the first one is left out: workers start and caches fill then.
        """
        batches = iter(source)
        first = True
        try:
            while True:
                requested = self._clock()
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                self._handed_over = self._clock()
                self._wait_s = 0.0 if first else self._handed_over - requested
                first = False
                yield batch
        finally:
            # the loader's workers end when its generator does, and not when this one is collected
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    def stepped(self, images: int) -> Throughput:
        """Call this when the step on the last batch, of `images` images, is done."""
        self._images = _KEPT * self._images + images
        self._waited_s = _KEPT * self._waited_s + self._wait_s
        self._worked_s = _KEPT * self._worked_s + self._clock() - self._handed_over
        whole_s = max(self._waited_s + self._worked_s, 1e-9)
        return Throughput(self._images / whole_s, self._waited_s / whole_s, *memory_bytes(self._device))


def memory_bytes(device: torch.device) -> tuple[int | None, int | None]:
    """Peak memory so far and the total: of a CUDA device, else of this process without a total; None: not known."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_reserved(device), torch.cuda.get_device_properties(device).total_memory
    try:
        import resource
    except ImportError:  # Windows
        return None, None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024, None  # macOS counts bytes, Linux KiB
