"""`export`: a trained detector becomes one .onnx that agrees with PyTorch, or nothing is written."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
import torchvision

import detection
from data import Dataset
from data.files import write_whole
from detection.evaluation.evaluate import EvaluationOptions, evaluate
from detection.evaluation.operating import choose_thresholds
from detection.evaluation.thresholds import Choice, Goal
from detection.export.graph.end_to_end import end_to_end_graph
from detection.export.model_metadata import metadata_of, score_thresholds
from detection.export.onnx_file import to_onnx
from detection.export.parity_check import CheckResult, ParityCheck, Progress
from detection.export.precision.lowering import Lowering
from detection.export.precision.timing import median_ms
from detection.models.checkpoint import Trained
from detection.models.torch_detector import TorchDetector
from detection.runtime.detector import Detector
from detection.runtime.errors import SwathError
from detection.runtime.metadata import KEY
from detection.runtime.model_file import sealed
from detection.runtime.parity.box_parity import BoxParity
from detection.runtime.parity.budgets import has_learned
from detection.runtime.parity.reference import Reference
from detection.runtime.parity.verify import BATCHES

PARITY_SCHEMA = 3
"""Of the parity report. Schema 2 knew nothing of network and postprocessing by themselves, and counted ties; schema 1
had other names, see `detection.runtime.compatibility`."""


class ExportError(SwathError):
    """A detector that cannot be exported, or a file that does not agree with PyTorch."""


@dataclass(frozen=True, eq=False)
class ExportOptions:
    """How a detector is exported.

    Attributes:
        goals: what the score thresholds shall achieve on the parity images; none: the best F1 of each class.
        crops: names of the classes that must not be hit.
        lowering: makes a graph of lower precision from the float32 one, once that has passed; None: float32.
        graph: exported in place of the detector's own end-to-end graph, if that exists already, as a module or as
            the ONNX model of a float32 export.

    """

    goals: Sequence[Goal] = ()
    crops: Sequence[str] = ()
    lowering: Lowering | None = None
    graph: torch.nn.Module | onnx.ModelProto | None = None


def export(
    trained: Trained,
    out: Path,
    *,
    images: Dataset,
    held_out: bool,
    options: ExportOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the end-to-end graph `out`, its parity report and its reference, or nothing.

        trained = load_trained(Path("runs/weeds"))
        report = export(trained, Path("weeds.onnx"), images=load_dataset("photos/val"), held_out=True)
        report["max_box_error_px"]                       # largest distance of a corner from PyTorch's

    Args:
        trained: the detector.
        out: the .onnx to write. Beside it go the parity report, `.parity.json`, and PyTorch's detections,
            `.reference.npz`, which `swath verify` compares with (see `detection.runtime.parity.verify`).
        images: labelled images to compare the file with PyTorch on.
        held_out: whether training did not see them: only then do their metrics and best-F1 thresholds go into
            the file.
        options: thresholds and precision; None: best F1, float32.
        progress: called with (task, done, total).

    Returns:
        The parity report; under `thresholds`, by class, why each was chosen.

    Raises:
        SwathError: goals that cannot be met, or that were given without images held out.
        ExportError: the file does not agree with PyTorch.
        DataError: an image cannot be read, or a file cannot be written.

    """
    options = options or ExportOptions()
    if options.goals and not held_out:
        raise SwathError("--goal: thresholds are chosen on images that training did not see: set data.val, train")
    graph = options.graph or end_to_end_graph(trained)
    pytorch = TorchDetector.of(trained)
    evaluation = evaluate(
        pytorch,
        images,
        EvaluationOptions(crops=tuple(options.crops)),
        progress=lambda done, total: progress("PyTorch", done, total) if progress else None,
    )
    chosen = choose_thresholds(evaluation.scored, options.goals, options.crops) if options.goals else {}
    size_hw = trained.config.size_hw
    check = ParityCheck(pytorch, evaluation, progress)
    metrics = evaluation.metrics if held_out else None
    thresholds = score_thresholds(trained.class_names, metrics, chosen)

    def describe(model: onnx.ModelProto, precision: str, report: dict[str, Any]) -> None:
        about = metadata_of(trained, precision=precision, thresholds=thresholds, metrics=metrics, parity=report)
        onnx.helper.set_model_props(model, {KEY: about.to_json()})

    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder, "draft.onnx")

        def checked(model: onnx.ModelProto, precision: str, task: str | None = None) -> CheckResult:
            describe(model, precision, {})
            draft.write_bytes(sealed(model.SerializeToString()))
            return check(Detector(draft, score_thresholds=0.0), task)

        model = graph if isinstance(graph, onnx.ModelProto) else to_onnx(graph, size_hw)
        try:
            parts = check.check_parts(model)
        except SwathError as error:
            raise ExportError(f"{out}: not written: {error}") from None
        _refuse(parts.faults, out)
        result = _passed(checked(model, "fp32"), out)
        warnings = _warnings(evaluation.metrics.coco["AP"], result)
        precision, lowered = "fp32", {}
        lowering = options.lowering
        if lowering is not None:
            precision, full, full_result = lowering.precision, model, result
            model, made = lowering(full, lambda candidate, task: checked(candidate, precision, task), progress)
            result = _passed(checked(model, precision), out)
            lowered = {
                precision: made,
                "fp32_parity": full_result.to_dict(),
                "size_and_speed": _size_and_speed(full, model, check.reference),
            }
    report = {
        "schema": PARITY_SCHEMA,
        "precision": precision,
        **result.to_dict(),
        **parts.to_dict(),
        "warnings": warnings,
        "ap_pytorch": evaluation.metrics.coco["AP"],
        "aps_pytorch": evaluation.metrics.coco["APs"],
        **lowered,
        "thresholds": {name: _threshold_report(choice) for name, choice in chosen.items()},
        "compared_on": images.name,
        "compared_on_fingerprint": images.fingerprint(),
        "held_out": held_out,
        "batches": list(BATCHES),
        "versions": _versions(),
    }
    describe(model, precision, report)
    _write(out, model, check.reference, report)
    return report


