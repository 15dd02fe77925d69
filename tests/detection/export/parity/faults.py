"""The faults that scripts/bench/parity_faults.py plants."""

import importlib.util
from pathlib import Path
from types import ModuleType


def _load() -> ModuleType:
    path = Path(__file__).parents[4] / "scripts" / "bench" / "parity_faults.py"
    spec = importlib.util.spec_from_file_location("parity_faults", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLANTED = _load()
