"""Is each plant counted once? Rendered drives with the truth of every plant, and what a detector would make of it.

    python scripts/bench/tracking.py                        # detections simulated from the truth, by fixed seeds
    python scripts/bench/tracking.py --model mine.onnx      # a real detector's
    python scripts/bench/tracking.py --others env/bin/python   # beside libraries, see docs/design/tracking.md

A drive is rendered for each speed; of each, all frames and with a tenth of them dropped go through the tracker.
Of the libraries each interpreter given runs those that it has, in the image and on the ground that stands still.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from data.synthetic import CLASS_NAMES, render_drive
from detection.runtime import Detector
from detection.runtime.detections import Detections, Frame
from detection.runtime.tracking.motion import ImageMotion, Motion, OdometryMotion
from detection.runtime.tracking.tracker import PlantTracker

FPS = 15.0
IMAGE_M = 0.48  # of ground that a rendered image is wide


@dataclass(frozen=True)
class Truth:
    """What is in one frame: `boxes` (N, 4) xyxy, `labels` (N,), `plants` (N,) the same number in every frame."""

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    plants: NDArray[np.int64]


@dataclass(frozen=True)
class Sighting:
    """What a detector found in one frame; `plants` (N,) of which plant each row is, -1 for none."""

    frame: Frame
    detections: Detections
    plants: NDArray[np.int64]


def read_drive(folder: Path) -> tuple[list[Frame], list[Truth]]:
    """Frames and truth of a rendered drive."""
    coco = json.loads((folder / "annotations.json").read_text())
    rows: list[list[dict[str, Any]]] = [[] for _ in coco["images"]]
    for entry in coco["annotations"]:
        rows[entry["image_id"] - 1].append(entry)
    truths = []
    for of_frame in rows:
        xywh = np.array([e["bbox"] for e in of_frame], np.float32).reshape(-1, 4)
        truths.append(
            Truth(
                np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
                np.array([e["category_id"] - 1 for e in of_frame], np.int64),
                np.array([e["plant_id"] for e in of_frame], np.int64),
            )
        )
    video = cv2.VideoCapture(str(folder / "drive.mp4"))
    frames = []
    for index in range(len(truths)):
        image = video.read()[1]
        assert image is not None
        frames.append(Frame(np.asarray(image, np.uint8), "drive", index, round(index / FPS * 1e9), index / FPS))
    video.release()
    return frames, truths


def simulated(frames: list[Frame], truths: list[Truth], seed: int) -> list[Sighting]:
    """What a middling detector with a threshold of 0.3 would find, at random by the seed.

    Each plant is missed in a tenth of the images, some of them in more; box sides are off by 4 % of the box; of 20
    boxes one has a wrong class, and of 50 one has a second box of another class over it; in every fifth image there
    is a box where no plant is. Scores lie above the threshold as a trained fcos_lite_n has them:
    docs/design/tracking.md.
    """
    rng = np.random.default_rng(seed)
    classes = len(CLASS_NAMES)
    missed = {int(p): rng.beta(1, 9) for p in np.unique(np.concatenate([t.plants for t in truths]))}
    sightings = []
    for frame, truth in zip(frames, truths, strict=True):
        height, width = frame.image.shape[:2]
        boxes, scores, labels, plants = [], [], [], []
        for box, label, plant in zip(truth.boxes, truth.labels, truth.plants, strict=True):
            if rng.random() < missed[int(plant)]:
                continue
            sides = np.tile(box[2:] - box[:2], 2)
            score = 0.3 + 0.5 * rng.beta(4, 3)
            boxes.append(box + rng.normal(0, 0.04, 4) * sides)
            flipped = rng.random() < 0.05
            labels.append((label + rng.integers(1, classes)) % classes if flipped else label)
            scores.append(max(0.3, 0.8 * score) if flipped else score)
            plants.append(plant)
            if rng.random() < 0.02:
                boxes.append(box + rng.normal(0, 0.04, 4) * sides)
                labels.append((labels[-1] + rng.integers(1, classes)) % classes)
                scores.append(max(0.3, 0.7 * score))
                plants.append(plant)
        for _ in range(rng.poisson(0.2)):
            centre, size = rng.uniform(0, (width, height)), rng.uniform(0.06, 0.25, 2) * width
            boxes.append(np.concatenate([centre - size / 2, centre + size / 2]))
            labels.append(rng.integers(classes))
            scores.append(min(0.9, 0.3 + rng.exponential(0.07)))
            plants.append(-1)
        found = np.clip(np.array(boxes, np.float32).reshape(-1, 4), 0, np.float32([width, height, width, height]))
        detections = Detections(found, np.array(scores, np.float32), np.array(labels, np.int64))
        sightings.append(Sighting(frame, detections, np.array(plants, np.int64)))
    return sightings


def detected(frames: list[Frame], truths: list[Truth], detector: Detector) -> list[Sighting]:
    """What a real detector finds; a row is of the plant that it overlaps most, by an IoU of 0.3 at least."""
    sightings = []
    for frame, truth in zip(frames, truths, strict=True):
        detections = detector(frame.image)
        low = np.maximum(detections.boxes_xyxy[:, None, :2], truth.boxes[:, :2])
        high = np.minimum(detections.boxes_xyxy[:, None, 2:], truth.boxes[:, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=2)
        areas = [np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (detections.boxes_xyxy, truth.boxes)]
        iou = shared / (areas[0][:, None] + areas[1] - shared)
        plants = np.full(len(detections), -1, np.int64)
        if len(truth.plants):
            plants = np.where(iou.max(axis=1) >= 0.3, truth.plants[iou.argmax(axis=1)], -1)
        sightings.append(Sighting(frame, detections, plants))
    return sightings


def dropped(sightings: list[Sighting], share: float, seed: int) -> list[Sighting]:
    """Without a share of the frames, at random by the seed."""
    rng = np.random.default_rng((seed, 1))
    return [sighting for sighting in sightings if rng.random() >= share]


def true_counts(truths: list[Truth]) -> dict[str, int]:
    """Plants of each class that a drive shows at all."""
    label_of = {int(p): int(label) for t in truths for p, label in zip(t.plants, t.labels, strict=True)}
    labels = list(label_of.values())
    return {name: labels.count(label) for label, name in enumerate(CLASS_NAMES)}


def unseen(sightings: list[Sighting], truths: list[Truth]) -> int:
    """Plants that the detector never found, not even with a low score, which no tracker can count."""
    seen = {plant for s in sightings for plant in s.plants.tolist()}
    return len({plant for t in truths for plant in t.plants.tolist()} - seen)


def identity_errors(sightings: list[Sighting], ids: list[NDArray[np.int64]]) -> tuple[int, int]:
    """How often a plant changed its track, and how many tracks changed their plant."""
    last_of_plant: dict[int, int] = {}
    plants_of: dict[int, set[int]] = {}
    switches = 0
    for sighting, of_row in zip(sightings, ids, strict=True):
        for plant, track in zip(sighting.plants.tolist(), of_row.tolist(), strict=True):
            if plant < 0 or track < 1:
                continue
            switches += last_of_plant.get(plant, track) != track
            last_of_plant[plant] = track
            plants_of.setdefault(track, set()).add(plant)
    return switches, sum(len(plants) > 1 for plants in plants_of.values())


def follow(tracker: PlantTracker, sightings: list[Sighting]) -> tuple[list[NDArray[np.int64]], list[float]]:
    """The track of each row of each frame, and the milliseconds that each frame took."""
    ids, took_ms = [], []
    for sighting in sightings:
        start = time.perf_counter()
        tracked = tracker.update(sighting.frame, sighting.detections)
        took_ms.append((time.perf_counter() - start) * 1e3)
        assert tracked.track_ids is not None
        ids.append(tracked.track_ids)
    return ids, took_ms


@dataclass
class Score:
    """What a tracker made of one run.

    `errors` by class (counted less true), true `plants`, of them `unseen` by the detector, tracks that a plant
    had too many, tracks that had several plants, milliseconds a frame.
    """

    errors: dict[str, int]
    plants: int
    unseen: int
    switches: int
    mixed: int
    ms: float

    @property
    def percent(self) -> float:
        """How far the count of all plants is off."""
        return 100 * sum(self.errors.values()) / self.plants


def swath(run: list[Sighting], truths: list[Truth], thresholds: Sequence[float], motion: Motion) -> Score:
    """The robot's own tracker."""
    tracker = PlantTracker(CLASS_NAMES, thresholds, motion)
    ids, took_ms = follow(tracker, run)
    true = true_counts(truths)
    errors = {name: tracker.counted[name] - count for name, count in true.items()}
    return Score(
        errors, sum(true.values()), unseen(run, truths), *identity_errors(run, ids), float(np.median(took_ms))
    )


