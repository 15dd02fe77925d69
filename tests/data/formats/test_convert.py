from __future__ import annotations

import os
import shutil
import tempfile
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from data.dataset import Dataset, LabelledImage
from data.errors import DataError
from data.formats import load_dataset, load_parts
from data.formats.classes import class_name
from data.formats.convert import convert
from data.formats.references import REFERENCES

# What a round trip through each format may change: nothing, or a corner by so many pixels.
ROUNDING_PX = {"coco": 0.0, "voc": 0.0, "csv": 0.0, "yolo": 1e-3}

NAME = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=6
)
CLASS = NAME.map(class_name).filter(bool)
# Images' names on a disk: no separators, nothing hidden.
STEM = NAME.map(lambda name: "p" + name.replace("/", "-").replace("\\", "-").replace("\0", "-") + "q")
PNG = cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
SPAN = st.tuples(st.integers(0, 40), st.floats(1, 15, width=32))


@st.composite
def images(draw: st.DrawFn, home: Path, classes: int) -> list[LabelledImage]:
    stems = draw(st.lists(STEM, min_size=1, max_size=3, unique_by=str.casefold))
    drawn = []
    for image_id, stem in enumerate(sorted(stems), start=1):
        path = home / f"{stem}.png"
        Image.new("L", (60, 60)).save(path)
        spans = draw(st.lists(st.tuples(SPAN, SPAN), max_size=4))
        boxes = np.array([(x, y, x + w, y + h) for (x, w), (y, h) in spans], np.float32).reshape(-1, 4)
        n = len(boxes)
        labels = np.array(draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n)), np.int64)
        flags = [np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), np.bool_) for _ in range(2)]
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        attributes = draw(st.dictionaries(NAME, st.text(max_size=4), max_size=2))
        drawn.append(LabelledImage(image_id, path, (60, 60), boxes, labels, areas, flags[0], attributes, flags[1]))
    return drawn


@pytest.mark.parametrize("copy", [False, True], ids=["linked", "copied"])
@pytest.mark.parametrize("to", ["coco", "yolo", "voc", "csv"])
@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(data=st.data())
def test_what_is_written_is_read_back_and_what_is_not_is_counted(to, copy, data):
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "photos ü")
        home.mkdir()
        names = tuple(data.draw(st.lists(CLASS, min_size=1, max_size=3, unique=True)))
        drawn = data.draw(images(home, len(names)))
        first = 0 if to in ("yolo", "csv") else 1
        given_ = Dataset("drawn", names, tuple(range(first, first + len(names))), tuple(drawn))
        done = convert({"train": given_}, Path(folder, "out", to), to=to, copy=copy)
        lost = done.notices
        read = load_dataset(Path(folder, "out", to))
        assert (read.class_names, read.category_ids) == (given_.class_names, given_.category_ids)
        by_name = {image.path.name: image for image in read.images}
        said_crowds = said_cut = 0
        for was in given_.images:
            back = by_name.pop(was.path.name)
            assert os.path.samefile(back.path, was.path) is not copy
            assert back.path.read_bytes() == was.path.read_bytes()
            kept = np.ones(len(was.iscrowd), bool) if to in ("coco", "voc") else ~was.iscrowd
            assert np.abs(back.boxes_xyxy - was.boxes_xyxy[kept]).max(initial=0) <= ROUNDING_PX[to]
            assert back.labels.tolist() == was.labels[kept].tolist()
            if to in ("coco", "voc"):
                assert back.iscrowd.tolist() == was.iscrowd.tolist()
                assert back.truncated.tolist() == was.truncated.tolist()
            if to == "coco":
                assert back.areas_px.tolist() == was.areas_px.tolist()
                assert dict(back.attributes) == dict(was.attributes) and back.image_id == was.image_id
            if to == "voc" and not any("attributes" in line for line in lost):
                assert dict(back.attributes) == dict(was.attributes)
            said_crowds += int(was.iscrowd.sum())
            said_cut += int((was.truncated & kept).sum())
        assert not by_name
        if to in ("yolo", "csv"):
            assert said(lost, "marked iscrowd") == said_crowds and said(lost, "marked truncated") == said_cut
            assert said(lost, "attributes") == sum(bool(p.attributes) for p in given_.images)
        if to == "coco":
            assert lost == () and read.fingerprint() == given_.fingerprint()


