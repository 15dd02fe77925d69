"""How good is a recipe on a small dataset? Trains and evaluates k times, each time on images it has not seen.

    python scripts/cross_validate.py configs/crop_weed.yaml --folds 5 --out folds -s train.max_minutes=6

Folds are runs of neighbouring images, not a random draw: neighbours in a field look alike, and a random
draw would put them on both sides. Every fold is a COCO JSON that refers to the original images, and a run.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from data.formats import load_dataset
from data.formats.coco import save_coco
from data.loading.tiles import tile_dataset
from detection.cli.terminal import TerminalWatcher
from detection.evaluation.detectors import load_detector
from detection.evaluation.evaluate import evaluate
from detection.evaluation.metrics_json import metrics_json
from detection.evaluation.tta import FlipTTA, flips_of
from detection.models.checkpoint import LAST
from detection.recipe.reading import load_recipe
from detection.training.train import train

SHOWN = ("AP", "AP50", "AP75", "AR100")


def main() -> None:
    """Parse the command line, run the folds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("folds"))
    parser.add_argument("--only", type=int, help="one fold, counted from 0")
    parser.add_argument("--resume", action="store_true", help="go on with folds that an earlier call has begun")
    parser.add_argument("--tta", action="store_true", help="score as `swath evaluate --tta` does")
    parser.add_argument("-s", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()

    recipe = load_recipe(args.recipe, args.overrides)
    dataset = load_dataset(recipe.data.train, split="train", **recipe.data.reading)
    parts = np.array_split(np.arange(len(dataset)), args.folds)
    console = Console(stderr=True)
    suffix, with_tta = ("_tta", ", TTA") if args.tta else ("", "")  # never both in one mean
    for fold, held_out in enumerate(parts):
        if args.only is not None and fold != args.only:
            continue
        folder = args.out / f"fold{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        rest = np.setdiff1d(np.arange(len(dataset)), held_out)
        for name, indices in (("train", rest), ("test", held_out)):
            save_coco(dataset.subset(indices.tolist()), folder / f"{name}.json")
        parts_of = [f"data.train={folder / 'train.json'}", "data.val=null", "data.format=coco"]
        own = load_recipe(args.recipe, [*args.overrides, *parts_of])
        with TerminalWatcher(console) as watcher:
            begun = args.resume and (folder / "run" / LAST).is_file()
            best = train(own, folder / "run", watcher=watcher, resume=begun)
        test = load_dataset(folder / "test.json")
        if recipe.data.tiles is not None:
            test, _ = tile_dataset(test, recipe.data.tiles)
        detector = load_detector(best)
        scored = evaluate(FlipTTA(detector, flips_of(own.augment.view)) if args.tta else detector, test)
        (folder / f"metrics{suffix}.json").write_text(metrics_json(scored, str(best)), encoding="utf-8")

    # folds of earlier calls count too, so that --only can be called once for each
    rows = {
        fold: json.loads((args.out / f"fold{fold}" / f"metrics{suffix}.json").read_text(encoding="utf-8"))["coco"]
        for fold in range(args.folds)
        if (args.out / f"fold{fold}" / f"metrics{suffix}.json").is_file()
    }
    table = Table("fold", *SHOWN, title=f"{args.recipe}: {len(dataset)} images, {args.folds} folds{with_tta}")
    for fold, row in rows.items():
        table.add_row(str(fold), *(shown(row[k]) for k in SHOWN))
    # a fold without boxes has no AP: -1 is not a number to average
    defined = {k: [row[k] for row in rows.values() if row[k] >= 0] for k in SHOWN}
    means = {k: statistics.fmean(values) if values else None for k, values in defined.items()}
    spread = {k: statistics.stdev(values) if len(values) > 1 else None for k, values in defined.items()}
    table.add_row("mean", *(shown(means[k]) for k in SHOWN), style="bold")
    table.add_row("standard deviation", *(shown(spread[k]) for k in SHOWN))
    Console().print(table)
    folds = [{"fold": fold, **row} for fold, row in rows.items()]
    summary = {"folds": folds, "mean": means, "standard_deviation": spread}
    (args.out / f"cross_validation{suffix}.json").write_text(json.dumps(summary, indent=2) + "\n")


def shown(value: float | None) -> str:
    """A metric; a dash where it is undefined."""
    return "-" if value is None or value < 0 else f"{value:.3f}"


if __name__ == "__main__":
    main()
