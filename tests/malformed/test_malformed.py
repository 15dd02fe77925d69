"""Every reader under malformed input: an answer or one clear line; no traceback, no hang, nothing lost in silence.

`scripts/bench/malformed.py` tries 20,000.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.malformed.reader import Reader
from tests.malformed.readers import READERS
from tests.malformed.trial import Outcome, attempt

SEED = 21


def tried(reader: Reader, inputs: int, seed: int, folder: Path) -> Outcome:
    outcome = Outcome()
    malform = reader.prepare(folder)
    for number in range(max(1, inputs // reader.cost)):
        attempt(outcome, f"{reader.name} #{number}", malform(random.Random(f"{reader.name} {seed} {number}")))
    return outcome


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_an_answer_or_one_line(reader: Reader, tmp_path: Path) -> None:
    outcome = tried(reader, 60, SEED, tmp_path)
    assert outcome.finds == []
    assert outcome.counts["refused"] > 0  # the damage is real


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_an_answer_or_one_line_many_times(reader: Reader, tmp_path: Path) -> None:
    assert tried(reader, 1500, SEED + 1, tmp_path).finds == []


def test_what_is_counted_as_a_find() -> None:
    from data.errors import DataError

    def fails(error: BaseException):
        def read() -> None:
            raise error

        return read

    unclear = DataError("a line that is long enough")
    unclear.args = ("two\nlines of it, and more",)
    outcome = Outcome()
    for error in (DataError("a.png: says what is wrong"), unclear, KeyError("x"), AssertionError("a box is missing")):
        attempt(outcome, "it", fails(error))
    attempt(outcome, "it", lambda: None)
    assert dict(outcome.counts) == {"refused": 1, "unclear": 1, "traceback": 1, "lost": 1, "read": 1}
    assert len(outcome.finds) == 3 and outcome.tried == 5
