"""`swath evaluate`: one detector scored, or two compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detection.cli.dataset_options import ImagesDirOption, reading
from detection.cli.help import example

if TYPE_CHECKING:
    from detection.cli.terminal import TerminalWatcher
    from detection.evaluation.coco_metrics import Engine
    from detection.evaluation.evaluate import Evaluation, ImageDetector
    from detection.evaluation.gate import Floor
    from detection.evaluation.robustness import Robustness
    from detection.evaluation.spraying import Sprayer
    from detection.recipe.schema import Recipe

EXAMPLE = example(
    "swath evaluate runs/crop_weed photos/test/annotations.json --out report",
    "swath evaluate runs/old runs/new photos/test/annotations.json --by field",
)
ENGINES = ("pycocotools", "faster-coco-eval")


def evaluate(
    models: Annotated[
        list[Path],
        typer.Argument(help="A run, its best.safetensors or an .onnx; two of them are compared.", metavar="MODEL..."),
    ],
    dataset: Annotated[str, typer.Argument(help="Labelled images to score it on.", metavar="DATASET")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where to write; beside the (last) model if left out."),
    ] = None,
    split: Annotated[str, typer.Option(help="Which part, where the dataset has parts: train, val, test.")] = "val",
    format: Annotated[
        str, typer.Option("--format", help="The dataset's format, one that `swath data check --help` lists; or auto.")
    ] = "auto",
    unlabelled: Annotated[
        str | None, typer.Option(help="Images without a label file: background, or skip. As in the run's recipe.")
    ] = None,
    images_dir: ImagesDirOption = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Whole photos, although the run learned tiles of them (data.tiles).")
    ] = False,
    slice_by: Annotated[
        str | None, typer.Option("--slice-by", metavar="KEY", help="Score separately by an image attribute.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="KEY", help="What puts images together, for the intervals: field, video, ..."),
    ] = None,
    crop: Annotated[
        list[str], typer.Option("--crop", metavar="NAME", help="A class that must not be hit; 'crop' if left out.")
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    sprayer: Annotated[
        str | None,
        typer.Option(
            "--sprayer",
            metavar="gsd_mm=X,...",
            help="What spraying would come to; gsd_mm: ground a pixel covers; pitch_mm, pulse_mm, height_mm, ...",
        ),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Also score every image under each field effect at 3 strengths; slow."),
    ] = False,
    fail_below: Annotated[
        list[str],
        typer.Option("--fail-below", metavar="FIGURE=X", help="Exit 1 below it: AP50=0.6, or weed:AP50=0.5."),
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    worst_slice: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="X", help="Exit 1 if a slice's AP50 is below it.")
    ] = None,
    flips: Annotated[
        bool,
        typer.Option("--tta", help="Look at each image mirrored too, and fuse the answers: 2 to 4 times slower."),
    ] = False,
    engine: Annotated[
        str, typer.Option(help="Who computes COCO's numbers: pycocotools, or faster-coco-eval for big sets.")
    ] = "pycocotools",
    provider: Annotated[
        str | None, typer.Option(help="For an .onnx: cpu, openvino, cuda, tensorrt, ... An error if it is not live.")
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Print metrics.json (of two models comparison.json); tables to stderr.")
    ] = False,
) -> None:
    """Score a detector by COCO's metrics, as pycocotools computes them, with 95 % intervals.

    Leaves metrics.json, detections.json (COCO results) and report.html. Of two detectors it says which is better
    on these images, and whether the difference is real; it leaves comparison.json and a folder for each.
    """
    if len(models) > 2:
        raise typer.BadParameter(f"{len(models)} models: give one, or two to compare", param_hint="MODEL...")
    if engine not in ENGINES:
        raise typer.BadParameter(f"{engine}: there are {', '.join(ENGINES)}", param_hint="--engine")
    from rich.console import Console

    from detection.evaluation.gate import Floor, failures

    try:
        floors = [Floor.parse(text) for text in fail_below]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fail-below") from None
    from detection.evaluation.spraying import Sprayer

    try:
        nozzles = Sprayer.parse(sprayer) if sprayer is not None else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--sprayer") from None
    from detection.cli.terminal import (
        TerminalWatcher,
        differences_table,
        intervals_line,
        metrics_table,
        robustness_table,
    )
    from detection.evaluation.comparison import compare, comparison_json
    from detection.evaluation.report import write_evaluation
    from detection.models.checkpoint import write_whole

    console = Console(stderr=json_)
    last = models[-1] if models[-1].is_dir() else models[-1].parent
    folder = out or last / ("evaluation" if len(models) == 1 else "comparison")
    how: dict[str, Any] = {"split": split, "format": format, "unlabelled": unlabelled, "images_dir": images_dir}
    how |= {
        "whole": whole,
        "slice_by": slice_by,
        "by": by,
        "flips": flips,
        "floors": floors,
        "crops": crop,
        "sprayer": nozzles,
        "engine": engine,
        "provider": provider,
    }
    done = []
    for number, model in enumerate(models):
        with TerminalWatcher() as watcher:
            scored, detector, recipe = _scored(model, dataset, watcher, **how)
            hardened = _robustness(detector, scored, recipe, watcher) if robustness else None
        own = folder if len(models) == 1 else folder / ("first", "second")[number]
        write_evaluation(own, scored, model=str(model), robustness=hardened)
        console.print(metrics_table(scored.metrics, title=f"{model} on {len(scored.dataset)} images"))
        for value, part in scored.slices.items():
            console.print(metrics_table(part, title=f"{slice_by} = {value}"))
        typer.echo(intervals_line(scored.intervals, scored.grouped_by, len(set(scored.groups))), err=json_)
        if hardened:
            console.print(robustness_table(hardened))
        typer.echo(f"{own / 'report.html'}", err=json_)
        done.append(scored)
    if len(done) == 2:
        changes = compare(*done)
        console.print(differences_table(changes, models))
        text = comparison_json(changes, models, done[1])
        write_whole(folder / "comparison.json", lambda path: path.write_text(text, encoding="utf-8"))
        typer.echo(f"{folder / 'comparison.json'}", err=json_)
    if json_:
        written = folder / ("metrics.json" if len(done) == 1 else "comparison.json")
        typer.echo(written.read_text(encoding="utf-8"), nl=False)
    # of two models the second is the one that is to be better
    missed = failures(done[-1], floors, worst_slice, key=slice_by)
    for line in missed:
        typer.echo(f"swath: {line}", err=True)
    if missed:
        raise typer.Exit(1)


def _scored(
    model: Path,
    dataset: str,
    watcher: TerminalWatcher,
    *,
    split: str,
    format: str,
    unlabelled: str | None,
    images_dir: Path | None,
    whole: bool,
    slice_by: str | None,
    by: str | None,
    flips: bool,
    floors: Sequence[Floor],
    crops: Sequence[str],
    sprayer: Sprayer | None,
    engine: Engine,
    provider: str | None,
) -> tuple[Evaluation, ImageDetector, Recipe | None]:
    """A model on the images as its own recipe reads them."""
    from data.formats import load_dataset
    from data.loading.tiles import tile_dataset
    from detection.evaluation.evaluate import evaluate as score
    from detection.evaluation.evaluate import load_detector, own_thresholds
    from detection.recipe.reading import load_written_recipe

    detector = load_detector(model, provider)
    config = (model if model.is_dir() else model.parent) / "config.yaml"
    # an .onnx may lie beside a recipe that is not its own
    trained_on = load_written_recipe(config.parent) if model.suffix != ".onnx" else None
    if unlabelled is None:
        unlabelled = trained_on.data.unlabelled if trained_on else "background"
    images = load_dataset(dataset, split=split, **reading(format, unlabelled, images_dir))
    for floor in floors:
        floor.check(images.class_names)
    if trained_on and trained_on.data.tiles and not whole:
        images, _ = tile_dataset(images, trained_on.data.tiles)
    thresholds = own_thresholds(detector)
    if flips:
        thresholds = None  # fused scores are others
        from detection.evaluation.tta import Flipped, views_of

        detector = Flipped(detector, views_of(trained_on))
    scored = score(
        detector,
        images,
        slice_by=slice_by,
        group_by=by,
        thresholds=thresholds,
        crops=crops,
        sprayer=sprayer,
        engine=engine,
        progress=lambda done, total: watcher.progress("evaluating", done, total),
    )
    for notice in scored.notices:
        watcher.note(notice)
    return scored, detector, trained_on


def _robustness(
    detector: ImageDetector, scored: Evaluation, recipe: Recipe | None, watcher: TerminalWatcher
) -> Robustness:
    from detection.evaluation.evaluate import input_size_hw
    from detection.evaluation.robustness import robustness

    return robustness(
        detector,
        scored.dataset,
        size_hw=input_size_hw(detector, recipe),
        camera=recipe.augment if recipe else None,
        progress=lambda done, total: watcher.progress("field effects", done, total),
    )
