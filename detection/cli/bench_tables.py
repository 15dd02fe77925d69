"""A measurement of `swath bench` as tables for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from detection.runtime.bench.bench import Measurement
from detection.runtime.bench.cold_start import ColdStart
from detection.runtime.bench.contestant import Contestant, summary_ms
from detection.runtime.bench.report import machine_facts, median_start, safe_speed
from detection.runtime.bench.safe_speed import Sprayer

_FACT_WIDTH = len("highest safe speed")
_NAMED = {
    "decode": "decode the image",
    "letterbox": "letterbox",
    "infer": "infer",
    "finish": "finish",
    "call": "whole call",
    "bare": "bare run (the limit)",
    "age": "decode + whole call",
}


def bench_tables(measured: Measurement, sprayer: Sprayer, images: dict[str, Any]) -> RenderableType:
    """All stages of one contestant, or several side by side; arguments as of `to_json`."""
    source, machine = images["source"], machine_facts()
    sizes = ", ".join(f"{w} x {h}" for h, w in images["sizes_hw"][:3]) + (", ..." * (len(images["sizes_hw"]) > 3))
    shown = f"{source} ({sizes})" if source else f"synthetic, the same each time ({sizes}); --source uses yours"
    runs = measured.contestants[0].runs
    why = {"runs": "", "seconds": ", up to the time limit", "user": ", then stopped"}[measured.ended_by]
    head = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}",
        f"Images (width x height): {shown}",
        f"{runs:,} run{'s' if runs > 1 else ''} of each{why}"
        + ("" if runs >= 100 else "; below 100, p99 is the max"),
    ]
    if len(measured.contestants) == 1:
        body = _alone(measured.contestants[0])
    else:
        body = [_side_by_side(measured.contestants, sprayer), Text(), _starts(measured.contestants)]
    return Group(*map(Text, head), Text(), *body, _last_lines(measured, sprayer))


def _alone(one: Contestant) -> list[RenderableType]:
    metadata = one.detector.metadata
    times = Table(title="Latency in ms", title_justify="left")
    times.add_column("stage")
    for name in ("p50", "p95", "p99", "max"):
        times.add_column(name, justify="right")
    for stage, name in _NAMED.items():
        values = summary_ms(one.samples_ms[stage])
        if stage in ("call", "bare"):
            times.add_section()
        if values:
            times.add_row(name, *(f"{v:.2f}" for v in values.values()), style="bold" if stage == "call" else None)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True, min_width=_FACT_WIDTH)
    facts.add_row("overhead", f"the whole call takes {one.overhead_percent:.1f} % more than the bare run")
    facts.add_row("images per second", _rates(one))
    start = median_start(one)
    if start is None:
        facts.add_row("cold start", Text(next((s for s in one.cold if isinstance(s, str)), "not measured")))
    else:
        totals = [s.total_s for s in one.cold if isinstance(s, ColdStart)]
        facts.add_row(
            "cold start",
            f"first detection after {start.total_s:.2f} s: Python {start.interpreter_s:.2f}, imports "
            f"{start.imports_s:.2f}, load {start.load_s:.2f}, first run {start.first_run_s:.2f} "
            f"({len(totals)} starts: {min(totals):.2f} to {max(totals):.2f} s)",
        )
        facts.add_row(
            "memory",
            f"{_mb(start.loaded_mb)} loaded, {_mb(start.working_mb)} at work, {_mb(start.peak_mb)} at most",
        )
    return [
        Text(f"{one.model.name}: {metadata.preset}, {metadata.precision}"),
        Text(one.detector.runs_on),
        Text(),
        times,
        facts,
    ]


def _rates(one: Contestant) -> str:
    by_batch = one.throughput()
    if not by_batch:
        return f"{one.images_per_s:.1f} one at a time"
    sizes, rates = " / ".join(map(str, by_batch)), " / ".join(f"{rate:.1f}" for rate in by_batch.values())
    return f"{one.images_per_s:.1f} one at a time (mean); in batches of {sizes}: {rates} (median)"


def _mb(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f} MB"


def _label(number: int, one: Contestant) -> Text:
    metadata = one.detector.metadata
    height, width = metadata.input_size_hw
    threads = "" if one.threads is None else f", {one.threads} thread{'s' if one.threads > 1 else ''}"
    return Text(
        f"{number} {one.model.stem}\n  {metadata.precision}, {width} x {height}\n  {one.provider or 'cpu'}{threads}"
    )


def _side_by_side(entered: Sequence[Contestant], sprayer: Sprayer) -> Table:
    table = Table(title="The whole call, interleaved (ms)", title_justify="left")
    table.add_column("")
    for name in ("p50", "p99", "ratio", "+bare", "img/s", "km/h"):
        table.add_column(name, justify="right")
    for number, one in enumerate(entered, 1):
        values = summary_ms(one.samples_ms["call"])
        table.add_row(
            _label(number, one),
            f"{values['p50']:.2f}",
            f"{values['p99']:.2f}",
            f"{one.ratio_to(entered[0]):.3f}",
            f"{one.overhead_percent:+.1f} %",
            f"{one.images_per_s:.1f}",
            f"{safe_speed(one, sprayer).kmh:.1f}",
        )
    return table


def _starts(entered: Sequence[Contestant]) -> Table:
    table = Table(title="Start, memory, batches", title_justify="left")
    table.add_column("")
    sizes = sorted({size for one in entered for size in one.throughput() if size > 1})
    for name in ("first after", "loaded", "at most", *(f"{size}: img/s" for size in sizes)):
        table.add_column(name, justify="right")
    for number, one in enumerate(entered, 1):
        start, rates = median_start(one), one.throughput()
        cells = ["-"] * 3
        if start is not None:
            cells = [f"{start.total_s:.2f} s", _mb(start.loaded_mb), _mb(start.peak_mb)]
        table.add_row(str(number), *cells, *(f"{rates[size]:.1f}" if size in rates else "-" for size in sizes))
    return table


def _last_lines(measured: Measurement, sprayer: Sprayer) -> Table:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True, min_width=0 if len(measured.contestants) > 1 else _FACT_WIDTH)
    meter, several = measured.energy, len(measured.contestants) > 1
    if meter.measures is None:
        facts.add_row("energy", Text(f"not readable here ({meter.reason})"))
    else:
        spent = [f"{statistics.fmean(one.joules):.2f} J" if one.joules else "-" for one in measured.contestants]
        facts.add_row("energy", f"{' / '.join(spent)} an image, of {meter.measures}")
    around = f"camera {sprayer.ahead_m:.2f} m ahead, pulse {sprayer.pulse_m:.2f} m, valve {sprayer.valve_ms:g} ms"
    if sprayer.exposure_ms:
        around += f", exposure {sprayer.exposure_ms:g} ms"
    if sprayer.camera_fps is not None:
        around += f", {sprayer.camera_fps:g} images per second"
    if several:
        facts.add_row("+bare", "by how much the whole call is longer than the bare run of the same graph")
        facts.add_row("km/h", f"highest safe speed: {around}; by p99")
        return facts
    speed = safe_speed(measured.contestants[0], sprayer)
    speed_text = Text(f"{around} -> ").append(f"{speed.kmh:.1f} km/h", style="bold")
    facts.add_row("highest safe speed", speed_text)
    by = "the pulse" if speed.limited_by == "pulse" else "the time to the nozzle"
    why = (
        f"limited by {by}: a decision every {speed.gap_ms:.1f} ms leaves no gap up to {speed.pulse_kmh:.1f} km/h, "
        f"{speed.delay_ms:.1f} ms from view to drop are in time up to {speed.time_kmh:.1f} km/h (p99, not the mean)"
    )
    facts.add_row("", why + (f"; motion blur {speed.blur_mm:.1f} mm" if sprayer.exposure_ms else ""))
    return facts
