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

import onnx
import onnxruntime
import torch
import torchvision
from torchvision.models.detection import FasterRCNN

import detection
from data import Dataset
from data.loading.tiles import tile_dataset
from detection.evaluation.coco_metrics import CocoMetrics
from detection.evaluation.evaluate import evaluate
from detection.evaluation.operating import choose_thresholds
from detection.evaluation.thresholds import Choice, Goal
from detection.export.graph.one_stage import DeployGraph
from detection.export.graph.suppression import onnx_translations
from detection.export.graph.two_stage import TwoStageGraph
from detection.export.precision.lowering import Lowering
from detection.export.precision.timing import median_ms
from detection.export.reference import Progress, Proof, Verdict
from detection.models.checkpoint import Trained, write_whole
from detection.models.torch_detector import TorchDetector
from detection.recipe.reading import written_recipe
from detection.runtime import letterbox as letterbox_rule
from detection.runtime.detector import Detector
from detection.runtime.errors import SwathError
from detection.runtime.metadata import KEY, SCHEMA_VERSION, Licences, ModelMetadata
from detection.runtime.parity.verify import BATCHES, Reference

MAX_BATCH = 8
DEFAULT_THRESHOLD = 0.3
"""Score threshold of a class where no validation split says a better one."""

_LEARNED_NOTHING = 0.01  # AP

_OPSET = 20


class ExportError(SwathError):
    """A detector that cannot be exported, or a file that does not agree with PyTorch."""


def deploy_graph_of(trained: Trained) -> DeployGraph | TwoStageGraph:
    """The deploy graph of a trained detector."""
    size_hw = trained.config.size_hw
    if isinstance(trained.model, FasterRCNN):
        return TwoStageGraph(trained.model, size_hw).eval()
    return DeployGraph(trained.model, trained.config.label_offset, size_hw).eval()


