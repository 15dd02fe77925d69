"""`RelabelWriter`: images to be relabelled, as COCO datasets with the detector's boxes as a start."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from detection.runtime.blackbox.folder import BoundedFolder
from detection.runtime.blackbox.ring import encoded
from detection.runtime.blackbox.uncertain import LowThresholdDetections
from detection.runtime.detections import Frame

KIND = "relabel"
ANNOTATIONS = "annotations.json"
IMAGES_PER_PART = 200
"""Images per part: one labelling job."""


class RelabelWriter:
    """Writes COCO datasets, one per part: `annotations.json` and `images/`, complete after every image.

    Annotations carry `score`, so a labelling tool can show and sort by it; boxes below the detector's threshold
    are included. A part holds at most 200 images, of one set of class names.

    Args:
        disk: takes the files.

    Attributes:
        images: written, over all parts.

    """

    def __init__(self, disk: BoundedFolder) -> None:
        self._disk = disk
        self.images = 0
        self._part: Path | None = None
        self._class_names: tuple[str, ...] = ()
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def write(self, frame: Frame, seen: LowThresholdDetections) -> bool:
        """Add an image; False where it was lost."""
        part = self._part
        if part is not None and self._images and not (part / ANNOTATIONS).exists():
            part = None  # it was the oldest, and was deleted for newer ones
        if part is None or seen.class_names != self._class_names or len(self._images) >= IMAGES_PER_PART:
            part = self._part = self._disk.new_part(KIND)
            self._class_names, self._images, self._annotations = seen.class_names, [], []
        image_id = len(self._images) + 1
        safe = re.sub(r"[^\w.-]+", "_", frame.camera)
        name = f"images/{safe}-{image_id:03d}.jpg"
        if not self._disk.write(part, name, encoded(frame.image, ".jpg")):
            return False
        images, annotations = self._entries(frame, seen, image_id, name)
        if not self._write_json(part, images, annotations):
            self._disk.discard(part, name)
            return False
        self._images, self._annotations = images, annotations
        self.images += 1
        return True

    def _entries(
        self, frame: Frame, seen: LowThresholdDetections, image_id: int, name: str
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        captured_s = time.time() - (time.monotonic_ns() - frame.captured_ns) / 1e9
        image = {
            "id": image_id,
            "file_name": name,
            "width": frame.image.shape[1],
            "height": frame.image.shape[0],
            "date_captured": datetime.fromtimestamp(captured_s, UTC).isoformat(timespec="milliseconds"),
            "attributes": {"camera": frame.camera},
        }
        found = seen.detections
        new = []
        rows = zip(found.boxes_xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        for place, ((x1, y1, x2, y2), score, label) in enumerate(rows):
            width, height = round(x2 - x1, 2), round(y2 - y1, 2)
            new.append(
                {
                    "id": len(self._annotations) + place + 1,
                    "image_id": image_id,
                    "category_id": label + 1,
                    "bbox": [round(x1, 2), round(y1, 2), width, height],
                    "area": round(width * height, 2),
                    "iscrowd": 0,
                    "score": round(score, 4),
                }
            )
        return [*self._images, image], [*self._annotations, *new]

    def _write_json(self, part: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> bool:
        content = {
            "info": {"description": "uncertain images of a stream; the boxes are the detector's, to be corrected"},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(self._class_names)],
        }
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return self._disk.write(part, ANNOTATIONS, text.encode() + b"\n")
