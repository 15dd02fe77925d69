from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.check import check_before_training
from data.errors import DataError
from data.formats import load_dataset
from data.formats.yolo import read_yolo


@pytest.fixture
def yolo(tmp_path: Path, write_image: Callable[..., object]) -> Callable[..., Path]:
    """Writes `data.yaml` and a `train` part; `labels` maps image names to label text (None: no file)."""

    def make(labels: dict[str, str | None], text: str = "train: train/images\nnames: [crop, weed]\n") -> Path:
        for name, lines in labels.items():
            write_image(tmp_path / "train" / "images" / name, (40, 60))
            label = (tmp_path / "train" / "labels" / name).with_suffix(".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            if lines is not None:
                label.write_text(lines)
        (tmp_path / "data.yaml").write_text(text)
        return tmp_path / "data.yaml"

    return make


def test_one_box_by_hand(yolo):
    # 60 x 40: centre (30, 20), 15 wide, 10 high
    read = read_yolo(yolo({"a.png": "1 0.5 0.5 0.25 0.25\n"}))
    (image,) = read.images
    assert image.boxes_xyxy.tolist() == [[22.5, 15, 37.5, 25]]
    assert image.labels.tolist() == [1] and image.areas_px.tolist() == [150]
    assert not image.iscrowd.any() and image.size_hw == (40, 60)
    assert read.class_names == ("crop", "weed") and read.category_ids == (0, 1) and read.notices == ()


@pytest.mark.parametrize("text", ["", "\n  \n"])
def test_an_empty_label_file_is_background_without_a_word(text, yolo):
    read = read_yolo(yolo({"a.png": text}))
    assert read.images[0].boxes_xyxy.shape == (0, 4) and read.notices == ()


def test_a_missing_label_file_is_background_and_counted(yolo):
    read = read_yolo(yolo({"a.png": None, "b.png": None, "c.png": "0 .5 .5 .5 .5"}))
    assert [len(image.boxes_xyxy) for image in read.images] == [0, 0, 1]
    assert read.notices == ("2 images without a label file: taken as background (first: a.png)",)


def test_oriented_corners_and_polygons_give_their_bounds(yolo):
    # A square standing on its corner in the middle: (30, 10), (45, 20), (30, 30), (15, 20).
    corners = "1 0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5"
    triangle = "0 0 0 0.5 0 0 1"
    read = read_yolo(yolo({"a.png": f"{corners}\n{triangle}"}))
    assert read.images[0].boxes_xyxy.tolist() == [[15, 10, 45, 30], [0, 0, 30, 40]]
    assert read.images[0].labels.tolist() == [1, 0]


def test_keypoints_are_left_aside(yolo):
    text = "train: train/images\nnames: [crop]\nkpt_shape: [1, 2]\n"
    read = read_yolo(yolo({"a.png": "0 .5 .5 .5 .5 .1 .1"}, text))
    assert read.images[0].boxes_xyxy.tolist() == [[15, 10, 45, 30]]


def test_repairs_keep_labels_aligned(yolo):
    lines = "1 0 .5 .5 .5\n0 .5 .5 .001 .5\n1 .5 .5 .5 .5\n"
    read = read_yolo(yolo({"a.png": lines}))
    assert read.images[0].boxes_xyxy.tolist() == [[0, 10, 15, 30], [15, 10, 45, 30]]
    assert read.images[0].labels.tolist() == [1, 1]
    assert [line.split(" (")[0] for line in read.notices] == [
        "1 box thinner than 1 px inside the image: dropped",
        "1 box reaching outside the image: clipped to it",
    ]


def test_names_as_a_mapping_with_gaps_keep_their_ids(yolo):
    read = read_yolo(yolo({"a.png": "7 .5 .5 .5 .5"}, "train: train/images\nnames: {7: weed, 2: crop}\n"))
    assert read.class_names == ("crop", "weed") and read.category_ids == (2, 7)
    assert read.images[0].labels.tolist() == [1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 .5 .5 .5", "4 values"),
        ("0 .5 .5 .5 .5 .9", "6 values"),
        ("0 .1 .1 .2 .2 .3 .3 .4", "8 values"),
        ("0", "1 values"),
        ("0 a b c d", "not numbers"),
        ("weed .5 .5 .5 .5", "not numbers"),
        ("0 nan .5 .5 .5", "not finite"),
        ("0 .5 .5 inf .5", "not finite"),
        ("nan .5 .5 .5 .5", "not finite"),
        ("0 .5 .5 -.5 .5", "negative"),
        ("0 30 20 15 10", "look like pixels"),
        ("2 .5 .5 .5 .5", r"class 2 is not in names \(known: 0, 1\)"),
        ("-1 .5 .5 .5 .5", "whole number"),
        ("0.5 .5 .5 .5 .5", "whole number"),
    ],
)
def test_a_faulty_line_is_named(line, said, yolo):
    path = yolo({"a.png": f"0 .5 .5 .5 .5\n\n{line}\n"})
    with pytest.raises(DataError, match=rf"labels/a.txt: line 3: .*{said}") as caught:
        read_yolo(path)
    assert "\n" not in str(caught.value)


