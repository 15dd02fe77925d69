"""From a trained detector to one .onnx that proves itself before it is written."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from numpy.typing import NDArray
from torchvision.models.detection import FasterRCNN

import detection
from data import Dataset
from data.tiles import tile_dataset
from detection.checkpoint import Trained, write_whole
from detection.deploy_graph import DeployGraph
from detection.deploy_two_stage import TwoStageGraph
from detection.evaluate import evaluate
from detection.evaluation.coco_metrics import CocoMetrics
from detection.evaluation.operating import choose_thresholds
from detection.evaluation.thresholds import Choice, Goal
from detection.models import PRESETS
from detection.runtime import letterbox as letterbox_rule
from detection.runtime.detector import Detector
from detection.runtime.errors import SwathError
from detection.runtime.letterbox import letterbox
from detection.runtime.metadata import KEY, SCHEMA_VERSION, Licences, ModelMetadata
from detection.runtime.parity import DELTA_AP_POINTS
from detection.runtime.verify import BATCHES, Reference, compare, pixels_digest
from detection.suppression import onnx_translations
from detection.torch_detector import TorchDetector

MAX_BATCH = 8
DEFAULT_THRESHOLD = 0.3
"""Score threshold of a class where no validation split says a better one."""

_PARITY_PICTURES = 64  # compared box by box at most; AP is compared on all
_KEPT_PICTURES = 4  # of these so many stay beside the model, to be compared again elsewhere
_OPSET = 20


class ExportError(SwathError):
    """A detector that cannot be exported, or a file that does not agree with PyTorch."""


def deploy_graph_of(trained: Trained) -> DeployGraph | TwoStageGraph:
    """The deploy graph of a trained detector."""
    size_hw = trained.recipe.input.size_hw
    if isinstance(trained.model, FasterRCNN):
        return TwoStageGraph(trained.model, size_hw).eval()
    return DeployGraph(trained.model, PRESETS[trained.recipe.model.preset].label_offset, size_hw).eval()


def export(
    trained: Trained,
    out: Path,
    *,
    pictures: Dataset,
    held_out: bool,
    progress: Callable[[str, int, int], None] | None = None,
    graph: torch.nn.Module | None = None,
    goals: Sequence[Goal] = (),
    crops: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the deploy graph `out`, its parity report and PyTorch's answers beside it, or nothing.

    Args:
        trained: the detector.
        out: the .onnx; the report gets its name with `.parity.json` for `.onnx`, the answers with
            `.reference.npz` (see `detection.runtime.verify`).
        pictures: labelled pictures to compare the file with PyTorch on.
        held_out: whether training did not see them: only then do their metrics and best-F1
            thresholds go into the file.
        progress: called with (task, done, total).
        graph: exported instead of the detector's own deploy graph; for tests of the refusal.
        goals: what the thresholds are to give on `pictures`; none: the best F1 of each class.
        crops: names of the classes that must not be hit.

    Returns:
        The parity report; under `thresholds`, by class, why each was chosen.

    Raises:
        SwathError: goals that cannot be chosen for, or that were asked for without pictures held out.
        ExportError: the file does not agree with PyTorch.
        DataError: a picture cannot be read.

    """
    if goals and not held_out:
        raise SwathError("--goal: thresholds are chosen on pictures that training did not see: set data.val, train")
    graph = graph or deploy_graph_of(trained)
    reference = TorchDetector.of(trained)

    def told(task: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(task, done, total) if progress else None

    truth = evaluate(reference, pictures, crops=crops, progress=told("PyTorch"))
    chosen = choose_thresholds(truth.judged, goals, crops) if goals else {}
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder, "draft.onnx")
        _write_onnx(graph, trained, draft, _metadata(trained, truth.metrics, {}, held_out, chosen))
        detector = Detector(draft, score_thresholds=0.0)
        # evenly spread, so that all fields and days have their say
        spread = np.linspace(0, len(pictures) - 1, min(_PARITY_PICTURES, len(pictures)))
        real = [pictures.pictures[index].read() for index in np.unique(spread.astype(int))]
        asked = _reference(trained, reference, real)
        parity = compare(
            detector,
            [*asked.inputs_rgb, *(letterbox(picture, trained.recipe.input.size_hw)[0] for picture in real)],
            [*asked.answers, *(asked.seen[pixels_digest(picture)] for picture in real)],
            told("box by box"),
        )
        answer = evaluate(detector, pictures, progress=told("onnxruntime"))
        delta = 100 * abs(answer.metrics.coco["AP"] - truth.metrics.coco["AP"])
        report = {
            "schema": 1,
            **parity.to_dict(),
            "ap_pytorch": truth.metrics.coco["AP"],
            "ap_onnx": answer.metrics.coco["AP"],
            "delta_ap_points": round(delta, 4),
            "thresholds": {
                name: {"goal": c.goal, "threshold": c.threshold, "reached": c.reached, "rate": c.rate.to_dict()}
                for name, c in chosen.items()
            },
            "compared_on": pictures.name,
            "compared_on_fingerprint": pictures.fingerprint(),
            "held_out": held_out,
            "batches": list(BATCHES),
            "versions": {
                "swath": detection.__version__,
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
                "onnx": onnx.__version__,
                "onnxruntime": onnxruntime.__version__,
            },
        }
        if not parity.holds or delta > DELTA_AP_POINTS["fp32"]:
            raise ExportError(
                f"{out}: not written, it would not agree with PyTorch: {parity.unmatched} of {parity.boxes} boxes "
                f"unmatched, {parity.wrong_form} malformed answers, AP off by {delta:.2f} points"
            )
        model = onnx.load(draft)
        metadata = _metadata(trained, truth.metrics, report, held_out, chosen)
        onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
        out.parent.mkdir(parents=True, exist_ok=True)
        content = model.SerializeToString()
        answers = replace(asked, model_sha256=hashlib.sha256(content).hexdigest()).to_bytes()
        write_whole(Reference.path_of(out), lambda path: path.write_bytes(answers))
        write_whole(out, lambda path: path.write_bytes(content))
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    write_whole(out.with_suffix(".parity.json"), lambda path: path.write_text(text, encoding="utf-8"))
    return report