def _passed(result: CheckResult, out: Path) -> CheckResult:
    """The result, if it passed."""
    _refuse(result.faults, out)
    return result


def _refuse(faults: Sequence[str], out: Path) -> None:
    """Raise if there are faults.

    Raises:
        ExportError: there are.

    """
    if faults:
        raise ExportError(f"{out}: not written, it would not agree with PyTorch: {'; '.join(faults)}")


def _warnings(ap: float, result: CheckResult) -> list[str]:
    """What does not speak against the file but against its use, one line each."""
    if has_learned(ap):
        return []
    known = f"PyTorch's AP is {ap:.4f}" if ap >= 0 else "PyTorch's AP is undefined, the images have no boxes"
    lines = [f"{known}: the detector has learned next to nothing; train it longer"]
    if isinstance(result.parity, BoxParity) and result.parity.too_borderline:
        lines.append(result.parity.too_borderline)
    return lines


def _threshold_report(choice: Choice) -> dict[str, Any]:
    return {
        "goal": choice.goal,
        "threshold": choice.threshold,
        "reached": choice.reached,
        "rate": choice.rate.to_dict(),
    }


def _size_and_speed(full: onnx.ModelProto, lowered: onnx.ModelProto, reference: Reference) -> dict[str, Any]:
    """Gain of the lower precision: bytes of the files, and latency on this machine's CPU."""
    before, after = median_ms([full, lowered], reference.inputs_rgb[0])
    return {
        "fp32_bytes": full.ByteSize(),
        "bytes": lowered.ByteSize(),
        "fp32_cpu_ms": round(before, 2),
        "cpu_ms": round(after, 2),
        "cpu_speed_up": round(before / after, 2),
    }


def _versions() -> dict[str, str]:
    return {
        "swath": detection.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def _write(out: Path, model: onnx.ModelProto, reference: Reference, report: dict[str, Any]) -> None:
    """The model file and the two beside it, each whole or not at all."""
    content = sealed(model.SerializeToString())
    beside = replace(reference, model_sha256=hashlib.sha256(content).hexdigest()).to_bytes()
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    write_whole(Reference.path_of(out), beside)
    write_whole(out, content)
    write_whole(out.with_suffix(".parity.json"), text)
