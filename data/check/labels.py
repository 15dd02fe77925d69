"""Findings and histograms of boxes and classes; no image is opened."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.check.findings import KINDS, Example, Finding, finding
from data.dataset import Dataset
from data.formats.classes import similar_classes
from data.formats.repair import Noted

STRIDE_PX = 8
"""The finest stride of the detectors: a smaller box at the network's input is hardly learned."""

MOST_BOXES = 100
"""The most boxes of an image that a detector gives by default, and that COCO scores of a class."""

SIDE_EDGES_PX = (0, 4, 8, 16, 32, 64, 128, 256, 512)
BOXES_EDGES = (0, 1, 2, 5, 10, 20, 50, 100)
ASPECT_EDGES = (0.0, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0)

_RARE = 20  # a class with so many times fewer boxes than the most frequent one


def noted_findings(part: str, noted: Sequence[Noted]) -> list[Finding]:
    """What the reader noted, one finding for each kind; for each line, where a kind says no more."""
    by_kind: defaultdict[tuple[str, str | None], list[Noted]] = defaultdict(list)
    for one in noted:
        kind = one.kind if one.kind in KINDS else "label-malformed"
        by_kind[kind, one.line if kind == "notice" else None].append(one)
    return [
        finding(
            kind,
            part,
            [Example(one.where, one.line if line is None else "", one.box_xyxy) for one in some],
            count=sum(one.count for one in some),
            message=line,
        )
        for (kind, line), some in by_kind.items()
    ]


def label_findings(part: str, dataset: Dataset, size_hw: tuple[int, int]) -> list[Finding]:
    """Boxes too small for the network, classes unused or rare, gaps in class ids, background."""
    found: list[Finding] = []
    small = [
        (float(side), Example(str(p.path), f"{side:.1f} px at {size_hw[1]} x {size_hw[0]}", _corners(box)))
        for p, sides in zip(dataset.images, sides_at_input(dataset, size_hw), strict=True)
        for box, side in zip(p.boxes_xyxy, sides.min(axis=1, initial=np.inf), strict=True)
        if side < STRIDE_PX
    ]
    if small:
        small.sort(key=lambda one: one[0])
        text = f"boxes thinner than {STRIDE_PX} px, the network's finest grid, at {size_hw[1]} x {size_hw[0]}"
        found.append(finding("box-below-stride", part, [example for _, example in small], message=text))
    crowded = [
        (count, Example(str(p.path), f"{count} boxes"))
        for p in dataset.images
        if (count := int((~p.iscrowd).sum())) > MOST_BOXES
    ]
    if crowded:
        crowded.sort(key=lambda one: -one[0])
        found.append(finding("boxes-above-cap", part, [example for _, example in crowded]))
    boxes = boxes_of_classes(dataset)
    unused = [Example(name) for name, count in boxes.items() if not count]
    if unused:
        found.append(finding("class-unused", part, unused))
    most = max(boxes.values(), default=0)
    rare = [Example(name, f"{count} of {most}") for name, count in boxes.items() if 0 < count * _RARE < most]
    if rare:
        text = f"classes with {_RARE} times fewer boxes than the most frequent one"
        found.append(finding("class-imbalance", part, rare, message=text))
    ids = dataset.category_ids
    gaps = sorted(set(range(min(ids), max(ids))) - set(ids)) if ids and max(ids) < 100_000 else []
    if gaps:
        found.append(finding("class-id-gap", part, [Example(str(gap)) for gap in gaps]))
    empty = [Example(str(p.path)) for p in dataset.images if not len(p.boxes_xyxy)]
    if empty:
        found.append(finding("background", part, empty))
    return found


def class_findings(parts: Mapping[str, Dataset]) -> list[Finding]:
    """Classes that only some of the parts know or use, and those that are probably one."""
    names = dict.fromkeys(name for dataset in parts.values() for name in dataset.class_names)
    alike = [Example(some[0], ", ".join(some)) for some in similar_classes(names)]
    similar = [finding("class-similar", " / ".join(parts), alike)] if alike else []
    if len(parts) < 2:
        return similar
    boxes = {name: boxes_of_classes(dataset) for name, dataset in parts.items()}
    where = " / ".join(parts)
    if not set.intersection(*(set(one) for one in boxes.values())):
        return [
            *similar,
            finding("no-common-class", where, [Example(name, ", ".join(one)) for name, one in boxes.items()]),
        ]
    lonely = []
    for class_name in dict.fromkeys(name for one in boxes.values() for name in one):
        using = [name for name, one in boxes.items() if one.get(class_name)]
        if using and len(using) < len(boxes):
            lacking = [name for name in boxes if name not in using]
            lonely.append(Example(class_name, f"in {', '.join(using)}, not in {', '.join(lacking)}"))
    return [*similar, *([finding("class-in-one-split", where, lonely)] if lonely else [])]


def boxes_of_classes(dataset: Dataset) -> dict[str, int]:
    """Class name -> number of boxes."""
    count = Counter(int(label) for image in dataset.images for label in image.labels)
    return {name: count[label] for label, name in enumerate(dataset.class_names)}


def sides_at_input(dataset: Dataset, size_hw: tuple[int, int]) -> list[NDArray[np.float64]]:
    """Width and height of each image's boxes, (N, 2), in pixels of the network's input (letterboxed)."""
    sides = []
    for image in dataset.images:
        scale = min(size_hw[0] / image.size_hw[0], size_hw[1] / image.size_hw[1])
        sides.append((image.boxes_xyxy[:, 2:] - image.boxes_xyxy[:, :2]).astype(np.float64) * scale)
    return sides


def numbers(dataset: Dataset, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Counts and histograms of a part.

    `box_side_px`: square root of the area at the network's input; `box_aspect`: width over height. Each counts
    the boxes from one edge up to the next, the last one everything above.
    """
    sides = np.concatenate([np.zeros((0, 2)), *sides_at_input(dataset, size_hw)])
    return {
        "source": dataset.name,
        "images": len(dataset),
        "boxes": dataset.box_count,
        "classes": boxes_of_classes(dataset),
        "box_side_px": _histogram(np.sqrt(sides.prod(axis=1)), SIDE_EDGES_PX),
        "box_aspect": _histogram(sides[:, 0] / np.maximum(sides[:, 1], 1e-9), ASPECT_EDGES),
        "boxes_per_image": _histogram(
            np.array([len(p.boxes_xyxy) for p in dataset.images], np.float64), BOXES_EDGES, whole=True
        ),
    }


def _histogram(values: NDArray[np.float64], edges: Sequence[float], *, whole: bool = False) -> dict[str, int]:
    counts, _ = np.histogram(values, bins=[*edges, np.inf])
    spans = [(low, high - whole) for low, high in zip(edges, edges[1:], strict=False)]
    names = [f"{low:g}" if low == high else f"{low:g}-{high:g}" for low, high in spans] + [f"{edges[-1]:g}+"]
    return dict(zip(names, map(int, counts), strict=True))


def _corners(box: NDArray[np.float32]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(v) for v in box)
    return x1, y1, x2, y2
