"""Writers that are killed at a random moment."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[4]


def kill_while_writing(
    kind: str, path: Path, *, count: int, after_s: tuple[float, float], pause_s: float = 0.0
) -> None:
    """Run `killed_writer.py` until a random moment in `after_s` after its first frame, then SIGKILL."""
    command = [
        sys.executable,
        str(Path(__file__).with_name("killed_writer.py")),
        kind,
        str(path),
        str(count),
        str(pause_s),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
        assert writer.stdout is not None
        try:
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(random.uniform(*after_s))
        finally:
            writer.kill()
