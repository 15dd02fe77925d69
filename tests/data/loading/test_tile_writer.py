from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from data import DataError, load_dataset
from data.loading.tile_writer import write_tiles
from data.loading.tiles import TileSettings, tile_dataset
from data.splits.groups import group_images
from tests.data.loading.photos import dataset, image


@pytest.mark.parametrize("format", ["auto", "png", "jpg"])
def test_written_tiles_are_a_dataset(format, photo, tmp_path):
    smooth = np.add.outer(np.arange(100), np.arange(200)).astype(np.uint8)[..., None].repeat(3, 2) // 2
    cv2.imwrite(str(photo.path), smooth)
    told: list[tuple[int, int]] = []
    tiled, _ = tile_dataset(dataset(photo), TileSettings(size_px=100, overlap=0.5))
    write_tiles(tiled, tmp_path / "out", format=format, progress=lambda *at: told.append(at))
    assert told == [(1, 3), (2, 3), (3, 3)]
    read = load_dataset(tmp_path / "out")
    assert (read.class_names, read.category_ids) == (tiled.class_names, tiled.category_ids)
    suffix = {"auto": "png"}.get(format, format)
    assert [p.path.name for p in read.images] == [f"DSC_0001_{x}_0_{x + 100}_100.{suffix}" for x in (0, 50, 100)]
    for tile, copy in zip(tiled.images, read.images, strict=True):
        assert np.array_equal(tile.boxes_xyxy, copy.boxes_xyxy) and np.array_equal(tile.labels, copy.labels)
        assert np.array_equal(tile.truncated, copy.truncated) and tile.attributes == copy.attributes
        difference = np.abs(tile.read().astype(int) - copy.read())
        assert difference.max() <= (8 if suffix == "jpg" else 0)
    assert set(group_images(read.images, "photo")) == {"DSC_0001.png"}
    bare = [replace(p, attributes={}) for p in read.images]
    assert len(set(group_images(bare, "photo"))) == 1  # from the names alone


def test_tiles_of_jpegs_are_jpegs_and_names_never_collide(tmp_path):
    images = []
    for number, day in enumerate(("monday", "tuesday")):
        (tmp_path / day).mkdir()
        cv2.imwrite(str(tmp_path / day / "a.JPG"), np.full((40, 60, 3), 90 + 50 * number, np.uint8))
        images.append(image(tmp_path / day / "a.JPG", (40, 60), image_id=number))
    tiled, _ = tile_dataset(dataset(*images), TileSettings(size_px=64))
    write_tiles(tiled, tmp_path / "out")
    read = load_dataset(tmp_path / "out")
    assert [p.path.name for p in read.images] == ["a_0_0_60_40.jpg", "2_a_0_0_60_40.jpg"]
    assert [int(p.read().mean()) for p in read.images] == [90, 140]


def test_nothing_is_left_when_it_is_interrupted_or_a_photo_is_broken(photo, tmp_path):
    tiled, _ = tile_dataset(dataset(photo), TileSettings(size_px=100))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tiles(tiled, tmp_path / "out", progress=interrupt)
    photo.path.write_bytes(photo.path.read_bytes()[:200])
    with pytest.raises(DataError, match="DSC_0001.png: the image is cut short"):
        write_tiles(tiled, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["DSC_0001.png"]
    with pytest.raises(DataError, match="is there already"):
        write_tiles(tiled, tmp_path)
