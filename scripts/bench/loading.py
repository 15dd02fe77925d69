"""How fast do training images come? Swath's loader beside torchvision's transforms and Ultralytics' loader.

    python scripts/bench/loading.py ../shared/datasets/cwfid
    python scripts/bench/loading.py ../shared/datasets/cwfid --photos 12mp --images 24

Everybody reads the same files, letterboxes them to the same size, mirrors half of them and varies brightness
and contrast by up to a quarter, and hands over batches of uint8 images with boxes. Each loader runs in a
process of its own, in turns (A B C A B C), and passes over all images --epochs times; the first pass, which
starts workers and fills caches, is not timed. Speeds are medians over the passes of all rounds. Memory is that
of the process and its workers, shared pages counted once, after the second and the last pass. CPU time is theirs
too, and the figure to look at where other things run beside the benchmark.

Ultralytics (AGPL) is installed for this benchmark alone, into a virtual environment of its own that borrows this
one's torch; it runs as a process of its own, and Swath neither imports nor needs it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table
from ultralytics_venv import ultralytics_env, ultralytics_python

from data import Dataset, LabelledImage, load_dataset
from data.formats.coco import save_coco
from data.images import read_image

LOADERS = {
    "swath": "Swath, no cache",
    "swath-ram": "Swath, cache ram",
    "swath-disk": "Swath, cache disk",
    "torchvision": "torchvision v2, decode_image",
    "torchvision-pil": "torchvision v2, PIL",
    "ultralytics": "Ultralytics, no cache",
    "ultralytics-ram": "Ultralytics, cache ram",
}
PHOTOS_HW = {"12mp": (3000, 4000)}
HERE = Path(__file__).resolve().parent


def main() -> None:
    """Parse the command line, lay out the images, let everybody run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="DATASET: a folder, a COCO JSON or a YOLO data.yaml")
    parser.add_argument("--photos", choices=sorted(PHOTOS_HW), help="put its images together into photos so large")
    parser.add_argument(
        "--images", type=int, default=240, help="how many files; a small dataset is gone through again"
    )
    parser.add_argument("--size", type=int, default=512, help="height and width of the network's input")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--epochs", type=int, default=5, help="passes over the images, 3 or more")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=sorted(LOADERS), default=list(LOADERS), metavar="LOADER")
    parser.add_argument(
        "--ultralytics-venv",
        type=Path,
        default=Path(tempfile.gettempdir()) / "swath-bench-ultralytics",
        help="made where it is not there",
    )
    parser.add_argument("--json", type=Path, help="write every measurement here too")
    args = parser.parse_args()
    if args.epochs < 3:
        parser.error(
            "--epochs must be 3 or more: the first pass is not timed, and memory is compared with the second"
        )
    console = Console()
    with tempfile.TemporaryDirectory(prefix="swath-bench-") as folder:
        home = Path(folder)
        laid_out = _lay_out(load_dataset(args.dataset), home, args.images, PHOTOS_HW.get(args.photos))
        job = {"size": args.size, "batch": args.batch, "epochs": args.epochs, "classes": len(laid_out.class_names)}
        (home / "job.json").write_text(json.dumps(job))
        names = [name for name in LOADERS if name in args.only]
        pythons = dict.fromkeys(names, sys.executable)
        if any(name.startswith("ultralytics") for name in names):
            python, why_not = ultralytics_python(args.ultralytics_venv)
            if python is None:
                console.print(f"Ultralytics cannot be installed here, its rows stay empty: {why_not}")
            for name in names:
                if name.startswith("ultralytics"):
                    pythons[name] = python or ""
        passes = _in_turns(names, pythons, home, args.workers, args.rounds, console)
        files = sum(image.path.stat().st_size for image in laid_out.images)
        side = " x ".join(map(str, laid_out.images[0].size_hw[::-1]))
        console.print(
            f"{len(laid_out)} files of {files / len(laid_out) / 1024:.0f} KiB, the first {side}, to "
            f"{args.size} x {args.size}, batches of {args.batch}, {args.epochs} passes, {args.rounds} rounds, "
            f"{os.cpu_count()} cores",
            soft_wrap=True,
        )
        for workers in args.workers:
            console.print(_table(names, passes, workers))
    if args.json:
        rows = [{"loader": name, "workers": workers, "passes": runs} for (name, workers), runs in passes.items()]
        args.json.write_text(json.dumps({"arguments": sys.argv[1:], "runs": rows}, indent=1) + "\n")


