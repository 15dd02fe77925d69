"""`StreamSummary`: counts and latencies of a stream, and the `StreamCounters` behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from detection.runtime.cameras.source import Source
from detection.runtime.latency import Latency

STAGES = ("source", "prepare", "wait", "infer", "finish", "track", "output")
"""The stages, in order. `source`: from the grab until preparation begins (a file's
decoding; a live image's conversion and its wait in the mailbox). `prepare`: region, tiles, letterbox.
`wait`: until the network was free (images of a recording are prepared ahead). `infer`: the graph, and the
handover to the next thread. `finish`: boxes back to the image. `track`: the tracker, where there is one.
`output`: all outputs together (not part of a frame's age)."""


@dataclass(frozen=True)
class CameraSummary:
    """Counts of one source.

    Attributes:
        camera: its name.
        frames: images that were detected in and published.
        dropped: images that a newer one replaced before they were taken.
        unreadable: images that could not be decoded.
        too_old: frames older than the limit, dropped before the network or after it.
        faulty: images for which the model gave no answer, such as scores that are not a number; not published.
        failure: why it ended early; None where it did not.
        at_cap: frames in which the model gave as many boxes as it can, so that more may be there.

    """

    camera: str
    frames: int
    dropped: int
    unreadable: int
    too_old: int
    faulty: int
    failure: str | None
    at_cap: int = 0


@dataclass(frozen=True)
class StreamSummary:
    """Counts and latencies of a stream.

    Attributes:
        cameras: one summary per source, in the order given.
        detections: how many, over all frames.
        wall_s: seconds from the first frame requested to the last output written.
        latency_ms: per stage p50, p95, p99 and max.
        age_ms: the same of the images' ages when their records were made (capture to record).

    """

    cameras: tuple[CameraSummary, ...]
    detections: int
    wall_s: float
    latency_ms: dict[str, dict[str, float]]
    age_ms: dict[str, float]

    @property
    def frames(self) -> int:
        """Images that went through the detector, over all sources."""
        return sum(c.frames for c in self.cameras)

    @property
    def dropped(self) -> int:
        """Images that were replaced by newer ones, over all sources."""
        return sum(c.dropped for c in self.cameras)

    @property
    def unreadable(self) -> int:
        """Images that could not be decoded, over all sources."""
        return sum(c.unreadable for c in self.cameras)

    @property
    def too_old(self) -> int:
        """Frames older than the limit, over all sources."""
        return sum(c.too_old for c in self.cameras)

    @property
    def faulty(self) -> int:
        """Images for which the model gave no answer, over all sources."""
        return sum(c.faulty for c in self.cameras)

    @property
    def at_cap(self) -> int:
        """Frames in which the model gave as many boxes as it can, over all sources."""
        return sum(c.at_cap for c in self.cameras)

    @property
    def failures(self) -> tuple[str, ...]:
        """Why sources ended early; empty where all went well."""
        return tuple(c.failure for c in self.cameras if c.failure)

    @property
    def fps(self) -> float:
        """Frames per second through the detector, over all sources; 0.0 without frames."""
        return self.frames / self.wall_s if self.frames and self.wall_s > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """The same as plain Python, for a JSON file."""
        return {
            "frames": self.frames,
            "dropped": self.dropped,
            "unreadable": self.unreadable,
            "too_old": self.too_old,
            "faulty": self.faulty,
            "at_cap": self.at_cap,
            "detections": self.detections,
            "wall_s": round(self.wall_s, 3),
            "fps": round(self.fps, 2),
            "latency_ms": self.latency_ms,
            "age_ms": self.age_ms,
            "cameras": [vars(c) for c in self.cameras],
            "failures": list(self.failures),
        }


@dataclass
class StreamCounters:
    """Counters of a running stream; each number is written by a single thread."""

    frames: list[int]
    too_old_before: list[int]
    too_old_after: list[int]
    faulty: list[int]
    failures: list[str | None]
    at_cap: list[int]
    detections: int = 0
    stages: dict[str, Latency] = field(default_factory=lambda: {stage: Latency() for stage in STAGES})
    age: Latency = field(default_factory=Latency)

    @classmethod
    def of(cls, sources: int) -> StreamCounters:
        """New counters for a number of sources."""
        return cls([0] * sources, [0] * sources, [0] * sources, [0] * sources, [None] * sources, [0] * sources)

    def summary(self, sources: Sequence[Source], wall_s: float) -> StreamSummary:
        """The summary, with the sources' own counts."""
        return StreamSummary(
            cameras=tuple(
                CameraSummary(
                    source.camera,
                    self.frames[i],
                    source.dropped,
                    source.unreadable,
                    self.too_old_before[i] + self.too_old_after[i],
                    self.faulty[i],
                    self.failures[i],
                    self.at_cap[i],
                )
                for i, source in enumerate(sources)
            ),
            detections=self.detections,
            wall_s=wall_s,
            latency_ms={stage: latency.summary_ms() for stage, latency in self.stages.items() if latency.count},
            age_ms=self.age.summary_ms(),
        )