def write_run(path: Path, run: list[Sighting]) -> None:
    """Detections and the ground's way, for tracking_contestants.py."""
    motion = ImageMotion()
    way, shifts = np.zeros(2), []
    for sighting in run:
        way = way + (motion.shift(sighting.frame) or (0.0, 0.0))
        shifts.append(way)
    found = [s.detections for s in run]
    np.savez(
        path,
        rows=np.concatenate([np.column_stack([d.boxes_xyxy, d.scores, d.labels]) for d in found]),
        frames=np.repeat(np.arange(len(run)), [len(d) for d in found]),
        shifts=np.array(shifts),
        times_s=np.array([s.frame.stream_s for s in run]),
    )


def library(run: list[Sighting], truths: list[Truth], tracks: list[int], ms: float, least: int) -> Score:
    """A library's tracks, each counted that was seen `least` times, as the class with the highest sum of scores."""
    class_scores: dict[int, NDArray[np.float64]] = {}
    seen: dict[int, int] = {}
    ids, at = [], 0
    for sighting in run:
        of_row = np.array(tracks[at : at + len(sighting.detections)], np.int64)
        at += len(of_row)
        for row, track in enumerate(of_row.tolist()):
            if track >= 0:
                scores = class_scores.setdefault(track, np.zeros(len(CLASS_NAMES)))
                scores[sighting.detections.labels[row]] += sighting.detections.scores[row]
                seen[track] = seen.get(track, 0) + 1
        ids.append(of_row)
    labels = [int(scores.argmax()) for track, scores in class_scores.items() if seen[track] >= least]
    true = true_counts(truths)
    errors = {name: labels.count(label) - true[name] for label, name in enumerate(CLASS_NAMES)}
    return Score(errors, sum(true.values()), unseen(run, truths), *identity_errors(run, ids), ms)


