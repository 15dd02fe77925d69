from __future__ import annotations

import pytest

from detection.runtime.cameras.backoff import Backoff
from detection.runtime.cameras.frame_rate import FrameRateLimiter
from detection.runtime.cameras.stream_clock import StreamClock


def _late(arrivals_and_stamps: list[tuple[float, float]]) -> list[float | None]:
    clock = StreamClock()
    return [clock.late_s(arrived_s, stream_s) for arrived_s, stream_s in arrivals_and_stamps]


def test_punctual_images_are_not_late() -> None:
    late = _late([(100 + i / 25, i / 25) for i in range(100)])
    assert late[0] is None  # one image alone says nothing
    assert late[1:] == pytest.approx([0.0] * 99, abs=1e-9)


def test_backlog_of_a_new_connection_is_recognised() -> None:
    """Ten images queued up: they come within 20 ms, then each when it is taken."""
    queued = [(100 + i / 500, i / 25) for i in range(10)]
    on_time = [(100.02 + i / 25, (9 + i) / 25) for i in range(1, 10)]
    late = _late(queued + on_time)
    assert late[:10] == [None] * 10
    assert late[10:] == pytest.approx([0.0] * 9, abs=0.03)


def test_held_back_images_are_as_late_as_they_were_held() -> None:
    """After 20 images the network holds 2 s of them back."""
    stamps = [i / 25 for i in range(120)]
    arrivals = [100 + (s if i < 20 or s > 2.8 else 2.8) for i, s in enumerate(stamps)]
    late = _late(list(zip(arrivals, stamps, strict=True)))
    assert late[20] == pytest.approx(2.0, abs=0.01) and late[45] == pytest.approx(1.0, abs=0.01)
    assert late[-1] == pytest.approx(0.0, abs=0.01)


def test_falling_behind_for_good_is_not_forgotten() -> None:
    """A machine that reads 24 of 25 images a second, for ten minutes: 25 s late."""
    late = _late([(100 + i / 24, i / 25) for i in range(24 * 600)])
    assert late[-1] == pytest.approx(24.0, abs=0.3)


def test_clocks_that_drift_apart_are_forgiven() -> None:
    """100 ppm over ten hours are 3.6 s, which is no lateness."""
    late = _late([(100 + i * (1 + 1e-4), float(i)) for i in range(36_000)])
    assert max(value for value in late if value is not None) < 0.01


def test_stream_that_counts_anew_starts_anew() -> None:
    late = _late([(100 + i / 25, i / 25) for i in range(50)] + [(102 + i / 25, i / 25) for i in range(10)])
    assert late[50] is None and late[51:] == pytest.approx([0.0] * 9, abs=1e-9)


def test_wrong_clock_does_not_keep_a_stream_from_starting() -> None:
    """Stamps at twice the true rate look like a backlog that never ends."""
    late = _late([(100 + i / 25, i / 12) for i in range(100)])
    assert None not in late[60:]


# --- the wait between attempts, and which images are taken ---


def test_backoff_doubles_with_chance_up_to_its_cap() -> None:
    for _ in range(50):
        backoff = Backoff(0.5, 10)
        waits = [backoff.next_s() for _ in range(40)]
        for wait, whole in zip(waits, [0.5, 1, 2, 4, 8, *[10] * 35], strict=True):
            assert whole / 2 <= wait <= whole
        assert len(set(waits)) == 40
        backoff.reset()
        assert backoff.next_s() <= 0.5
    many = Backoff(0.5, 10)
    assert all(many.next_s() <= 10 for _ in range(5000))  # a winter without the camera


@pytest.mark.parametrize(
    ("camera_fps", "max_fps", "taken"), [(30, 12, 120), (25, 25, 250), (25, 100, 250), (30, 1, 10)]
)
def test_pace_is_even_and_kept(camera_fps: int, max_fps: float, taken: int) -> None:
    limiter = FrameRateLimiter(max_fps)
    assert sum(limiter.accepts(i / camera_fps) for i in range(10 * camera_fps)) == pytest.approx(taken, abs=1)


def test_pace_without_limit_takes_all_and_after_a_pause_does_not_hurry() -> None:
    assert all(FrameRateLimiter(None).accepts(t) for t in (0, 0, 1, 1))
    limiter = FrameRateLimiter(10)
    assert limiter.accepts(0) and limiter.accepts(5)
    assert [limiter.accepts(5 + i / 100) for i in range(1, 10)] == [False] * 9
    assert limiter.accepts(5.1)