def test_binary_label_file(yolo, tmp_path):
    path = yolo({"a.png": ""})
    (tmp_path / "train" / "labels" / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="a.txt: is not UTF-8"):
        read_yolo(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a YOLO data.yaml"),
        ("- a\n- b\n", "not a YOLO data.yaml"),
        ("train: images\n", "not a YOLO data.yaml"),
        ("names: [a\ntrain: x", "not valid YAML at line 2"),
        ("names: {a: b}\n", "names must be a list"),
        ("names: crop\n", "names must be a list"),
        ("names: [a, a]\n", "twice"),
        ("names: [a]\nnc: 2\n", "nc is 2 but there are 1 names"),
        ("names: [a]\n", "names no split 'train'; nor is any other"),
        ("names: [a]\ntrain: {a: b}\n", "must be a folder"),
        ("names: [a]\ntrain: nowhere\n", r"split 'train' is not there \(.*nowhere does not exist\)"),
        ("names: [a]\ntrain: list.txt\nval: .\n", "split 'train' is not there .*; there is: val"),
    ],
)
def test_a_faulty_yaml_is_named(text, said, tmp_path):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        read_yolo(tmp_path / "data.yaml")
    assert str(tmp_path / "data.yaml") in str(caught.value) and "\n" not in str(caught.value)


