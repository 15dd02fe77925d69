from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from data import DataError, load_dataset
from data.errors import NoSuchSplit
from data.formats import load_parts
from data.formats.yolo import read_yolo

XML = "<annotation><filename>a.png</filename>{}<object><name>weed</name>{}<bndbox>{}</bndbox></object></annotation>"
BOX = "<xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>20</ymax>"


# --- Pascal VOC


@pytest.fixture
def voc(tmp_path, write_image):
    """Writes one XML and its 60 x 40 image `a.png`."""

    def make(head="", flags="", box=BOX, annotations="Annotations", images="JPEGImages"):
        write_image(tmp_path / images / "a.png")
        (tmp_path / annotations).mkdir(exist_ok=True)
        (tmp_path / annotations / "a.xml").write_text(XML.format(head, flags, box), encoding="utf-8")
        return tmp_path

    return make


def test_voc_coordinates_stand_as_they_are_but_the_challenges_own_count_from_one(voc):
    assert load_dataset(voc()).images[0].boxes_xyxy.tolist() == [[11, 6, 30, 20]]
    own = "<source><database>The VOC2007 Database</database></source>"
    assert load_dataset(voc(own)).images[0].boxes_xyxy.tolist() == [[10, 5, 30, 20]]
    fraction = BOX.replace("11", "11.25")
    assert load_dataset(voc(box=fraction)).images[0].boxes_xyxy.tolist() == [[11.25, 6, 30, 20]]


def test_voc_difficult_is_a_crowd_and_truncated_is_kept(voc):
    read = load_dataset(voc(flags="<truncated>1</truncated><difficult>1</difficult>"))
    assert read.images[0].iscrowd.tolist() == [True] and read.images[0].truncated.tolist() == [True]
    assert read.notices == (f"1 box marked difficult: not used for training ({read.images[0].path})",)


@pytest.mark.parametrize(
    ("flags", "difficult", "truncated", "unknown"),
    [
        ("<truncated>False</truncated><difficult>true</difficult>", True, False, 0),
        ("<truncated>0.0597</truncated><difficult> 1 </difficult>", True, True, 0),  # VOC 2008: the share cut off
        ("<truncated>Unspecified</truncated><difficult>Unspecified</difficult>", False, False, 2),  # makesense.ai
        ("<truncated>0.0</truncated><difficult>0.3</difficult>", False, False, 1),
        ("<truncated/><difficult></difficult>", False, False, 0),
        ("<truncated>7</truncated><difficult>nan</difficult>", False, False, 2),
    ],
)
def test_voc_marks_as_tools_write_them(flags, difficult, truncated, unknown, voc):
    read = load_dataset(voc(flags=flags))
    assert read.images[0].iscrowd.tolist() == [difficult] and read.images[0].truncated.tolist() == [truncated]
    assert sum("neither yes nor no: taken as no" in line for line in read.notices) == unknown


@pytest.mark.parametrize("folders", [("annotations", "images"), (".", "."), ("Annotations", "JPEGImages")])
def test_voc_trees(folders, voc):
    assert load_dataset(voc(annotations=folders[0], images=folders[1])).box_count == 1


def test_voc_sizes(voc, tmp_path, write_oriented):
    with pytest.raises(DataError, match="gives a.png as 61 x 40, the image is 60 x 40"):
        load_dataset(voc("<size><width>61</width><height>40</height></size>"))
    assert load_dataset(voc("<size><width>0</width><height>0</height></size>")).box_count == 1
    folder = voc("<size><width>60</width><height>40</height></size>", box=BOX)
    (folder / "JPEGImages" / "a.png").unlink()
    write_oriented(folder / "JPEGImages" / "a.jpg", np.zeros((40, 60, 3), np.uint8), 6)
    # drawn on the stored image, 60 x 40; orientation 6: x is 40 - y
    assert load_dataset(folder).images[0].boxes_xyxy.tolist() == [[20, 11, 34, 30]]


