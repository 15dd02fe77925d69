"""Visualisations of a training: detections beside the ground truth, and batches as the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data import Dataset
from data.loading.loader import Batch
from detection.evaluation.matching import match_detections
from detection.models.checkpoint import save_batch, write_whole
from detection.runtime.detections import Detections
from detection.runtime.draw import annotate

_WIDTH_PX = 640  # of an image in the grid
_GAP_PX = 6
_GREY = 60
_WHITE, _BLACK = (255, 255, 255), (20, 20, 20)


def fixed_images(dataset: Dataset, count: int = 4) -> list[int]:
    """Indices of the images that a run visualises: at most `count`, the same at each validation.

    They are chosen one after the other, each with the classes that the ones before it show least.
    """
    shown = np.zeros(len(dataset.class_names))
    classes = [np.unique(image.labels) for image in dataset.images]
    chosen: list[int] = []
    while len(chosen) < min(count, len(dataset)):
        left = [i for i in range(len(dataset)) if i not in chosen]
        best = max(left, key=lambda i: (float((1 / (1 + shown[classes[i]])).sum()), -i))
        chosen.append(best)
        shown[classes[best]] += 1
    return sorted(chosen)


def draw_detections(
    dataset: Dataset,
    indices: Sequence[int],
    found: Sequence[Detections],
    thresholds: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Some images side by side, with the detections drawn over the ground truth.

    Ground truth is dashed and white; detections are solid, in the colour of their class and with their score: line
    style and brightness tell them apart, for every kind of colour vision. A label names each box that was missed.

    Args:
        dataset: images and ground truth.
        indices: which of its images.
        found: detections in all its images, with the dataset's labels.
        thresholds: float32 (C,), for each class the lowest score that is drawn.

    Returns:
        uint8 (H, W, 3) BGR.

    Raises:
        DataError: an image cannot be read.

    """
    cells = []
    for index in indices:
        image = dataset.images[index]
        pixels = image.read()
        scale = _WIDTH_PX / pixels.shape[1]
        shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        pixels = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=shrinks), np.uint8)
        wanted = ~image.iscrowd
        truth, labels = image.boxes_xyxy[wanted], image.labels[wanted]
        matched = match_detections(truth, labels, found[index], thresholds)
        kept = matched.kept
        missed = ~matched.found
        scaled = Detections(kept.boxes_xyxy * scale, kept.scores, kept.labels)
        pixels = annotate(pixels, scaled, dataset.class_names, truth_xyxy=truth * scale)
        for box, label in zip(truth[missed] * scale, labels[missed], strict=True):
            _label_below(pixels, box, f"missed {dataset.class_names[label]}")
        cells.append(pixels)
    legend = "dashed white: ground truth    solid: detections with their scores"
    return grid(cells, columns=2 if len(cells) > 1 else 1, caption=legend)


def draw_labels(
    images_bgr: Sequence[NDArray[np.uint8]],
    boxes_xyxy: Sequence[NDArray[np.float32]],
    labels: Sequence[NDArray[np.int64]],
    class_names: Sequence[str],
    *,
    caption: str = "",
) -> NDArray[np.uint8]:
    """Images with their boxes, in a grid that is about square: uint8 (H, W, 3) BGR.

    Args:
        images_bgr: uint8 (h, w, 3) each.
        boxes_xyxy: float32 (n, 4) for each image, in its pixels.
        labels: int64 (n,) for each image.
        class_names: by label.
        caption: a line above them.

    """
    cells = []
    for image, boxes, its_labels in zip(images_bgr, boxes_xyxy, labels, strict=True):
        shown = Detections(boxes, np.ones(len(boxes), np.float32), its_labels)
        cells.append(annotate(image, shown, class_names, scores=False))
    return grid(cells, columns=int(np.ceil(np.sqrt(len(cells)))), caption=caption)


def grid(images_bgr: Sequence[NDArray[np.uint8]], *, columns: int, caption: str = "") -> NDArray[np.uint8]:
    """Images of any sizes in rows of `columns` on grey, with a caption above them: uint8 (H, W, 3) BGR."""
    cell_h = max(image.shape[0] for image in images_bgr) + _GAP_PX
    cell_w = max(image.shape[1] for image in images_bgr) + _GAP_PX
    rows = -(-len(images_bgr) // columns)
    top = 34 if caption else _GAP_PX
    sheet = np.full((top + rows * cell_h, _GAP_PX + columns * cell_w, 3), _GREY, np.uint8)
    for number, image in enumerate(images_bgr):
        y, x = top + number // columns * cell_h, _GAP_PX + number % columns * cell_w
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    if caption:
        cv2.putText(sheet, caption, (_GAP_PX + 4, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.55, _WHITE, 1, cv2.LINE_AA)
    return sheet


def write_png(image_bgr: NDArray[np.uint8]) -> bytes:
    """An image uint8 (H, W, 3) BGR as a PNG file's bytes."""
    return cv2.imencode(".png", image_bgr)[1].tobytes()


def write_batch(path: Path, batch: Batch, class_names: Sequence[str]) -> None:
    """Write a batch as tensors to `path`, and its images with their boxes beside it, with the suffix .png."""
    save_batch(path, batch.images, batch.targets)
    images_bgr = [image.permute(1, 2, 0).numpy()[..., ::-1].copy() for image in batch.images]
    boxes = [target["boxes"].numpy() for target in batch.targets]
    image_bgr = draw_labels(images_bgr, boxes, [target["labels"].numpy() for target in batch.targets], class_names)
    write_whole(path.with_suffix(".png"), lambda file: file.write_bytes(write_png(image_bgr)))


def _label_below(image: NDArray[np.uint8], box_xyxy: NDArray[np.float32], text: str) -> None:
    """Draw black on white at the lower left corner of a box; the labels of detections are at the upper one."""
    (width, height), baseline = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    x = min(max(0, round(float(box_xyxy[0]))), max(0, image.shape[1] - width - 6))
    y = min(max(0, round(float(box_xyxy[3]))), image.shape[0] - height - baseline - 4)
    cv2.rectangle(image, (x, y), (x + width + 6, y + height + baseline + 4), _WHITE, cv2.FILLED)
    cv2.putText(image, text, (x + 3, y + height + 3), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _BLACK, 1, cv2.LINE_AA)
