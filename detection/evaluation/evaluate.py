"""How good a detector is on a dataset, whether PyTorch runs it or the robot's own code."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data import Dataset
from data.splits.groups import best_key, group_images
from detection.evaluation.coco_metrics import CocoMetrics, Engine, coco_metrics, coco_results, usable_scores
from detection.evaluation.confusion import Pair, confusion_matrix, pairs
from detection.evaluation.dataset_statistics import DatasetCard, dataset_card
from detection.evaluation.error_breakdown import LostAP, lost_ap
from detection.evaluation.intervals import FEW_GROUPS, Interval, class_intervals, draw_groups, intervals
from detection.evaluation.operating import Judged, OperatingPoint, crop_labels, operating_point
from detection.evaluation.slices import Slice, slices
from detection.evaluation.spraying import Counted, Sprayed, Sprayer, counted, perfect, sprayed, trade_off
from detection.recipe.schema import Recipe
from detection.runtime.detections import Detections
from detection.runtime.detector import Detector
from detection.runtime.errors import SwathError

Progress = Callable[[int, int], None]
"""Called with (done, total)."""

RESAMPLES = 1000
"""So often are the groups drawn again for an interval."""

_NONE_COUNTS = 1.1  # above every score
_SEED = 0  # the same images give the same intervals


class ImageDetector(Protocol):
    """Anything that finds objects in an image."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of label 0, 1, ..."""

    def __call__(self, image_bgr: NDArray[np.uint8], /) -> Detections:
        """An image uint8 (H, W, 3) BGR -> detections in its own pixels."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The outcome. What takes time beyond COCO's numbers is computed when it is asked for.

    Attributes:
        dataset: the truth.
        metrics: of the whole dataset.
        grouped_by: the key by which images are taken together for intervals.
        groups: of each image.
        slice_by: the attribute that was asked for.
        slices: metrics of the images that share a value of it.
        thresholds: float32 (C,), of each class the score from which on a detection counts; above 1: none does.
        own_thresholds: whether they are the model's own, chosen elsewhere; else they give the best F1 here.
        crops: names of the classes that must not be hit.
        sprayer: that would drive over the images; None: nobody said.
        found: what was found, one per image in the dataset's order, labelled as the dataset.
        results: the same as COCO results.
        seconds: that the detector took for each image; empty: not timed.
        runs_on: by what, where and at which input size the detector ran, in words; empty: not said.
        notices: what the reader must know, one line each.

    """

    dataset: Dataset
    metrics: CocoMetrics
    grouped_by: str
    groups: tuple[str, ...]
    slice_by: str | None
    slices: dict[str, CocoMetrics]
    thresholds: NDArray[np.float32]
    own_thresholds: bool
    crops: tuple[str, ...]
    sprayer: Sprayer | None
    found: tuple[Detections, ...]
    results: list[dict[str, Any]]
    seconds: tuple[float, ...]
    runs_on: str
    notices: tuple[str, ...]

    @cached_property
    def resamples(self) -> NDArray[np.float64]:
        """How often each image is in each resample of the groups, float64 (B, P)."""
        return draw_groups(self.groups, RESAMPLES, _SEED)

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The headline numbers with their intervals, by name."""
        return intervals(self.metrics.matches, self.resamples)

    @cached_property
    def class_intervals(self) -> dict[str, Interval]:
        """AP50 of each class with its interval, by name."""
        return dict(zip(self.dataset.class_names, class_intervals(self.metrics.matches, self.resamples), strict=True))

    @cached_property
    def parts(self) -> tuple[Slice, ...]:
        """Every slice that the images' attributes make, the worst first."""
        return slices(self.dataset, self.metrics.matches, self.resamples, self.groups, key=self.slice_by)

    @cached_property
    def lost(self) -> LostAP:
        """What AP50 is lost to."""
        return lost_ap(self.dataset, self.found)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every box, and every detection at its class's threshold, once."""
        return tuple(pairs(self.dataset, self.found, self.thresholds))

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """What is taken for what at each class's threshold, int64 (C + 1, C + 1)."""
        return confusion_matrix(self.pairs, len(self.dataset.class_names))

    @cached_property
    def at_work(self) -> OperatingPoint:
        """What the thresholds give."""
        return operating_point(self.judged, self.thresholds, self.crops)

    @cached_property
    def counts(self) -> dict[str, Counted]:
        """How well each class is counted at its threshold, by name."""
        return counted(self.dataset, self.found, self.thresholds, self.sprayer.gsd_mm if self.sprayer else None)

    @cached_property
    def card(self) -> DatasetCard:
        """What the dataset holds."""
        return dataset_card(self.dataset)

    @cached_property
    def latency_ms(self) -> dict[str, float] | None:
        """How long the detector took for an image, from array to boxes; the first is left out. None: not timed."""
        if len(self.seconds) < 2:
            return None
        taken = 1000 * np.array(self.seconds[1:])
        ends = {f"p{share}": float(np.quantile(taken, share / 100)) for share in (50, 95, 99)}
        return {**ends, "max": float(taken.max())}

    @cached_property
    def sprayed(self) -> Sprayed | None:
        """What the sprayer would do at the thresholds."""
        if self.sprayer is None:
            return None
        return sprayed(self.dataset, self.found, self.thresholds, self.sprayer, self._crop_labels, self.resamples)

    @cached_property
    def sprayed_at_best(self) -> Sprayed | None:
        """What it would do if every plant were found, and nothing else: the rest is the nozzles' doing."""
        if self.sprayer is None:
            return None
        truth = perfect(self.dataset)
        return sprayed(self.dataset, truth, self.thresholds * 0, self.sprayer, self._crop_labels, self.resamples)

    @cached_property
    def trade_off(self) -> list[tuple[float, Sprayed]]:
        """The same for one threshold of all classes after another; empty without a sprayer."""
        if self.sprayer is None:
            return []
        return trade_off(self.dataset, self.found, self.sprayer, self._crop_labels, self.resamples)

    @property
    def _crop_labels(self) -> list[int]:
        return crop_labels(self.dataset.class_names, self.crops)

    @property
    def judged(self) -> Judged:
        """What thresholds are chosen and judged on."""
        return Judged(self.dataset, self.found, self.metrics.matches, self.resamples)


