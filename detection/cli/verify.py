"""`swath verify`. Torch is not needed; DATASET needs `data` and pycocotools.

Heavy imports stand inside the functions, so that `swath --help` answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detection.cli.help import example

if TYPE_CHECKING:
    from rich.progress import Progress

    from data import Dataset
    from detection.runtime.detector import Detector
    from detection.runtime.parity.verify import Verified

EXAMPLE = example(
    "swath verify crop_weed.onnx", "swath verify crop_weed.onnx photos/val --provider cuda --json v.json"
)


def verify(
    model: Annotated[Path, typer.Argument(help="The .onnx that swath export wrote.", metavar="MODEL")],
    dataset: Annotated[
        str | None,
        typer.Argument(help="The images that the export was checked on, for AP too.", metavar="DATASET"),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="cpu, openvino, cuda, tensorrt, coreml or directml. An error if it is not live."),
    ] = None,
    split: Annotated[str, typer.Option(help="Which part, where the dataset has parts: train, val, test.")] = "val",
    json_: Annotated[Path | None, typer.Option("--json", metavar="F", help="Write the outcome as JSON.")] = None,
) -> None:
    """Compare a model file with PyTorch's answers at its export, here and now. Needs no torch.

    Reads crop_weed.reference.npz beside crop_weed.onnx; only with DATASET the training half's packages are needed.

    Exits with 1 if a box differs, or if the file was changed since.
    """
    raise typer.Exit(verify_command(model, dataset, provider=provider, split=split, out=json_))


def verify_command(
    model: Path,
    dataset: str | None = None,
    *,
    provider: str | None = None,
    split: str = "val",
    out: Path | None = None,
) -> int:
    """Compare, say it in a line, write it as JSON where that is wanted.

    Args:
        model: the deploy graph, its reference beside it.
        dataset: the images that the export was checked on; None: those that the reference holds.
        provider: as `Detector` takes it; None is onnxruntime on the CPU.
        split: part of the dataset.
        out: gets the JSON.

    Returns:
        0 where it is the file that was exported and agrees, else 1.

    Raises:
        SwathError: model, reference or dataset cannot be read, or is of other images.

    """
    from detection.runtime.detector import Detector
    from detection.runtime.errors import SwathError
    from detection.runtime.parity.verify import verify as compare

    detector = Detector(model, providers=None if provider is None else [provider], score_thresholds=0.0)
    with _progress() as bar:
        task = bar.add_task("box by box", total=None)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if dataset is None:
            outcome, delta, fall = compare(model, detector, progress=told), None, None
        else:
            from data.formats import load_dataset

            images = load_dataset(dataset, split=split)
            outcome = compare(model, detector, (image for _, image in images.read()), told)
            if not outcome.known:
                at_export = detector.metadata.parity.get("compared_on", "other images")
                raise SwathError(f"{dataset}: the export was checked on none of its images, but on {at_export}")
            delta, fall = _ap(detector, images, told)
    return _said(model, detector, outcome, delta, fall, out)


def _ap(detector: Detector, images: Dataset, told: Callable[[int, int], None]) -> tuple[float | None, float | None]:
    """By how many points AP differs from PyTorch's, and by how many that of small objects is lower.

    None where these are not all the images it was computed on, or no object of them is small.
    """
    at_export = detector.metadata.parity
    if images.fingerprint() != at_export.get("compared_on_fingerprint"):
        return None, None
    from detection.evaluation.evaluate import evaluate

    coco = evaluate(detector, images, progress=told).metrics.coco
    small = float(at_export.get("aps_pytorch", -1))
    return 100 * abs(coco["AP"] - float(at_export["ap_pytorch"])), None if small < 0 else 100 * (small - coco["APs"])


def _said(
    model: Path, detector: Detector, outcome: Verified, delta: float | None, fall: float | None, out: Path | None
) -> int:
    from detection.runtime.errors import OutputError
    from detection.runtime.parity.parity import ap_faults

    parity = outcome.parity
    wrong = []
    if not outcome.same_file:
        wrong.append("it is not the file that was exported: its SHA-256 is another")
    if not parity.holds:
        wrong.append(parity.fault())
    chance = float(detector.metadata.parity.get("delta_ap_chance_points", 0.0))
    wrong += ap_faults(detector.metadata.precision, delta, fall, chance)
    if out is not None:
        content = {
            "schema": 1,
            "model": str(model),
            "agrees": not wrong,
            "same_file": outcome.same_file,
            "runs_on": detector.runs_on,
            **parity.to_dict(),
            "known_images": outcome.known,
            "unknown_images": outcome.unknown,
            "delta_ap_points": delta,
            "delta_ap_chance_points": chance,
            "small_ap_fall_points": fall,
        }
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{out}: cannot be written ({error.strerror})") from None
    if outcome.unknown:
        typer.echo(f"{outcome.unknown} images that the export was not checked on: left out of the boxes", err=True)
    if wrong:
        typer.echo(f"swath: {model}: {'; '.join(wrong)} ({detector.runs_on})", err=True)
        return 1
    ap = "" if delta is None else f", AP within {delta:.2f} points"
    typer.echo(
        f"{model}: agrees with PyTorch on {parity.boxes} boxes of {parity.images} images "
        f"({parity.closeness()}{ap}), {detector.runs_on}"
    )
    return 0


def _progress() -> Progress:
    """A bar on stderr that leaves nothing behind."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
