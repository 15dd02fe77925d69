"""Exports as people have them: read, with what was assumed said, or refused in a line that says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data import DataError, load_dataset
from data.check import check, read_parts
from data.dataset import merged
from data.formats import load_parts

XML = "<annotation>{}<object><name>{}</name><bndbox>{}</bndbox>{}</object></annotation>"
BOX = "<xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>20</ymax>"
YOLO = "0 .5 .5 .5 .5\n"


def write(home: Path, files: dict[str, str], encoding: str = "utf-8") -> None:
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text, encoding=encoding, newline="")


def coco(images=None, annotations=None, categories=None) -> str:
    image = {"id": 7, "file_name": "a.png", "width": 60, "height": 40}
    box = {"id": 1, "image_id": 7, "category_id": 5, "bbox": [10, 5, 20, 15]}
    return json.dumps(
        {
            "images": images or [image],
            "annotations": [{**box, **one} for one in annotations or [{}]],
            "categories": categories or [{"id": 5, "name": "weed"}],
        }
    )


# --- YOLO without a data.yaml

DARKNET = {
    "obj.data": "classes = 2\r\ntrain = data/train.txt\r\nnames = data/obj.names\r\nbackup = backup/\r\n",
    "obj.names": "weed\r\ncrop\r\n",
    "train.txt": "data/obj_train_data/a.png\r\n",
    "obj_train_data/a.txt": YOLO,
}


@pytest.mark.parametrize(
    ("files", "image"),
    [
        (DARKNET, "obj_train_data/a.png"),
        ({"classes.txt": "weed\ncrop\n", "labels/a.txt": YOLO, "notes.json": "{}"}, "images/a.png"),
        ({"classes.txt": "weed\ncrop\n", "a.txt": YOLO}, "a.png"),
        ({"_darknet.labels": "weed\ncrop", "a.txt": YOLO}, "a.png"),
        ({"classes.txt": "weed\ncrop\n", "labels/train/a.txt": YOLO}, "images/train/a.png"),
    ],
    ids=["CVAT YOLO 1.1", "Label Studio", "labelImg", "Roboflow Darknet", "split folders"],
)
def test_yolo_as_tools_export_it(files, image, tmp_path, write_image):
    write(tmp_path, files)
    write_image(tmp_path / image)
    read = load_dataset(tmp_path)
    assert read.class_names == ("weed", "crop") and read.images[0].boxes_xyxy.tolist() == [[15, 10, 45, 30]]
    assert list(load_parts(tmp_path)) == ["train"]
    (names,) = [name for name in files if Path(name).name in ("obj.names", "classes.txt", "_darknet.labels")]
    assert load_dataset(tmp_path / names, format="yolo").box_count == 1


def test_names_that_are_not_as_many_as_classes_and_hidden_files_in_a_list(tmp_path, write_image):
    write(tmp_path, {**DARKNET, "train.txt": "data/obj_train_data/a.png\ndata/obj_train_data/._a.png\n"})
    write_image(tmp_path / "obj_train_data" / "a.png")
    read = load_dataset(tmp_path)
    assert len(read) == 1 and "1 entry for a hidden file of macOS: left out" in " ".join(read.notices)
    write(tmp_path, {"obj.data": DARKNET["obj.data"].replace("2", "3")})
    with pytest.raises(DataError, match="classes is 3 but obj.names has 2"):
        load_dataset(tmp_path)


def test_a_list_of_classes_may_repeat_one_with_other_white_space(tmp_path, write_image):
    write_image(tmp_path / "a.png")
    write(tmp_path, {"a.xml": XML.format("", "crop", BOX, ""), "classes.txt": "weed\ncrop\nweed \n"})
    assert load_dataset(tmp_path).class_names == ("weed", "crop")
    write(tmp_path, {"classes.txt": "weed\ncrop\nweed\n"})
    with pytest.raises(DataError, match=r"names a class twice \(weed\)"):
        load_dataset(tmp_path)


def test_a_list_of_cvat_with_obj_names_beside_it(tmp_path, write_image):
    write(tmp_path, DARKNET)
    write_image(tmp_path / "obj_train_data" / "a.png")
    assert load_dataset(tmp_path / "train.txt").class_names == ("weed", "crop")
    (tmp_path / "obj.names").unlink()
    with pytest.raises(DataError, match="obj.data: its class names are missing: .*obj.names: copy them there"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("[yes, no, on, off]", ("yes", "no", "on", "off")),
        ("[010, 0x1f, 1e3, 1_000]", ("010", "0x1f", "1e3", "1_000")),
        ("[12:30, 2026-05-01, 1.10]", ("12:30", "2026-05-01", "1.10")),
        ("[null, ~, true]", ("null", "~", "true")),
        ("{1: 'no', 0: \"yes\"}", ("yes", "no")),
        ("[ weed , 'sugar  beet ', \"cro\\tp\"]", ("weed", "sugar beet", "cro p")),
    ],
)
def test_class_names_of_a_yaml_are_as_written(written, read, tmp_path, write_image):
    write_image(tmp_path / "images" / "a.png")
    write(tmp_path, {"data.yaml": f"names: {written}\ntrain: images\ntest:\nnc: {len(read)}\n", "labels/a.txt": YOLO})
    assert load_dataset(tmp_path).class_names == read


# --- classes


@pytest.mark.parametrize("kind", ["coco", "yolo", "voc", "csv"])
def test_white_space_around_a_class_means_nothing_and_case_is_pointed_out(kind, tmp_path, write_image):
    names = ("weed", "weed ", "\u00a0we\u0308ed".replace("\u0308", ""), "Weed")
    for name in ("a", "b", "c", "d"):
        write_image(tmp_path / f"{name}.png", seed=ord(name))
    stems = dict(zip("abcd", names, strict=True))
    if kind == "coco":
        images = [{"id": n, "file_name": f"{s}.png"} for n, s in enumerate(stems)]
        annotations = [{"image_id": n, "category_id": n} for n in range(4)]
        text = coco(images, annotations, [{"id": n, "name": name} for n, name in enumerate(names)])
        write(tmp_path, {"annotations.json": text})
    elif kind == "yolo":
        listed = json.dumps(names)
        labels = {f"{s}.txt": YOLO.replace("0", str(n), 1) for n, s in enumerate(stems)}
        write(tmp_path, {"data.yaml": f"names: {listed}\ntrain: .\n", **labels})
    elif kind == "voc":
        write(tmp_path, {f"{stem}.xml": XML.format("", name, BOX, "") for stem, name in stems.items()})
    else:
        write(tmp_path, {"train.csv": "".join(f"{s}.png, 10, 5, 30, 20, {n}\n" for s, n in stems.items())})
    read = load_dataset(tmp_path)
    assert sorted(read.class_names) == ["Weed", "weed"]
    assert [read.class_names[p.labels[0]] for p in read.images] == ["weed", "weed", "weed", "Weed"]
    (similar,) = [f for f in check(read_parts(tmp_path)).findings if f.kind == "class-similar"]
    assert similar.severity == "warning" and set(similar.examples[0].detail.split(", ")) == {"Weed", "weed"}


ROOT = {"id": 0, "name": "field", "supercategory": "none"}


@pytest.mark.parametrize("root", ["field", "weed"])
def test_a_category_that_is_only_the_supercategory_of_others_is_no_class(root, tmp_path, write_image):
    write_image(tmp_path / "a.png")
    children = [{"id": n, "name": name, "supercategory": root} for n, name in ((5, "weed"), (6, "crop"))]
    write(tmp_path, {"_annotations.coco.json": coco(categories=[{**ROOT, "name": root}, *children])})
    read = load_dataset(tmp_path)
    assert (read.class_names, read.category_ids) == (("weed", "crop"), (5, 6))
    assert read.notices == (f"category 0 {root!r} is only the supercategory of the others: no class",)
    annotated = [{}, {"id": 2, "category_id": 0, "bbox": [0, 0, 9, 9]}]
    write(tmp_path, {"_annotations.coco.json": coco(None, annotated, [{**ROOT, "name": "field"}, *children])})
    assert load_dataset(tmp_path).class_names == ("field", "weed", "crop")  # it has a box: a class


@pytest.mark.parametrize("kind", ["voc", "csv", "coco"])
def test_the_classes_of_all_parts_are_the_datasets(kind, tmp_path, write_image):
    parts = {"train": ("crop", "weed"), "valid": ("weed",)}
    for part, names in parts.items():
        for number, name in enumerate(names):
            write_image(tmp_path / part / f"{part}{number}.png", seed=hash(part) % 97 + number)
            if kind == "voc":
                write(tmp_path / part, {f"{part}{number}.xml": XML.format("", name, BOX, "")})
        if kind == "csv":
            rows = "".join(f"{part}{n}.png,10,5,30,20,{name}\n" for n, name in enumerate(names))
            write(tmp_path / part, {"annotations.csv": rows})
        if kind == "coco":
            images = [{"id": n, "file_name": f"{part}{n}.png"} for n in range(len(names))]
            annotations = [{"id": n, "image_id": n, "category_id": n} for n in range(len(names))]
            categories = [{"id": n, "name": name} for n, name in enumerate(names)]
            write(tmp_path / part, {"_annotations.coco.json": coco(images, annotations, categories)})
    loaded = load_parts(tmp_path)
    if kind != "coco":  # lists its classes, and is read as it stands
        assert loaded["train"].class_names == loaded["val"].class_names == ("crop", "weed")
    whole = merged(loaded)
    assert whole.class_names == ("crop", "weed") and whole.box_count == 3
    names_of = [[whole.class_names[label] for label in image.labels] for image in whole.images]
    assert names_of == [["crop"], ["weed"], ["weed"]]


def test_classes_come_from_all_xmls_and_not_from_those_of_a_list(tmp_path, write_image):
    for name, cls in (("a", "crop"), ("b", "weed")):
        write_image(tmp_path / "JPEGImages" / f"{name}.png", seed=ord(name))
        write(tmp_path, {f"Annotations/{name}.xml": XML.format("", cls, BOX, "")})
    write(tmp_path, {"ImageSets/Main/Train.txt": "a\n", "ImageSets/Main/Validation.txt": "b 1\r\n"})
    assert [part.class_names for part in load_parts(tmp_path).values()] == [("crop", "weed")] * 2


# --- one file, two images


def test_two_entries_with_one_file_are_an_error(tmp_path, write_image):
    write_image(tmp_path / "a.png")
    images = [{"id": n, "file_name": "a.png"} for n in (7, 9)]
    write(tmp_path, {"annotations.json": coco(images, [{}, {"id": 2, "image_id": 9, "bbox": [0, 0, 9, 9]}])})
    with pytest.raises(DataError, match="images 7 and 9 are both a.png: one file"):
        load_dataset(tmp_path)
    assert [f.kind for f in check(read_parts(tmp_path)).findings if f.severity == "error"] == ["image-repeated"]


def test_an_image_with_other_boxes_in_another_part_is_an_error_of_merging(tmp_path, write_image):
    write_image(tmp_path / "a.png")
    write(tmp_path, {"train.json": coco(), "val.json": coco()})
    assert merged(load_parts(tmp_path)).box_count == 1
    write(tmp_path, {"val.json": coco(annotations=[{"bbox": [0, 0, 9, 9]}])})
    with pytest.raises(DataError, match="a.png: is in several parts .* with other boxes in each"):
        merged(load_parts(tmp_path))


# --- COCO's numbers as tools write them


@pytest.mark.parametrize(
    ("image_id", "category_id", "bbox", "iscrowd"),
    [
        (7.0, 5.0, ["10", "5.0", "20", "15"], "0"),
        ("7", "5", "[10, 5, 20, 15]", False),
        ("field-7", "weed", [10.0, 5, 20, 15], 0.0),
    ],
)
def test_ids_and_boxes_written_as_text_or_floats(image_id, category_id, bbox, iscrowd, tmp_path, write_image):
    write_image(tmp_path / "a.png")
    image = {"id": image_id, "file_name": "a.png", "width": "60", "height": 40.0}
    box = {"image_id": image_id, "category_id": category_id, "bbox": bbox, "iscrowd": iscrowd, "area": "300"}
    write(tmp_path, {"annotations.json": coco([image], [box], [{"id": category_id, "name": "weed"}])})
    read = load_dataset(tmp_path)
    assert read.images[0].boxes_xyxy.tolist() == [[10, 5, 30, 20]] and read.class_names == ("weed",)
    assert read.images[0].image_id == (7 if image_id != "field-7" else 1)


@pytest.mark.parametrize("bbox", [[], "", None, "none", ["x", 1, 2, 3], {"x": 1}])
def test_a_box_that_is_none_is_one_line(bbox, tmp_path, write_image):
    write_image(tmp_path / "a.png")
    write(tmp_path, {"annotations.json": coco(annotations=[{"bbox": bbox}])})
    with pytest.raises(DataError, match=r"annotation 1 of image 7: bbox must be four numbers"):
        load_dataset(tmp_path)


# --- boxes that are turned: 20 x 10 px about (30, 20), by 30 degrees

TURNED = [30 - 11.16025, 20 - 9.33013, 30 + 11.16025, 20 + 9.33013]  # (20 cos 30 + 10 sin 30) / 2, ...


@pytest.mark.parametrize("degrees", [30, -30.0, "30", 210])
@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_a_turned_box_is_its_upright_bounds(degrees, kind, tmp_path, write_image):
    write_image(tmp_path / "a.png")
    if kind == "coco":
        turned = {"bbox": [20, 15, 20, 10], "attributes": {"rotation": degrees, "occluded": False}}
        write(tmp_path, {"annotations.json": coco(annotations=[turned])})
    else:
        corners = "<xmin>20</xmin><ymin>15</ymin><xmax>40</xmax><ymax>25</ymax>"
        more = f"<attributes><attribute><name>rotation</name><value>{degrees}</value></attribute></attributes>"
        write(tmp_path, {"a.xml": XML.format("", "weed", corners, more)})
    read = load_dataset(tmp_path)
    np.testing.assert_allclose(read.images[0].boxes_xyxy, [TURNED], atol=1e-4)
    assert "1 turned box taken as their upright bounds" in read.notices[0]


def test_an_angle_that_is_none_and_rolabelimgs_boxes(tmp_path, write_image):
    write_image(tmp_path / "a.png")
    write(tmp_path, {"annotations.json": coco(annotations=[{"attributes": {"rotation": "left"}}])})
    with pytest.raises(DataError, match="rotation must be an angle in degrees, got 'left'"):
        load_dataset(tmp_path)
    (tmp_path / "annotations.json").unlink()
    turned = "<robndbox><cx>30</cx><cy>20</cy><w>20</w><h>10</h><angle>0.5235988</angle></robndbox>"
    write(tmp_path, {"a.xml": XML.format("", "weed", BOX, turned).replace(f"<bndbox>{BOX}</bndbox>", "")})
    np.testing.assert_allclose(load_dataset(tmp_path).images[0].boxes_xyxy, [TURNED], atol=1e-4)


# --- CSV

ROWS = {
    "spaces": "path, x1, y1, x2, y2, class\na.png, 10, 5, 30, 20, weed\n",
    "semicolons": "path;x1;y1;x2;y2;class\r\na.png;10,0;5,0;30,0;20,0;weed\r\n",
    "tabs": "path\tx1\ty1\tx2\ty2\tclass\na.png\t10\t5\t30\t20\tweed\n",
    "quoted commas": 'path,x1,y1,x2,y2,class\n"a.png","10,0","5,0","30,0","20,0","weed"\n',
    "makesense": "weed,10,5,20,15,a.png,60,40\n",
    "makesense with a head": (
        "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height\n"
        "weed,10,5,20,15,a.png,60,40\n"
    ),
    "marks": "\ufeffpath,x1,y1,x2,y2,class\r\na.png,10,5,30,20,\ufeffweed\r\n",
    "upper case": "Image_Path,XMin,YMin,XMax,YMax,Label\na.png,10,5,30,20,weed\n",
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
def test_csv_as_spreadsheets_and_tools_write_it(rows, tmp_path, write_image):
    write_image(tmp_path / "a.png")
    write(tmp_path, {"annotations.csv": rows})
    read = load_dataset(tmp_path)
    assert read.class_names == ("weed",) and read.images[0].boxes_xyxy.tolist() == [[10, 5, 30, 20]]
    assert read.notices == ()


@pytest.mark.parametrize("encoding", ["gb2312", "cp1252", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("kind", ["csv", "voc", "yolo", "coco"])
def test_labels_that_are_not_utf_8(kind, encoding, tmp_path, write_image):
    name = "杂草" if encoding == "gb2312" else "Rübe"
    write_image(tmp_path / f"{name}.png")
    image = {"id": 7, "file_name": f"{name}.png"}
    text = coco([image], [{}], [{"id": 5, "name": name}]).encode().decode("unicode_escape")
    declared = "gb2312" if encoding == "gb2312" else "utf-8"
    files = {
        "csv": {"train.csv": f"{name}.png,10,5,30,20,{name}\n"},
        "voc": {f"{name}.xml": f'<?xml version="1.0" encoding="{declared}"?>\n' + XML.format("", name, BOX, "")},
        "yolo": {
            "data.yaml": f"train: train.txt\nnames: ['{name}']\n",
            "train.txt": f"{name}.png\n",
            f"{name}.txt": YOLO,
        },
        "coco": {"annotations.json": text},
    }
    write(tmp_path, files[kind], encoding)
    read = load_dataset(tmp_path)
    assert read.class_names == (name,) and read.box_count == 1
    said = sum("label file" in line for line in read.notices)
    as_declared = encoding == "utf-8-sig" or (kind == "voc" and encoding == "gb2312")
    assert said == (not as_declared), read.notices


# --- another unit or order

CVAT = (
    "<?xml version='1.0'?><annotations><version>1.1</version><image id='0' name='a.png'><box/></image></annotations>"
)
FOREIGN = {
    "a.json": ({"version": "5", "shapes": [], "imagePath": "a.png"}, "LabelMe's JSON.*labelme2coco"),
    "via.json": ({"a.png123": {"filename": "a.png", "size": 1, "regions": []}}, "VIA's JSON: export .* COCO"),
    "project.json": ([{"id": 1, "annotations": [], "data": {"image": "a.png"}}], "Label Studio's own JSON: export"),
    "min.json": ([{"image": "a.png", "label": [{"x": 1}]}], "Label Studio's own JSON: export"),
    "createml.json": ([{"image": "a.png", "annotations": []}], "CreateML's JSON: export"),
    "results.json": ([{"image_id": 1, "category_id": 1, "bbox": [], "score": 0.5}], "a list of detections"),
    "coco.json": ({"images": [], "annotations": []}, "a COCO JSON without its categories"),
    "vott.json": ({"assets": {}, "tags": []}, "VoTT's JSON: export"),
    "annotations.xml": (CVAT, "CVAT's own XML.*: export the task as COCO 1.0 or Pascal VOC 1.1"),
    "train.tfrecord": ("", "a TFRecord: export"),
    "export.zip": ("", "an archive: unpack it"),
    "labels/a.txt": (YOLO, "YOLO labels without class names: put a classes.txt"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_labels_of_other_tools_are_answered_by_how_to_export_them(name, tmp_path, write_image):
    content, said = FOREIGN[name]
    write_image(tmp_path / "images" / "a.png")
    write(tmp_path, {name: content if isinstance(content, str) else json.dumps(content)})
    with pytest.raises(DataError, match=said) as caught:
        load_dataset(tmp_path)
    assert "\n" not in str(caught.value)
    if not name.endswith(".txt"):
        with pytest.raises(DataError, match=said):
            load_dataset(tmp_path / name, format="coco" if name.endswith("json") else "auto")


def test_a_folder_around_the_dataset_is_pointed_into(tmp_path, write_image):
    write_image(tmp_path / "unpacked" / "a.png")
    write(tmp_path, {"unpacked/annotations.json": coco()})
    with pytest.raises(DataError, match="no dataset in this folder itself; there is one in .*unpacked: name that"):
        load_dataset(tmp_path)


def test_jsons_by_split_in_annotations_and_subsets_that_are_none(tmp_path, write_image):
    for part in ("train", "val"):
        write_image(tmp_path / "images" / f"{part}.png", seed=len(part))
        write(tmp_path, {f"annotations/{part}.json": coco([{"id": 7, "file_name": f"{part}.png"}])})
    assert [p.images[0].path.name for p in load_parts(tmp_path).values()] == ["train.png", "val.png"]
    for part in ("train", "val"):
        name = f"instances_{part}.json"
        (tmp_path / "annotations" / f"{part}.json").rename(tmp_path / "annotations" / name)
    write(tmp_path, {"annotations/instances_default.json": coco()})
    parts = load_parts(tmp_path)
    assert (
        list(parts) == ["train", "val"]
        and "instances_default.json beside it is of no split" in parts["val"].notices[0]
    )


def test_fiftyones_coco(tmp_path, write_image):
    write_image(tmp_path / "data" / "a.png")
    write(tmp_path, {"labels.json": coco()})
    assert load_dataset(tmp_path).box_count == 1