HOSTILE = st.text(
    st.sampled_from("\ufeff\u0085\u2028\r\n\t,;\"'#:-[]{}&*!|>%@`\\ \u00a0\0\x1b\x7füü\ud800a1~"), max_size=5
)
YAML_WORDS = st.sampled_from(
    ["no", "on", "null", "~", "010", "12:30", "1e3", "2026-05-01", "- x", "a: b", "<<", "=", "?"]
)


@pytest.mark.parametrize("to", ["coco", "yolo", "voc", "csv"])
@settings(max_examples=40, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(names=st.lists(st.one_of(HOSTILE, YAML_WORDS), min_size=1, max_size=3, unique=True))
def test_class_names_of_any_text_are_read_back_or_refused(to, names):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.png")
        Image.new("L", (60, 40)).save(path)
        n = len(names)
        boxes = np.array([(1 + i, 2, 20 + i, 30) for i in range(n)], np.float32)
        image = LabelledImage(1, path, (40, 60), boxes, np.arange(n), boxes[:, 2], np.zeros(n, np.bool_))
        try:
            convert({"train": Dataset("d", tuple(names), tuple(range(n)), (image,))}, Path(folder, "out"), to=to)
        except DataError as error:
            assert len(str(error).splitlines()) == 1 and not Path(folder, "out").exists()
            plain = [class_name(name) for name in names]
            broken = any(unicodedata.category(c) in ("Cc", "Cs") for name in plain for c in name)
            assert broken or not all(plain) or len(set(plain)) < n, error
            return
        read = load_dataset(Path(folder, "out"))
        assert [read.class_names[label] for label in read.images[0].labels] == [class_name(name) for name in names]


@pytest.mark.parametrize("copy", [False, True], ids=["linked", "copied"])
@pytest.mark.parametrize("to", ["coco", "yolo", "voc", "csv"])
@settings(max_examples=25, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(stems=st.lists(st.one_of(HOSTILE, st.just(os.fsdecode(b"R\xfcbe"))), min_size=1, max_size=3, unique=True))
def test_file_names_of_any_text_are_read_back_or_refused(to, copy, stems):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "photos").mkdir()
        drawn = []
        for number, stem in enumerate(stems, start=1):
            stem = stem.replace("\0", "").replace("\ud800", "")
            path = Path(folder, "photos", f"p{number}{stem}.png")
            path.write_bytes(PNG)
            box = np.array([(number, 2, 20, 30)], np.float32)
            drawn.append(LabelledImage(number, path, (40, 60), box, [0], np.ones(1), np.zeros(1, np.bool_)))
        given_ = Dataset("d", ("weed",), (1,), tuple(drawn))
        try:
            done = convert({"train": given_}, Path(folder, "out"), to=to, copy=copy)
        except DataError as error:
            assert to == "csv" and not copy and "\udcfc" in "".join(stems) and "--copy" in str(error)
            return
        read = load_dataset(Path(folder, "out"))
        assert (done.images, done.boxes) == (len(drawn), len(drawn)) and len(read) == len(drawn)
        assert {p.boxes_xyxy[0, 0] for p in read.images} == set(range(1, len(drawn) + 1))


def test_one_file_under_two_images_is_not_written(two_fields, tmp_path):
    first, *_ = two_fields["train"].images
    other = LabelledImage(
        9, first.path, (40, 60), [[5, 5, 9, 9]], np.zeros(1, np.int64), np.ones(1), np.zeros(1, np.bool_)
    )
    both = Dataset("t", ("weed",), (1,), (first, other))
    for to in ("coco", "yolo", "voc", "csv"):
        with pytest.raises(DataError, match="a.png"):
            convert({"train": both}, tmp_path / to, to=to)
    # VOC keeps the images of all parts in one folder: another part's boxes would overwrite these.
    parts = {
        "train": Dataset("t", ("weed",), (1,), (first,)),
        "val": Dataset("v", ("weed",), (1,), (LabelledImage(9, *_emptied(first)),)),
    }
    with pytest.raises(DataError, match="written as Pascal VOC, 1 images and 0 boxes are read back, where 1 and 1"):
        convert(parts, tmp_path / "voc", to="voc")
    assert not (tmp_path / "voc").exists()


def _emptied(image: LabelledImage) -> tuple[object, ...]:
    return image.path, image.size_hw, np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_)


def said(lines: tuple[str, ...], what: str) -> int:
    return sum(int(line.split()[0]) for line in lines if what in line)


