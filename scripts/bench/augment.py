"""What each effect of the augmentation costs: milliseconds per image, at the network's scale.

python scripts/bench/augment.py                                  # rendered field, 512 x 512
python scripts/bench/augment.py --size 640 --dataset photos/train
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from data import load_dataset
from data.augmentation.augment import Augment
from data.augmentation.effects import KINDS
from data.augmentation.sample import Sample, resized
from data.augmentation.settings import AugmentSettings
from data.augmentation.strengths import STRENGTHS
from data.images import read_image
from data.synthetic import render_dataset


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--dataset", help="labelled images; a rendered field if left out")
    arguments.add_argument("--size", type=int, default=512, help="side of the square images, pixels")
    arguments.add_argument("--rounds", type=int, default=24, help="images through each effect")
    arguments.add_argument("--json", type=Path, help="write the figures here too")
    asked = arguments.parse_args()
    cv2.setNumThreads(1)  # as in a worker of the loader
    samples = images(asked.dataset, (asked.size, asked.size))
    nothing = AugmentSettings(strength="none")
    figures = {"nothing": milliseconds(samples, nothing, asked.rounds)}
    for kind in KINDS:
        figures[kind.name] = milliseconds(samples, nothing.only(**{kind.name: 1.0}), asked.rounds)
    for name in STRENGTHS:
        figures[f"strength {name}"] = milliseconds(samples, AugmentSettings(strength=name), 4 * asked.rounds)
    table = Table(title=f"{asked.size} x {asked.size} px, one thread of {os.cpu_count()} CPUs, median and mean")
    for column in ("effect", "median ms", "mean ms"):
        table.add_column(column, justify="left" if column == "effect" else "right")
    for name, (median, mean) in figures.items():
        table.add_row(name, f"{median:.1f}", f"{mean:.1f}")
    Console().print(table)
    if asked.json:
        asked.json.write_text(json.dumps({"size_px": asked.size, "median_mean_ms": figures}, indent=1) + "\n")


def images(dataset: str | None, size_hw: tuple[int, int]) -> list[Sample]:
    """Up to eight images with boxes, at the network's scale: what is measured is the effect alone."""
    with tempfile.TemporaryDirectory() as folder:
        if dataset is None:
            render_dataset(Path(folder), images=8, size_hw=size_hw, seed=0)
        labelled = load_dataset(dataset or folder, split="train")
        chosen = [p for p in labelled.images if len(p.labels)][:8]
        return [resized(Sample(read_image(p.path), p.boxes_xyxy, p.labels), size_hw) for p in chosen]


def milliseconds(samples: list[Sample], settings: AugmentSettings, rounds: int) -> tuple[float, float]:
    """Median and mean time of one image."""
    augment = Augment(settings, size_hw=samples[0].image_bgr.shape[:2])

    def other(rng: np.random.Generator) -> Sample:
        return samples[int(rng.integers(len(samples)))]

    times = []
    for seed in range(rounds + 2):
        started = time.perf_counter()
        augment(*samples[seed % len(samples)], seed=seed, other=other)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[2:]), statistics.mean(times[2:])


if __name__ == "__main__":
    main()