def load_detector(model: Path, provider: str | None = None) -> ImageDetector:
    """The detector of a run, a checkpoint or an .onnx, giving every box above the model's score floor.

    Args:
        model: the run or file.
        provider: for an .onnx, as `Detector` takes it; None is onnxruntime on the CPU.

    Raises:
        SwathError: not there, damaged or not Swath's; a provider that is not live, or given for a run.

    """
    if model.suffix == ".onnx":
        return Detector(model, providers=None if provider is None else [provider], score_thresholds=0.0)
    if provider is not None:
        raise SwathError(f"{model}: --provider is for an .onnx; a run computes in PyTorch")
    from detection.models.checkpoint import load_trained
    from detection.models.torch_detector import TorchDetector

    return TorchDetector.of(load_trained(model))


def own_thresholds(detector: ImageDetector) -> dict[str, float] | None:
    """The scores from which on a model file reports its classes, by name; a run has none yet."""
    if not isinstance(detector, Detector):
        return None
    told = detector.metadata
    return dict(zip(told.class_names, told.score_thresholds, strict=True))


def runs_on(detector: ImageDetector) -> str:
    """By what, where and at which size a detector runs, in words; empty: it does not say."""
    return str(getattr(detector, "runs_on", ""))


def input_size_hw(detector: ImageDetector, recipe: Recipe | None) -> tuple[int, int]:
    """Height and width of what the network sees: a model file's own, else its recipe's, else 512 x 512."""
    if isinstance(detector, Detector):
        return detector.metadata.input_size_hw
    return recipe.input.size_hw if recipe else (512, 512)


def _relabel(detector: ImageDetector, dataset: Dataset) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """For each class of the detector its label in the dataset (-1: none), and what must be said of it."""
    theirs = {name: label for label, name in enumerate(dataset.class_names)}
    mapping = np.array([theirs.get(name, -1) for name in detector.class_names], np.int64)
    if (mapping < 0).all():
        model_knows, dataset_has = ", ".join(detector.class_names), ", ".join(dataset.class_names)
        raise SwathError(f"{dataset.name}: has the classes {dataset_has}; the model knows only {model_knows}")
    notices = []
    unasked = [n for n, label in zip(detector.class_names, mapping, strict=True) if label < 0]
    if unasked:
        notices.append(f"the dataset has no class {', '.join(unasked)}: such detections are left out")
    unknown = [n for n in dataset.class_names if n not in detector.class_names]
    if unknown:
        notices.append(f"the model does not know the class {', '.join(unknown)}: every such box is missed")
    return mapping, tuple(notices)