def print_row(name: str, scores: list[Score]) -> None:
    """Mean and worst error of the counts, the classes' worst mean, identity errors a run, time."""
    off = [s.percent for s in scores]
    print(
        f"{name:44} {100 * np.mean([s.unseen / s.plants for s in scores]):8.1f}"
        f" {np.mean(off):+7.1f} {max(off, key=abs):+8.1f} {np.mean([s.switches for s in scores]):9.1f}"
        f" {np.mean([s.mixed for s in scores]):7.1f} {np.median([s.ms for s in scores]):7.2f}",
        flush=True,
    )


def main() -> None:
    """Render, follow, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a real detector instead of simulated detections")
    parser.add_argument("--sure-only", action="store_true", help="of its boxes those above the thresholds alone")
    parser.add_argument("--speeds", type=float, nargs="+", default=[0.5, 1.0, 2.0], help="m/s")
    parser.add_argument("--metres", type=float, default=12.0, help="length of each drive")
    parser.add_argument("--size", type=int, nargs=2, default=[240, 320], metavar=("H", "W"))
    parser.add_argument("--fields", type=int, nargs="+", default=[3, 5], help="seeds of the drives")
    parser.add_argument("--repeats", type=int, default=4, help="simulations of each drive")
    parser.add_argument("--others", nargs="*", default=[], help="interpreters that have libraries to compare with")
    args = parser.parse_args()
    detector = Detector(args.model) if args.model else None
    thresholds = detector.metadata.score_thresholds if detector else [0.3] * len(CLASS_NAMES)
    if detector and not args.sure_only:  # as the stream does
        detector.set_score_thresholds(PlantTracker(CLASS_NAMES, thresholds).low_score_thresholds.tolist())
    runs: dict[tuple[float, float], list[tuple[list[Sighting], list[Truth]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for speed in args.speeds:
            for field in args.fields:
                drive = Path(folder) / f"{speed}-{field}"
                seconds = args.metres / speed
                render_drive(drive, seconds=seconds, fps=FPS, size_hw=tuple(args.size), seed=field, speed_m_s=speed)
                frames, truths = read_drive(drive)
                for seed in range(1 if detector else args.repeats):
                    found = detected(frames, truths, detector) if detector else simulated(frames, truths, seed)
                    for share in (0.0, 0.1):
                        runs.setdefault((speed, share), []).append((dropped(found, share, seed), truths))
        pixels_per_metre = args.size[1] / IMAGE_M
        print(f"{'':44} unseen %  mean %  worst %  switches  mixed  ms a frame")
        for (speed, share), several in runs.items():
            name = f"{speed} m/s, {share:.0%} dropped"
            print_row(f"{name}, by the image", [swath(r, t, thresholds, ImageMotion()) for r, t in several])
            odometry = [swath(r, t, thresholds, OdometryMotion(speed, pixels_per_metre)) for r, t in several]
            print_row(f"{name}, by odometry", odometry)
        every = [run for several in runs.values() for run in several]
        speeds = [speed for (speed, _), several in runs.items() for _ in several]
        paths = [Path(folder) / f"{number}.npz" for number in range(len(every))]
        for path, (run, _) in zip(paths, every, strict=True):
            write_run(path, run)
        for interpreter in args.others:
            compare(interpreter, paths, every, speeds)


def compare(
    interpreter: str, paths: list[Path], every: list[tuple[list[Sighting], list[Truth]]], speeds: list[float]
) -> None:
    """Run what another interpreter has; each with the least number of sightings that suits it best."""
    command = [interpreter, str(Path(__file__).with_name("tracking_contestants.py")), *map(str, paths)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for name, ground in sorted({(a["tracker"], a["ground"]) for a in answers}):
        mine = [a for a in answers if (a["tracker"], a["ground"]) == (name, ground)]
        best: list[Score] = []
        for least in (1, 2, 3):
            scores = [library(*run, a["tracks"], a["ms"], least) for run, a in zip(every, mine, strict=True)]
            if not best or np.abs([s.percent for s in scores]).mean() < np.abs([s.percent for s in best]).mean():
                best = scores
        for speed in sorted(set(speeds)):
            label = f"{name}, {'ground' if ground else 'image'}, {speed} m/s"
            print_row(label, [s for s, at in zip(best, speeds, strict=True) if at == speed])


if __name__ == "__main__":
    main()
