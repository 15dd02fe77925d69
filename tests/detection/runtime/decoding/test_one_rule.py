"""Both halves see the same pixels: every format, depth, number of bands and orientation, wherever images are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import data
from data.check.signature import image_signatures
from data.dataset import Dataset
from data.errors import DataError
from data.loading.preview import _labelled
from data.loading.samples import Samples
from data.loading.sampling import SampleKey
from detection.runtime.cameras.sources import open_source
from detection.runtime.errors import SourceError
from tests.data.decoding.files import by_pillow, plain_bgr, png, tiff, turned

SIZE_HW = (24, 40)
ORIENTATIONS = range(1, 9)
DEPTHS: dict[str, tuple[Any, float]] = {
    "8": (np.uint8, 256),
    "16": (np.uint16, 65536),
    "12 in 16": (np.uint16, 4096),
    "float": (np.float32, 1),
}
WRITERS: dict[str, tuple[str, Callable[..., bytes], dict[str, tuple[int, ...]]]] = {
    "jpeg": (".jpg", lambda a, o: by_pillow("JPEG", a, o), {"8": (1, 3, 4)}),
    "png": (".png", png, {"8": (1, 2, 3, 4), "16": (1, 2, 3, 4), "12 in 16": (1, 3)}),
    "tiff": (".tif", tiff, dict.fromkeys(DEPTHS, (1, 2, 3, 4, 5))),
    "tiff, big-endian": (".tiff", lambda a, o: tiff(a, o, order=">"), {"8": (3,), "16": (1, 3)}),
    "tiff, deflate": (".tif", lambda a, o: tiff(a, o, compression=8), {"8": (3,), "16": (3,)}),
    "tiff, planes": (".tif", lambda a, o: tiff(a, o, planar=2), {"8": (3, 4), "16": (3,)}),
    "tiff, transparent": (".tif", lambda a, o: tiff(a, o, extra=(2,)), {"8": (2, 4), "16": (4,)}),
    "bmp": (".bmp", lambda a, o: by_pillow("BMP", a), {"8": (1, 3, 4)}),
    "webp": (".webp", lambda a, o: by_pillow("WEBP", a, o), {"8": (3, 4)}),
}
CASES = [(w, depth, n) for w, (_, _, depths) in WRITERS.items() for depth, bands in depths.items() for n in bands]


def refusal(kind: str, depth: str, bands: int) -> str | None:
    """What must be said where it is not read."""
    if depth == "float":
        return f"{bands} bands? of 32-bit floating-point numbers"
    if bands == 5:
        return "5 bands of (8|16)-bit numbers"
    if kind.startswith("tiff") and depth != "8" and (bands == 2 or "planes" in kind):
        return f"{bands} bands of 16-bit numbers"
    return "16 bits a channel of which the brightest is .* nearly black" if depth == "12 in 16" else None


def wanted_bgr(kind: str, stored: np.ndarray, orientation: int) -> np.ndarray:
    """What must be read, from the rule in docs/reference/images.md."""
    if kind == "jpeg":
        return turned(plain_bgr(by_pillow("JPEG", stored)), orientation)
    eight = stored if stored.dtype == np.uint8 else (stored // 256).astype(np.uint8)
    bgr = np.repeat(eight[..., :1], 3, axis=2) if stored.shape[2] < 3 else eight[..., 2::-1]
    return turned(bgr, 1 if kind == "bmp" else orientation)


def write(folder: Path, kind: str, depth: str, bands: int) -> list[np.ndarray]:
    """A dataset of one image for each orientation; what must be read of them."""
    suffix, writes, _ = WRITERS[kind]
    dtype, top = DEPTHS[depth]
    wanted = []
    for orientation in ORIENTATIONS:
        stored = (np.random.default_rng(orientation).random((*SIZE_HW, bands)) * top).astype(dtype)
        (folder / f"{orientation}{suffix}").write_bytes(writes(stored, orientation))
        wanted.append(wanted_bgr(kind, stored, orientation))
    entries = [
        {"id": n, "file_name": f"{n}{suffix}", "height": image.shape[0], "width": image.shape[1]}
        for n, image in enumerate(wanted, start=1)
    ]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [2, 3, 10, 8]} for n in ORIENTATIONS]
    coco = {"images": entries, "annotations": boxes, "categories": [{"id": 1, "name": "weed"}]}
    (folder / "annotations.json").write_text(json.dumps(coco))
    return wanted


def everywhere(dataset: Dataset, index: int) -> dict[str, np.ndarray]:
    """An image as the training loader, evaluation and the preview see it."""
    image = dataset.images[index]
    sizes = [one.size_hw for one in dataset.images]
    samples = Samples(dataset, sizes, cache=None, fit=lambda i, b: (i, b), augment=None, seed=0)
    sample = samples[SampleKey(0, index)]
    if isinstance(sample, DataError):
        raise sample
    ((_, evaluated),) = dataset.subset([index]).read()
    return {
        "loader": sample[1],
        "evaluation": evaluated,
        "preview": _labelled(dataset, index)[0],
        "one": image.read(),
    }


@pytest.mark.parametrize(("kind", "depth", "bands"), CASES)
def test_the_same_pixels_or_the_same_refusal(kind: str, depth: str, bands: int, tmp_path: Path, caplog: Any) -> None:
    wanted, said = write(tmp_path, kind, depth, bands), refusal(kind, depth, bands)
    if said is None:
        dataset = data.load_dataset(tmp_path)
        for index, expected in enumerate(wanted):
            for where, found in everywhere(dataset, index).items():
                assert np.array_equal(found, expected), (where, index + 1)
        digests = [hashlib.sha256(np.array(w.shape, "<i8").tobytes() + w.tobytes()).digest() for w in wanted]
        assert [one.digest for one in image_signatures(dataset.images, keypoints=False)] == digests
        with open_source(tmp_path) as source:
            frames = [frame.image for frame in source]
        assert len(frames) == 8
        assert all(np.array_equal(found, expected) for found, expected in zip(frames, wanted, strict=True))
        return
    with pytest.raises(DataError, match=said):
        everywhere(data.load_dataset(tmp_path), 0)
    with open_source(tmp_path) as source, pytest.raises(SourceError, match=said):
        list(source)
    assert source.unreadable == 8 and len(caplog.records) == 8


def test_the_rule_stands_twice_and_is_one() -> None:
    home = Path(data.__file__).parents[1]
    files = sorted(file.name for file in (home / "data" / "decoding").glob("*.py"))
    assert len(files) == 5
    assert files == sorted(file.name for file in (home / "detection" / "runtime" / "decoding").glob("*.py"))
    for name in files:
        training = (home / "data" / "decoding" / name).read_text()
        robot = (home / "detection" / "runtime" / "decoding" / name).read_text()
        assert robot == training.replace("from data.decoding", "from detection.runtime.decoding"), name
