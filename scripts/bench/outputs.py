"""What each output of `swath stream` costs, a frame.

    python scripts/bench/outputs.py
    python scripts/bench/outputs.py --source drive.mp4 --frames 500 --found 40

Without a source a drive is rendered (1280 x 720, 48 images). Every turn gives one image with its detections
to each output; beside them stand OpenCV's own video writer with the boxes drawn in, and what a queue leaves in the
pipeline's thread. `ms` is wall-clock, `CPU` of the whole process, both of one frame; the size is that of the
finished file by frames.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from data.synthetic.drive import render_drive
from detection.runtime.bench.images import Recording
from detection.runtime.detections import Detections, Frame
from detection.runtime.draw import annotate
from detection.runtime.outputs.annotated_video import VideoOutput
from detection.runtime.outputs.contract import Output, Record, make_record
from detection.runtime.outputs.csv import CsvOutput
from detection.runtime.outputs.jsonl import JsonlOutput
from detection.runtime.outputs.mcap import McapOutput
from detection.runtime.outputs.queued import Queued

NAMES = ("weed", "crop")
Shot = tuple[Frame, Detections, Record]


class PlainVideo(Output):
    """OpenCV's own writer: nothing is left of it after a kill."""

    def __init__(self, path: Path, size_wh: tuple[int, int]) -> None:
        self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25.0, size_wh)

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Draw and append."""
        self._writer.write(annotate(frame.image, detections, NAMES, f"{frame.camera}  frame {frame.index}"))

    def close(self) -> None:
        """Finish."""
        self._writer.release()


def images_of(source: str | None, folder: Path) -> list[NDArray[np.uint8]]:
    """Up to 48 neighbours."""
    if source is None:
        render_drive(folder, seconds=3.2, fps=15, size_hw=(720, 1280), seed=0)
        source = str(folder / "drive.mp4")
    recording = Recording(source)
    return [recording.next()[0] for _ in range(48)]


def shots_of(images: list[NDArray[np.uint8]], frames: int, found: int) -> list[Callable[[], Shot]]:
    """Frames there and back again, so that neighbours stay neighbours; stamped when they are asked for."""
    height, width = images[0].shape[:2]
    rng = np.random.default_rng(0)
    corner = rng.random((found, 2)) * (width - 90, height - 90)
    boxes = np.concatenate([corner, corner + 80], axis=1).astype(np.float32)
    detections = Detections(boxes, rng.random(found).astype(np.float32), np.arange(found) % 2, np.arange(found))
    there_and_back = [*range(len(images)), *range(len(images) - 2, 0, -1)]

    def at(index: int) -> Shot:
        image = images[there_and_back[index % len(there_and_back)]]
        frame = Frame(image, "left", index, time.monotonic_ns(), index / 25)
        latency_ms = {stage: 1.234 for stage in ("source", "prepare", "infer", "finish")}
        return frame, detections, make_record(frame, detections, NAMES, age_ms=12.3, latency_ms=latency_ms)

    return [lambda index=index: at(index) for index in range(frames)]  # type: ignore[misc]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="a video or a folder of images of one size")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--found", type=int, default=20, help="detections in each frame")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = images_of(chosen.source, folder)
        height, width = images[0].shape[:2]
        paths = {
            kind: folder / f"out.{kind}" for kind in ("jsonl", "csv", "mp4", "mcap", "plain.mp4", "queued.jsonl")
        }
        outputs: dict[str, tuple[Output, Path]] = {
            "JSONL": (JsonlOutput(paths["jsonl"]), paths["jsonl"]),
            "CSV": (CsvOutput(paths["csv"]), paths["csv"]),
            "annotated video": (VideoOutput(paths["mp4"], NAMES, fps=25), paths["mp4"]),
            "  OpenCV's own writer": (PlainVideo(paths["plain.mp4"], (width, height)), paths["plain.mp4"]),
            "MCAP": (McapOutput(paths["mcap"], cameras={"left": (False, 25.0)}), paths["mcap"]),
            "  JSONL, queued": (
                Queued(JsonlOutput(paths["queued.jsonl"]), "queued", lossless=True),
                paths["queued.jsonl"],
            ),
        }
        took: dict[str, list[float]] = {label: [] for label in outputs}
        cpu: dict[str, float] = dict.fromkeys(outputs, 0.0)
        for shot in track(shots_of(images, chosen.frames, chosen.found), "frames", console=Console(stderr=True)):
            given = shot()
            for label, (output, _) in outputs.items():
                began, worked = time.perf_counter(), time.process_time()
                output.write(*given)
                cpu[label] += (time.process_time() - worked) * 1e3
                took[label].append((time.perf_counter() - began) * 1e3)
        for output, _ in outputs.values():
            output.close()
        table = Table(title=f"{chosen.frames} frames of {width} x {height}, {chosen.found} detections in each")
        table.add_column("output")
        for column in ("ms p50", "ms p95", "ms mean", "CPU ms", "KB a frame"):
            table.add_column(column, justify="right")
        for label, (_, path) in outputs.items():
            p50, p95 = np.percentile(took[label], [50, 95])
            size = path.stat().st_size / chosen.frames / 1e3
            values = (p50, p95, float(np.mean(took[label])), cpu[label] / chosen.frames)
            table.add_row(label, *(f"{value:.2f}" for value in values), f"{size:.1f}")
        Console().print(table)


if __name__ == "__main__":
    main()
