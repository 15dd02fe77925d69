"""YOLO `data.yaml` and label files, written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from data.dataset import Dataset
from data.files import write_whole
from data.formats.yolo import label_file


def save_yolo(parts: Mapping[str, Dataset], places: Mapping[str, Sequence[str]], home: Path) -> None:
    """Write datasets as one YOLO dataset: `data.yaml` and a label file for each image.

    Lines are `class cx cy w h`, fractions of the image with nine decimals: a corner is read back within
    0.0001 px on images of up to 60,000 px. Classes are numbered from 0 in the order of `class_names`, as
    YOLO trainers want it. A background image gets an empty label file. Crowd boxes, which YOLO cannot mark,
    are left out.

    Args:
        parts: split -> dataset; all with the same classes.
        places: for each split the paths of its images relative to `images/<split>`, in order.
        home: the dataset's folder; the images are there already, in `images/<split>`.

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
            write_whole(label_file(home / "images" / split / place), "".join(lines), sync=False)
    content: dict[str, object] = {split: f"images/{split}" for split in parts}
    content["names"] = dict(enumerate(next(iter(parts.values())).class_names))
    write_whole(home / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
