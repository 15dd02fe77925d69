"""How long from an image in memory to its boxes? Swath's detectors beside YOLO11n and YOLO26n, on CPU, in turns.

    python scripts/bench/speed.py --run runs/mine --images photos --out speed

RUN is a detector that `swath train` made, exported at 640 x 640 in float32 and int8; so are the YOLOs (from
random weights: how long a convolution takes does not depend on them). Every contestant runs in a process of its own,
ten calls at a turn, each with its own documented way from image to input and from output to boxes. All have the
same images and threads. Ultralytics (AGPL) is installed in an environment of its own, for this alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console
from rich.progress import track
from rich.table import Table
from speed_contestants import letterboxed
from ultralytics_venv import ultralytics_env, ultralytics_python

from data import load_dataset
from data.images import read_image
from detection.export.export import ExportOptions, export
from detection.export.precision.lowering import Int8
from detection.models.checkpoint import load_trained

BACKENDS = ("onnxruntime", "openvino")
SIZE = 640
CALLS = 10  # at a turn
_EXPORT = """
import sys
from ultralytics import YOLO
for name in sys.argv[1:]:
    # YOLO26 without NMS is what its makers recommend it for
    YOLO(f"{name}.yaml").export(format="onnx", imgsz=640, simplify=True, **({"nms": False} if "26" in name else {}))
"""


def main() -> None:
    """Parse the command line, export, let all take turns, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run, of fcos_lite_n for one")
    parser.add_argument("--images", required=True, help="DATASET: 16 of its images are looked at")
    parser.add_argument("--out", type=Path, default=Path("speed"))
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--yolo", nargs="*", default=["yolo11n", "yolo26n"])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    some = load_dataset(args.images, split="train").spread(16)
    images = [str(image.path) for image in some.images]
    models = [*swath_models(args.run, some, args.out)]
    models += [*yolo_models(args.yolo, images, args.out)]
    console, results = Console(), []
    for backend in BACKENDS:
        for precision in ("fp32", "int8"):
            chosen = [m for m in models if m["precision"] == precision]
            jobs = [{**m, "backend": backend, "threads": args.threads, "images": images} for m in chosen]
            results += in_turns(jobs, args.turns)
            console.print(table(results[-len(jobs) :], f"{backend}, {precision}, {args.threads} threads"))
    (args.out / "speed.json").write_text(json.dumps(results, indent=2) + "\n")


def swath_models(run: Path, images: Any, out: Path) -> Iterator[dict[str, Any]]:
    """The run's detector at 640 x 640, through the export's own gate."""
    trained = load_trained(run)
    at_size = trained.config.model_copy(update={"size_hw": (SIZE, SIZE)})
    trained = dataclasses.replace(trained, config=at_size)
    for precision in ("fp32", "int8"):
        path = out / f"swath_{precision}.onnx"
        lower = None if precision == "fp32" else Int8(images)
        export(trained, path, images=images, held_out=False, options=ExportOptions(lowering=lower))
        name = f"swath {trained.config.preset}"
        yield {"kind": "swath", "name": name, "precision": precision, "model": str(path)}


class Calibration(CalibrationDataReader):
    """Images as YOLO gets them."""

    def __init__(self, images: list[str]) -> None:
        self._inputs = iter([{"images": letterboxed(read_image(Path(p)), SIZE)[0]} for p in images])

    def get_next(self) -> Any:
        """The next one, or None."""
        return next(self._inputs, None)


def yolo_models(names: list[str], images: list[str], out: Path) -> Iterator[dict[str, Any]]:
    """YOLO's ONNX by its own exporter, and that with its convolutions in int8."""
    venv = out / "ultralytics"
    python, why = ultralytics_python(venv)
    if python is None:
        print(f"no YOLO: {why}", file=sys.stderr)
        return
    subprocess.run([python, "-c", _EXPORT, *names], cwd=out, check=True, env=ultralytics_env(venv.resolve()))
    for name in names:
        whole, integers = out / f"{name}.onnx", out / f"{name}_int8.onnx"
        yield {"kind": "yolo", "name": name, "precision": "fp32", "model": str(whole)}
        prepared = out / f"{name}_prepared.onnx"
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            integers,
            Calibration(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["Conv"],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        yield {"kind": "yolo", "name": name, "precision": "int8", "model": str(integers)}


def in_turns(jobs: list[dict[str, Any]], turns: int) -> list[dict[str, Any]]:
    """Every contestant's milliseconds; the first one begins each round."""
    worker = [sys.executable, str(Path(__file__).with_name("speed_contestants.py"))]
    running = [
        subprocess.Popen([*worker, json.dumps(job)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for job in jobs
    ]
    try:
        found = [json.loads(one.stdout.readline())["found"] for one in running]
        took: list[list[float]] = [[] for _ in jobs]
        for _ in track(range(turns), "in turns", console=Console(stderr=True), transient=True):
            for one, own in zip(running, took, strict=True):
                print(CALLS, file=one.stdin, flush=True)
                own += json.loads(one.stdout.readline())
    finally:
        for one in running:
            one.stdin.close()
            one.wait()
    first = np.array(took[0]).reshape(turns, CALLS)
    return [
        {
            **{key: job[key] for key in ("name", "backend", "precision", "threads")},
            "p50_ms": float(np.median(own)),
            "p99_ms": float(np.percentile(own, 99)),
            # turn by turn: a machine that slows down slows all of a round
            "first_over_this": float(np.median(np.median(first, 1) / np.median(np.reshape(own, first.shape), 1))),
            "boxes_a_image": boxes,
        }
        for job, own, boxes in zip(jobs, took, found, strict=True)
    ]


def table(rows: list[dict[str, Any]], title: str) -> Table:
    """What people read."""
    shown = Table("", "p50 ms", "p99 ms", f"{rows[0]['name']} takes", "boxes an image", title=title)
    for row in rows:
        ratio = f"{row['first_over_this']:.2f} x"
        cells = (f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}", ratio, f"{row['boxes_a_image']:.1f}")
        shown.add_row(row["name"], *cells)
    return shown


if __name__ == "__main__":
    main()