def test_voc_lists_are_splits(voc, tmp_path, write_image):
    folder = voc()
    for name in ("b", "c"):
        write_image(folder / "JPEGImages" / f"{name}.png")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    (folder / "ImageSets" / "Main" / "val.txt").write_text("b\n")
    (folder / "classes.txt").write_text("weed\ncrop\n")
    train = load_dataset(folder)
    assert [p.path.name for p in train.images] == ["a.png", "b.png"] and train.class_names == ("weed", "crop")
    assert train.notices == ("1 image without a label file: taken as background (b.png)",)
    assert [p.path.name for p in load_dataset(folder, unlabelled="skip").images] == ["a.png"]
    with pytest.raises(DataError, match="split 'val' is empty"):
        load_dataset(folder, split="val", unlabelled="skip")
    with pytest.raises(NoSuchSplit, match="no split 'test' in ImageSets/Main; there is: train, val"):
        load_dataset(folder, split="test")
    assert {name: len(part) for name, part in load_parts(folder).items()} == {"train": 2, "val": 1}


def test_voc_images_under_another_name_and_missing_ones(voc):
    folder = voc()
    (folder / "Annotations" / "a.xml").rename(folder / "Annotations" / "001.xml")
    read = load_dataset(folder)  # 001.xml names a.png; a.png itself has no a.xml
    assert [(p.path.name, len(p.labels)) for p in read.images] == [("a.png", 1)] and read.notices == ()
    (folder / "JPEGImages" / "a.png").unlink()
    with pytest.raises(DataError, match="001.xml: its image is missing"):
        load_dataset(folder)


def test_two_images_for_one_xml_are_refused(voc, write_image):
    folder = voc()
    write_image(folder / "JPEGImages" / "a.jpg")
    with pytest.raises(DataError, match="two images for the same labels"):
        load_dataset(folder)


# --- CSV


@pytest.mark.parametrize(
    "text",
    [
        "a.png,10,5,30,20,weed\nb.png,,,,,\n",
        "path,x1,y1,x2,y2,class\na.png,10,5,30,20,weed\nb.png,,,,,\n",
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,60,40,weed,10,5,30,20\nb.png,60,40,,,,,\n",
        '\ufeff"a.png","10","5","30","20","weed"\r\nb.png,,,,,\r\n\r\n',
    ],
    ids=["plain", "head", "other order", "windows"],
)
@pytest.mark.parametrize("folder", [".", "images"])
def test_csv(text, folder, tmp_path, write_image):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / folder / name)
    (tmp_path / "annotations.csv").write_text(text, encoding="utf-8")
    read = load_dataset(tmp_path)
    assert [p.path.name for p in read.images] == ["a.png", "b.png"]
    assert [p.boxes_xyxy.tolist() for p in read.images] == [[[10, 5, 30, 20]], []]
    assert (read.class_names, read.category_ids, read.notices) == (("weed",), (0,), ())


def test_csv_class_lists_give_the_order(tmp_path, write_image):
    write_image(tmp_path / "a.png")
    (tmp_path / "boxes.csv").write_text("a.png,10,5,30,20,weed\na.png,1,1,9,9,crop\n")
    assert load_dataset(tmp_path / "boxes.csv").class_names == ("crop", "weed")
    (tmp_path / "classes.txt").write_text("weed\ncrop\n")
    assert load_dataset(tmp_path / "boxes.csv").class_names == ("weed", "crop")
    (tmp_path / "classes.csv").write_text("soil,2\ncrop,1\nweed,0\n")
    read = load_dataset(tmp_path / "boxes.csv")
    assert read.class_names == ("weed", "crop", "soil") and read.images[0].labels.tolist() == [0, 1]


# --- mask folders


@pytest.fixture
def instances():
    """40 x 60: instance 300 in rows 5 to 9, columns 10 to 29; instance 7 is one pixel at the lower right corner."""
    mask = np.zeros((40, 60), np.uint16)
    mask[5:10, 10:30] = 300
    mask[39, 59] = 7
    return mask


