"""A process to be killed: writes frames into an output until then.

    python killed_writer.py KIND PATH LINES_BYTES PAUSE_S

KIND is jsonl, csv, mp4 or mcap. Says "ready" once the first frame is written.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from detection.runtime.detections import Detections, Frame
from detection.runtime.outputs.annotated_video import VideoOutput
from detection.runtime.outputs.contract import Output, make_record
from detection.runtime.outputs.csv import CsvOutput
from detection.runtime.outputs.jsonl import JsonlOutput
from detection.runtime.outputs.mcap import McapOutput

NAMES = ("weed", "crop")


def opened(kind: str, path: Path) -> Output:
    if kind == "jsonl":
        return JsonlOutput(path)
    if kind == "csv":
        return CsvOutput(path)
    if kind == "mp4":
        return VideoOutput(path, NAMES, fps=25)
    return McapOutput(path, cameras={"left": (False, 25)})


def main(kind: str, path: Path, count: int, pause_s: float) -> None:
    boxes = np.tile(np.float32([1.5, 2.25, 30.125, 40]), (count, 1))
    found = Detections(boxes, np.full(count, 0.123, np.float32), np.arange(count) % 2)
    image = np.full((240, 320, 3), 60, np.uint8)
    output = opened(kind, path)
    index = 0
    while True:
        image[:, index % 300 : index % 300 + 20] = index % 250
        frame = Frame(image.copy(), "left", index, time.monotonic_ns())
        output.write(frame, found, make_record(frame, found, NAMES, age_ms=1.0, latency_ms={"infer": 1.0}))
        if index == 0:
            print("ready", flush=True)
        index += 1
        time.sleep(pause_s)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
