"""From a trained detector to one .onnx that proves itself before it is written."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from numpy.typing import NDArray

import detection
from data import Dataset
from data.tiles import tile_dataset
from detection.checkpoint import Trained, write_whole
from detection.deploy_graph import DeployGraph
from detection.evaluate import evaluate
from detection.evaluation.coco_metrics import CocoMetrics
from detection.evaluation.operating import choose_thresholds
from detection.evaluation.thresholds import Choice, Goal
from detection.models import PRESETS
from detection.parity import Parity
from detection.runtime import letterbox as letterbox_rule
from detection.runtime.detections import Detections
from detection.runtime.detector import Detector, Raw
from detection.runtime.errors import SwathError
from detection.runtime.letterbox import letterbox
from detection.runtime.metadata import KEY, SCHEMA_VERSION, Licences, ModelMetadata
from detection.torch_detector import TorchDetector

MAX_BATCH = 8
DEFAULT_THRESHOLD = 0.3
"""Score threshold of a class where no validation split says a better one."""

DELTA_AP_POINTS = {"fp32": 0.1}
"""By how many points (hundredths of AP) the file may differ from PyTorch on the validation split."""

_PARITY_PICTURES = 64  # compared box by box at most; AP is compared on all
_OPSET = 20


class ExportError(SwathError):
    """A detector that cannot be exported, or a file that does not agree with PyTorch."""


def deploy_graph_of(trained: Trained) -> DeployGraph:
    """The deploy graph of a trained detector.

    Raises:
        ExportError: there is none for its preset yet.

    """
    preset = trained.recipe.model.preset
    if not PRESETS[preset].exportable:
        ready = ", ".join(name for name, p in PRESETS.items() if p.exportable)
        raise ExportError(f"{preset}: export is not built yet for Faster R-CNN; it is for {ready}")
    return DeployGraph(trained.model, PRESETS[preset].label_offset, trained.recipe.input.size_hw).eval()


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
    """Write the deploy graph `out` and its parity report beside it, or neither.

    Args:
        trained: the detector.
        out: the .onnx; the report gets its name with `.parity.json` for `.onnx`.
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
        ExportError: no deploy graph for this preset, or the file does not agree with PyTorch.
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
        parity = _compare(reference, detector, trained, pictures, told("box by box"))
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
            "held_out": held_out,
            "batches": sorted({1, 2, 5, MAX_BATCH}),
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
        write_whole(out, lambda path: path.write_bytes(model.SerializeToString()))
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


def _compare(
    reference: TorchDetector,
    detector: Detector,
    trained: Trained,
    pictures: Dataset,
    progress: Callable[[int, int], None],
) -> Parity:
    """Box by box: real pictures, a grey, a black, a white and a noise one, in every batch size promised."""
    size_hw = trained.recipe.input.size_hw
    height, width = size_hw
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    flat = [np.full((height, width, 3), level, np.uint8) for level in (letterbox_rule.PAD_VALUE, 0, 255)]
    # evenly spread, so that all fields and days have their say
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(_PARITY_PICTURES, len(pictures))).astype(int))
    inputs = [letterbox(pictures.pictures[i].read(), size_hw)[0] for i in chosen]
    # real and artificial pictures mixed, so that a batch that confuses its pictures is caught
    inputs = [*flat, *inputs, noise]
    parity = Parity()
    post = trained.recipe.postprocess
    sizes = [size for size in (1, 2, 5, MAX_BATCH) for _ in range(2)]
    start = turn = 0
    wanted = max(len(inputs), sum(sizes))
    while start < wanted:
        size = sizes[turn] if turn < len(sizes) else MAX_BATCH
        batch = np.stack([inputs[(start + k) % len(inputs)] for k in range(size)])
        raw = detector.infer(batch)
        for row, expected in enumerate(reference.on_inputs(batch)):
            found = _unpadded(raw, row)
            if found is None:
                parity.wrong_form += 1
                continue
            parity.add(
                expected,
                found,
                score_floor=post.score_floor,
                nms_iou=post.nms_iou,
                max_detections=post.max_detections,
            )
        start += size
        turn += 1
        progress(min(start, wanted), wanted)
    return parity


def _unpadded(raw: Raw, row: int) -> Detections | None:
    """One picture's rows without the padding; None if they break the contract of the deploy graph."""
    boxes, scores, labels = raw.boxes[row], raw.scores[row], raw.labels[row]
    filled = labels >= 0
    in_order: NDArray[np.bool_] = scores[:-1] >= scores[1:]
    padded = (scores[~filled] == 0).all() and (boxes[~filled] == 0).all() and (labels[~filled] == -1).all()
    if not in_order.all() or not padded or not np.isfinite(boxes).all() or (scores[filled] <= 0).any():
        return None
    return Detections(boxes[filled], scores[filled], labels[filled])


def parity_pictures(trained: Trained, load: Callable[..., Dataset]) -> tuple[Dataset, bool]:
    """What a run's export is checked on: its validation split, or, where it had none, its training pictures."""
    data = trained.recipe.data
    split = "val" if data.val else "train"
    pictures = load(data.val or data.train, split=split, **data.reading)
    if data.tiles is not None:
        pictures, _ = tile_dataset(pictures, **data.tiles.model_dump())
    return pictures, bool(data.val)


__all__: Sequence[str] = ("ExportError", "deploy_graph_of", "export", "parity_pictures")
