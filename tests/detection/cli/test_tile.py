"""`swath data tile`, and tiles in a recipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from data import load_dataset
from detection.export.run_images import parity_images
from detection.models.checkpoint import load_trained
from detection.recipe.reading import RecipeError, load_recipe
from detection.training.train import train
from tests.data.decoding.files import sparse_png
from tests.detection.conftest import CTRL_C_WORKS, Quiet, swath, write_recipe


def test_tiles_are_written_counted_and_split_by_photo(rendered, tmp_path, capsys) -> None:
    out = tmp_path / "tiles"
    code, said, notes = swath(capsys, "data", "tile", rendered, "--size", 160, "--overlap", 0.25, "--out", out)
    # 320 x 240: steps of 120 along 160 and 80 beyond the first tile: 3 x 2 tiles
    tiles = load_dataset(out)
    assert (code, said) == (0, f"{out}: 72 tiles of 12 photos, {tiles.box_count} boxes\n")
    assert "12 photos in 72 tiles" in notes and f"{load_dataset(rendered).box_count} boxes in the photos" in notes
    assert len(tiles) == 72 and {p.size_hw for p in tiles.images} == {(160, 160)}
    code, _, _ = swath(capsys, "data", "split", out, "--by", "photo", "--val", 0.25, "--out", tmp_path / "parts")
    assert code == 0
    sides = [
        {
            image["attributes"]["photo"]
            for image in json.loads((tmp_path / "parts" / f"{part}.json").read_text())["images"]
        }
        for part in ("train", "val")
    ]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


def test_a_map_that_is_no_photo_is_cut(tmp_path, capsys) -> None:
    side = 7200  # 52 megapixels of one colour, which anything else takes for a decompression bomb
    (tmp_path / "map.png").write_bytes(sparse_png(side))
    image = {"id": 1, "file_name": "map.png", "width": side, "height": side}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [7000, 7000, 50, 50]}
    labels = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "weed"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(labels))
    code, said, _ = swath(capsys, "data", "check", tmp_path)
    assert code == 1 and "swath data tile" in " ".join(said.split())
    out = tmp_path / "tiles"
    code, said, _ = swath(capsys, "data", "tile", tmp_path, "--size", 3600, "--overlap", 0, "--out", out)
    assert (code, said) == (0, f"{out}: 4 tiles of 1 photos, 1 boxes\n")


@pytest.mark.parametrize(
    "wrong",
    [
        ("--size", "16"),
        ("--overlap", "0.9"),
        ("--min-visible", "2"),
        ("--gsd-mm", "1.5"),
        ("--to", "gif"),
        ("--format", "gif"),
        ("--split", "dev"),
    ],
)
def test_wrong_usage_is_2(wrong, rendered, tmp_path, capsys) -> None:
    assert swath(capsys, "data", "tile", rendered, "--out", tmp_path / "out", *wrong)[0] == 2
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_done_is_one_line(rendered, tmp_path, capsys) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, line in (
        ((rendered, "--out", tmp_path / "full"), "is there already: name a new folder, or remove it"),
        ((rendered, "--out", tmp_path / "out", "--tile-m", "0.2"), "has no attribute gsd_mm"),
        ((rendered, "--out", tmp_path / "out", "--tile-m", "0.002", "--gsd-mm", "1"), "have 2 px at 1 mm a pixel"),
    ):
        code, said, error = swath(capsys, "data", "tile", *arguments)
        assert (code, said) == (1, "") and line in error.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "set" / "a.bmp"), noise)
    image = {"id": 1, "file_name": "a.bmp", "width": 3000, "height": 2000}
    content = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "weed"}]}
    (tmp_path / "set" / "annotations.json").write_text(json.dumps(content))
    code = CTRL_C_WORKS + "from detection.cli.app import main; import sys; main(sys.argv[1:])"
    arguments = ["data", "tile", str(tmp_path / "set"), "--size", "64", "--overlap", "0.7"]
    arguments += ["--out", str(tmp_path / "out")]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.*/images/*.png")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error.splitlines()[-1] == "swath: interrupted"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set"]


def test_training_on_tiles_needs_no_copy_of_the_photos(rendered, tmp_path, capsys) -> None:
    path = write_recipe(
        tmp_path / "r.yaml", rendered, data={"val": str(rendered), "allow": ["splits-identical"]}, train={"epochs": 1}
    )
    recipe = load_recipe(path, ["data.tiles.size_px=160", "data.tiles.overlap=0", "train.batch_size=12"])
    assert recipe.data.tiles is not None and recipe.data.tiles.min_visible == 0.4
    watcher = Quiet()
    train(recipe, tmp_path / "run", watcher=watcher)
    assert len(watcher.losses) == 4  # 12 photos, 4 tiles each
    assert watcher.validations
    for part in ("train", "val"):
        assert any(note.startswith(f"{part}: 12 photos in 48 tiles") for note in watcher.notes)
    trained = load_trained(tmp_path / "run")
    assert trained.dataset_fingerprint == load_dataset(rendered).fingerprint()
    compared_on, held_out = parity_images(trained, load_dataset)
    assert (len(compared_on), held_out) == (48, True)
    for options, images in ((), 48), (("--whole",), 12):
        code, said, _ = swath(capsys, "evaluate", tmp_path / "run", rendered, "--out", tmp_path / "scored", *options)
        assert code == 0 and f"on {images} images" in " ".join(said.split())


def test_keys_of_tiles_are_checked(rendered, tmp_path) -> None:
    path = write_recipe(tmp_path / "r.yaml", rendered, data={"tiles": None})
    assert load_recipe(path).data.tiles is None
    assert load_recipe(path, ["data.tiles.size_px=512"]).data.tiles.size_px == 512  # type: ignore[union-attr]
    for override, said in (
        ("data.tiles.size=512", "data.tiles.size: unknown key; did you mean data.tiles.size_px?"),
        ("data.tiles.overlap=0.9", "data.tiles.overlap"),
        ("data.tiles.size_px=8", "data.tiles.size_px"),
    ):
        with pytest.raises(RecipeError, match=said.replace("?", r"\?")):
            load_recipe(path, [override])
