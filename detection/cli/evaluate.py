"""`swath evaluate`: one detector evaluated, or two compared.

Heavy imports stand inside the functions, so that `swath --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detection.cli.dataset_options import ImagesDirOption, reading
from detection.cli.help import example

if TYPE_CHECKING:
    from data import Dataset
    from detection.cli.terminal import TerminalWatcher
    from detection.evaluation.detectors import ImageDetector
    from detection.evaluation.evaluate import EvaluationOptions
    from detection.evaluation.evaluation import Evaluation
    from detection.evaluation.gate import Minimum
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
    dataset: Annotated[str, typer.Argument(help="Labelled images to evaluate on.", metavar="DATASET")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where to write; default: beside the (last) model."),
    ] = None,
    split: Annotated[str, typer.Option(help="Which part, where the dataset has parts: train, val, test.")] = "val",
    format: Annotated[
        str, typer.Option("--format", help="The dataset's format, one that `swath data check --help` lists; or auto.")
    ] = "auto",
    unlabelled: Annotated[
        str | None,
        typer.Option(help="Images without a label file: background, or skip. Default: as in the run's recipe."),
    ] = None,
    images_dir: ImagesDirOption = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Whole images, although the run was trained on tiles (data.tiles).")
    ] = False,
    slice_by: Annotated[
        str | None, typer.Option("--slice-by", metavar="KEY", help="Metrics for each value of an image attribute.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="KEY", help="Groups of images for the intervals: field, video, ..."),
    ] = None,
    crop: Annotated[
        list[str], typer.Option("--crop", metavar="NAME", help="A class that must not be hit; default: 'crop'.")
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    sprayer: Annotated[
        str | None,
        typer.Option(
            "--sprayer",
            metavar="gsd_mm=X,...",
            help="Simulate a sprayer; gsd_mm: ground that a pixel covers; pitch_mm, pulse_mm, height_mm, ...",
        ),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Evaluate under every field effect at three strengths as well (slow)."),
    ] = False,
    fail_below: Annotated[
        list[str],
        typer.Option("--fail-below", metavar="METRIC=X", help="Exit 1 below it: AP50=0.6, or weed:AP50=0.5."),
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    worst_slice: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="X", help="Exit 1 if a slice's AP50 is below it.")
    ] = None,
    tta: Annotated[
        bool,
        typer.Option("--tta", help="Test-time augmentation: fuse detections of flipped images; 2 to 4 times slower."),
    ] = False,
    engine: Annotated[
        str, typer.Option(help="What computes COCO's metrics: pycocotools, or faster-coco-eval for large datasets.")
    ] = "pycocotools",
    provider: Annotated[
        str | None, typer.Option(help="For an .onnx: cpu, openvino, cuda, tensorrt, ... An error if it is not live.")
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="Print metrics.json (of two models comparison.json); tables to stderr.")
    ] = False,
) -> None:
    """Evaluate a detector by COCO's metrics, as pycocotools computes them, with 95 % intervals.

    Leaves metrics.json, detections.json (COCO results) and report.html. Two detectors are compared on the same
    images, with the significance of each difference; that leaves comparison.json and a folder for each.
    """
    if len(models) > 2:
        raise typer.BadParameter(f"{len(models)} models: give one, or two to compare", param_hint="MODEL...")
    if engine not in ENGINES:
        raise typer.BadParameter(f"{engine}: there are {', '.join(ENGINES)}", param_hint="--engine")
    from detection.evaluation.evaluate import EvaluationOptions

    job = _Job(
        dataset,
        split,
        {"format": format, "unlabelled": unlabelled, "images_dir": images_dir},
        whole,
        tta,
        robustness,
        provider,
        EvaluationOptions(slice_by, by, None, tuple(crop), _sprayer(sprayer), engine),  # type: ignore[arg-type]
        _minimums(fail_below),
    )
    last = models[-1] if models[-1].is_dir() else models[-1].parent
    folder = out or last / ("evaluation" if len(models) == 1 else "comparison")
    done = [
        _evaluate_and_write(
            model, job, folder if len(models) == 1 else folder / ("first", "second")[number], tables_to_stderr=json_
        )
        for number, model in enumerate(models)
    ]
    written = folder / "metrics.json"
    if len(done) == 2:
        written = folder / "comparison.json"
        _compare_and_write(done, models, written, tables_to_stderr=json_)
    if json_:
        typer.echo(written.read_text(encoding="utf-8"), nl=False)
    from detection.evaluation.gate import failures

    # of two models the second must meet the requirements
    missed = failures(done[-1], job.minimums, worst_slice, key=slice_by)
    for line in missed:
        typer.echo(f"swath: {line}", err=True)
    if missed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Job:
    """What the command line asks for, for every model."""

    dataset: str
    split: str
    reading: dict[str, Any]
    whole: bool
    tta: bool
    robustness: bool
    provider: str | None
    options: EvaluationOptions
    minimums: Sequence[Minimum]


def _minimums(texts: Sequence[str]) -> list[Minimum]:
    from detection.evaluation.gate import Minimum

    try:
        return [Minimum.parse(text) for text in texts]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--fail-below") from None


def _sprayer(text: str | None) -> Sprayer | None:
    from detection.evaluation.spraying import Sprayer

    try:
        return Sprayer.parse(text) if text is not None else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--sprayer") from None


def _evaluate_and_write(model: Path, job: _Job, folder: Path, *, tables_to_stderr: bool) -> Evaluation:
    """Evaluate a model, write its files and print its tables."""
    from rich.console import Console

    from detection.cli.terminal import TerminalWatcher, intervals_line, metrics_table, robustness_table
    from detection.evaluation.report import write_evaluation

    console = Console(stderr=tables_to_stderr)
    with TerminalWatcher() as watcher:
        recipe = _recipe_of(model)
        result, detector = _evaluated(model, job, recipe, watcher)
        hardened = _robustness(detector, result.dataset, recipe, watcher) if job.robustness else None
    write_evaluation(folder, result, model=str(model), robustness=hardened)
    console.print(metrics_table(result.metrics, title=f"{model} on {len(result.dataset)} images"))
    for value, part in result.slices.items():
        console.print(metrics_table(part, title=f"{job.options.slice_by} = {value}"))
    line = intervals_line(result.intervals, result.grouped_by, len(set(result.groups)))
    typer.echo(line, err=tables_to_stderr)
    if hardened:
        console.print(robustness_table(hardened))
    typer.echo(f"{folder / 'report.html'}", err=tables_to_stderr)
    return result


def _compare_and_write(
    done: Sequence[Evaluation], models: Sequence[Path], path: Path, *, tables_to_stderr: bool
) -> None:
    from rich.console import Console

    from data.files import write_whole
    from detection.cli.terminal import differences_table
    from detection.evaluation.comparison import compare, comparison_json

    changes = compare(*done)
    Console(stderr=tables_to_stderr).print(differences_table(changes, models))
    text = comparison_json(changes, models, done[1])
    write_whole(path, text)
    typer.echo(f"{path}", err=tables_to_stderr)


def _recipe_of(model: Path) -> Recipe | None:
    """The recipe in a run's folder; an .onnx may lie beside a recipe that is not its own."""
    from detection.recipe.reading import load_written_recipe

    return None if model.suffix == ".onnx" else load_written_recipe(model if model.is_dir() else model.parent)


