"""`swath export`: a run becomes one .onnx, or is refused.

Heavy imports stand inside the command, so that `swath --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detection.cli.help import example

EXAMPLE = example(
    "swath export runs/crop_weed --out crop_weed.onnx",
    "swath export runs/crop_weed --out crop_weed.onnx --goal 'weed:crop-hits<=0.01'",
    "swath export runs/crop_weed --out crop_weed_int8.onnx --precision int8 --calibration photos/train",
)


def export(
    run: Annotated[Path, typer.Argument(help="A run or its best.safetensors.", metavar="RUN")],
    out: Annotated[Path, typer.Option("--out", metavar="F.onnx", help="The model file to write.")],
    precision: Annotated[
        str, typer.Option(help="fp32; fp16 for GPUs and ARM; int8 for CPUs with VNNI and for accelerators.")
    ] = "fp32",
    calibration: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Images to calibrate int8 on; the run's training images if left out."),
    ] = None,
    goal: Annotated[
        list[str],
        typer.Option(
            metavar="[CLASS:]GOAL",
            help="What thresholds are to give on the validation images: f1, recall>=0.95, precision>=0.9, "
            "crop-hits<=0.01.",
        ),
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    crop: Annotated[
        list[str], typer.Option("--crop", metavar="NAME", help="A class that must not be hit; 'crop' if left out.")
    ] = [],  # noqa: B006
) -> None:
    """Write the deploy graph: one .onnx, compared with PyTorch, or refused.

    Leaves the .onnx, its .parity.json and its .reference.npz, which swath verify compares with.
    """
    from detection.evaluation.thresholds import Goal

    try:
        goals = [Goal.parse(text) for text in goal]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--goal") from None
    if precision not in ("fp32", "fp16", "int8"):
        raise typer.BadParameter(f"{precision!r} is none of fp32, fp16, int8", param_hint="--precision")
    if calibration and precision != "int8":
        raise typer.BadParameter("only --precision int8 is calibrated", param_hint="--calibration")
    if out.suffix != ".onnx":
        raise typer.BadParameter(f"{out} must end in .onnx", param_hint="--out")
    from data.formats import load_dataset
    from detection.cli.terminal import TerminalWatcher
    from detection.export.export import calibration_images, deploy_graph_of, parity_images
    from detection.export.export import export as write
    from detection.export.precision.lowering import Fp16, Int8, Lowering, said_of
    from detection.models.checkpoint import load_trained

    trained = load_trained(run)
    graph = deploy_graph_of(trained)  # says at once if there is none
    images, held_out = parity_images(trained, load_dataset)
    lower: Lowering | None = Fp16() if precision == "fp16" else None
    if precision == "int8":
        shown = load_dataset(calibration, split="train") if calibration else calibration_images(trained, load_dataset)
        lower = Int8(shown)
    with TerminalWatcher() as watcher:
        if not held_out:
            watcher.note("no validation split: compared on the training images; no metrics go into the file")
        report = write(
            trained,
            out,
            images=images,
            held_out=held_out,
            progress=watcher.progress,
            graph=graph,
            goals=goals,
            crops=crop,
            lower=lower,
        )
        for name, chosen in report["thresholds"].items():
            rate, verb = chosen["rate"], "reached" if chosen["reached"] else "NOT reached"
            watcher.note(
                f"{name}: threshold {chosen['threshold']:.3f}; {chosen['goal']} {verb} ({rate['count']} of "
                f"{rate['of']}, 95 % interval {rate['low']:.3f} to {rate['high']:.3f})"
            )
        for line in said_of(report):
            watcher.note(line)
    near = f"corners within {report['max_box_error_px']:.4f} px" if precision == "fp32" else report["agreement_means"]
    alike = report["boxes"] if precision == "fp32" else f"{report['agreement']:.1%} of {report['boxes']}"
    typer.echo(
        f"{out}: agrees with PyTorch on {alike} boxes of {report['images']} images "
        f"({near}, AP within {report['delta_ap_points']:.2f} points)"
    )
