from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data import Dataset, LabelledImage
from data.images import read_image_at
from data.loading.cache import CacheOptions, DiskCache
from data.loading.loader import Batch, LoadingOptions, training_batches
from data.loading.sampling import SamplingOptions
from data.loading.tiles import TileSettings, tile_dataset

INPUT_HW = (48, 48)


def fit(image, boxes):
    height, width = image.shape[:2]
    scale = np.array([INPUT_HW[1] / width, INPUT_HW[0] / height] * 2, np.float32)
    return cv2.cvtColor(cv2.resize(image, INPUT_HW[::-1]), cv2.COLOR_BGR2RGB), boxes * scale


@pytest.fixture
def tiled(tmp_path, write_image) -> Dataset:
    """Two photos of 112 x 96 as four tiles of 64 each; one box in the first tile of each."""
    images = []
    for number in range(2):
        path = tmp_path / f"{number}.png"
        write_image(path, (96, 112), seed=number)
        box = np.array([[4, 8, 36, 40]], np.float32)
        images.append(LabelledImage(number, path, (96, 112), box, np.array([number]), np.ones(1), np.zeros(1, bool)))
    photos = Dataset("photos", ("crop", "weed"), (0, 1), tuple(images))
    return tile_dataset(photos, TileSettings(size_px=64, overlap=0.25))[0]


def batches(dataset, *, augment=None, workers=0, cache="ram", cache_mb=1024, **changes) -> list[Batch]:
    sampling = SamplingOptions(**{"batch_size": 4, "seed": 1, "steps": 6, **changes})
    loading = LoadingOptions(workers=workers, cache=CacheOptions(cache, cache_mb))
    return list(training_batches(dataset, sampling, fit=fit, augment=augment, loading=loading))


def same(one: list[Batch], other: list[Batch]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return bool(pairs) and all(
        a.indices == b.indices
        and torch.equal(a.images, b.images)
        and all(torch.equal(s["boxes"], t["boxes"]) for s, t in zip(a.targets, b.targets, strict=True))
        for a, b in pairs
    )


@pytest.fixture
def decoded(monkeypatch) -> Counter[Path]:
    """How often each photo was decoded."""
    reads: Counter[Path] = Counter()

    def counted(path, size_hw, wanted_hw):
        reads[path] += 1
        return read_image_at(path, size_hw, wanted_hw)

    monkeypatch.setattr("data.loading.samples.read_image_at", counted)
    return reads


def test_each_tile_is_seen_with_its_own_pixels_and_boxes(tiled):
    assert len(tiled) == 8
    (batch,) = batches(tiled, batch_size=8, steps=1)
    assert sorted(batch.indices) == list(range(8))
    for index, image, target in zip(batch.indices, batch.images, batch.targets, strict=True):
        tile = tiled.images[index]
        expected, boxes = fit(tile.read(), tile.boxes_xyxy)
        assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)
        assert target["boxes"].tolist() == boxes.tolist()
    assert {i: t["boxes"].tolist() for i, t in zip(batch.indices, batch.targets, strict=True)}[4] == [[3, 6, 27, 30]]


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_a_photo_is_decoded_once_for_all_of_its_tiles(cache, tiled, decoded, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plain = batches(tiled, cache="none")
    assert sum(decoded.values()) == 24  # without a cache, once for each tile of each epoch
    decoded.clear()
    assert same(plain, batches(tiled, cache=cache))
    assert list(decoded.values()) == [1, 1]
    decoded.clear()
    assert same(plain, batches(tiled, cache=cache))
    assert sum(decoded.values()) == (0 if cache == "disk" else 2)  # the next run finds the files


def test_with_room_for_some_tiles_only_the_batches_stay_the_same(tiled, decoded, monkeypatch):
    plain = batches(tiled, cache="none")
    decoded.clear()
    monkeypatch.setattr("data.loading.cache._MIB", 64 * 64 * 3)
    assert same(plain, batches(tiled, cache="ram", cache_mb=3))
    assert 3 < sum(decoded.values()) < 24


def test_any_number_of_workers_gives_the_same_batches(tiled):
    assert same(batches(tiled), batches(tiled, workers=2))


def test_the_disk_cache_tells_tiles_of_one_photo_apart(tiled, tmp_path):
    paths = [p.path for p in tiled.images]
    sizes, windows = [p.size_hw for p in tiled.images], [p.window for p in tiled.images]
    cache = DiskCache(tmp_path / "cache", paths, sizes, 1 << 20, windows)
    for index, image in enumerate(tiled.images):
        cache.put(index, image.read())
    for index, image in enumerate(tiled.images):
        assert np.array_equal(cache.get(index), image.read())
    assert len(list((tmp_path / "cache").iterdir())) == 8


def test_effects_measured_on_the_ground_know_how_far_a_tile_was_shrunk(tiled):
    """`photo_px`: pixels of the photo for each pixel worked on, by which motion blur is scaled."""
    seen = []

    def augment(image, boxes, labels, *, seed, other, photo_px, mixed):
        seen.append(photo_px)
        return image, boxes, labels

    batches(tiled, augment=augment, steps=1, batch_size=8)
    assert seen == [1.0] * 8
    seen.clear()
    photos = Dataset(
        "photos",
        ("crop", "weed"),
        (0, 1),
        (
            LabelledImage(
                1,
                tiled.images[0].path,
                (96, 112),
                np.zeros((0, 4)),
                np.zeros(0, int),
                np.zeros(0),
                np.zeros(0, bool),
            ),
        ),
    )
    shrunk, _ = tile_dataset(photos, TileSettings(size_px=32, overlap=0, tile_m=0.096, gsd_mm=1.0))
    batches(shrunk, augment=augment, steps=1, batch_size=2)
    assert seen == pytest.approx([3.0, 3.0])
