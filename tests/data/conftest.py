from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


@pytest.fixture
def write_image() -> Callable[..., NDArray[np.uint8]]:
    """Writes a seeded random image; returns its pixels, BGR."""

    def write(path: Path, size_hw: tuple[int, int] = (40, 60), seed: int = 0) -> NDArray[np.uint8]:
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8)
        path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())  # OpenCV takes no path that is not UTF-8
        return image

    return write


@pytest.fixture
def write_oriented() -> Callable[..., None]:
    """Writes a JPEG with an EXIF orientation; `image` is what is stored, RGB."""

    def write(path: Path, image: NDArray[np.uint8], orientation: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(image).save(path, exif=exif, quality=95, subsampling=0)

    return write


@pytest.fixture
def coco_file(tmp_path: Path, write_image: Callable[..., Any]) -> Callable[..., Path]:
    """Writes a COCO JSON of one 60 x 40 image `a.png` (id 7), one box, gaps in ids."""

    def make(**changes: Any) -> Path:
        write_image(tmp_path / "a.png")
        content: dict[str, Any] = {
            "images": [{"id": 7, "file_name": "a.png", "width": 60, "height": 40}],
            "annotations": [
                {
                    "id": 1,
                    "image_id": 7,
                    "category_id": 5,
                    "bbox": [10, 5, 20, 15],
                    "area": 123.5,
                    "iscrowd": 0,
                }
            ],
            "categories": [{"id": 5, "name": "weed"}, {"id": 2, "name": "crop"}],
        }
        content.update(changes)
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content))
        return path

    return make