def evaluate(
    detector: ImageDetector,
    dataset: Dataset,
    *,
    slice_by: str | None = None,
    group_by: str | None = None,
    thresholds: Mapping[str, float] | None = None,
    crops: Sequence[str] = (),
    sprayer: Sprayer | None = None,
    engine: Engine = "pycocotools",
    progress: Progress | None = None,
) -> Evaluation:
    """Run the detector over the dataset and score it with pycocotools.

    Args:
        detector: anything that takes an image.
        dataset: the truth; classes are matched by name.
        slice_by: an attribute of the images to score separately by.
        group_by: which images belong together (see `data.splits.groups`), for the intervals; None: the best key
            there is.
        thresholds: by the detector's class names, the scores from which on its detections count; None: those of
            the best F1 on these images, which flatter.
        crops: names of the classes that must not be hit; empty: the class `crop`, if there is one.
        sprayer: that would drive over the images.
        engine: who computes COCO's numbers.
        progress: called after each image.

    Raises:
        SwathError: no class in common, or no image has the attribute.
        DataError: an image cannot be read.

    """
    # what may be refused comes first: images take minutes
    mapping, notices = _relabel(detector, dataset)
    groups_of(dataset, group_by)
    if slice_by:
        _values(dataset, slice_by)
    crop_labels(dataset.class_names, crops)
    found: list[Detections] = []
    seconds = []
    for done, (_, image) in enumerate(dataset.read(), 1):
        began = time.perf_counter()
        seen = detector(image)
        seconds.append(time.perf_counter() - began)
        labels = mapping[seen.labels] if len(seen) else seen.labels
        found.append(Detections(seen.boxes_xyxy, seen.scores, labels)[labels >= 0])
        if progress:
            progress(done, len(dataset))
    return score(
        dataset,
        found,
        slice_by=slice_by,
        group_by=group_by,
        thresholds=thresholds,
        crops=crops,
        sprayer=sprayer,
        engine=engine,
        seconds=seconds,
        runs_on=runs_on(detector),
        notices=notices,
    )


def score(
    dataset: Dataset,
    found: Sequence[Detections],
    *,
    slice_by: str | None = None,
    group_by: str | None = None,
    thresholds: Mapping[str, float] | None = None,
    crops: Sequence[str] = (),
    sprayer: Sprayer | None = None,
    engine: Engine = "pycocotools",
    seconds: Sequence[float] = (),
    runs_on: str = "",
    notices: Sequence[str] = (),
) -> Evaluation:
    """Score what was found before.

    Args:
        dataset: the truth.
        found: detections, one for each image in its order, labelled as the dataset.
        slice_by: as `evaluate` takes it, and so all the following.
        group_by: for the intervals.
        thresholds: from which on a detection counts.
        crops: what must not be hit.
        sprayer: that would drive over the images.
        engine: who computes COCO's numbers.
        seconds: that the detector took for each image.
        runs_on: by what it ran, in words.
        notices: what the reader must know beside what the dataset itself says.

    Raises:
        SwathError: no image has the attribute, or there is no such class.

    """
    key, groups = groups_of(dataset, group_by)
    values = _values(dataset, slice_by) if slice_by else {}
    crop_labels(dataset.class_names, crops)
    results = coco_results(dataset, found)
    metrics = coco_metrics(dataset, results, engine)
    return Evaluation(
        dataset=dataset,
        metrics=metrics,
        grouped_by=key,
        groups=groups,
        slice_by=slice_by,
        slices={
            value: coco_metrics(
                part := dataset.subset(indices), coco_results(part, [found[i] for i in indices]), engine
            )
            for value, indices in values.items()
        },
        thresholds=usable_scores(metrics, dataset.class_names)
        if thresholds is None
        else np.array([thresholds.get(name, _NONE_COUNTS) for name in dataset.class_names], np.float32),
        own_thresholds=thresholds is not None,
        crops=tuple(crops),
        sprayer=sprayer,
        found=tuple(found),
        results=results,
        seconds=tuple(seconds),
        runs_on=runs_on,
        notices=(*dataset.notices, *notices, *_few(key, groups)),
    )


def groups_of(dataset: Dataset, key: str | None) -> tuple[str, tuple[str, ...]]:
    """The key that is used, and the group of each image; an image that it says nothing of is one of its own.

    Raises:
        DataError: no image has such a key.

    """
    key = key or best_key(dataset.images)
    groups = group_images(dataset.images, key)
    return key, tuple(group or f"image {p.image_id}" for group, p in zip(groups, dataset.images, strict=True))


def _few(key: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    count = len(set(groups))
    if count >= FEW_GROUPS or not groups:
        return ()
    return (f"the intervals stand on {count} groups of images (by {key}): with so few they are too narrow",)


def _values(dataset: Dataset, key: str) -> dict[str, list[int]]:
    """The images that share a value of an attribute, by value."""
    found: dict[str, list[int]] = {}
    for index, image in enumerate(dataset.images):
        if key in image.attributes:
            found.setdefault(image.attributes[key], []).append(index)
    if not found:
        known = sorted({k for p in dataset.images for k in p.attributes})
        raise SwathError(
            f"--slice-by {key}: no image of {dataset.name} has it; there are: {', '.join(known) or 'none'}"
        )
    return dict(sorted(found.items()))
