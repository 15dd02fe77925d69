"""How many images a second are learned from? Swath's training beside a loop like torchvision's reference one.

    python scripts/bench/training.py ../shared/datasets/cwfid --size 640 640 --batch 16 --precision bf16-mixed

Both train the same detector from the same random weights, on the same files, at the same input size, batch and
precision, with as many loading processes, in turns (A B A B). The loop is written as torchvision's references train
detectors: PIL, v2 transforms, a list of float images, the detector's own resizing, SGD, autocast. The first steps
of each round, in which workers start, caches fill and kernels are chosen, are not timed. How busy a GPU was is what
`nvidia-smi` says, sampled while the timed steps run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision import tv_tensors
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from data import Dataset, load_dataset
from detection.models.build import build_model
from detection.models.presets import preset_named, preset_names
from detection.recipe.schema import Recipe
from detection.training.prepare import prepare
from detection.training.watcher import NullWatcher

PRESETS_TIMED = ("fcos_lite", "fasterrcnn_resnet50_fpn_v2")
NEVER = 10**9


def main() -> None:
    """Parse the command line, time both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="DATASET: a folder, a COCO JSON or a YOLO data.yaml")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS_TIMED), choices=sorted(preset_names()))
    parser.add_argument("--size", type=int, nargs=2, default=(640, 640), metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--precision", default="bf16-mixed", choices=["32-true", "bf16-mixed", "16-mixed"])
    parser.add_argument("--compile", action="store_true", help="Swath compiles backbone and neck")
    parser.add_argument("--steps", type=int, default=40, help="timed in each round")
    parser.add_argument("--warm-up", type=int, default=15, help="steps before them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every measurement here too")
    args = parser.parse_args()
    console = Console()
    rows = []
    for preset in args.presets:
        contestants = {"Swath": _swath(args, preset), "reference loop": _reference(args, preset)}
        speeds: dict[str, list[float]] = {name: [] for name in contestants}
        busy: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(args.rounds):
            for name, start in contestants.items():
                speed, share = _timed(start(), args.warm_up, args.steps, args.batch)
                speeds[name].append(speed)
                busy[name] += [] if share is None else [share]
        rows.append({"preset": preset, "images_per_s": speeds, "gpu_busy": busy})
    console.print(_table(rows, args))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


Start = Callable[[], Iterator[None]]
"""Makes a training; each item that is taken from it is a step."""


def _swath(args: argparse.Namespace, preset: str) -> Start:
    recipe = Recipe.model_validate(
        {
            "data": {"train": args.dataset},
            "model": {"preset": preset, "weights": "none"},
            "input": {"size_hw": tuple(args.size)},
            "augment": {"strength": "none", "hflip": 0.5},
            "train": {
                "batch_size": args.batch,
                "workers": args.workers,
                "precision": args.precision,
                "compile": args.compile,
            },
        }
    )

    def steps() -> Iterator[None]:
        prepared = prepare(recipe, NullWatcher())
        trainer = prepared.trainer
        for batch in prepared.source.batches(trainer.fabric, trainer.images_per_step, NEVER):
            trainer.step(batch)
            yield

    return steps


class _Images(torch.utils.data.Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Images as the references' datasets give them."""

    def __init__(self, dataset: Dataset, label_offset: int) -> None:
        self.dataset, self.label_offset = dataset, label_offset
        self.transform = v2.Compose([v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return NEVER

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image = self.dataset.images[index % len(self.dataset)]
        with Image.open(image.path) as file:
            pixels = tv_tensors.Image(file.convert("RGB"))
        boxes = tv_tensors.BoundingBoxes(torch.tensor(image.boxes_xyxy), format="XYXY", canvas_size=image.size_hw)
        target = {"boxes": boxes, "labels": torch.tensor(image.labels) + self.label_offset}
        moved: tuple[Tensor, dict[str, Tensor]] = self.transform(pixels, target)
        return moved


def _columns(samples: list[tuple[Tensor, dict[str, Tensor]]]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    return [image for image, _ in samples], [target for _, target in samples]


def _reference(args: argparse.Namespace, preset: str) -> Start:
    dataset = load_dataset(args.dataset)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "32-true": None}[args.precision]

    def steps() -> Iterator[None]:
        model = build_model(preset, len(dataset.class_names))
        height, width = args.size
        transform = model.transform
        model.transform = GeneralizedRCNNTransform(
            min(height, width), max(height, width), transform.image_mean, transform.image_std
        )
        model.to(device).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
        scaler = torch.amp.GradScaler(device.type, enabled=args.precision == "16-mixed")
        loader = torch.utils.data.DataLoader(
            _Images(dataset, preset_named(preset).label_offset),
            batch_size=args.batch,
            num_workers=args.workers,
            collate_fn=_columns,
        )
        for images, targets in loader:
            inputs = [image.to(device) for image in images]
            truth = [{key: value.to(device) for key, value in target.items()} for target in targets]
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                losses = model(inputs, truth)
                loss = sum(losses.values())
            loss.item()  # the references log it at every step
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            yield

    return steps


def _timed(steps: Iterator[None], warm_up: int, count: int, batch: int) -> tuple[float, float | None]:
    """Images a second, and how busy the GPU was, 0 to 1; None without one."""
    cuda = torch.cuda.is_available()
    for _ in range(warm_up):
        next(steps)
    if cuda:
        torch.cuda.synchronize()
    done, samples = threading.Event(), list[float]()
    watching = threading.Thread(target=_watch_gpu, args=(done, samples), daemon=True)
    if cuda:
        watching.start()
    began = time.perf_counter()
    for _ in range(count):
        next(steps)
    if cuda:
        torch.cuda.synchronize()
    took_s = time.perf_counter() - began
    done.set()
    if cuda:
        watching.join()
    steps.close()  # type: ignore[attr-defined]
    return count * batch / took_s, statistics.fmean(samples) / 100 if samples else None


def _watch_gpu(done: threading.Event, samples: list[float]) -> None:
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
    while not done.wait(0.2):
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.strip().isdigit():
            samples.append(float(answer.stdout))


def _table(rows: list[dict[str, object]], args: argparse.Namespace) -> Table:
    height, width = args.size
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    table = Table(
        "detector",
        "training",
        "images/s",
        "of the loop",
        "GPU busy",
        title=f"{height} x {width}, batch {args.batch}, {args.precision}, {args.workers} workers, {device}",
    )
    for row in rows:
        speeds, busy = row["images_per_s"], row["gpu_busy"]
        assert isinstance(speeds, dict) and isinstance(busy, dict)
        loop = statistics.median(speeds["reference loop"])
        for name, values in speeds.items():
            shares = busy[name]
            share = f"{statistics.fmean(shares):.0%}" if shares else ""
            median = statistics.median(values)
            table.add_row(str(row["preset"]), name, f"{median:.1f}", f"{median / loop:.2f} x", share)
    return table


if __name__ == "__main__":
    main()
