from __future__ import annotations

import threading
import time

import pytest

from detection.runtime.outputs import backlog
from detection.runtime.outputs.backlog import Backlog


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "MAX_BYTES", 10)


def all_of(waiting: Backlog[bytes]) -> list[bytes]:
    taken = []
    while (item := waiting.take(0.0)) is not None:
        taken.append(item)
    return taken


def test_first_in_first_out() -> None:
    waiting: Backlog[bytes] = Backlog()
    assert waiting.take(0.0) is None and len(waiting) == 0
    for item in (b"a", b"bb", b"ccc"):
        waiting.put(item)
    assert len(waiting) == 3
    assert all_of(waiting) == [b"a", b"bb", b"ccc"] and waiting.dropped == 0


def test_the_oldest_give_way() -> None:
    waiting: Backlog[bytes] = Backlog()
    for item in (b"1234", b"5678", b"90", b"x"):
        waiting.put(item)
    assert waiting.dropped == 1
    assert all_of(waiting) == [b"5678", b"90", b"x"]
    waiting.put(b"0123456789")  # what was taken makes room
    assert waiting.dropped == 1


def test_one_that_is_too_large_stays_while_it_is_the_newest() -> None:
    waiting: Backlog[bytes] = Backlog()
    waiting.put(b"a")
    waiting.put(b"much too large")
    assert len(waiting) == 1 and waiting.dropped == 1
    waiting.put(b"b")
    assert all_of(waiting) == [b"b"] and waiting.dropped == 2


def test_what_is_put_back_is_the_oldest() -> None:
    waiting: Backlog[bytes] = Backlog()
    for item in (b"aaa", b"bbb", b"ccc"):
        waiting.put(item)
    taken = [waiting.take(0.0), waiting.take(0.0)]
    waiting.put(b"dddd")
    waiting.put_back([item for item in taken if item])
    assert all_of(waiting) == [b"bbb", b"ccc", b"dddd"] and waiting.dropped == 1


def test_lost_and_cleared_are_counted() -> None:
    waiting: Backlog[bytes] = Backlog()
    waiting.put(b"a")
    waiting.put(b"b")
    waiting.lose(3)
    assert (waiting.dropped, len(waiting)) == (3, 2)
    waiting.clear()
    assert (waiting.dropped, len(waiting)) == (5, 0)
    waiting.put(b"0123456789")
    assert waiting.dropped == 5


def test_waits_until_there_is_one_or_it_is_woken() -> None:
    waiting: Backlog[bytes] = Backlog()
    for act, expected in ((lambda: waiting.put(b"a"), b"a"), (waiting.wake, None)):
        timer = threading.Timer(0.1, act)
        timer.start()
        started = time.monotonic()
        assert waiting.take(60) == expected
        assert 0.09 < time.monotonic() - started < 30
        timer.join()
