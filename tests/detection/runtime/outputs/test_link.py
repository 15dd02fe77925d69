from __future__ import annotations

import pytest

from detection.runtime.events import Event
from detection.runtime.outputs import link
from detection.runtime.outputs.link import FIRST_PAUSE_S, LONGEST_PAUSE_S, Link


def test_changes_are_said_once() -> None:
    events: list[Event] = []
    there = Link("mqtt", events.append)
    for _ in range(3):
        there.down("lost", "away")
    there.up("there")
    there.up("there")
    there.down("lost", "away again")
    there.down("refused", "wrong password")
    there.down("refused", "wrong password")
    there.up("back")
    assert [e.status for e in events] == ["lost", "connected", "lost", "refused", "reconnected"]
    assert {(e.kind, e.subject) for e in events} == {("output", "mqtt")}


def test_pauses_grow_to_the_longest_and_differ() -> None:
    there = Link("mqtt", lambda event: None)
    pauses = []
    for _ in range(2000):  # a broker that is away for a winter
        there.down("lost", "away")
        pauses.append(there.pause_s())
    for i, pause_s in enumerate(pauses):
        expected = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(i, 20))
        assert 0.79 * expected < pause_s < 1.21 * expected
    assert len(set(pauses)) > 1000


def test_a_connection_that_lasted_begins_with_the_first_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(link.time, "monotonic", lambda: now_s[0])
    there = Link("mqtt", lambda event: None)
    for lasts_s, expected_s in ((0.1, 0.5), (0.1, 1.0), (0.1, 2.0), (60.0, 0.5), (0.1, 1.0)):
        there.up("there")
        now_s[0] += lasts_s
        there.down("lost", "away")
        assert there.pause_s() == pytest.approx(expected_s, rel=0.21)
