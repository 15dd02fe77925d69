"""A robot calls its detector for weeks: no call may leave anything behind."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from detection.runtime.detector import Detector

CALLS = 10_000


def resident_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_memory_does_not_grow_over_10_000_calls(provider: str, model_path: Path, make_picture: Any) -> None:
    detector = Detector(model_path, providers=[provider], threads=1)
    pictures = [make_picture(box=(30, 10, 50, 20)), make_picture(), make_picture(128, 100, box=(3, 3, 90, 90))]
    for _ in range(300):  # what is made once is made here
        for picture in pictures:
            detector(picture)
    gc.collect()
    before_kb = resident_kb()
    for call in range(CALLS):
        detector(pictures[call % 3])
    gc.collect()
    # one leaked answer of 100 bytes a call would be 1 MB; pages that the allocator keeps come and go
    assert resident_kb() - before_kb < 2048
    tracemalloc.start()
    try:
        for _ in range(50):
            detector(pictures[0])
        gc.collect()
        before_bytes = tracemalloc.get_traced_memory()[0]
        for call in range(2000):
            detector(pictures[call % 3])
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before_bytes
    finally:
        tracemalloc.stop()
    # the smallest object lost in each call would be 50,000; numpy keeps some 6,000 for small arrays to come
    assert grown < 12_000
