"""How fast a training goes: images a second, how much of the time it waits for data, and its memory."""

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
class Pace:
    """How fast a training goes, over about the last twenty steps.

    Attributes:
        images_per_s: images learned a second, waiting included, validation not; 0 before the first step.
        waiting: share of that time in which the next batch was not there yet, 0 to 1.
        memory_bytes: the most that was taken so far; None where it cannot be told.
        memory_total_bytes: the accelerator's whole memory; None where `memory_bytes` is this process's.

    """

    images_per_s: float = 0.0
    waiting: float = 0.0
    memory_bytes: int | None = None
    memory_total_bytes: int | None = None

    def memory(self) -> str:
        """The memory in words, such as "1.3 GiB" or "3.1 of 139.8 GiB on the GPU"; "" where it cannot be told."""
        if self.memory_bytes is None:
            return ""
        if self.memory_total_bytes is None:
            return f"{self.memory_bytes / 2**30:.1f} GiB"
        return f"{self.memory_bytes / 2**30:.1f} of {self.memory_total_bytes / 2**30:.1f} GiB on the GPU"


class PaceMeter:
    """Measures the pace of a loop over batches.

    Args:
        device: whose memory counts: a CUDA device's own, else this process's.
        clock: seconds, never going back.

    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.monotonic) -> None:
        self._device, self._clock = device, clock
        self._images = self._waited_s = self._worked_s = 0.0
        self._wait_s, self._handed_over = 0.0, 0.0

    def waiting(self, batches: Iterable[Item]) -> Iterator[Item]:
        """The batches as they come; the time until each is there counts as waiting.

        The first one's does not: workers start and caches fill then.
        """
        source = iter(batches)
        first = True
        try:
            while True:
                asked = self._clock()
                try:
                    batch = next(source)
                except StopIteration:
                    return
                self._handed_over = self._clock()
                self._wait_s = 0.0 if first else self._handed_over - asked
                first = False
                yield batch
        finally:
            # the loader's workers end when its generator does, and not when this one is collected
            close = getattr(source, "close", None)
            if close is not None:
                close()

    def stepped(self, images: int) -> Pace:
        """To be called when the step on the last batch, of so many images, is done."""
        self._images = _KEPT * self._images + images
        self._waited_s = _KEPT * self._waited_s + self._wait_s
        self._worked_s = _KEPT * self._worked_s + self._clock() - self._handed_over
        whole_s = max(self._waited_s + self._worked_s, 1e-9)
        return Pace(self._images / whole_s, self._waited_s / whole_s, *memory_bytes(self._device))


def memory_bytes(device: torch.device) -> tuple[int | None, int | None]:
    """The most memory taken so far: on a CUDA device with its whole, else by this process; None: cannot be told."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_reserved(device), torch.cuda.get_device_properties(device).total_memory
    try:
        import resource
    except ImportError:  # Windows
        return None, None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024, None  # macOS counts bytes, Linux KiB
