"""A name means the same file, class or split however another system spells it, and never two."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from data import DataError, load_dataset
from data.check import check, read_parts
from data.errors import PartMissing
from data.formats import load_parts
from data.formats.names import pairs, split_of

NFC, NFD = (unicodedata.normalize(form, "Rübe ä 서울") for form in ("NFC", "NFD"))
LATIN = os.fsdecode("Rübe".encode("cp1252"))  # a name on a disk that is not UTF-8
FORMATS = ("coco", "yolo", "voc", "csv", "masks")


def dataset_of(kind: str, home: Path, image: str, label: str, write_image) -> None:
    """A dataset of one image and one box; the labels call it by another name than the disk."""
    folder = {"coco": "images", "yolo": "images", "voc": "JPEGImages", "csv": "images", "masks": "images"}[kind]
    write_image(home / folder / f"{image}.png")
    write_image(home / folder / "other.png", seed=1)
    listed = f"{label}.png"
    if kind == "coco":
        names = (
            f'{{"id": 1, "file_name": "{listed}", "width": 60, "height": 40}}, {{"id": 2, "file_name": "other.png"}}'
        )
        box = '{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 5, 20, 15]}'
        text = f'{{"images": [{names}], "annotations": [{box}], "categories": [{{"id": 1, "name": "weed"}}]}}'
        files = {"annotations.json": text.replace("\\", "\\\\")}
    elif kind == "yolo":
        files = {
            "data.yaml": "train: images\nnames: [weed]\n",
            f"labels/{label}.txt": "0 .5 .5 .5 .5",
            "labels/other.txt": "",
        }
    elif kind == "voc":
        box = "<bndbox><xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
        files = {
            f"Annotations/{label}.xml": f"<annotation><object><name>weed</name>{box}</object></annotation>",
            "Annotations/other.xml": "<annotation/>",
        }
    elif kind == "csv":
        files = {"train.csv": f"{listed},10,5,30,20,weed\nother.png,,,,,\n"}
    else:
        write_mask(home / "masks" / "weed" / f"{label}.png")
        files = {}
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text, encoding="utf-8")


def write_mask(path: Path) -> None:
    import numpy as np
    from PIL import Image

    path.parent.mkdir(parents=True)
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 10:30] = 1
    Image.fromarray(mask).save(path)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("image", "label"),
    [(NFD, NFC), (NFC, NFD), ("IMG_1", "img_1"), (LATIN, "Rübe")],
    ids=["decomposed on the disk", "decomposed in the labels", "case", "a disk that is not UTF-8"],
)
def test_the_same_name_in_another_spelling_is_found_and_said(image, label, kind, tmp_path, write_image):
    dataset_of(kind, tmp_path, image, label, write_image)
    read = load_dataset(tmp_path)
    assert {p.path.name: len(p.labels) for p in read.images} == {f"{image}.png": 1, "other.png": 0}
    assert [line for line in read.notices if "under another spelling" in line], read.notices
    report = check(read_parts(tmp_path))
    assert [f.severity for f in report.findings if "under another spelling" in f.message] == ["info"]


@pytest.mark.parametrize("kind", ["coco", "csv"])
@pytest.mark.parametrize(
    "reference", ["images\\deep\\a", "data/images/deep/a", "D:\\field\\images\\deep\\a", "DEEP/A"]
)
def test_slashes_and_leading_folders_of_another_system(reference, kind, tmp_path, write_image):
    dataset_of(kind, tmp_path, "deep/a", reference, write_image)
    read = load_dataset(tmp_path)
    assert [p.path.relative_to(tmp_path).as_posix() for p in read.images if len(p.labels)] == ["images/deep/a.png"]
    assert "1 file found under another spelling" in " ".join(read.notices).replace("files", "file")


@pytest.mark.parametrize("kind", FORMATS)
def test_two_that_would_do_are_an_error_and_an_exact_one_is_none(kind, tmp_path, write_image):
    dataset_of(kind, tmp_path, "Leaf", "LEAF", write_image)
    for name in ("leaf", "lEAF"):
        place = next(tmp_path.rglob("Leaf.png"))
        write_image(place.with_name(f"{name}.png"), seed=7)
    with pytest.raises(DataError, match="rename one of them"):
        load_dataset(tmp_path)
    place.rename(place.with_name("LEAF.png"))
    assert {p.path.name: len(p.labels) for p in load_dataset(tmp_path).images if len(p.labels)} == {"LEAF.png": 1}


def test_two_references_to_one_file_are_an_error(tmp_path, write_image):
    write_image(tmp_path / "a.png")
    (tmp_path / "train.csv").write_text("north/a.png,1,1,9,9,weed\nsouth/a.png,3,3,9,9,weed\n")
    with pytest.raises(DataError, match="north/a.png and south/a.png are both found as .*a.png: rename one of them"):
        load_dataset(tmp_path)


def test_pairs_take_exact_names_first():
    assert pairs(["a", "A", "b"], ["A", "a"], "x") == {"a": "a", "A": "A"}
    assert pairs(["A", "b"], ["a", "b", "c"], "x") == {"A": "a", "b": "b"}
    for images, labels in ((["a", "A"], ["ä", "á", "Á", "aA", "AA"]), (["AA"], ["aA", "Aa"]), (["aA", "Aa"], ["AA"])):
        if labels[0] == "ä":
            assert pairs(images, labels, "x") == {}
            continue
        with pytest.raises(DataError, match="rename one of them"):
            pairs(images, labels, "x")


@pytest.mark.parametrize("junk", ["._a", ".hidden"])
@pytest.mark.parametrize("kind", FORMATS)
def test_hidden_files_are_no_ones_labels(junk, kind, tmp_path, write_image):
    dataset_of(kind, tmp_path, "a", "a", write_image)
    for file in [f for f in tmp_path.rglob("*") if f.is_file()]:
        file.with_name(f"{junk}{file.suffix}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    read = load_dataset(tmp_path)
    said = [line for line in read.notices if "taken as background" not in line]  # the image without a mask
    assert read.box_count == 1 and said == []


def test_a_disk_that_is_not_utf_8_is_checked_split_and_converted(tmp_path, write_image, capsys):
    from detection.cli.app import main

    for number in range(4):
        write_image(tmp_path / "set" / "images" / f"{LATIN}{number}.png", seed=number)
        (tmp_path / "set" / "labels").mkdir(exist_ok=True)
        (tmp_path / "set" / "labels" / f"{LATIN}{number}.txt").write_text("0 .5 .5 .5 .5" if number else "")
    (tmp_path / "set" / "data.yaml").write_text("train: images\nnames: [weed]\n")
    home = str(tmp_path / "set")
    for command in (
        ["check", home, "--json", str(tmp_path / "c.json"), "--html", str(tmp_path / "c.html")],
        ["split", home, "--val", "0.3", "--out", str(tmp_path / "parts")],
        *(["convert", home, str(tmp_path / to), "--to", to, "--copy"] for to in ("coco", "yolo", "voc", "csv")),
        ["convert", home, str(tmp_path / "linked"), "--to", "coco"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(["data", *command])
        assert not ended.value.code, (command, capsys.readouterr().err)
    for written in ("parts/train.json", "coco", "yolo", "voc", "csv", "linked"):
        assert load_dataset(tmp_path / written).box_count >= 1, written


# --- splits


def test_names_of_splits():
    for name in ("train", "Train", "TRAINING", "train"):
        assert split_of(name) == "train"
    assert [split_of(name) for name in ("valid", "Validation", "val", "Testing")] == ["val", "val", "val", "test"]
    assert [split_of(name) for name in ("train2017", "trainval", "dev", "")] == [None] * 4
    assert [split_of(n, numbered=True) for n in ("train2017", "val_1", "trainval")] == ["train", "val", None]


def test_subsets_as_cvat_names_them(tmp_path, write_image):
    for part, size in (("Train", 2), ("Validation", 1)):
        images = [f'{{"id": {n}, "file_name": "{part[0]}{n}.png"}}' for n in range(size)]
        for n in range(size):
            write_image(tmp_path / "images" / part / f"{part[0]}{n}.png", seed=n)
        text = f'{{"images": [{", ".join(images)}], "annotations": [], "categories": [{{"id": 1, "name": "weed"}}]}}'
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{part}.json").write_text(text)
    assert {name: len(part) for name, part in load_parts(tmp_path).items()} == {"train": 2, "val": 1}


@pytest.mark.parametrize("folders", [("Train", "Validation"), ("TRAIN", "valid")])
def test_split_folders_in_any_case(folders, tmp_path, write_image):
    for folder in folders:
        dataset_of("voc", tmp_path / folder, "a", "a", write_image)
    assert list(load_parts(tmp_path)) == ["train", "val"]
    dataset_of("voc", tmp_path / "val", "a", "a", write_image)
    with pytest.raises(DataError, match="are both a part 'val': rename one of them"):
        load_dataset(tmp_path, split="val")


@pytest.mark.parametrize(
    "entry",
    ["images\\train", "Images/Train", "../images/train", "/content/set/images/train", "C:\\set\\images\\train"],
)
def test_folders_in_a_data_yaml_written_elsewhere(entry, tmp_path, write_image):
    write_image(tmp_path / "images" / "train" / "a.png")
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "labels" / "train" / "a.txt").write_text("0 .5 .5 .5 .5")
    (tmp_path / "data.yaml").write_text(f"Train: {entry}\nnames: [weed]\n")
    read = load_dataset(tmp_path)
    assert read.box_count == 1
    assert len(read.notices) == (entry != "../images/train"), read.notices


@pytest.mark.parametrize("val", ["../valid/images", "/content/set/valid/images", "vall/images"])
def test_a_part_that_is_named_but_absent_is_an_error_that_names_the_near_miss(val, tmp_path, write_image):
    for part in ("train", "val"):
        write_image(tmp_path / part / "images" / f"{part}.png", seed=len(part))
        (tmp_path / part / "labels").mkdir()
        (tmp_path / part / "labels" / f"{part}.txt").write_text("0 .5 .5 .5 .5")
    (tmp_path / "data.yaml").write_text(f"train: ../train/images\nval: {val}\ntest: nowhere\nnames: [weed]\n")
    near = f"{val.removeprefix('../')} does not exist; there is {tmp_path}/val/images: correct the entry"
    with pytest.raises(PartMissing, match=near.removeprefix("/")):
        load_dataset(tmp_path, split="val")
    with pytest.raises(PartMissing, match="val/images"):
        load_parts(tmp_path)
    report = check(read_parts(tmp_path))
    assert {(f.kind, f.part) for f in report.findings if f.severity == "error"} == {
        ("part-missing", "val"),
        ("part-missing", "test"),
    }
    # Roboflow names a test part that it did not write: said, and not in the way.
    (tmp_path / "data.yaml").write_text("train: train/images\nval: val/images\ntest: ../test/images\nnames: [weed]\n")
    parts = load_parts(tmp_path)
    assert list(parts) == ["train", "val"] and "left out: " in parts["train"].notices[-1]


def test_labels_in_folders_and_suffixes_of_another_case(tmp_path, write_image):
    write_image(tmp_path / "Images" / "Field" / "a.PNG".lower())
    (tmp_path / "Images" / "Field" / "a.png").rename(tmp_path / "Images" / "Field" / "A.PNG")
    (tmp_path / "Labels" / "field").mkdir(parents=True)
    (tmp_path / "Labels" / "field" / "a.TXT").write_text("0 .5 .5 .5 .5")
    (tmp_path / "data.yaml").write_text("train: Images\nnames: [weed]\n")
    assert load_dataset(tmp_path).box_count == 1


def test_two_images_for_one_label_file_are_refused_in_yolo_too(tmp_path, write_image):
    for name in ("a.png", "a.jpg"):
        write_image(tmp_path / "images" / name)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .5 .5")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [weed]\n")
    with pytest.raises(DataError, match="two images for the same labels"):
        load_dataset(tmp_path)
