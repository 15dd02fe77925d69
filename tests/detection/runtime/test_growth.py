"""A robot calls its detector for weeks: no call may leave anything behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.serial  # the resident set of a process that shares its cores comes and goes

# In a process of its own: what other tests have left behind comes and goes.
MEASURE = """
import gc, json, sys, tracemalloc
from pathlib import Path
import numpy as np
from detection.runtime import Detector

def resident_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

def image(height, width, box):
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2], 2] = 255
    return image

detector = Detector(sys.argv[1], providers=[sys.argv[2]], threads=1)
images = [image(64, 96, (30, 10, 50, 20)), image(64, 96, (0, 0, 0, 0)), image(128, 100, (3, 3, 90, 90))]
found = [len(detector(images[call % 3])) for call in range(900)]  # what is made once is made here
gc.collect()
before_kb = resident_kb()
for call in range(10_000):
    detector(images[call % 3])
gc.collect()
grown_kb = resident_kb() - before_kb
tracemalloc.start()
for call in range(150):
    detector(images[call % 3])
gc.collect()
before_bytes = tracemalloc.get_traced_memory()[0]
for call in range(2000):
    detector(images[call % 3])
gc.collect()
print(json.dumps({"found": sum(found), "kb": grown_kb, "bytes": tracemalloc.get_traced_memory()[0] - before_bytes}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_memory_does_not_grow_over_10_000_calls(provider: str, model_path: Path) -> None:
    command = [sys.executable, "-c", MEASURE, str(model_path), provider]
    grown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)
    assert grown["found"] == 600  # two of the three show something
    # one leaked answer of 100 bytes a call would be 1 MB; pages that the allocator keeps come and go
    assert grown["kb"] < 2048
    # the smallest object lost in each call would be 50,000; numpy keeps some 6,000 for small arrays to come
    assert grown["bytes"] < 12_000
