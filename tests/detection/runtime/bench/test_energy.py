import os
from pathlib import Path

import pytest

from detection.runtime.bench.energy import EnergyMeter


def counter(folder: Path, name: str, called: str, energy_uj: int, span_uj: int = 1_000_000_000) -> Path:
    """As the kernel shows one."""
    one = folder / name
    one.mkdir(parents=True)
    for file, content in (("name", called), ("energy_uj", energy_uj), ("max_energy_range_uj", span_uj)):
        (one / file).write_text(f"{content}\n")
    return one / "energy_uj"


def test_packages_are_added_up_and_their_parts_are_not_counted_twice(tmp_path: Path) -> None:
    first = counter(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    second = counter(tmp_path, "intel-rapl:1", "package-1", 5_000_000)
    core = counter(tmp_path, "intel-rapl:0:0", "core", 7)
    platform = counter(tmp_path, "intel-rapl:2", "psys", 7)
    meter = EnergyMeter(tmp_path)
    assert meter.measures == "2 processor packages (RAPL), all that runs" and meter.reason == ""
    before = meter.read()
    for path, value in ((first, 3_500_000), (second, 6_000_000), (core, 9_000_000), (platform, 9_000_000)):
        path.write_text(f"{value}\n")
    assert meter.joules_between(before, meter.read()) == pytest.approx(2.5 + 1.0)


def test_a_counter_that_began_again(tmp_path: Path) -> None:
    path = counter(tmp_path, "intel-rapl:0", "package-0", 9_000_000, span_uj=10_000_000)
    meter = EnergyMeter(tmp_path)
    before = meter.read()
    path.write_text("500000\n")
    assert meter.joules_between(before, meter.read()) == pytest.approx(1.5)


def test_none_here(tmp_path: Path) -> None:
    meter = EnergyMeter(tmp_path / "none")
    assert meter.measures is None and meter.read() == ()
    assert meter.reason == f"no processor counters under {tmp_path / 'none'}"


def test_a_counter_without_a_number(tmp_path: Path) -> None:
    counter(tmp_path, "intel-rapl:0", "package-0", 1).write_text("broken\n")
    meter = EnergyMeter(tmp_path)
    assert meter.measures is None and "gives no number" in meter.reason and meter.read() == ()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_one_that_only_root_may_read_says_so(tmp_path: Path) -> None:
    path = counter(tmp_path, "intel-rapl:0", "package-0", 1)
    path.chmod(0)
    meter = EnergyMeter(tmp_path)
    assert meter.measures is None and f"chmod a+r {path}" in meter.reason
