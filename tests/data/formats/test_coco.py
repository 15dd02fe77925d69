from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.dataset import Dataset, LabelledImage
from data.errors import DataError
from data.formats import load_dataset
from data.formats.coco import read_coco, save_coco

IMAGE = {"id": 7, "file_name": "a.png", "width": 60, "height": 40}
BOX = {"id": 1, "image_id": 7, "category_id": 5, "bbox": [10, 5, 20, 15]}


def test_ids_with_gaps_and_xywh(coco_file):
    read = read_coco(coco_file())
    assert read.class_names == ("crop", "weed") and read.category_ids == (2, 5)
    (image,) = read.images
    assert (image.image_id, image.size_hw, image.path.name) == (7, (40, 60), "a.png")
    assert image.boxes_xyxy.tolist() == [[10, 5, 30, 20]]
    assert image.labels.tolist() == [1] and image.areas_px.tolist() == [123.5]
    assert read.notices == ()


def test_a_image_without_boxes_stays_and_a_missing_area_is_the_boxs(coco_file, tmp_path, write_image):
    images = [IMAGE, {**IMAGE, "id": 9, "file_name": "b.png"}]
    write_image(tmp_path / "b.png")
    read = read_coco(coco_file(images=images, annotations=[BOX]))
    assert [len(image.boxes_xyxy) for image in read.images] == [1, 0]
    assert read.images[0].areas_px.tolist() == [300]


def test_width_and_height_may_be_left_out(coco_file):
    assert read_coco(coco_file(images=[{"id": 7, "file_name": "a.png"}])).images[0].size_hw == (40, 60)


def test_crowds_are_kept_and_counted(coco_file):
    read = read_coco(coco_file(annotations=[BOX, {**BOX, "id": 2, "bbox": [0, 0, 9, 9], "iscrowd": 1}]))
    assert read.images[0].iscrowd.tolist() == [False, True]
    assert read.notices == (f"1 box marked iscrowd: not used for training ({read.images[0].path})",)


