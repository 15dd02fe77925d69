"""What does an evaluation cost beside bare pycocotools? The same made-up answers, in turns.

    python scripts/bench/evaluate.py --images 5000 --boxes 100

Inference is left out: the time is that from detections to numbers, and from there to the report's every figure.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.table import Table

from data import Dataset, LabelledImage
from detection.evaluation.coco_metrics import Engine, coco_metrics, coco_results, ground_truth
from detection.evaluation.evaluate import EvaluationOptions, score
from detection.evaluation.metrics_json import metrics_json
from detection.runtime.detections import Detections

SIZE = 1000  # pixels a side


def main() -> None:
    """Parse the command line, time everybody in turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--boxes", type=int, default=100, help="to find in each image; as many are found")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:  # the fingerprint reads every image's bytes
        Console().print(compared(args, Path(file.name)))
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def compared(args: argparse.Namespace, file: Path) -> Table:
    """Everybody, in turns."""
    dataset, found = made_up(file, args.images, args.boxes, args.classes)
    results = coco_results(dataset, found)
    runners: dict[str, Callable[[], float]] = {
        "bare pycocotools": lambda: bare(dataset, results),
        "Swath, COCO's numbers": lambda: coco_metrics(dataset, results).coco["AP"],
        "Swath, everything in metrics.json": lambda: everything(dataset, found, "pycocotools"),
        "the same, --engine faster-coco-eval": lambda: everything(dataset, found, "faster-coco-eval"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    answers = {}
    for _ in range(args.rounds):
        for name, run in runners.items():
            began = time.perf_counter()
            answers[name] = run()
            seconds[name].append(time.perf_counter() - began)
    table = Table("", "AP", "seconds", "times bare", title=f"{args.images} images of {args.boxes} boxes")
    base = statistics.median(seconds["bare pycocotools"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        table.add_row(name, f"{answers[name]:.10f}", f"{median:.1f}", f"{median / base:.2f}")
    return table


def made_up(file: Path, images: int, boxes: int, classes: int) -> tuple[Dataset, list[Detections]]:
    """Boxes of 20 to 120 pixels at random, and a detection near each; a tenth of them of another class."""
    rng = np.random.default_rng(0)
    truth, found = [], []
    for number in range(images):
        corner = rng.uniform(0, SIZE - 120, (boxes, 2))
        xyxy = np.hstack([corner, corner + rng.uniform(20, 120, (boxes, 2))]).astype(np.float32)
        labels = rng.integers(0, classes, boxes)
        truth.append(
            LabelledImage(
                number + 1,
                file,
                (SIZE, SIZE),
                xyxy,
                labels,
                np.prod(xyxy[:, 2:] - xyxy[:, :2], axis=1),
                np.zeros(boxes, bool),
            )
        )
        near = np.clip(xyxy + rng.normal(0, 6, xyxy.shape), 0, SIZE).astype(np.float32)
        named = np.where(rng.random(boxes) < 0.1, rng.integers(0, classes, boxes), labels)
        scores = rng.random(boxes).astype(np.float32)
        found.append(Detections(near, scores, named))
    names = tuple(f"class {k}" for k in range(classes))
    return Dataset("made up", names, tuple(range(1, classes + 1)), tuple(truth)), found


def everything(dataset: Dataset, found: list[Detections], engine: Engine) -> float:
    """As `swath evaluate` does it after inference, but for the page's images."""
    return float(json.loads(metrics_json(score(dataset, found, EvaluationOptions(engine=engine)), "-"))["coco"]["AP"])


def bare(dataset: Dataset, results: list[dict[str, object]]) -> float:
    """As pycocotools' own demo does it."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = ground_truth(dataset)
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0])


if __name__ == "__main__":
    main()