@pytest.fixture
def two_fields(tmp_path, write_image):
    """Six images in two folders, names repeated, one without boxes; train and val."""

    def image(image_id: int, name: str, boxes: list[list[float]]) -> LabelledImage:
        write_image(tmp_path / "photos" / name, (40, 60), seed=image_id)
        n = len(boxes)
        arrays = (np.array(boxes).reshape(-1, 4), np.zeros(n, np.int64), np.full(n, 77.0), np.zeros(n, np.bool_))
        return LabelledImage(image_id, tmp_path / "photos" / name, (40, 60), *arrays)

    train = [
        image(1, "north/a.png", [[1, 2, 11, 12]]),
        image(2, "north/a.jpg", []),
        image(3, "south/a.png", []),
    ]
    val = [image(4, "north/b.png", [[3, 4, 13, 14]]), train[0]]
    return {"train": Dataset("t", ("weed",), (1,), train), "val": Dataset("v", ("weed",), (1,), val)}


def test_splits_folders_and_images_of_one_name(two_fields, tmp_path):
    out = tmp_path / "yolo"
    lost = convert(two_fields, out, to="yolo").notices
    assert yaml.safe_load((out / "data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "weed"},
    }
    assert sorted(p.relative_to(out).as_posix() for p in (out / "labels").rglob("*.txt")) == [
        "labels/train/north/a.txt",
        "labels/train/north/a_2.txt",
        "labels/train/south/a.txt",
        "labels/val/a.txt",
        "labels/val/b.txt",
    ]
    # centre (6, 7) of 60 x 40, 10 x 10
    assert (out / "labels/train/north/a.txt").read_text() == "0 0.100000000 0.175000000 0.166666667 0.250000000\n"
    assert os.readlink(out / "images/train/north/a_2.jpg") == "../../../../photos/north/a.jpg"
    assert said(lost, "renamed") == 1 and said(lost, "own area") == 3 and said(lost, "class ids") == 2
    for to in ("yolo", "voc", "csv", "coco"):
        if to != "yolo":
            convert(two_fields, tmp_path / to, to=to)
        parts = load_parts(tmp_path / to)
        assert [(name, len(part), part.box_count) for name, part in parts.items()] == [("train", 3, 1), ("val", 2, 2)]
        assert [parts[name].fingerprint() for name in parts] == [two_fields[n].fingerprint() for n in parts], to


def test_a_copied_dataset_can_move_and_a_linked_one_knows_its_images(two_fields, tmp_path):
    convert(two_fields, tmp_path / "copied", to="voc", copy=True)
    assert not (tmp_path / "copied" / REFERENCES).exists()
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "copied", tmp_path / "elsewhere" / "copied")
    convert(two_fields, tmp_path / "linked", to="voc")
    Image.new("L", (60, 40)).save(tmp_path / "photos" / "north" / "a.png")
    assert load_dataset(tmp_path / "elsewhere" / "copied").box_count == 1
    with pytest.raises(DataError, match="a.png is not the image that was meant when this was written"):
        load_dataset(tmp_path / "linked")


def test_splits_that_know_different_classes_are_joined(two_fields, tmp_path):
    val = two_fields["val"]
    two_fields["val"] = Dataset("v", ("crop", "weed"), (1, 2), [val.images[0]])
    convert(two_fields, tmp_path / "out", to="coco")
    train, joined = load_dataset(tmp_path / "out"), load_dataset(tmp_path / "out", split="val")
    assert train.class_names == joined.class_names == ("weed", "crop")
    assert joined.images[0].labels.tolist() == [1]  # label 0 of ("crop", "weed")


def test_nothing_is_overwritten_and_nothing_is_left_half_done(two_fields, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="taken: is there already"):
        convert(two_fields, tmp_path / "taken", to="yolo")
    (tmp_path / "photos" / "north" / "b.png").unlink()
    for to, copy in (("yolo", True), ("voc", False), ("csv", False)):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(DataError, match="b.png"):
            convert(two_fields, tmp_path / "out", to=to, copy=copy)
        assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(DataError, match="use one of coco, yolo, voc, csv"):
        convert(two_fields, tmp_path / "out", to="tfrecord")
    (tmp_path / "empty").mkdir()
    del two_fields["val"]
    convert(two_fields, tmp_path / "empty", to="coco")
    assert [p.name for p in (tmp_path / "empty").iterdir()] == ["annotations.json"]


@pytest.mark.parametrize("to", ["coco", "yolo", "voc", "csv"])
def test_cwfid_through_every_format_is_the_same_dataset(to, real_dataset, tmp_path):
    photos = load_dataset(real_dataset("cwfid"))
    convert({"train": photos}, tmp_path / to, to=to)
    assert load_dataset(tmp_path / to).fingerprint() == photos.fingerprint()