def test_repairs_keep_labels_and_areas_aligned(coco_file):
    annotations = [
        {**BOX, "bbox": [-3, 0, 9, 9], "area": 2, "category_id": 2},
        {**BOX, "bbox": [5, 5, 0, 9], "area": 3},
        {**BOX, "bbox": [5, 5, 9, 9], "area": 4},
    ]
    read = read_coco(coco_file(annotations=annotations))
    (image,) = read.images
    assert image.boxes_xyxy.tolist() == [[0, 0, 6, 9], [5, 5, 14, 14]]
    assert image.labels.tolist() == [0, 1] and image.areas_px.tolist() == [2, 4]
    assert [line.split(" (")[0] for line in read.notices] == [
        "1 box thinner than 1 px inside the image: dropped",
        "1 box reaching outside the image: clipped to it",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"annotations": [{**BOX, "bbox": [70, 0, 9, 9]}]}, r"a.png: a box \(70, 0, 79, 9\) lies wholly outside"),
        ({"annotations": [{**BOX, "image_id": 8}]}, "annotation 1: image_id 8 is not in images"),
        ({"annotations": [{**BOX, "image_id": [7]}]}, "is not in images"),
        ({"annotations": [{**BOX, "category_id": 1}]}, r"category_id 1 is not in categories \(known: 2, 5\)"),
        ({"annotations": [{**BOX, "bbox": [1, 2, 3]}]}, "bbox must be four numbers"),
        *(
            (
                {"annotations": [{**BOX, "bbox": box}]},
                r"annotation 1 .*bbox must be four numbers.*correct or remove it",
            )
            for box in (None, [], {}, "", "x", "1,2,3", 5, [1, 2, 3, 4, 5], [[1, 2, 3, 4]], [None] * 4)
        ),
        ({"annotations": [{**BOX, "bbox": [1, 2, "three", 4]}]}, "bbox must be four numbers"),
        ({"annotations": [{**BOX, "bbox": [float("nan"), 2, 3, 4]}]}, "not finite"),
        ({"annotations": [{**BOX, "bbox": [10**400, 2, 3, 4]}]}, "not finite"),
        ({"annotations": [{**BOX, "bbox": [1, 2, -3, 4]}]}, "negative"),
        ({"annotations": [{**BOX, "area": -1}]}, "area must be"),
        ({"annotations": {"1": BOX}}, "'annotations' must be a list"),
        ({"annotations": None}, "'annotations' must be a list"),
        ({"images": []}, "empty"),
        ({"images": [IMAGE, IMAGE]}, "image id 7 occurs twice"),
        ({"images": [{**IMAGE, "id": 7.5}]}, "whole-number id"),
        ({"images": [{**IMAGE, "file_name": None}]}, "file_name"),
        (
            {"images": [{**IMAGE, "file_name": "b.png"}]},
            "1 of 1 images are missing, first: .*b.png.*looked in",
        ),
        ({"images": [IMAGE, {**IMAGE, "id": 8, "file_name": "b.png"}]}, "1 of 2 images are missing"),
        ({"images": [{**IMAGE, "file_name": "x" * 5000}]}, "missing"),
        ({"images": [{**IMAGE, "file_name": "a\0.png"}]}, "missing"),
        ({"images": [{**IMAGE, "file_name": "annotations.json"}]}, "not an image"),
        ({"images": [{**IMAGE, "file_name": "../../../../../../etc/hostname"}]}, "leads out of the dataset's folder"),
        ({"images": [{**IMAGE, "file_name": "/etc/hostname"}]}, "leads out of the dataset's folder"),
        ({"images": [{**IMAGE, "width": 61}]}, "gives a.png as 61 x 40, the image is 60 x 40"),
        ({"images": [{**IMAGE, "attributes": [1]}]}, "attributes must be an object"),
        ({"categories": []}, "no categories"),
        ({"categories": [{"id": 5, "name": "weed"}, {"id": 5, "name": "crop"}]}, "twice"),
        ({"categories": [{"id": 5, "name": "weed"}, {"id": 6, "name": "weed"}]}, "twice"),
        ({"categories": [{"id": 5}]}, "and a name"),
    ],
)
def test_faults_are_one_line_that_names_the_file(changes, said, coco_file):
    path = coco_file(**changes)
    with pytest.raises(DataError, match=said) as caught:
        read_coco(path)
    assert str(path.parent) in str(caught.value) or "/etc/hostname" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON.*line 1"),
        (b'{"images": [', "not valid JSON"),
        (b"[]", "not a COCO"),
        (b"{}", "not a COCO"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"[" * 100_000, "nested too deeply|not valid JSON"),
    ],
)
def test_broken_json(content, said, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_coco(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_coco(tmp_path / "none.json")


def test_broken_images_are_refused_while_reading(coco_file, tmp_path):
    path = coco_file()
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="0 bytes"):
        read_coco(path)


def test_images_are_found_where_coco_keeps_them(coco_file, tmp_path):
    path = coco_file()
    (tmp_path / "images").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "images" / "a.png")
    assert read_coco(path).images[0].path == tmp_path / "images" / "a.png"
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    assert read_coco(path, tmp_path / "elsewhere").images[0].path == tmp_path / "elsewhere" / "a.png"
    with pytest.raises(DataError, match="missing"):
        read_coco(path)


def test_windows_separators(coco_file, tmp_path):
    path = coco_file(images=[{**IMAGE, "file_name": "sub\\a.png"}])
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "sub" / "a.png")
    assert read_coco(path).images[0].path == tmp_path / "sub" / "a.png"


def test_attributes_come_from_their_key_or_plain_further_ones(coco_file):
    image = {**IMAGE, "license": 1, "field": "north", "row": 3, "attributes": {"camera": "left"}, "list": []}
    read = read_coco(coco_file(images=[image]))
    assert dict(read.images[0].attributes) == {"field": "north", "row": "3", "camera": "left"}


# The stored image is 60 wide, 40 high, its box at x 10..30, y 5..20; orientation 6 shows it turned
# clockwise: 40 wide, 60 high, the box at x 40-20..40-5, y 10..30.
@pytest.mark.parametrize(
    ("size", "box", "expected", "notices"),
    [
        ((60, 40), [10, 5, 20, 15], [20, 10, 35, 30], 1),  # drawn by a tool that ignores EXIF
        ((40, 60), [20, 10, 15, 20], [20, 10, 35, 30], 0),  # drawn on the image as displayed
    ],
)
def test_exif_turned_images(size, box, expected, notices, coco_file, tmp_path, write_oriented):
    image = {**IMAGE, "file_name": "a.jpg", "width": size[0], "height": size[1]}
    path = coco_file(images=[image], annotations=[{**BOX, "bbox": box}])
    write_oriented(tmp_path / "a.jpg", np.zeros((40, 60, 3), np.uint8), 6)
    read = read_coco(path)
    assert read.images[0].size_hw == (60, 40)
    assert read.images[0].boxes_xyxy.tolist() == [expected]
    assert len(read.notices) == notices and all("turned upright" in line for line in read.notices)


