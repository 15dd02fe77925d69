"""Malformed inputs for every reader: how many were tried, and how many ended in anything but an answer or one line.

    python scripts/bench/malformed.py                       # 20,000 inputs over all readers, some minutes
    python scripts/bench/malformed.py --inputs 500 --only recipe --seed 3

Prints a table; exits with 1 where there was a traceback, a hang over 10 s, a silent loss or an unclear message. Each
find is printed with the reader and the number of the input, which gives it again.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.malformed.readers import READERS  # noqa: E402  (the checkout, where this was started from elsewhere)
from tests.malformed.trial import Outcome, attempt  # noqa: E402

BAD = ("traceback", "hang", "lost", "unclear")


def tried(name: str, inputs: int, seed: int, folder: Path) -> Outcome:
    """Give a reader so many malformed inputs."""
    outcome = Outcome()
    reader = next(reader for reader in READERS if reader.name == name)
    malform = reader.prepare(folder)
    for number in range(inputs):
        read = malform(random.Random(f"{name} {seed} {number}"))
        attempt(outcome, f"{name} #{number}", read)
    return outcome


def main() -> int:
    """Try all and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[reader.name for reader in READERS])
    parser.add_argument("--show", type=int, default=20, help="finds of each reader that are printed")
    args = parser.parse_args()
    chosen = [reader for reader in READERS if reader.name in args.only]
    share = args.inputs / sum(1 / reader.cost for reader in chosen)
    heads = (("tried", 7), ("read", 7), ("refused", 8), ("traceback", 10), ("hang", 5), ("lost", 5), ("unclear", 8))
    print(f"{'reader':24} " + " ".join(f"{name:>{width}}" for name, width in heads) + "  slowest")
    total = Outcome()
    for reader in chosen:
        with tempfile.TemporaryDirectory() as folder:
            outcome = tried(reader.name, max(1, round(share / reader.cost)), args.seed, Path(folder))
        counts = [outcome.counts[kind] for kind in ("read", "refused", *BAD)]
        widths = (7, 8, 10, 5, 5, 8)
        cells = " ".join(f"{count:>{width},}" for count, width in zip(counts, widths, strict=True))
        print(f"{reader.name:24} {outcome.tried:>7,} {cells}  {outcome.slowest_s:.1f} s", flush=True)
        for find in outcome.finds[: args.show]:
            print(f"    {find}", flush=True)
        total.counts.update(outcome.counts)
    bad = {kind: total.counts[kind] for kind in BAD}
    print(f"{total.tried:,} malformed inputs: " + ", ".join(f"{count} {kind}" for kind, count in bad.items()))
    return 1 if any(bad.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