def _lay_out(dataset: Dataset, home: Path, count: int, photo_hw: tuple[int, int] | None) -> Dataset:
    """`count` files with boxes under `home`, as COCO JSON (`annotations.json`) and as YOLO (`labels/`)."""
    (home / "images").mkdir()
    (home / "labels").mkdir()
    made = []
    for number in range(count):
        if photo_hw is None:
            image = dataset.images[number % len(dataset)]
            link = home / "images" / f"{number:05}{image.path.suffix}"
            link.symlink_to(image.path.resolve())
            columns = (image.boxes_xyxy, image.labels, image.areas_px, image.iscrowd)
            made.append(LabelledImage(number, link, image.size_hw, *columns))
        else:
            made.append(_photo(dataset, number, home / "images" / f"{number:05}.jpg", photo_hw))
        height, width = made[-1].size_hw
        x1, y1, x2, y2 = (made[-1].boxes_xyxy / np.array([width, height] * 2)).T
        rows = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], axis=1)
        lines = [f"{label} {' '.join(map(str, row))}" for label, row in zip(made[-1].labels, rows, strict=True)]
        (home / "labels" / f"{number:05}.txt").write_text("\n".join(lines))
    laid_out = Dataset(str(home), dataset.class_names, dataset.category_ids, tuple(made))
    save_coco(laid_out, home / "annotations.json")
    return laid_out


def _photo(dataset: Dataset, number: int, path: Path, size_hw: tuple[int, int]) -> LabelledImage:
    """A large JPEG made of the dataset's images side by side, so that it has the texture of photos."""
    canvas = np.full((*size_hw, 3), 114, np.uint8)
    boxes, labels = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    index, top = number * 7, 0
    while top < size_hw[0]:
        left, lowest = 0, size_hw[0]
        while left < size_hw[1]:
            image = dataset.images[index % len(dataset)]
            pixels = read_image(image.path)[: size_hw[0] - top, : size_hw[1] - left]
            canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
            whole = (image.boxes_xyxy[:, 2] <= pixels.shape[1]) & (image.boxes_xyxy[:, 3] <= pixels.shape[0])
            boxes.append(image.boxes_xyxy[whole] + np.array([left, top] * 2, np.float32))
            labels.append(image.labels[whole])
            index, left, lowest = index + 1, left + pixels.shape[1], min(lowest, top + pixels.shape[0])
        top = lowest
    cv2.imwrite(str(path), canvas, [cv2.IMWRITE_JPEG_QUALITY, 92])
    everything = np.concatenate(boxes)
    n = len(everything)
    return LabelledImage(number, path, size_hw, everything, np.concatenate(labels), np.ones(n), np.zeros(n, bool))


