"""The command `swath`, also as `python -m swath`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from swath._siblings import check_siblings


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit; see `detection.cli`."""
    try:
        check_siblings()
    except ImportError as error:
        sys.exit(f"swath: {error}")
    from detection.cli.app import main as run

    run(argv)


if __name__ == "__main__":
    main()
