"""COCO entries of rendered images, and how they are written: completely or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.files import write_whole
from data.synthetic.plants import CLASS_NAMES
from data.synthetic.scene import View


def image_entry(
    image_id: int, file_name: str, view: View, attributes: Mapping[str, str], **more: int
) -> dict[str, Any]:
    """COCO's `images` entry of a view."""
    height, width = view.image.shape[:2]
    entry: dict[str, Any] = {"id": image_id, "file_name": file_name, "width": width, "height": height}
    return entry | more | {"attributes": dict(attributes)}


def annotation_entries(image_id: int, view: View) -> list[dict[str, Any]]:
    """COCO's `annotations` entries of a view, without their ids; `plant_id` names the plant."""
    entries = []
    for index, (x1, y1, x2, y2) in enumerate(view.boxes_xyxy.tolist()):
        entries.append(
            {
                "image_id": image_id,
                "category_id": int(view.labels[index]) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": float(view.areas_px[index]),
                "iscrowd": 0,
                "plant_id": int(view.plant_ids[index]),
            }
        )
    return entries


def write_annotations(
    path: Path, images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]], about: str
) -> None:
    """Write the COCO JSON atomically: a reader sees all of it or none."""
    content = {
        "info": {"description": about},
        "categories": [
            {"id": number, "name": name, "supercategory": "crop" if number == 1 else "weed"}
            for number, name in enumerate(CLASS_NAMES, start=1)
        ],
        "images": list(images),
        "annotations": [dict(entry) | {"id": number} for number, entry in enumerate(annotations, start=1)],
    }
    write_whole(path, json.dumps(content))
