"""What goes into an exported file's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import detection
from detection.evaluation.coco_metrics import CocoMetrics
from detection.evaluation.thresholds import Choice
from detection.export.onnx_file import MAX_BATCH
from detection.models.checkpoint import Trained
from detection.runtime import letterbox as letterbox_rule
from detection.runtime.metadata import NO_DIGEST, SCHEMA_VERSION, Licences, ModelMetadata

DEFAULT_THRESHOLD = 0.3
"""Score threshold of a class for which no validation split gives a better one."""


def score_thresholds(
    class_names: tuple[str, ...], metrics: CocoMetrics | None, chosen: Mapping[str, Choice]
) -> tuple[float, ...]:
    """The score threshold of every class: chosen for a goal, else of the best F1, else `DEFAULT_THRESHOLD`.

    Args:
        class_names: label 0, 1, ... by name.
        metrics: on images that were held out from training; None: there are none.
        chosen: thresholds chosen for a goal, by class name.

    """

    def threshold(name: str) -> float:
        if name in chosen:
            return chosen[name].threshold
        best = metrics.per_class[name].threshold if metrics and name in metrics.per_class else None
        return DEFAULT_THRESHOLD if best is None else best

    return tuple(round(threshold(name), 6) for name in class_names)


def metadata_of(
    trained: Trained,
    *,
    precision: str,
    thresholds: tuple[float, ...],
    metrics: CocoMetrics | None,
    parity: dict[str, Any],
) -> ModelMetadata:
    """Metadata of a detector's exported file.

    Args:
        trained: the detector.
        precision: of the file: fp32, fp16 or int8.
        thresholds: one score threshold per class.
        metrics: on images that were held out from training; None: none go into the file.
        parity: the parity report.

    """
    config = trained.config
    data_licence = trained.recipe.get("data", {}).get("licence", "not stated")
    return ModelMetadata(
        schema_version=SCHEMA_VERSION,
        swath_version=detection.__version__,
        preset=config.preset,
        backbone=config.backbone,
        class_names=trained.class_names,
        input_size_hw=config.size_hw,
        letterbox_rule=letterbox_rule.RULE,
        letterbox_pad_value=letterbox_rule.PAD_VALUE,
        score_thresholds=thresholds,
        pre_nms_score_threshold=config.pre_nms_score_threshold,
        nms_iou=config.nms_iou,
        max_detections=config.max_detections,
        pre_nms_top_k=config.top_k,
        max_batch=MAX_BATCH,
        precision=precision,
        dataset_fingerprint=trained.dataset_fingerprint,
        metrics=dict(metrics.coco) if metrics else {},
        parity=parity,
        licences=Licences(weights=trained.weights_licence, data=data_licence),
        file_sha256=NO_DIGEST,
    )
