"""Is the `data` or `detection` that Python would import ours? A user's own code may bear either name."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def check_siblings() -> None:
    """Make sure that nothing shadows the packages that belong to Swath.

    Raises:
        ImportError: another `data` or `detection` comes first on `sys.path`, or was imported already. The message
            says where it lies and what to do.

    """
    home = Path(__file__).resolve().parents[1]
    for name in ("detection", "data"):
        loaded = sys.modules.get(name)
        found = loaded.__spec__ if loaded is not None else importlib.util.find_spec(name)
        folders = list(found.submodule_search_locations or []) if found is not None else []
        origin = (found.origin if found is not None else None) or next(iter(folders), "nowhere")
        if not any(Path(folder).resolve() == home / name for folder in folders):
            raise ImportError(
                f"the package {name!r} of Swath is hidden by {origin}: rename that one, or start from another folder"
            )
