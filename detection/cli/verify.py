"""`swath verify`. Torch is not needed; DATASET needs `data` and pycocotools.

Heavy imports stand inside the functions, so that `swath --help` answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detection.cli.help import example

if TYPE_CHECKING:
    from rich.progress import Progress

    from data import Dataset
    from detection.runtime.detector import Detector
    from detection.runtime.parity.verify import Verification

EXAMPLE = example(
    "swath verify crop_weed.onnx", "swath verify crop_weed.onnx photos/val --provider cuda --json v.json"
)


def verify(
    model: Annotated[Path, typer.Argument(help="The .onnx that swath export wrote.", metavar="MODEL")],
    dataset: Annotated[
        str | None,
        typer.Argument(help="The images that the export was checked on: compares AP as well.", metavar="DATASET"),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="cpu, openvino, cuda, tensorrt, coreml or directml. An error if it is not live."),
    ] = None,
    split: Annotated[str, typer.Option(help="Which part, where the dataset has parts: train, val, test.")] = "val",
    json_: Annotated[Path | None, typer.Option("--json", metavar="F", help="Write the result as JSON.")] = None,
) -> None:
    """Repeat the parity check of a model file on this machine: its boxes against PyTorch's. Needs no torch.

    Reads crop_weed.reference.npz beside crop_weed.onnx; only with DATASET the training half's packages are needed.

    Exits with 1 if a box differs, or if the file was changed since its export.
    """
    raise typer.Exit(verify_command(model, dataset, provider=provider, split=split, out=json_))


@dataclass(frozen=True)
class _DeltaAP:
    """Points of AP lost against PyTorch; None: not known.

    Attributes:
        all: absolute difference of AP.
        small: by how much the AP of small objects is lower.
        undefined: there is no AP to compare, the images have no boxes.

    """

    all: float | None = None
    small: float | None = None
    undefined: bool = False


def verify_command(
    model: Path,
    dataset: str | None = None,
    *,
    provider: str | None = None,
    split: str = "val",
    out: Path | None = None,
) -> int:
    """Run the parity check and print its result in one line.

    Args:
        model: the end-to-end graph, its reference beside it.
        dataset: the images that the export was checked on; None: the inputs that the reference holds.
        provider: as `Detector` takes it; None is onnxruntime on the CPU.
        split: part of the dataset.
        out: where to write the result as JSON; None: nowhere.

    Returns:
        0 if it is the file that was exported and agrees, else 1.

    Raises:
        SwathError: model, reference or dataset cannot be read, or is of other images.

    """
    from detection.runtime.detector import Detector
    from detection.runtime.errors import SwathError
    from detection.runtime.files import write_whole
    from detection.runtime.parity.verify import verify as compare

    detector = Detector(model, providers=None if provider is None else [provider], score_thresholds=0.0)
    with _progress() as bar:
        task = bar.add_task("box by box", total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        delta = _DeltaAP()
        if dataset is None:
            result = compare(model, detector, progress=advance)
        else:
            from data.formats import load_dataset

            images = load_dataset(dataset, split=split)
            result = compare(model, detector, (image for _, image in images.read()), advance)
            if not result.reference_images:
                at_export = detector.metadata.parity.get("compared_on", "other images")
                raise SwathError(f"{dataset}: the export was checked on none of its images, but on {at_export}")
            delta = _delta_ap(detector, images, advance)
    faults = _faults(detector, result, delta)
    if out is not None:
        write_whole(out, json.dumps(_content(model, detector, result, delta, faults), indent=2) + "\n")
    if result.other_images:
        typer.echo(
            f"{result.other_images} images that the export was not checked on: not compared box by box", err=True
        )
    if faults:
        typer.echo(f"swath: {model}: {'; '.join(faults)} ({detector.runs_on})", err=True)
        return 1
    ap = "" if delta.all is None else f", AP within {delta.all:.2f} points"
    ap = ", AP undefined: the images have no boxes" if delta.undefined else ap
    typer.echo(
        f"{model}: agrees with PyTorch on {result.parity.boxes} boxes of {result.parity.images} images "
        f"({result.parity.summary()}{ap}), {detector.runs_on}"
    )
    return 0


def _delta_ap(detector: Detector, images: Dataset, progress: Callable[[int, int], None]) -> _DeltaAP:
    """AP against PyTorch's; not known where these are not exactly the images that it was computed on."""
    at_export = detector.metadata.parity
    if images.fingerprint() != at_export.get("compared_on_fingerprint"):
        return _DeltaAP()
    from detection.evaluation.evaluate import evaluate

    if float(at_export["ap_pytorch"]) < 0:
        return _DeltaAP(undefined=True)
    coco = evaluate(detector, images, progress=progress).metrics.coco
    small = float(at_export.get("aps_pytorch", -1))
    return _DeltaAP(
        100 * abs(coco["AP"] - float(at_export["ap_pytorch"])), None if small < 0 else 100 * (small - coco["APs"])
    )


def _chance_points(detector: Detector) -> float | None:
    given = detector.metadata.parity.get("delta_ap_chance_points", 0.0)
    return None if given is None else float(given)


def _faults(detector: Detector, result: Verification, delta: _DeltaAP) -> list[str]:
    """What is wrong, one clause each; empty where the file passed."""
    from detection.runtime.parity.budgets import ap_faults

    faults = []
    if not result.same_file:
        faults.append("it is not the file that was exported: its SHA-256 is another")
    if not result.parity.passed:
        faults.append(result.parity.fault())
    return faults + ap_faults(detector.metadata.precision, delta.all, delta.small, _chance_points(detector))


def _content(
    model: Path, detector: Detector, result: Verification, delta: _DeltaAP, faults: list[str]
) -> dict[str, Any]:
    return {
        "schema": 2,
        "model": str(model),
        "agrees": not faults,
        "same_file": result.same_file,
        "runs_on": detector.runs_on,
        **result.parity.to_dict(),
        "reference_images": result.reference_images,
        "other_images": result.other_images,
        "delta_ap_points": delta.all,
        "delta_ap_chance_points": _chance_points(detector),
        "small_ap_fall_points": delta.small,
    }


def _progress() -> Progress:
    """A bar on stderr that leaves nothing behind."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