def test_exif_size_that_contradicts_its_boxes_is_refused(coco_file, tmp_path, write_oriented):
    image = {**IMAGE, "file_name": "a.jpg"}
    path = coco_file(images=[image], annotations=[{**BOX, "bbox": [20, 10, 15, 48]}])
    write_oriented(tmp_path / "a.jpg", np.zeros((40, 60, 3), np.uint8), 6)
    with pytest.raises(DataError, match="another version"):
        read_coco(path)


def coordinates(limit: int) -> st.SearchStrategy[float]:
    return st.one_of(st.integers(0, limit), st.floats(0, limit, width=32))


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    x1, y1 = draw(coordinates(50)), draw(coordinates(30))
    width, height = draw(st.floats(1, 10, width=32)), draw(st.floats(1, 10, width=32))
    corner = np.array([x1, y1, x1, y1], np.float32) + np.array([0, 0, width, height], np.float32)
    return tuple(corner.tolist())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_saved_is_read_back(data):
    with tempfile.TemporaryDirectory() as folder:
        home = Path(os.path.realpath(folder))
        (home / "photos").mkdir()
        ids = data.draw(st.lists(st.integers(0, 10**9), min_size=1, max_size=4, unique=True))
        category_ids = tuple(data.draw(st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True).map(sorted)))
        images = []
        for image_id in ids:
            path = home / "photos" / f"Wurzel ü {image_id}.png"
            Image.new("L", (60, 40)).save(path)
            drawn = data.draw(st.lists(boxes(), max_size=4))
            n = len(drawn)
            labels = data.draw(st.lists(st.integers(0, len(category_ids) - 1), min_size=n, max_size=n))
            areas = data.draw(st.lists(st.floats(0, 1e6, width=32), min_size=n, max_size=n))
            crowd = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
            attributes = data.draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2))
            boxes_xyxy = np.array(drawn, np.float32).reshape(-1, 4)
            arrays = (boxes_xyxy, np.array(labels, np.int64), np.array(areas), np.array(crowd, np.bool_))
            images.append(LabelledImage(image_id, path, (40, 60), *arrays, attributes))
        names = tuple(f"class {category_id}" for category_id in category_ids)
        saved = Dataset("drawn", names, category_ids, tuple(images))
        save_coco(saved, home / "folds" / "deep" / "fold0.json")
        read = read_coco(home / "folds" / "deep" / "fold0.json")
        assert (read.class_names, read.category_ids) == (names, category_ids)
        assert len(read) == len(saved)
        for back, was in zip(read.images, saved.images, strict=True):
            assert (back.image_id, back.path, back.size_hw) == (was.image_id, was.path, was.size_hw)
            assert dict(back.attributes) == dict(was.attributes)
            for name in ("boxes_xyxy", "labels", "areas_px", "iscrowd"):
                assert np.array_equal(getattr(back, name), getattr(was, name)), name
        assert read.fingerprint() == saved.fingerprint()


def test_saving_is_whole_or_not_at_all(coco_file, tmp_path):
    read = read_coco(coco_file())
    target = tmp_path / "out" / "fold.json"
    save_coco(read, target)
    assert json.loads(target.read_text())["images"][0]["file_name"] == "../a.png"
    save_coco(read, target)  # over an older one
    assert [path.name for path in target.parent.iterdir()] == ["fold.json"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        save_coco(read, tmp_path / "file" / "fold.json")
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        save_coco(read, tmp_path / "taken")
    assert not list(tmp_path.glob(".taken*"))


def test_a_saved_fold_in_a_linked_folder_finds_its_images(coco_file, tmp_path):
    read = read_coco(coco_file())
    (tmp_path / "deep" / "real").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "deep" / "real")
    save_coco(read, link / "fold.json")
    assert read_coco(link / "fold.json").box_count == 1


def test_pycocotools_reads_what_is_saved(coco_file, tmp_path, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    save_coco(read_coco(coco_file()), tmp_path / "out.json")
    theirs = coco.COCO(str(tmp_path / "out.json"))
    assert theirs.loadAnns(theirs.getAnnIds(imgIds=[7]))[0]["bbox"] == [10, 5, 20, 15]
    assert theirs.getCatIds() == [2, 5]


def test_cwfid_as_published(real_dataset):
    read = load_dataset(real_dataset("cwfid"))
    assert (len(read), read.box_count, read.notices) == (39, 320, ())
    assert read.class_names == ("crop", "weed") and read.category_ids == (1, 2)
    first = read.images[0]
    assert first.size_hw == (966, 1296) and first.boxes_xyxy[0].tolist() == [380, 320, 696, 685]
    assert first.labels[0] == 1 and first.areas_px[0] == 115340
