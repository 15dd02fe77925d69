"""A stream's summary as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from detection.runtime.streaming.summary import StreamSummary


def summary_tables(summary: StreamSummary, outputs_dropped: Mapping[str, int] | None = None) -> RenderableType:
    """Counts per camera; p50, p95, p99 and max of each stage and of the images' age; what outputs dropped."""
    counts = Table(title="Images", title_justify="left")
    counts.add_column("camera")
    for name in ("processed", "dropped", "too old", "unreadable", "faulty"):
        counts.add_column(name, justify="right")
    for camera in summary.cameras:
        style = "red" if camera.failure or camera.faulty else None
        values = (camera.frames, camera.dropped, camera.too_old, camera.unreadable, camera.faulty)
        counts.add_row(Text(camera.camera), *(f"{v:,}" for v in values), style=style)
    times = Table(title="Latency in ms", title_justify="left")
    times.add_column("stage")
    for name in ("p50", "p95", "p99", "max"):
        times.add_column(name, justify="right")
    for stage, values_ms in summary.latency_ms.items():
        times.add_row(stage, *(f"{v:.2f}" for v in values_ms.values()))
    times.add_section()
    times.add_row("age of the image", *(f"{v:.2f}" for v in summary.age_ms.values()), style="bold")
    line = (
        f"{summary.frames:,} frames in {summary.wall_s:.1f} s, {summary.fps:.1f} per second; "
        f"{summary.detections:,} detections"
    )
    capped = []
    if summary.at_cap:
        capped.append(
            f"as many boxes as the model can give in {summary.at_cap:,} of {summary.frames:,} frames: more may be "
            "there; train with a higher postprocess.max_detections, or use --tiles"
        )
    lost = {name: count for name, count in (outputs_dropped or {}).items() if count}
    losses = [f"not written: {', '.join(f'{count:,} by {name}' for name, count in lost.items())}"] if lost else []
    return Group(counts, times, Text(line), *(Text(text, style="red") for text in (*capped, *losses)))
