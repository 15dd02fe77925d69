"""Which detector learns most from a few photos? Swath beside what else one would take, on the same folds.

    python scripts/bench/detectors.py configs/crop_weed.yaml --only 0 1 --minutes 10 --out bench

Every contestant gets the same training photos, the same wall-clock budget for its training (what it takes to start
is its own matter, validation is off) and the same input size, and is scored by pycocotools on the same photos that it
has not seen. Where weights cannot be had without a network, a contestant starts without; the table says so.
Swath's synthetic pre-training counts: its minutes are taken off the budget of every fold.

Ultralytics (AGPL) is installed for this benchmark alone, see ultralytics_venv.py. Runs that are finished are not made
again: --out can be gone on with.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from ultralytics_venv import ultralytics_env, ultralytics_python

from data import Dataset
from data.formats import load_dataset
from data.formats.coco import save_coco
from data.formats.convert import convert
from detection.evaluation.coco_metrics import coco_metrics
from detection.evaluation.detectors import load_detector
from detection.evaluation.evaluate import evaluate
from detection.recipe.reading import load_recipe
from detection.recipe.schema import Recipe
from detection.training.train import pretrain, train

SHOWN = ("AP", "AP50", "AP75")
HERE = Path(__file__).resolve().parent
NO_WEIGHTS = "random: its weights cannot be had offline"


@dataclass(frozen=True)
class Fold:
    """Photos to learn from and photos to be scored on, and where a contestant may write."""

    train: Dataset
    test: Dataset
    folder: Path


Score = Callable[[Fold, Path, float], dict[str, float]]
"""(fold, an empty folder, minutes) -> COCO's numbers."""


@dataclass(frozen=True)
class Contestant:
    """Who takes part, what it starts from, and how it is trained and scored."""

    name: str
    start: str
    score: Score


