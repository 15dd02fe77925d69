"""YOLO `data.yaml` and label files, written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from data.dataset import Dataset
from data.files import write_whole


def save_yolo(parts: Mapping[str, Dataset], places: Mapping[str, Sequence[str]], home: Path) -> None:
    """Write datasets as one YOLO dataset: `data.yaml` and a label file for each image.

    Lines are `class cx cy w h`, fractions of the image with nine decimals: a corner is read back within
    0.0001 px on images of up to 60,000 px. Classes are numbered from 0 in the order of `class_names`, as
    YOLO trainers expect. A background image gets an empty label file. Crowd boxes, which YOLO cannot represent,
    are left out.

    Args:
        parts: split -> dataset; all with the same classes.
        places: for each split the paths of its images relative to `home`, in order: `images/<split>/...`.
        home: the dataset's folder; the images are there already.

    Raises:
        DataError: a file cannot be written.

    """
    for split, dataset in parts.items():
        for image, place in zip(dataset.images, places[split], strict=True):
            height, width = image.size_hw
            lines = []
            for box, label, crowd in zip(image.boxes_xyxy.tolist(), image.labels, image.iscrowd, strict=True):
                if not crowd:
                    x1, y1, x2, y2 = box
                    centre_x, centre_y = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
                    span = (centre_x, centre_y, (x2 - x1) / width, (y2 - y1) / height)
                    lines.append(f"{label} " + " ".join(f"{v:.9f}" for v in span) + "\n")
            write_whole(label_file(home / place), "".join(lines), sync=False)
    content: dict[str, object] = {split: f"images/{split}" for split in parts}
    content["names"] = dict(enumerate(next(iter(parts.values())).class_names))
    write_whole(home / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def label_file(file: Path) -> Path:
    """Where an image's labels stand: the last folder `images` of its path becomes `labels`; or beside it."""
    parts = list(file.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            swapped = Path(*parts[:index], "labels", *parts[index + 1 :]).with_suffix(".txt")
            beside = file.with_suffix(".txt")
            return beside if beside.is_file() and not swapped.is_file() else swapped
    return file.with_suffix(".txt")
