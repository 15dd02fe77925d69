"""Freed memory is kept, as page faults tell."""

import subprocess
import sys

import pytest

_CODE = """
import resource, sys
import numpy as np
from detection.training.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else True
np.ones(8_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(8_000_000)
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's mallopt is on Linux only")
def test_freed_memory_is_not_asked_for_again():
    faults = {}
    for word in ("keep", "leave"):
        said = subprocess.run([sys.executable, "-c", _CODE, word], capture_output=True, text=True, check=True).stdout
        kept, faults[word] = map(int, said.split())
        if not kept:
            pytest.skip("this libc has no mallopt")
    assert faults["keep"] < faults["leave"] / 10