def main() -> None:
    """Parse the command line, let everybody learn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="Swath's own; its data, input and augmentation are the others' too")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", help="these folds, counted from 0")
    parser.add_argument("--minutes", type=float, default=20, help="budget of each training")
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--contestants", nargs="+", metavar="KEY", help="these only, in this order")
    parser.add_argument("-s", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--ultralytics-venv", type=Path, default=Path(tempfile.gettempdir()) / "swath-bench-ultralytics"
    )
    args = parser.parse_args()
    console = Console()
    recipe = load_recipe(args.recipe, args.overrides)
    everyone = contestants(recipe, args.out, args.ultralytics_venv, console)
    unknown = set(args.contestants or ()) - set(everyone)
    if unknown:
        parser.error(f"--contestants: no {', '.join(sorted(unknown))}; there are: {', '.join(everyone)}")
    chosen = {key: everyone[key] for key in args.contestants or everyone}

    dataset = load_dataset(recipe.data.train, split="train", **recipe.data.reading)
    parts = np.array_split(np.arange(len(dataset)), args.folds)
    for number in args.only if args.only is not None else range(args.folds):
        rest = np.setdiff1d(np.arange(len(dataset)), parts[number])
        fold = Fold(dataset.subset(rest.tolist()), dataset.subset(parts[number].tolist()), args.out / f"fold{number}")
        for key, contestant in chosen.items():
            result = fold.folder / f"{key}.json"
            if result.is_file():
                continue
            console.print(f"fold {number}: {contestant.name}, {args.minutes:g} minutes")
            folder = fold.folder / key
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            began = time.monotonic()
            scores = contestant.score(fold, folder, args.minutes)
            took = {"minutes_in_all": (time.monotonic() - began) / 60, "budget_minutes": args.minutes}
            result.write_text(json.dumps(scores | took, indent=1) + "\n", encoding="utf-8")
    console.print(_table(chosen, args.out, recipe))


def contestants(recipe: Recipe, out: Path, venv: Path, console: Console) -> dict[str, Contestant]:
    """Everybody by the key that --contestants and the files under --out call it by."""
    plain = partial(_swath, recipe)
    found = {
        "swath": Contestant(
            f"Swath {recipe.model.preset}", f"{recipe.model.weights}, synthetic pre-training", plain({}, out)
        ),
        "swath-no-pretraining": Contestant(
            f"Swath {recipe.model.preset}, no pre-training", recipe.model.weights, plain({"pretrain": None}, out)
        ),
        "first-recipe": Contestant(
            "fcos_lite as the project's first recipe had it, 512 x 512",
            recipe.model.weights,
            plain(
                {
                    "pretrain": None,
                    "model": {"preset": "fcos_lite", "weights": recipe.model.weights},
                    "input": {"size_hw": (512, 512)},
                    "train": {"workers": recipe.train.workers},
                },
                out,
            ),
        ),
    }
    for name in ("ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"):
        changes = {"pretrain": None, "model": {"preset": name, "weights": "none"}}
        found[name.split("_")[0]] = Contestant(f"torchvision {name}", NO_WEIGHTS, plain(changes, out))
    python, why_not = ultralytics_python(venv)
    if python is None:
        console.print(f"Ultralytics cannot be installed here, its rows stay empty: {why_not}")
        return found
    size = max(recipe.input.size_hw)
    for name in ("yolo11n", "yolo26n"):
        ultralytics = partial(_ultralytics, python=python, venv=venv, model=f"{name}.yaml", size=size)
        found[name] = Contestant(f"Ultralytics {name}", NO_WEIGHTS, ultralytics)
    return found


def _swath(recipe: Recipe, changes: Mapping[str, object], out: Path) -> Score:
    """A contestant that Swath trains: the recipe with `changes` by section."""

    def score(fold: Fold, folder: Path, minutes: float) -> dict[str, float]:
        save_coco(fold.train, folder / "train.json")
        save_coco(fold.test, folder / "test.json")
        content = recipe.model_dump()
        for section, values in changes.items():
            content[section] = (
                content[section] | values if isinstance(values, dict) and section != "model" else values
            )
        content["data"] |= {"train": str(folder / "train.json"), "val": None, "format": "coco"}
        content["train"] |= {"epochs": 100_000, "max_minutes": minutes, "patience": None}
        own = Recipe.model_validate(content)
        if own.pretrain is not None:
            # made anew, so that it can be paid for: once for all folds, and its minutes taken off each of them
            os.environ["XDG_CACHE_HOME"] = str(out.resolve() / "pretraining")
            paid = out / "pretraining_minutes.json"
            if not paid.is_file():
                began = time.monotonic()
                pretrain(own)
                paid.write_text(json.dumps((time.monotonic() - began) / 60))
            content["train"]["max_minutes"] = minutes - json.loads(paid.read_text())
            own = Recipe.model_validate(content)
        best = train(own, folder / "run")
        return dict(evaluate(load_detector(best), load_dataset(folder / "test.json")).metrics.coco)

    return score


def _ultralytics(
    fold: Fold, folder: Path, minutes: float, *, python: str, venv: Path, model: str, size: int
) -> dict[str, float]:
    convert({"train": fold.train}, folder / "train", to="yolo")
    job = {"model": model, "minutes": minutes, "size": size, "names": list(fold.train.class_names)}
    (folder / "job.json").write_text(json.dumps(job))
    images = {str(image.image_id): str(image.path.resolve()) for image in fold.test.images}
    (folder / "images.json").write_text(json.dumps(images))
    command = [python, str(HERE / "detectors_ultralytics.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ultralytics_env(venv), cwd=folder)
    (folder / "log.txt").write_text(done.stdout + done.stderr)
    if done.returncode:
        sys.exit(f"{model}: failed, see {folder / 'log.txt'}")
    results = json.loads((folder / "results.json").read_text())
    for result in results:
        result["category_id"] = fold.test.category_ids[result.pop("label")]
    return dict(coco_metrics(fold.test, results).coco)


def _table(chosen: dict[str, Contestant], out: Path, recipe: Recipe) -> Table:
    height, width = recipe.input.size_hw
    table = Table("detector", "starts from", *SHOWN, "folds", title=f"{recipe.data.train}, {height} x {width}")
    for key, contestant in chosen.items():
        rows = [json.loads(path.read_text()) for path in sorted(out.glob(f"fold*/{key}.json"))]
        if rows:
            means = (f"{statistics.fmean(row[name] for row in rows):.3f}" for name in SHOWN)
            table.add_row(contestant.name, contestant.start, *means, str(len(rows)))
    return table


if __name__ == "__main__":
    main()