def test_masks_of_sixteen_bits_and_a_folder_for_each_class(instances, tmp_path, write_image):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write_image(tmp_path / "images" / "north" / name)
    for name, mask in (("weed/north/a.png", instances), ("crop/north/a.png", (instances == 7).astype(np.uint8))):
        (tmp_path / "masks" / name).parent.mkdir(parents=True)
        Image.fromarray(mask).save(tmp_path / "masks" / name)
    Image.fromarray(instances * 0).save(tmp_path / "masks" / "weed" / "north" / "b.png")
    Image.fromarray(instances).save(tmp_path / "masks" / "weed" / "north" / "gone.png")
    read = load_dataset(tmp_path)
    assert read.class_names == ("crop", "weed")
    first = read.images[0]
    assert first.boxes_xyxy.tolist() == [[59, 39, 60, 40], [59, 39, 60, 40], [10, 5, 30, 10]]
    assert first.labels.tolist() == [0, 1, 1] and first.areas_px.tolist() == [1, 1, 100]
    assert [len(p.labels) for p in read.images] == [3, 0, 0]
    assert read.notices[1:] == (
        "1 mask without an image: not used (gone.png)",
        "1 image without a mask: taken as background (c.jpg)",
    )
    assert len(load_dataset(tmp_path, unlabelled="skip")) == 2


def test_masks_with_classes_json(instances, tmp_path, write_image):
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "masks").mkdir()
    Image.fromarray(instances).save(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match="the class of the masks is unknown"):
        load_dataset(tmp_path)
    (tmp_path / "classes.json").write_text('["weed"]')
    assert load_dataset(tmp_path).images[0].labels.tolist() == [0, 0]
    (tmp_path / "classes.json").write_text(
        '{"classes": ["crop", "weed"], "instances": {"a": {"7": "crop", "300": "weed"}}}'
    )
    assert load_dataset(tmp_path).images[0].labels.tolist() == [0, 1]
    Image.fromarray(np.where(instances, 255, 0).astype(np.uint8)).save(tmp_path / "masks" / "a.png")
    (tmp_path / "classes.json").write_text('["weed"]')
    assert "1 mask of 0 and 255 only: taken as one instance each" in load_dataset(tmp_path).notices[0]
    Image.fromarray(np.zeros((40, 61), np.uint8)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match="as 61 x 40, the image is 60 x 40"):
        load_dataset(tmp_path)
    Image.new("RGB", (60, 40)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match="one channel of instance numbers, this is PNG of RGB pixels"):
        load_dataset(tmp_path)


# --- the door


def test_several_datasets_in_one_folder_and_a_format_by_name(tmp_path, coco_file, voc):
    path = coco_file()
    voc()
    with pytest.raises(DataError, match=r"several datasets \(annotations.json, . \(voc\)\): .* give the --format"):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path, format="voc").images[0].boxes_xyxy.tolist() == [[11, 6, 30, 20]]
    assert load_dataset(tmp_path, format="coco").images[0].boxes_xyxy.tolist() == [[10, 5, 30, 20]]
    odd = path.rename(tmp_path / "labels.odd")
    with pytest.raises(DataError, match="not a dataset"):
        load_dataset(odd)
    assert load_dataset(odd, format="coco").box_count == 1
    for format_, said in (("csv", "no dataset in this folder"), ("tfrecord", "use one of auto, coco")):
        with pytest.raises(DataError, match=said):
            load_dataset(tmp_path, format=format_)
    with pytest.raises(DataError, match="use background or skip"):
        load_dataset(odd, format="coco", unlabelled="maybe")


def test_a_folder_for_each_split(tmp_path, voc):
    folder = voc(annotations=".", images=".")
    for part in ("train", "valid"):
        shutil.copytree(folder, tmp_path / "set" / part, ignore=shutil.ignore_patterns("set"))
    assert [name for name in load_parts(tmp_path / "set")] == ["train", "val"]
    with pytest.raises(NoSuchSplit, match="no split 'test' here; there is: train, valid"):
        load_dataset(tmp_path / "set", split="test")


def test_a_whole_without_splits_comes_once(coco_file):
    assert list(load_parts(coco_file())) == ["train"]


def test_yolo_images_without_labels_may_be_left_out(tmp_path, write_image):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "images" / name)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [weed]\n")
    read = read_yolo(tmp_path / "data.yaml", unlabelled="skip")
    assert [p.path.name for p in read.images] == ["a.png"]
    assert read.notices == ("1 image without a label file: left out (unlabelled: skip) (b.png)",)
    (tmp_path / "labels" / "a.txt").unlink()
    with pytest.raises(DataError, match="split 'train' is empty: no image has a label file"):
        load_dataset(tmp_path, unlabelled="skip")
