import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.runtime.bench.safe_speed import Sprayer, budget_ms, decisions_needed_per_s, highest_safe_speed


@pytest.mark.parametrize(("kmh", "budget", "decisions"), [(5, 216, 14), (12, 90, 33), (20, 54, 56)])
def test_the_designs_numbers(kmh: float, budget: float, decisions: int) -> None:
    assert budget_ms(kmh, 0.30) == pytest.approx(budget)
    assert round(decisions_needed_per_s(kmh, 0.10)) == decisions


def test_the_issues_example_is_a_call_of_36_7_ms_limited_by_the_pulse() -> None:
    speed = highest_safe_speed(36.7, Sprayer(ahead_m=0.30, pulse_m=0.10, valve_ms=15))
    assert (round(speed.kmh, 1), speed.limited_by, round(speed.time_kmh, 1)) == (9.8, "pulse", 12.2)
    assert speed.delay_ms == pytest.approx(36.7 + 36.7 + 15)


def test_a_slow_valve_makes_time_the_limit() -> None:
    # 0.30 m in 50 + 50 + 116 ms = 5 km/h; the pulse alone would allow 0.10 m in 50 ms = 7.2 km/h.
    speed = highest_safe_speed(50, Sprayer(valve_ms=116))
    assert (speed.limited_by, speed.pulse_kmh) == ("time", pytest.approx(7.2))
    assert speed.kmh == speed.time_kmh == pytest.approx(5)


@pytest.mark.parametrize(
    ("call_ms", "gap_ms", "delay_ms"),
    [
        (10, 40, 40 + 10),  # it waits for the camera
        (40, 40, 40 + 40),  # just keeps up
        (41, 80, 80 + 40 + 41),  # every other image, and one that waited for up to 40 ms
        (100, 120, 120 + 40 + 100),
    ],
)
def test_behind_a_camera_gaps_are_whole_images(call_ms: float, gap_ms: float, delay_ms: float) -> None:
    speed = highest_safe_speed(call_ms, Sprayer(valve_ms=0, camera_fps=25))
    assert (speed.gap_ms, speed.delay_ms) == (pytest.approx(gap_ms), pytest.approx(delay_ms))


def test_exposure_delays_and_smears() -> None:
    # the design's: 1 ms at 20 km/h is 5.6 mm
    speed = highest_safe_speed(18, Sprayer(valve_ms=0, exposure_ms=1))
    assert speed.delay_ms == pytest.approx(37)
    assert speed.kmh == pytest.approx(20) and round(speed.blur_mm, 1) == 5.6


RATES = st.none() | st.floats(1, 200)


@given(st.floats(0.1, 2000), st.floats(0.1, 2000), st.floats(0.01, 5), st.floats(0.01, 1), RATES)
def test_slower_is_never_safer(one_ms: float, other_ms: float, ahead: float, pulse: float, fps: float | None) -> None:
    sprayer = Sprayer(ahead_m=ahead, pulse_m=pulse, camera_fps=fps)
    quick, slow = (highest_safe_speed(ms, sprayer) for ms in sorted((one_ms, other_ms)))
    assert slow.kmh <= quick.kmh
    for speed in (quick, slow):  # at the speed that is said, both conditions hold, and one of them just so
        assert budget_ms(speed.kmh, ahead) >= speed.delay_ms * (1 - 1e-9)
        assert 1000 / speed.gap_ms >= decisions_needed_per_s(speed.kmh, pulse) * (1 - 1e-9)
        assert math.isclose(speed.kmh, speed.pulse_kmh if speed.limited_by == "pulse" else speed.time_kmh)


@pytest.mark.parametrize("wrong", [{"ahead_m": 0}, {"pulse_m": -1}, {"valve_ms": -1}, {"camera_fps": 0}])
def test_machines_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above 0|less than 0"):
        Sprayer(**wrong)


@pytest.mark.parametrize("latency", [0.0, -1.0, math.nan, math.inf])
def test_latencies_that_cannot_be_are_refused(latency: float) -> None:
    with pytest.raises(ValueError, match="a latency must be above 0 ms"):
        highest_safe_speed(latency, Sprayer())
