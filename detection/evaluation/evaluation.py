"""`Evaluation`: the result of evaluating a detector on a dataset; expensive parts are computed on first use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from detection.evaluation.coco_metrics import CocoMetrics
from detection.evaluation.confusion import Pair, confusion_matrix, pairs
from detection.evaluation.dataset_statistics import DatasetStatistics, dataset_statistics
from detection.evaluation.error_breakdown import ErrorBreakdown, error_breakdown
from detection.evaluation.intervals import Interval, class_intervals, draw_groups, intervals
from detection.evaluation.operating import OperatingPoint, ScoredDetections, crop_labels, operating_point
from detection.evaluation.slices import Slice, slices
from detection.evaluation.spraying import Counted, Sprayed, Sprayer, counted, perfect, sprayed, trade_off
from detection.runtime.detections import Detections

RESAMPLES = 1000
"""Number of bootstrap resamples of the groups for an interval."""

_SEED = 0  # the same images give the same intervals


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of evaluating a detector.

    Attributes:
        dataset: the ground truth.
        metrics: of the whole dataset.
        grouped_by: the key by which images are grouped for intervals.
        groups: group of each image.
        slice_by: the attribute that was asked for; None: none.
        slices: metrics of the images that share a value of it.
        thresholds: float32 (C,), score threshold of each class: a detection counts at or above it; above 1: none.
        model_thresholds: whether they are the model file's own; otherwise they give the best F1 on these images.
        crops: names of the classes that must not be hit.
        sprayer: simulated over the images; None: none.
        detections: one per image in the dataset's order, labelled as the dataset.
        results: the same as COCO results.
        seconds: the detector's time for each image; empty: not measured.
        runs_on: runtime, device and input size of the detector, as text; may be empty.
        notices: what the reader must know, one line each.

    """

    dataset: Dataset
    metrics: CocoMetrics
    grouped_by: str
    groups: tuple[str, ...]
    slice_by: str | None
    slices: dict[str, CocoMetrics]
    thresholds: NDArray[np.float32]
    model_thresholds: bool
    crops: tuple[str, ...]
    sprayer: Sprayer | None
    detections: tuple[Detections, ...]
    results: list[dict[str, Any]]
    seconds: tuple[float, ...]
    runs_on: str
    notices: tuple[str, ...]

    @cached_property
    def resamples(self) -> NDArray[np.float64]:
        """How often each image is in each bootstrap resample of the groups, float64 (B, P)."""
        return draw_groups(self.groups, RESAMPLES, _SEED)

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The headline metrics with their intervals, by name."""
        return intervals(self.metrics.matches, self.resamples)

    @cached_property
    def class_intervals(self) -> dict[str, Interval]:
        """AP50 of each class with its interval, by name."""
        return dict(zip(self.dataset.class_names, class_intervals(self.metrics.matches, self.resamples), strict=True))

    @cached_property
    def parts(self) -> tuple[Slice, ...]:
        """Every slice of the dataset by its images' attributes, the lowest AP50 first."""
        return slices(self.dataset, self.metrics.matches, self.resamples, self.groups, key=self.slice_by)

    @cached_property
    def error_breakdown(self) -> ErrorBreakdown:
        """AP50 lost to each type of error (TIDE)."""
        return error_breakdown(self.dataset, self.detections)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every ground-truth box and every detection at its class's threshold, matched one to one."""
        return tuple(pairs(self.dataset, self.detections, self.thresholds))

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Confusion matrix at each class's threshold, int64 (C + 1, C + 1)."""
        return confusion_matrix(self.pairs, len(self.dataset.class_names))

    @cached_property
    def operating_point(self) -> OperatingPoint:
        """Precision and recall at the thresholds."""
        return operating_point(self.scored, self.thresholds, self.crops)

    @cached_property
    def counting(self) -> dict[str, Counted]:
        """Counting errors of each class at its threshold, by name."""
        gsd_mm = self.sprayer.gsd_mm if self.sprayer else None
        return counted(self.dataset, self.detections, self.thresholds, gsd_mm)

    @cached_property
    def statistics(self) -> DatasetStatistics:
        """Statistics of the dataset."""
        return dataset_statistics(self.dataset)

    @cached_property
    def latency_ms(self) -> dict[str, float] | None:
        """Latency per image, from array to boxes, without the first image; None: not measured."""
        if len(self.seconds) < 2:
            return None
        taken = 1000 * np.array(self.seconds[1:])
        ends = {f"p{share}": float(np.quantile(taken, share / 100)) for share in (50, 95, 99)}
        return {**ends, "max": float(taken.max())}

    @cached_property
    def sprayed(self) -> Sprayed | None:
        """The simulated sprayer at the thresholds; None without one."""
        if self.sprayer is None:
            return None
        return sprayed(
            self.dataset, self.detections, self.thresholds, self.sprayer, self._crop_labels, self.resamples
        )

    @cached_property
    def sprayed_at_best(self) -> Sprayed | None:
        """The same with a perfect detector: the best that these nozzles can do."""
        if self.sprayer is None:
            return None
        truth = perfect(self.dataset)
        return sprayed(self.dataset, truth, self.thresholds * 0, self.sprayer, self._crop_labels, self.resamples)

    @cached_property
    def trade_off(self) -> list[tuple[float, Sprayed]]:
        """The same for a range of thresholds common to all classes; empty without a sprayer."""
        if self.sprayer is None:
            return []
        return trade_off(self.dataset, self.detections, self.sprayer, self._crop_labels, self.resamples)

    @property
    def _crop_labels(self) -> list[int]:
        return crop_labels(self.dataset.class_names, self.crops)

    @property
    def scored(self) -> ScoredDetections:
        """What thresholds are chosen from."""
        return ScoredDetections(self.dataset, self.detections, self.metrics.matches, self.resamples)
