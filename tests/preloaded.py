"""Commands and scripts in processes of their own that need not import PyTorch again: forks of one that has."""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preloaded", "detection.cli.app", "detection.training.train"])


def _alone(stdout: str, stderr: str) -> None:
    os.setsid()  # a group of its own, as a shell gives it: signals to the group reach its workers and nobody else
    for number, path in ((0, os.devnull), (1, stdout), (2, stderr)):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, number)
        os.close(handle)


def _run_script(path: str, arguments: list[str], stdout: str, stderr: str) -> None:
    _alone(stdout, stderr)
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).parent))
    runpy.run_path(path, run_name="__main__")


def script(path: Path, *arguments: object, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """What `python path *arguments` gives.

    Raises:
        TimeoutError: it does not end; it is killed.

    """
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder, name) for name in ("stdout", "stderr")]
        given = (str(path), [str(one) for one in arguments], *map(str, said))
        process = _CONTEXT.Process(target=_run_script, args=given)
        process.start()
        code = ended(process, timeout_s)
        return subprocess.CompletedProcess([str(path)], code, *(one.read_text() for one in said))


def _run(arguments: list[str], stderr: str, file_limit_bytes: int | None) -> None:
    _alone(os.devnull, stderr)
    if file_limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit_bytes, file_limit_bytes))
    from detection.cli.app import main

    main(arguments)


def started(*arguments: object, stderr: Path, file_limit_bytes: int | None = None) -> ForkServerProcess:
    """A running `swath` with these arguments; what it says is appended to the file `stderr`.

    Args:
        arguments: of the command line, without "swath".
        stderr: a file.
        file_limit_bytes: no file may grow beyond it, as on a disk that is nearly full.

    """
    process = _CONTEXT.Process(target=_run, args=([str(one) for one in arguments], str(stderr), file_limit_bytes))
    process.start()
    return process


def ended(process: ForkServerProcess, timeout_s: float) -> int:
    """The exit code of a command that ends by itself.

    Raises:
        TimeoutError: it does not; it is killed.

    """
    process.join(timeout_s)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"the command is still running after {timeout_s:g} s")
    return process.exitcode


def wait_for(process: ForkServerProcess, happened: Callable[[], bool], timeout_s: float = 120) -> None:
    """Wait until `happened()` while the command runs."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert process.exitcode is None and time.monotonic() < deadline
        time.sleep(0.01)