def test_missing_and_binary_yaml(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_yolo(tmp_path / "data.yaml")
    (tmp_path / "data.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_yolo(tmp_path / "data.yaml")


def test_an_empty_split_and_a_split_without_any_labels_are_refused(yolo, tmp_path):
    path = yolo({"a.png": None})
    for _ in range(2):
        with pytest.raises(
            DataError, match=r"no labels for split 'train': none of 1 images .* example .*labels/a.txt"
        ):
            read_yolo(path)
        (tmp_path / "train" / "labels").rmdir()
        (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "images" / "a.png").unlink()
    with pytest.raises(DataError, match="is empty: no images in"):
        read_yolo(path)


def test_val_and_valid_are_the_same(yolo):
    for key in ("val", "valid"):
        path = yolo({"a.png": ""}, f"{key}: train/images\nnames: [crop]\n")
        assert len(read_yolo(path, "val")) == len(read_yolo(path, "valid")) == 1
    with pytest.raises(DataError, match="names no split 'train'; there is: val"):
        read_yolo(path, "train")


def test_a_path_that_exists_nowhere_and_roboflows_parent_folders(yolo, tmp_path):
    text = "path: /no/such/place\ntrain: ../train/images\nnames: [crop]\n"
    read = read_yolo(yolo({"a.png": ""}, text))
    assert len(read) == 1
    assert read.notices == (f"path '/no/such/place' of data.yaml does not exist: taken as {tmp_path}",)


def test_lists_of_folders_and_of_images(yolo, tmp_path, write_image):
    yolo({"a.png": "0 .5 .5 .5 .5", "b.png": "1 .5 .5 .5 .5"})
    write_image(tmp_path / "more" / "images" / "deep" / "c.png")
    label = tmp_path / "more" / "labels" / "deep" / "c.txt"
    label.parent.mkdir(parents=True)
    label.write_text("1 .5 .5 .5 .5")
    path = tmp_path / "data.yaml"
    path.write_text("train: [train/images, more/images]\nnames: [crop, weed]\n")
    assert [image.path.name for image in read_yolo(path).images] == ["a.png", "b.png", "c.png"]
    assert [image.labels.tolist() for image in read_yolo(path).images] == [[0], [1], [1]]
    path.write_text("train: lists/train.txt\nnames: [crop, weed]\n")
    (tmp_path / "lists").mkdir()
    absolute = tmp_path / "train" / "images" / "a.png"
    listing = tmp_path / "lists" / "train.txt"
    listing.write_text(f"./../train/images/b.png\nmore/images/deep/c.png\n\n{absolute}\n{absolute}\n")
    read = read_yolo(path)
    assert [image.path.name for image in read.images] == ["b.png", "c.png", "a.png"]
    assert [image.labels.tolist() for image in read.images] == [[1], [1], [0]]
    assert read.notices == ("1 entry for an image that is listed already (data.yaml)",)
    listing.write_text("train/images/a.png\ntrain/images/z.png\n")
    with pytest.raises(DataError, match=r"train.txt: line 2: no such image: .*z.png"):
        read_yolo(path)


def test_labels_beside_images(tmp_path, write_image):
    write_image(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "a.txt").write_text("0 .5 .5 .5 .5")
    (tmp_path / "data.yaml").write_text("train: photos\nnames: [crop]\n")
    assert read_yolo(tmp_path / "data.yaml").box_count == 1


def test_label_files_without_a_image_are_counted(yolo, tmp_path):
    path = yolo({"a.png": ""})
    for name in ("gone.txt", "lost.txt", "classes.txt"):
        (tmp_path / "train" / "labels" / name).write_text("0 .5 .5 .5 .5")
    assert read_yolo(path).notices == ("2 label files without an image: not used (first: gone.txt)",)


def test_what_is_not_a_image_is_not_listed_and_a_broken_one_is_refused(yolo, tmp_path):
    path = yolo({"a.png": ""})
    (tmp_path / "train" / "images" / ".b.png").write_bytes(b"")
    (tmp_path / "train" / "images" / "notes.md").write_text("")
    assert len(read_yolo(path)) == 1
    (tmp_path / "train" / "images" / "c.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="c.jpg: the image file is empty"):
        read_yolo(path)


def test_fractions_are_of_the_image_as_displayed(yolo, tmp_path, write_oriented):
    path = yolo({"a.png": ""})
    write_oriented(tmp_path / "train" / "images" / "b.jpg", np.zeros((40, 60, 3), np.uint8), 8)
    (tmp_path / "train" / "labels" / "b.txt").write_text("0 .5 .5 .5 .5")
    turned = read_yolo(path).images[1]
    assert turned.size_hw == (60, 40) and turned.boxes_xyxy.tolist() == [[10, 15, 30, 45]]


# --- datasets as their publishers ship them


def test_apple_bbch81_as_it_stands(real_dataset):
    for split in ("train", "val"):
        read = load_dataset(real_dataset("apple_bbch81"), split=split)
        assert (len(read), read.box_count, read.class_names) == (952, 8419, ("apple",))
        assert [line.split(" (")[0] for line in read.notices] == [
            "11 boxes thinner than 1 px inside the image: dropped",
            "6 images without a label file: taken as background",
        ]
    with pytest.raises(DataError, match="names no split 'test'; there is: train, val"):
        load_dataset(real_dataset("apple_bbch81"), split="test")


def test_sesame_weed_as_it_stands(real_dataset):
    folder = real_dataset("sesame_weed")
    read = load_dataset(folder / "data.yaml", split="valid")
    assert (len(read), read.class_names, read.category_ids) == (260, ("crop", "weed"), (0, 1))
    assert read.notices == (f"path '../datasets/roboflow' of data.yaml does not exist: taken as {folder}",)
    train = load_dataset(folder)
    assert (len(train), train.box_count) == (364, 626)
    # corners x .4765625 to .552734375, y .23046875 to .30078125 of 512 px
    assert train.images[0].boxes_xyxy[0].tolist() == [244, 118, 283, 154]
    with pytest.raises(DataError, match=r"split 'test' is not there .*; there is: train, val"):
        load_dataset(folder, split="test")
    assert check_before_training(read, None) == ()