def export(
    trained: Trained,
    out: Path,
    *,
    images: Dataset,
    held_out: bool,
    progress: Progress | None = None,
    graph: torch.nn.Module | onnx.ModelProto | None = None,
    goals: Sequence[Goal] = (),
    crops: Sequence[str] = (),
    lower: Lowering | None = None,
) -> dict[str, Any]:
    """Write the deploy graph `out`, its parity report and PyTorch's answers beside it, or nothing.

    Args:
        trained: the detector.
        out: the .onnx; the report gets its name with `.parity.json` for `.onnx`, the answers with
            `.reference.npz` (see `detection.runtime.parity.verify`).
        images: labelled images to compare the file with PyTorch on.
        held_out: whether training did not see them: only then do their metrics and best-F1
            thresholds go into the file.
        progress: called with (task, done, total).
        graph: exported instead of the detector's own deploy graph, for tests of the refusal; or that one, as a
            float32 export made it, to be lowered without being exported again.
        goals: what the thresholds are to give on `images`; none: the best F1 of each class.
        crops: names of the classes that must not be hit.
        lower: makes the float32 graph one of lower precision, once that has proved itself; None: it stays.

    Returns:
        The parity report; under `thresholds`, by class, why each was chosen.

    Raises:
        SwathError: goals that cannot be chosen for, or that were asked for without images held out.
        ExportError: the file does not agree with PyTorch.
        DataError: an image cannot be read.

    """
    if goals and not held_out:
        raise SwathError("--goal: thresholds are chosen on images that training did not see: set data.val, train")
    graph = graph or deploy_graph_of(trained)
    reference = TorchDetector.of(trained)
    truth = evaluate(
        reference, images, crops=crops, progress=lambda *done: progress("PyTorch", *done) if progress else None
    )
    chosen = choose_thresholds(truth.judged, goals, crops) if goals else {}
    coco = truth.metrics.coco
    proof = Proof(trained, reference, truth, progress)

    def told(precision: str, report: dict[str, Any]) -> str:
        return _metadata(trained, truth.metrics, report, held_out, chosen, precision).to_json()

    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder, "draft.onnx")

        def judged(model: onnx.ModelProto, precision: str, task: str | None = None) -> Verdict:
            onnx.helper.set_model_props(model, {KEY: told(precision, {})})
            draft.write_bytes(model.SerializeToString())
            return proof.judge(Detector(draft, score_thresholds=0.0), task)

        def proved(verdict: Verdict) -> Verdict:
            if verdict.faults:
                why = "; ".join(verdict.faults)
                if 0 <= coco["AP"] < _LEARNED_NOTHING:
                    why += f" (PyTorch's AP is {coco['AP']:.4f}: what has learned next to nothing is as sure of one "
                    why += "box as of the next, and the last bit decides; train it longer)"
                raise ExportError(f"{out}: not written, it would not agree with PyTorch: {why}")
            return verdict

        model = graph if isinstance(graph, onnx.ModelProto) else _to_onnx(graph, trained)
        verdict = proved(judged(model, "fp32"))
        precision, lowered = "fp32", {}
        if lower is not None:
            precision, whole, made_from = lower.precision, model, verdict
            model, made = lower(whole, lambda candidate, task: judged(candidate, precision, task), progress)
            verdict = proved(judged(model, precision))
            lowered = {precision: made, "made_from": _found(made_from), "size_and_speed": _gain(whole, model, proof)}
        report = {
            "schema": 1,
            "precision": precision,
            **_found(verdict),
            "ap_pytorch": coco["AP"],
            "aps_pytorch": coco["APs"],
            **lowered,
            "thresholds": {
                name: {"goal": c.goal, "threshold": c.threshold, "reached": c.reached, "rate": c.rate.to_dict()}
                for name, c in chosen.items()
            },
            "compared_on": images.name,
            "compared_on_fingerprint": images.fingerprint(),
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
    onnx.helper.set_model_props(model, {KEY: told(precision, report)})
    out.parent.mkdir(parents=True, exist_ok=True)
    content = model.SerializeToString()
    answers = replace(proof.asked, model_sha256=hashlib.sha256(content).hexdigest()).to_bytes()
    write_whole(Reference.path_of(out), lambda path: path.write_bytes(answers))
    write_whole(out, lambda path: path.write_bytes(content))
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    write_whole(out.with_suffix(".parity.json"), lambda path: path.write_text(text, encoding="utf-8"))
    return report


def _found(verdict: Verdict) -> dict[str, Any]:
    """What the parity report says of a file."""
    small_fall = verdict.small_fall_points
    return {
        **verdict.outcome.to_dict(),
        "ap_onnx": verdict.ap,
        "aps_onnx": verdict.aps,
        "delta_ap_points": round(verdict.delta_points, 4),
        "delta_ap_chance_points": round(verdict.chance_points, 4),
        "small_ap_fall_points": None if small_fall is None else round(small_fall, 4),
    }


def _gain(whole: onnx.ModelProto, lowered: onnx.ModelProto, proof: Proof) -> dict[str, Any]:
    """What lower precision brings: bytes of the files, and time here on the CPU."""
    before, after = median_ms([whole, lowered], proof.asked.inputs_rgb[0])
    return {
        "fp32_bytes": whole.ByteSize(),
        "bytes": lowered.ByteSize(),
        "fp32_cpu_ms": round(before, 2),
        "cpu_ms": round(after, 2),
        "cpu_speed_up": round(before / after, 2),
    }


def _metadata(
    trained: Trained,
    metrics: CocoMetrics,
    report: dict[str, Any],
    held_out: bool,
    chosen: Mapping[str, Choice],
    precision: str,
) -> ModelMetadata:
    config = trained.config
    terms = trained.recipe.get("data", {}).get("licence", "not stated")

    def threshold(name: str) -> float:
        if name in chosen:
            return chosen[name].threshold
        best = metrics.per_class[name].threshold if held_out and name in metrics.per_class else None
        return DEFAULT_THRESHOLD if best is None else best

    return ModelMetadata(
        schema_version=SCHEMA_VERSION,
        swath_version=detection.__version__,
        preset=config.preset,
        backbone=config.backbone,
        class_names=trained.class_names,
        input_size_hw=config.size_hw,
        letterbox_rule=letterbox_rule.RULE,
        letterbox_pad_value=letterbox_rule.PAD_VALUE,
        score_thresholds=tuple(round(threshold(name), 6) for name in trained.class_names),
        score_floor=config.pre_nms_score_threshold,
        nms_iou=config.nms_iou,
        max_detections=config.max_detections,
        max_batch=MAX_BATCH,
        precision=precision,
        dataset_fingerprint=trained.dataset_fingerprint,
        metrics=dict(metrics.coco) if held_out else {},
        parity=report,
        licences=Licences(weights=trained.weights_licence, data=terms),
    )


def _to_onnx(graph: torch.nn.Module, trained: Trained) -> onnx.ModelProto:
    height, width = trained.config.size_hw
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
    model: onnx.ModelProto = program.model_proto
    # Node documentation holds stack traces with this machine's paths.
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    return model


def calibration_images(trained: Trained, load: Callable[..., Dataset]) -> Dataset:
    """What int8 is calibrated on where nothing is named: the run's training images."""
    data = written_recipe(trained.recipe).data
    return _cut(load(data.train, split="train", **data.reading), trained)


def parity_images(trained: Trained, load: Callable[..., Dataset]) -> tuple[Dataset, bool]:
    """What a run's export is checked on: its validation split, or, where it had none, its training images."""
    data = written_recipe(trained.recipe).data
    split = "val" if data.val else "train"
    return _cut(load(data.val or data.train, split=split, **data.reading), trained), bool(data.val)


def _cut(images: Dataset, trained: Trained) -> Dataset:
    """The tiles of images, where the run learned tiles."""
    tiles = written_recipe(trained.recipe).data.tiles
    return images if tiles is None else tile_dataset(images, tiles)[0]


__all__: Sequence[str] = ("ExportError", "calibration_images", "deploy_graph_of", "export", "parity_images")
