from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.formats.coco import read_coco
from data.formats.segmentation import rle_counts, segmentation_box

coco_mask = pytest.importorskip("pycocotools.mask")


def test_polygons_by_hand():
    assert segmentation_box([[3, 4, 10, 4, 10, 12.5], [1, 7, 2, 7, 2, 8]], (40, 60)) == (1, 4, 10, 12.5)
    assert segmentation_box([3, 4, 10, 4, 10, 12], None) == (3, 4, 10, 12)  # one polygon, not in a list of its own


def test_masks_by_hand():
    # 4 high, 5 wide, numbered down the columns: pixels 5 and 6 are column 1, rows 1 and 2.
    assert segmentation_box({"size": [4, 5], "counts": [5, 2, 13]}, (4, 5)) == (1, 1, 2, 3)
    # pixels 6 to 9: column 1 rows 2 and 3, column 2 rows 0 and 1
    assert segmentation_box({"size": [4, 5], "counts": [6, 4, 10]}, (4, 5)) == (1, 0, 3, 4)
    assert segmentation_box({"size": [4, 5], "counts": [20]}, (4, 5)) == (0, 0, 0, 0)
    assert segmentation_box({"size": [4, 5], "counts": [0, 20]}, (4, 5)) == (0, 0, 5, 4)
    with pytest.raises(ValueError, match="the RLE is 5 x 4, its image 4 x 5"):
        segmentation_box({"size": [4, 5], "counts": [20]}, (5, 4))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_boxes_and_counts_of_masks_are_those_of_pycocotools(data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    share = data.draw(st.sampled_from([0.01, 0.3, 0.9]))
    mask = np.random.default_rng(data.draw(st.integers(0, 999))).random((height, width)) < share
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = rle["counts"].decode()
    assert sum(rle_counts(text)) == height * width
    x1, y1, x2, y2 = segmentation_box({"size": [height, width], "counts": text}, (height, width))
    assert [x1, y1, x2 - x1, y2 - y1] == coco_mask.toBbox(rle).tolist()
    assert segmentation_box({"size": [height, width], "counts": rle_counts(text)}, None) == (x1, y1, x2, y2)


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=120), max_size=30))
def test_any_string_is_decoded_or_refused(text):
    try:
        segmentation_box({"size": [40, 60], "counts": text}, (40, 60))
    except ValueError as error:
        assert "RLE" in str(error)


def test_an_annotation_without_a_bbox_gets_the_bounds_of_its_outline(coco_file):
    base = {"image_id": 7, "category_id": 5}
    outlines = [
        [[3, 4, 10, 4, 10, 12]],
        {"size": [40, 60], "counts": [45, 2, 2353]},
        {"size": [40, 60], "counts": [2400]},
    ]
    annotations = [{**base, "id": n, "bbox": [], "segmentation": outline} for n, outline in enumerate(outlines)]
    annotations.append({**base, "id": 9, "segmentation": outlines[0], "bbox": [1, 1, 5, 5]})
    del annotations[0]["bbox"]
    read = read_coco(coco_file(annotations=annotations))
    # pixels 45 and 46 are column 1, rows 5 and 6; the mask without a pixel has no box
    assert read.images[0].boxes_xyxy.tolist() == [[3, 4, 10, 12], [1, 5, 2, 7], [1, 1, 6, 6]]
    assert len(read.notices) == 1 and read.notices[0].startswith("1 box thinner than 1 px")


# --- Label Studio and CVAT, as their exports come


def export(home, write_image, names: dict[str, str], **more):
    for n, file in enumerate(names.values()):
        write_image(home / file, (40, 60), seed=n)
    content = {
        "images": [{"id": n, "file_name": name, "width": 60, "height": 40} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 0, "segmentation": [], "bbox": [n, 2, 9, 9], "ignore": 0}
            for n, _ in enumerate(names)
        ],
        "categories": [{"id": 0, "name": "Unkraut, groß"}],
        "info": {"year": 2025, "version": "1.0", "description": "", "contributor": "Label Studio", "url": ""},
        **more,
    }
    return json.dumps(content)


def test_label_studios_file_names(tmp_path, write_image):
    names = {
        "images/0a1b2c3d-IMG_1.png": "images/0a1b2c3d-IMG_1.png",
        "images\\1a1b2c3d-IMG_2.png": "images/1a1b2c3d-IMG_2.png",
        "/data/upload/1/2a1b2c3d-IMG_3.png": "images/2a1b2c3d-IMG_3.png",
        "/data/upload/1/3a1b2c3d-IMG_4.png": "images/IMG_4.png",
        "/data/local-files/?d=field%20north/r%C3%BCbe.png": "images/rübe.png",
        "http://localhost:8080/data/upload/7/4a1b2c3d-my%20leaf.png": "images/4a1b2c3d-my leaf.png",
        "images/5a1b2c3d-a%20b.png": "images/5a1b2c3d-a b.png",
        "/home/anna/photos/deep/c.png": "images/deep/c.png",
        "C:\\photos\\d.png": "images/d.png",
        "s3://bucket/e.png": "images/e.png",
    }
    (tmp_path / "result.json").write_text(export(tmp_path, write_image, names))
    from data import load_dataset

    read = load_dataset(tmp_path)
    assert [p.path.relative_to(tmp_path).as_posix() for p in read.images] == list(names.values())
    assert read.class_names == ("Unkraut, groß",) and read.box_count == 10
    assert read.notices == (
        "9 files found under another spelling of their name (Unicode form, case, slashes or leading folders) "
        "(first: images\\1a1b2c3d-IMG_2.png: 1a1b2c3d-IMG_2.png)",
    )


def test_two_names_for_one_file_are_refused(tmp_path, write_image):
    from data import DataError, load_dataset

    names = {"/data/upload/1/IMG.png": "images/IMG.png", "/data/upload/2/IMG.png": "images/IMG.png"}
    (tmp_path / "result.json").write_text(export(tmp_path, write_image, names))
    with pytest.raises(DataError, match="/data/upload/1/IMG.png and /data/upload/2/IMG.png are both found as"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("folder", ["images/default", "images"])
def test_cvats_tree(folder, tmp_path, write_image):
    from data import load_dataset

    names = {"north/a.png": f"{folder}/north/a.png", "b.png": f"{folder}/b.png"}
    (tmp_path / "annotations").mkdir()
    rle = {"size": [40, 60], "counts": [45, 2, 2353]}
    annotations = [
        {"id": 1, "image_id": 0, "category_id": 0, "segmentation": [], "bbox": [1, 2, 3, 4], "iscrowd": 0,
         "attributes": {"occluded": False, "truncated": True, "rotation": 0.0}},
        {"id": 2, "image_id": 1, "category_id": 0, "segmentation": rle, "bbox": [1, 5, 1, 2], "iscrowd": 1},
    ]  # fmt: skip
    text = export(tmp_path, write_image, names, annotations=annotations)
    (tmp_path / "annotations" / "instances_default.json").write_text(text)
    read = load_dataset(tmp_path)
    assert [p.path.relative_to(tmp_path).as_posix() for p in read.images] == list(names.values())
    assert [p.truncated.tolist() for p in read.images] == [[True], [False]]
    assert [p.iscrowd.tolist() for p in read.images] == [[False], [True]]
