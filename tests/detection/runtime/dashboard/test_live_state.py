from __future__ import annotations

import time

import numpy as np
import pytest

from detection.runtime.dashboard.live_state import LATE_S, CameraState, LiveState, histogram, percentiles
from detection.runtime.events import CameraStatus, Event

S = 1_000_000_000


def _fed(make_shot, intervals_s) -> tuple[CameraState, int]:
    view, now_ns = CameraState("left"), 100 * S
    view.add_frame(*make_shot(), now_ns)
    for interval_s in intervals_s:
        now_ns += round(interval_s * 1e9)
        view.add_frame(*make_shot(), now_ns)
    return view, now_ns


@pytest.mark.parametrize("fps", [60.0, 30.0, 5.0, 1.0, 0.2])
def test_rate_of_a_steady_camera(make_shot, fps):
    view, now_ns = _fed(make_shot, [1 / fps] * 200)
    assert view.fps(now_ns) == pytest.approx(fps, rel=0.01)
    assert view.late_after_s() == pytest.approx(max(LATE_S, 1.5 / fps))


def test_rate_of_a_camera_that_stopped_is_zero(make_shot):
    view, now_ns = _fed(make_shot, [0.1] * 20)
    assert view.fps(now_ns + S) > 9
    assert view.fps(now_ns + 2 * S) == 0.0


def test_one_pause_does_not_make_a_camera_slow(make_shot):
    view, _ = _fed(make_shot, [0.1] * 20 + [60.0] + [0.1] * 3)
    assert view.late_after_s() == LATE_S


def test_rate_before_there_is_one(make_shot):
    assert CameraState("left").fps(5 * S) == 0.0
    view, now_ns = _fed(make_shot, [])
    assert view.fps(now_ns) == 0.0


def _camera(state: LiveState, place: int = 0) -> dict:
    return state.to_json()["cameras"][place]


def test_status_follows_events_and_images(make_shot):
    state = LiveState(("weed", "crop"), ["left"])
    assert _camera(state)["status"] == "starting" and _camera(state)["age_s"] is None
    state.add_frame(*make_shot())
    assert _camera(state)["status"] == "live"
    taken_before = make_shot()
    state.add_event(Event("camera", "left", CameraStatus.LOST, "no answer"))
    state.add_frame(*taken_before)  # was on its way: no sign that the camera is back
    assert (_camera(state)["status"], _camera(state)["message"]) == ("lost", "no answer")
    state.add_frame(*make_shot())
    assert (_camera(state)["status"], _camera(state)["message"]) == ("live", "")
    state.add_event(Event("output", "left", "behind"))  # of another kind, though of the same name
    assert _camera(state)["status"] == "live"


def test_age_grows_while_nothing_comes(make_shot):
    state = LiveState(("weed",), [])
    state.add_frame(*make_shot(age_s=3.0))
    first = _camera(state)["age_s"]
    time.sleep(0.05)
    assert 3.0 <= first < first + 0.04 < _camera(state)["age_s"]


def test_cameras_keep_their_place_and_new_ones_come_last(make_shot):
    state = LiveState(("weed",), ["b", "a"])
    state.add_frame(*make_shot("c"))
    state.add_frame(*make_shot("a"))
    assert [camera["name"] for camera in state.to_json()["cameras"]] == ["b", "a", "c"]
    assert set(state.newest()) == {"a", "c"}


def test_events_have_numbers_and_the_oldest_go(make_shot):
    state = LiveState(("weed",), [])
    for i in range(250):
        state.add_event(Event("machine", "test", str(i)))
    assert state.to_json()["last_event"] == 250
    kept = state.events(0)
    assert len(kept) == 200 and kept[-1]["status"] == "249" and kept[-1]["id"] == 250
    assert [event["id"] for event in state.events(248)] == [249, 250]


def test_without_a_camera_there_are_no_numbers():
    state = LiveState(("weed",), []).to_json()
    assert state["cameras"] == [] and state["age_ms"]["recent"]["p99"] is None and state["counted"] is None


def test_percentiles_are_ages_that_were():
    ages = np.arange(1.0, 101.0)
    assert percentiles(ages) == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
    assert percentiles(np.array([7.0])) == dict.fromkeys(("p50", "p95", "p99", "max"), 7.0)


@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 33.0, 1000.0, 1e6])
def test_bars_hold_every_age_once_and_have_round_widths(scale):
    ages = np.random.default_rng(3).gamma(4, 0.25, 5000) * scale
    bars = histogram(ages)
    assert sum(bars["counts"]) == 5000 and len(bars["counts"]) == 31
    assert f"{bars['width_ms']:e}"[0] in "125"
    assert bars["counts"][-1] <= 50  # beyond the last bar are the last 1 %
    edges = np.append(np.arange(31) * bars["width_ms"], np.inf)
    assert np.abs(np.histogram(ages, edges)[0] - bars["counts"]).sum() <= 4  # an age on an edge