def _metadata(
    trained: Trained, metrics: CocoMetrics, report: dict[str, Any], held_out: bool, chosen: Mapping[str, Choice]
) -> ModelMetadata:
    recipe = trained.recipe

    def threshold(name: str) -> float:
        if name in chosen:
            return chosen[name].threshold
        best = metrics.per_class[name].threshold if held_out and name in metrics.per_class else None
        return DEFAULT_THRESHOLD if best is None else best

    return ModelMetadata(
        schema_version=SCHEMA_VERSION,
        swath_version=detection.__version__,
        preset=recipe.model.preset,
        backbone=recipe.model.backbone or PRESETS[recipe.model.preset].backbone,
        class_names=trained.class_names,
        input_size_hw=recipe.input.size_hw,
        letterbox_rule=letterbox_rule.RULE,
        letterbox_pad_value=letterbox_rule.PAD_VALUE,
        score_thresholds=tuple(round(threshold(name), 6) for name in trained.class_names),
        score_floor=recipe.postprocess.score_floor,
        nms_iou=recipe.postprocess.nms_iou,
        max_detections=recipe.postprocess.max_detections,
        max_batch=MAX_BATCH,
        precision="fp32",
        dataset_fingerprint=trained.dataset_fingerprint,
        metrics=dict(metrics.coco) if held_out else {},
        parity=report,
        licences=Licences(weights=trained.weights_licence, data=recipe.data.licence),
    )


def _write_onnx(graph: torch.nn.Module, trained: Trained, path: Path, metadata: ModelMetadata) -> None:
    height, width = trained.recipe.input.size_hw
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    # The exporter talks: to stdout, through logging and by warnings about itself. Errors still raise.
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                input_names=["images"],
                output_names=["boxes", "scores", "labels"],
                dynamic_shapes=({0: batch},),
                opset_version=_OPSET,
                custom_translation_table=onnx_translations(),
            )
    finally:
        chatter.setLevel(level)
    assert program is not None
    model = program.model_proto
    # Node documentation holds stack traces with this machine's paths.
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
    path.write_bytes(model.SerializeToString())


def _reference(trained: Trained, detector: TorchDetector, pictures: Sequence[NDArray[np.uint8]]) -> Reference:
    """What PyTorch answers to real pictures (BGR), a grey, a black, a white and a noise one; of no file yet."""
    size_hw = trained.recipe.input.size_hw
    noise = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    flat = [np.full((*size_hw, 3), level, np.uint8) for level in (letterbox_rule.PAD_VALUE, 0, 255)]
    kept = [letterbox(picture, size_hw)[0] for picture in pictures[:: -(-len(pictures) // _KEPT_PICTURES) or 1]]
    # real and artificial pictures mixed, so that a batch that confuses its pictures is caught
    inputs = (*flat, *kept, noise)
    return Reference(
        model_sha256="",
        inputs_rgb=inputs,
        answers=tuple(detector.on_inputs(one[None])[0] for one in inputs),
        seen={pixels_digest(p): detector.on_inputs(letterbox(p, size_hw)[0][None])[0] for p in pictures},
    )


def parity_pictures(trained: Trained, load: Callable[..., Dataset]) -> tuple[Dataset, bool]:
    """What a run's export is checked on: its validation split, or, where it had none, its training pictures."""
    data = trained.recipe.data
    split = "val" if data.val else "train"
    pictures = load(data.val or data.train, split=split, **data.reading)
    if data.tiles is not None:
        pictures, _ = tile_dataset(pictures, **data.tiles.model_dump())
    return pictures, bool(data.val)


__all__: Sequence[str] = ("ExportError", "deploy_graph_of", "export", "parity_pictures")
