"""In a process of its own: where it fails, the process dies."""

import subprocess
import sys
from pathlib import Path

import pytest

TWO_GRAPHS = """
import ctypes, faulthandler, gc, signal, subprocess, sys
from detection.runtime import Detector
from detection.runtime.backends.signal_stack import StackT

faulthandler.enable()  # gives the thread a signal stack, as pytest does

def stack():
    now = StackT()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now)) == 0
    return now.sp, now.flags, now.size

before = stack()
first = Detector(sys.argv[1], providers=["openvino"], threads=1)
second = Detector(sys.argv[1], providers=["openvino"], threads=1)
assert stack() == before
del first
gc.collect()
del second
gc.collect()
assert stack() == before
caught = []
signal.signal(signal.SIGUSR1, lambda *of: caught.append(1))
signal.raise_signal(signal.SIGUSR1)
print("caught", len(caught))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux's signal stacks")
def test_graphs_that_come_and_go_leave_the_signal_stack_as_it_was(model_path: Path) -> None:
    command = [sys.executable, "-c", TWO_GRAPHS, str(model_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "caught 1\n"), done.stderr
