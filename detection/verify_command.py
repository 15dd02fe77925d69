"""What `swath verify` does, without its command line. Torch is not needed; DATASET needs `data` and pycocotools."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from detection.runtime.detector import Detector
from detection.runtime.errors import OutputError, SwathError
from detection.runtime.parity import DELTA_AP_POINTS
from detection.runtime.verify import Verified, verify

if TYPE_CHECKING:
    from data import Dataset


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
        dataset: the pictures that the export was checked on; None: those that the reference holds.
        provider: as `Detector` takes it; None is onnxruntime on the CPU.
        split: part of the dataset.
        out: gets the JSON.

    Returns:
        0 where it is the file that was exported and agrees, else 1.

    Raises:
        SwathError: model, reference or dataset cannot be read, or is of other pictures.

    """
    detector = Detector(model, providers=None if provider is None else [provider], score_thresholds=0.0)
    with _progress() as bar:
        task = bar.add_task("box by box", total=None)

        def told(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if dataset is None:
            outcome, delta = verify(model, detector, progress=told), None
        else:
            from data.formats import load_dataset

            pictures = load_dataset(dataset, split=split)
            outcome = verify(model, detector, (image for _, image in pictures.read()), told)
            if not outcome.known:
                at_export = detector.metadata.parity.get("compared_on", "other pictures")
                raise SwathError(f"{dataset}: the export was checked on none of its pictures, but on {at_export}")
            delta = _delta(detector, pictures, told)
    return _said(model, detector, outcome, delta, out)


def _delta(detector: Detector, pictures: Dataset, told: Callable[[int, int], None]) -> float | None:
    """By how many points AP differs from PyTorch's; None where these are not all the pictures it was computed on."""
    at_export = detector.metadata.parity
    if pictures.fingerprint() != at_export.get("compared_on_fingerprint"):
        return None
    from detection.evaluate import evaluate

    return 100 * abs(evaluate(detector, pictures, progress=told).metrics.coco["AP"] - float(at_export["ap_pytorch"]))


def _said(model: Path, detector: Detector, outcome: Verified, delta: float | None, out: Path | None) -> int:
    parity, precision = outcome.parity, detector.metadata.precision
    wrong = []
    if not outcome.same_file:
        wrong.append("it is not the file that was exported: its SHA-256 is another")
    if not parity.holds:
        wrong.append(
            f"{parity.unmatched} of {parity.boxes} boxes differ from PyTorch's, {parity.wrong_form} malformed answers"
        )
    if delta is not None and delta > DELTA_AP_POINTS[precision]:
        wrong.append(f"AP is off by {delta:.2f} points")
    if out is not None:
        content = {
            "schema": 1,
            "model": str(model),
            "agrees": not wrong,
            "same_file": outcome.same_file,
            "runs_on": detector.runs_on,
            **parity.to_dict(),
            "known_pictures": outcome.known,
            "unknown_pictures": outcome.unknown,
            "delta_ap_points": delta,
        }
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{out}: cannot be written ({error.strerror})") from None
    if outcome.unknown:
        typer.echo(f"{outcome.unknown} pictures that the export was not checked on: left out of the boxes", err=True)
    if wrong:
        typer.echo(f"swath: {model}: {'; '.join(wrong)} ({detector.runs_on})", err=True)
        return 1
    within = f"corners within {parity.max_box_error_px:.4f} px, scores within {parity.max_score_error:.1e}"
    ap = "" if delta is None else f", AP within {delta:.2f} points"
    typer.echo(
        f"{model}: agrees with PyTorch on {parity.boxes} boxes of {parity.pictures} pictures ({within}{ap}), "
        f"{detector.runs_on}"
    )
    return 0


def _progress() -> Progress:
    """A bar on stderr that leaves nothing behind."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