def _evaluated(
    model: Path, job: _Job, recipe: Recipe | None, watcher: TerminalWatcher
) -> tuple[Evaluation, ImageDetector]:
    """A model evaluated on the images as its own recipe reads them."""
    from detection.evaluation.detectors import load_detector, model_thresholds
    from detection.evaluation.evaluate import evaluate
    from detection.evaluation.tta import FlipTTA, flips_of

    detector = load_detector(model, job.provider)
    images = _images(job, recipe)
    thresholds = model_thresholds(detector)
    if job.tta:
        thresholds = None  # fused scores are on another scale
        detector = FlipTTA(detector, flips_of(recipe.augment.view if recipe else None))
    result = evaluate(
        detector,
        images,
        replace(job.options, thresholds=thresholds),
        progress=lambda done, total: watcher.progress("evaluating", done, total),
    )
    for notice in result.notices:
        watcher.note(notice)
    return result, detector


def _images(job: _Job, recipe: Recipe | None) -> Dataset:
    from data.formats import load_dataset
    from data.loading.tiles import tile_dataset

    how = dict(job.reading)
    if how["unlabelled"] is None:
        how["unlabelled"] = recipe.data.unlabelled if recipe else "background"
    images = load_dataset(job.dataset, split=job.split, **reading(**how))
    for minimum in job.minimums:
        minimum.check(images.class_names)
    if recipe and recipe.data.tiles and not job.whole:
        images, _ = tile_dataset(images, recipe.data.tiles)
    return images


def _robustness(
    detector: ImageDetector, images: Dataset, recipe: Recipe | None, watcher: TerminalWatcher
) -> Robustness:
    from detection.evaluation.detectors import input_size_hw
    from detection.evaluation.robustness import robustness

    return robustness(
        detector,
        images,
        size_hw=input_size_hw(detector) or (recipe.input.size_hw if recipe else (512, 512)),
        camera=recipe.augment if recipe else None,
        progress=lambda done, total: watcher.progress("field effects", done, total),
    )
