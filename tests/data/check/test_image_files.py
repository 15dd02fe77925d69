"""What the check says of image files that are not read, or not all of which is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data.check import check, check_before_training, read_parts
from data.errors import DataError
from data.formats import load_dataset
from tests.data.decoding.files import png, tiff

SIZE_HW = (48, 64)


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    entries = [
        {"id": n, "file_name": name, "height": SIZE_HW[0], "width": SIZE_HW[1]}
        for n, name in enumerate(files, start=1)
    ]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 30, 30]} for n in range(1, len(files) + 1)]
    coco = {"images": entries, "annotations": boxes, "categories": [{"id": 1, "name": "weed"}]}
    (folder / "annotations.json").write_text(json.dumps(coco))
    return folder


def noise(bands: int, top: int = 256, seed: int = 0) -> np.ndarray:
    dtype = np.uint8 if top <= 256 else np.uint16
    return np.random.default_rng(seed).integers(0, top, (*SIZE_HW, bands)).astype(dtype)


def test_what_is_left_out_or_dark_is_a_warning_of_check_and_a_line_of_training(tmp_path: Path) -> None:
    files = {"a.tif": tiff(noise(4)), "b.png": png(noise(3, 16000, seed=1)), "c.png": png(noise(3, seed=2))}
    folder = written(tmp_path, files)
    found = {one.kind: one for one in check(read_parts(folder)).findings}
    assert (found["image-partly-read"].severity, found["image-partly-read"].count) == ("warning", 1)
    assert "4 bands" in found["image-partly-read"].examples[0].detail
    assert (found["image-dark"].severity, found["image-dark"].count) == ("warning", 1)
    lines = check_before_training(load_dataset(folder), None)
    assert [line.partition(":")[0] for line in lines] == ["image-dark", "image-partly-read"]
    assert "4 bands: the first three are read" in lines[1]


def test_a_dataset_of_which_nothing_can_be_read_is_one_fault(tmp_path: Path) -> None:
    folder = written(tmp_path, {f"{n}.tif": tiff(noise(5, seed=n)) for n in range(2)})
    parts = read_parts(folder)
    assert len(parts) == 1  # not each of its parts once more
    report = check(parts)
    (error,) = (one for one in report.findings if one.severity == "error")
    assert (error.kind, error.count) == ("image-unreadable", 2)
    assert "5 bands of 8-bit numbers" in error.examples[0].detail


def test_training_refuses_what_would_be_black(tmp_path: Path) -> None:
    folder = written(tmp_path, {f"{n}.png": png(noise(3, 4096, seed=n)) for n in range(2)})
    with pytest.raises(DataError, match=r"image-unreadable: train: 2 images.*16 bits a channel .* nearly black"):
        check_before_training(load_dataset(folder), None)


def test_a_heic_in_a_folder_is_named_and_its_labels_are_an_error(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    (tmp_path / "data.yaml").write_text("train: images\nnames: [weed]\n")
    for name, content in (
        ("a.png", png(noise(3))),
        ("b.HEIC", b"heic"),
        ("c.png", png(noise(3, seed=1))),
        ("c.NEF", b""),
    ):
        (tmp_path / "images" / name).write_bytes(content)
    for name in "abc":
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    found = {one.kind: one for one in check(read_parts(tmp_path)).findings}
    foreign = found["image-foreign"]
    assert (foreign.severity, foreign.count, foreign.examples[0].where) == ("warning", 1, "b.HEIC")
    assert "HEIC" in foreign.examples[0].detail and "convert to JPEG" in foreign.examples[0].detail
    assert found["label-unused"].severity == "error" and found["label-unused"].count == 1
    assert any("b.HEIC" in line for line in load_dataset(tmp_path).notices)
