"""The leaks of published datasets, named from their lists and from their images alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np

from data.check import check, named_apart, read_parts
from data.splits.groups import photos

CWFID_TRAIN = (
    "2 5 6 7 8 11 12 14 16 17 18 19 20 23 24 25 27 28 31 33 34 36 37 38 40 41 42 43 45 46 49 50 51 52 53 "
    "55 56 57 58 59"
)
CWFID_TEST = "1 3 4 9 10 13 15 21 22 26 28 29 30 32 35 39 44 47 48 54 60"


def lists(folder: Path, **parts: list[str]) -> list[Path]:
    (folder / "data.yaml").write_text("train: train.txt\nnames: [plant]\n")
    for name, entries in parts.items():
        (folder / f"{name}.txt").write_text("\n".join(entries) + "\n")
    return [folder / f"{name}.txt" for name in parts]


def errors(one: Path, other: Path, **options):
    report = check(named_apart(read_parts(one), read_parts(other)), **options)
    return {f.kind: f for f in report.findings if f.severity == "error"}


def test_cwfids_published_split_file_holds_image_28_on_both_sides(tmp_path):
    """The lists as published; the images are random, for the lists alone must give it away."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for number in {*map(int, CWFID_TRAIN.split()), *map(int, CWFID_TEST.split())}:
        noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{number:03}_image.png"), noise)
        (tmp_path / "labels" / f"{number:03}_image.txt").write_text("0 .5 .5 .5 .5\n")
    parts = {
        name: [f"{int(n):03}_image" for n in text.split()]
        for name, text in (("train", CWFID_TRAIN), ("test", CWFID_TEST))
    }
    found = errors(*lists(tmp_path, **parts), overlaps=False)
    assert set(found) == {"duplicate-across", "group-on-both-sides"}
    assert [found[kind].count for kind in found] == [1, 1]
    assert found["group-on-both-sides"].examples[0].detail == "028_image: 1 in train, 1 in test"


def test_a_cwfid_photo_on_both_sides_is_found_even_renamed_and_recompressed(real_dataset, tmp_path):
    photos_ = sorted((real_dataset("cwfid") / "images").iterdir())[:8]
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for file in photos_:
        shutil.copy(file, tmp_path / "images" / file.name)
        (tmp_path / "labels" / f"{file.stem}.txt").write_text("0 .5 .5 .5 .5\n")
    again = cv2.resize(cv2.imread(str(photos_[3])), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "images" / "other_name.jpg"), again, [cv2.IMWRITE_JPEG_QUALITY, 60])
    (tmp_path / "labels" / "other_name.txt").write_text("0 .5 .5 .5 .5\n")
    train, test = lists(
        tmp_path, train=[f.name for f in photos_[:5]], test=[*(f.name for f in photos_[5:]), "other_name"]
    )
    found = errors(train, test)
    assert set(found) == {"near-duplicate-across"} and found["near-duplicate-across"].count == 1
    assert found["near-duplicate-across"].examples[0].where.endswith(photos_[3].name)


def test_the_apples_published_random_split_leaks_by_its_lists(real_dataset):
    folder = real_dataset("apple_bbch81")
    train, test = (
        [Path(line) for line in (folder / f"published_{name}.txt").read_text().split()] for name in ("train", "test")
    )
    groups = photos([path.with_suffix(".jpg") for path in (*train, *test)])
    train_photos, test_photos = set(groups[: len(train)]), set(groups[len(train) :])
    assert len(test_photos) == 59 and test_photos <= train_photos


def test_the_apples_published_random_split_leaks_by_the_images_alone(real_dataset, tmp_path):
    """Tiles of four photos of one orchard row, under names that tell nothing."""
    folder = real_dataset("apple_bbch81")
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    wanted = ("DSC_1104_", "DSC_1105_", "DSC_1106_", "DSC_1107_")
    sides: dict[str, list[str]] = {}
    photo_of: dict[str, str] = {}
    for side in ("train", "test"):
        for number, stem in enumerate((folder / f"published_{side}.txt").read_text().split()):
            if stem.startswith(wanted):
                # One counter over both sides, so that no name is on both.
                name = f"{number + (5000 if side == 'test' else 0):06}.jpg"
                os.symlink(folder / "images" / f"{stem}.jpg", tmp_path / "images" / name)
                (tmp_path / "labels" / f"{name[:-4]}.txt").write_text("0 .5 .5 .5 .5\n")
                sides.setdefault(side, []).append(name)
                photo_of[name] = stem[:8]
    for link in (tmp_path / "images").iterdir():  # a dataset's links must not lead out of it
        real = link.resolve()
        link.unlink()
        shutil.copy(real, link)
    found = errors(*lists(tmp_path, **sides))
    assert set(found) == {"overlap-across"}
    pairs = [(Path(e.where).name, Path(e.other or "").name) for e in found["overlap-across"].examples]
    assert all(photo_of[one] == photo_of[other] for one, other in pairs)
    named = {photo_of[other] for _, other in pairs}
    assert named == {photo_of[name] for name in sides["test"]}


def test_sesames_copies_under_one_name_are_one_photo(real_dataset):
    folder = real_dataset("sesame_weed")
    train = photos(sorted((folder / "train" / "images").iterdir()))
    assert (len(train), len(set(train))) == (364, 182)
