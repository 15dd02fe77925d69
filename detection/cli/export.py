"""`swath export`: a run becomes one .onnx, or is refused.

Heavy imports stand inside the command, so that `swath --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detection.cli.help import example

if TYPE_CHECKING:
    from detection.export.precision.lowering import Lowering
    from detection.models.checkpoint import Trained

EXAMPLE = example(
    "swath export runs/crop_weed --out crop_weed.onnx",
    "swath export runs/crop_weed --out crop_weed.onnx --goal 'weed:crop-hits<=0.01'",
    "swath export runs/crop_weed --out crop_weed_int8.onnx --precision int8 --calibration photos/train",
)

PRECISIONS = ("fp32", "fp16", "int8")


def export(
    run: Annotated[Path, typer.Argument(help="A run or its best.safetensors.", metavar="RUN")],
    out: Annotated[Path, typer.Option("--out", metavar="F.onnx", help="The model file to write.")],
    precision: Annotated[
        str, typer.Option(help="fp32; fp16 for GPUs and ARM; int8 for CPUs with VNNI and for accelerators.")
    ] = "fp32",
    calibration: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Images to calibrate int8 with; default: the run's training images."),
    ] = None,
    goal: Annotated[
        list[str],
        typer.Option(
            metavar="[CLASS:]GOAL",
            help="Goal of the score thresholds on the validation images: f1, recall>=0.95, precision>=0.9, "
            "crop-hits<=0.01. Default: f1.",
        ),
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    crop: Annotated[
        list[str], typer.Option("--crop", metavar="NAME", help="A class that must not be hit; default: 'crop'.")
    ] = [],  # noqa: B006
    sign: Annotated[
        Path | None,
        typer.Option(metavar="PRIVATE.pem", help="Ed25519 key: also write F.onnx.sig, for --require-signed."),
    ] = None,
) -> None:
    """Write the end-to-end ONNX graph, if it passes the parity check against PyTorch.

    Leaves the .onnx, its parity report .parity.json, and .reference.npz, which swath verify compares with.
    """
    from detection.evaluation.thresholds import Goal

    try:
        goals = [Goal.parse(text) for text in goal]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--goal") from None
    if precision not in PRECISIONS:
        raise typer.BadParameter(f"{precision!r} is none of {', '.join(PRECISIONS)}", param_hint="--precision")
    if calibration and precision != "int8":
        raise typer.BadParameter("only --precision int8 is calibrated", param_hint="--calibration")
    if out.suffix != ".onnx":
        raise typer.BadParameter(f"{out} must end in .onnx", param_hint="--out")
    from data.formats import load_dataset
    from detection.cli.terminal import TerminalWatcher
    from detection.evaluation.caps import cap_notices
    from detection.export.export import ExportOptions
    from detection.export.export import export as write
    from detection.export.graph.end_to_end import end_to_end_graph
    from detection.export.precision.lowering import summary_lines
    from detection.export.run_images import parity_images
    from detection.models.checkpoint import load_trained

    if sign is not None:  # before minutes of work
        from detection.runtime.signing import check_private_key

        check_private_key(sign)
    trained = load_trained(run)
    graph = end_to_end_graph(trained)  # fails at once if there is none
    images, held_out = parity_images(trained, load_dataset)
    options = ExportOptions(goals, crop, _lowering(precision, calibration, trained), graph)
    with TerminalWatcher() as watcher:
        if not held_out:
            watcher.note("no validation split: compared on the training images; no metrics go into the file")
        config = trained.config
        for line in cap_notices(images, max_detections=config.max_detections, pre_nms_top_k=config.top_k):
            watcher.note(line)
        report = write(trained, out, images=images, held_out=held_out, options=options, progress=watcher.progress)
        for line in (*_threshold_lines(report), *summary_lines(report), *report["warnings"]):
            watcher.note(line)
    if sign is not None:
        from detection.runtime.signing import sign as write_signature

        write_signature(out, sign)
    exact = precision == "fp32"
    closeness = f"corners within {report['max_box_error_px']:.4f} px" if exact else report["agreement_criterion"]
    boxes = report["boxes"] if exact else f"{report['agreement']:.1%} of {report['boxes']}"
    delta = report["delta_ap_points"]
    ap = "AP undefined: the images have no boxes" if delta is None else f"AP within {delta:.2f} points"
    typer.echo(f"{out}: agrees with PyTorch on {boxes} boxes of {report['images']} images ({closeness}, {ap})")


def _lowering(precision: str, calibration: str | None, trained: Trained) -> Lowering | None:
    from data.formats import load_dataset
    from detection.export.precision.lowering import Fp16, Int8
    from detection.export.run_images import calibration_images

    if precision == "fp16":
        return Fp16()
    if precision == "int8":
        if calibration:
            return Int8(load_dataset(calibration, split="train"))
        return Int8(calibration_images(trained, load_dataset))
    return None


def _threshold_lines(report: Mapping[str, Any]) -> Iterator[str]:
    for name, chosen in report["thresholds"].items():
        rate, verb = chosen["rate"], "reached" if chosen["reached"] else "NOT reached"
        yield (
            f"{name}: threshold {chosen['threshold']:.3f}; {chosen['goal']} {verb} ({rate['count']} of "
            f"{rate['of']}, 95 % interval {rate['low']:.3f} to {rate['high']:.3f})"
        )