def _in_turns(
    names: list[str], pythons: dict[str, str], home: Path, workers: list[int], rounds: int, console: Console
) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Every loader once a round; passes of all rounds by (loader, workers)."""
    passes: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for image in sorted((home / "images").iterdir()):
        image.read_bytes()  # everybody starts with the files in the system's memory
    for number in range(rounds):
        for count in workers:
            for name in names:
                if not pythons[name]:
                    continue
                console.print(f"round {number + 1} of {rounds}: {LOADERS[name]}, {count} workers", style="dim")
                script = "loading_ultralytics.py" if name.startswith("ultralytics") else "loading_contestants.py"
                command = [pythons[name], "-W", "ignore", str(HERE / script), name, str(home), str(count)]
                passes[name, count] += _watched(command, home, number)
    return passes


def _watched(command: list[str], home: Path, number: int) -> list[dict[str, Any]]:
    """Run one loader, which prints `pass N` after each pass over N images; seconds and memory of each."""
    # The worktree's own `data`, and a disk cache that starts empty and goes with the images.
    env = {
        **ultralytics_env(home),
        "PYTHONPATH": str(HERE.parent),
        "XDG_CACHE_HOME": str(home / f"cache{number}-{command[-1]}"),
    }
    passes: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=env) as process,
    ):
        assert process.stdout is not None
        before = time.perf_counter()
        for line in process.stdout:
            now = time.perf_counter()
            word, _, count = line.partition(" ")
            if word == "pass":
                memory_mb, cpu_s = _tree(process.pid)
                timed = {"seconds": now - before, "images": int(count), "memory_mb": memory_mb, "cpu_s": cpu_s}
                passes.append({"pass": len(passes) + 1, **timed})
                before = now
        if process.wait():
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)}\nended with {process.returncode}: {errors.read().strip()[-2000:]}")
    return passes


def _tree(root: int) -> tuple[float | None, float | None]:
    """Memory (MiB, shared pages counted once) and CPU time (s) of a process and all below it; None without /proc."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        pid = int(entry.parent.name)
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    memory_kb, cpu_ticks = 0, 0
    for pid in parents:
        above = pid
        while above not in (0, root):
            above = parents.get(above, 0)
        if above == root:
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            memory_kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            cpu_ticks += ticks[pid]
    return (memory_kb / 1024, cpu_ticks / os.sysconf("SC_CLK_TCK")) if memory_kb else (None, None)


def _table(names: list[str], passes: dict[tuple[str, int], list[dict[str, Any]]], workers: int) -> Table:
    table = Table("loader", title=f"{workers} workers")
    for heading in (
        "images/s",
        "slowest-fastest",
        "x torchvision",
        "x Ultralytics",
        "CPU ms/image",
        "MiB after 2",
        "after last",
    ):
        table.add_column(heading, justify="right")
    speeds = {
        name: sorted(p["images"] / p["seconds"] for p in passes[name, workers] if p["pass"] > 1)
        for name in names
        if passes.get((name, workers))
    }
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    torchvision = max((medians[n] for n in medians if n.startswith("torchvision")), default=None)
    for name in names:
        if name not in medians:
            table.add_row(LOADERS[name], *["-"] * 7)
            continue
        rival = medians.get("ultralytics-ram" if name in ("swath-ram", "swath-disk") else "ultralytics")
        last = max(p["pass"] for p in passes[name, workers])
        memory = [
            [p["memory_mb"] for p in passes[name, workers] if p["pass"] == n and p["memory_mb"]] for n in (2, last)
        ]
        table.add_row(
            LOADERS[name],
            f"{medians[name]:.1f}",
            f"{speeds[name][0]:.0f}-{speeds[name][-1]:.0f}",
            f"{medians[name] / torchvision:.2f}" if torchvision else "-",
            f"{medians[name] / rival:.2f}" if rival else "-",
            _cpu_ms(passes[name, workers]),
            *(f"{statistics.median(values):.0f}" if values else "no /proc" for values in memory),
        )
    return table


def _cpu_ms(passes: list[dict[str, Any]]) -> str:
    """CPU time an image from the second pass on: other work on the machine disturbs it less than the clock."""
    spent, images = 0.0, 0
    for before, after in itertools.pairwise(passes):
        if after["pass"] > before["pass"] and before["cpu_s"] is not None and after["cpu_s"] is not None:
            spent += after["cpu_s"] - before["cpu_s"]
            images += after["images"]
    return f"{spent / images * 1000:.1f}" if images else "no /proc"


if __name__ == "__main__":
    main()
