from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from detection.runtime.streaming.duty import DutyCycle


def _sensor(folder: Path, celsius: float, name: str = "temp") -> Path:
    path = folder / name
    path.write_text(f"{round(celsius * 1000)}\n")
    return path


def test_a_third_of_the_time_means_pauses_twice_as_long_as_the_work() -> None:
    started = time.monotonic()
    DutyCycle(1 / 3).pause_after(0.05, threading.Event())
    assert 0.095 <= time.monotonic() - started < 1


def test_all_of_the_time_means_no_pause_and_a_stop_ends_one() -> None:
    stop = threading.Event()
    started = time.monotonic()
    DutyCycle(1.0).pause_after(100, stop)
    stop.set()
    DutyCycle(0.01).pause_after(100, stop)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(("celsius", "share"), [(60, 1.0), (75, 1.0), (77.5, 0.5), (79.5, 0.1), (95, 0.1)])
def test_the_hotter_the_less(tmp_path: Path, celsius: float, share: float) -> None:
    sensors = [_sensor(tmp_path, 40, "cool"), _sensor(tmp_path, celsius)]
    duty = DutyCycle(limit_c=80, sensors=sensors)
    assert duty.share == pytest.approx(share) and duty.hottest_c == celsius


def test_it_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detection.runtime.streaming.duty._EVERY_S", 0.0)
    duty = DutyCycle(0.8, 80, [_sensor(tmp_path, 50)])
    assert duty.share == 0.8
    _sensor(tmp_path, 77.5)
    duty.pause_after(0.0, threading.Event())
    assert duty.share == pytest.approx(0.4)


def test_nonsense_is_refused(tmp_path: Path) -> None:
    for share in (0.0, 1.1):
        with pytest.raises(ValueError, match="duty cycle"):
            DutyCycle(share)
    with pytest.raises(ValueError, match="no temperature sensor"):
        DutyCycle(limit_c=80, sensors=[tmp_path / "none"])
