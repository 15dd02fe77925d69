from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data import DataError, Dataset, LabelledImage, load_dataset
from data.formats.repair import Notices, repair_boxes


def image(path="a.png", boxes=((1, 2, 3, 4),), image_id=1, size_hw=(40, 60), **changes) -> LabelledImage:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(boxes)
    fields = {
        "labels": np.zeros(n, np.int64),
        "areas_px": np.ones(n, np.float32),
        "iscrowd": np.zeros(n, np.bool_),
        "attributes": {"field": "north"},
    }
    return LabelledImage(image_id, Path(path), size_hw, boxes, **{**fields, **changes})


def dataset(*images: LabelledImage, names=("crop",)) -> Dataset:
    return Dataset("test", names, tuple(range(len(names))), images, ("said",))


def test_arrays_are_copied_and_read_only():
    boxes = np.array([[1, 2, 3, 4]], np.float32)
    made = image(boxes=boxes)
    boxes[:] = 9
    assert made.boxes_xyxy.tolist() == [[1, 2, 3, 4]]
    for array in (made.boxes_xyxy, made.labels, made.areas_px, made.iscrowd):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
    with pytest.raises(TypeError):
        made.attributes["field"] = "south"


def test_pickling_keeps_everything_read_only():
    back = pickle.loads(pickle.dumps(dataset(image(), image(boxes=(), image_id=2))))
    assert back.images[0].boxes_xyxy.tolist() == [[1, 2, 3, 4]]
    assert not back.images[0].boxes_xyxy.flags.writeable
    assert dict(back.images[0].attributes) == {"field": "north"}
    assert back.images[1].boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"boxes": [[1, 2, 1, 4]]}, "x2 > x1"),
        ({"boxes": [[1, 2, 61, 4]]}, "inside"),
        ({"boxes": [[-1, 2, 6, 4]]}, "inside"),
        ({"boxes": [[np.nan, 2, 6, 4]]}, "inside"),
        ({"labels": np.zeros(2, np.int64)}, r"labels must have shape \(1,\), got \(2,\)"),
        ({"labels": np.zeros(1)}, "labels must be integers"),
        ({"areas_px": np.zeros((1, 1))}, "areas_px must have shape"),
        ({"size_hw": (0, 60)}, "positive"),
    ],
)
def test_a_wrong_image_cannot_be_made(changes, said):
    with pytest.raises(ValueError, match=said):
        image(**changes)


def test_boxes_at_the_border_are_inside():
    assert len(image(boxes=[[0, 0, 60, 40], [59, 39, 60, 40]]).boxes_xyxy) == 2


def test_a_wrong_dataset_cannot_be_made():
    with pytest.raises(ValueError, match="image ids"):
        dataset(image(), image())
    with pytest.raises(ValueError, match="labels must be 0 to 0"):
        dataset(image(labels=np.array([1])))
    with pytest.raises(ValueError, match="unique"):
        dataset(names=("crop", "crop"))
    with pytest.raises(ValueError, match="category ids"):
        Dataset("test", ("crop",), (), ())


def test_spread_takes_the_ends_and_what_lies_evenly_between():
    whole = dataset(*(image(image_id=k) for k in range(10)))
    assert [p.image_id for p in whole.spread(4).images] == [0, 3, 6, 9]
    assert whole.spread(10).images == whole.spread(99).images == whole.images
    assert len(whole.subset([]).spread(4)) == 0 and len(whole.spread(1)) == 1


def test_subset_keeps_order_and_classes():
    whole = dataset(image(), image(image_id=2, boxes=()), image(image_id=3))
    part = whole.subset(np.array([2, 1]))
    assert [p.image_id for p in part.images] == [3, 2] and part.class_names == ("crop",)
    assert (len(whole), whole.box_count, len(part), part.box_count) == (3, 2, 2, 1)
    assert len(whole.subset([])) == 0 and whole.subset([]).box_count == 0


def test_fingerprint_is_blind_to_place_and_order_and_sees_every_change(tmp_path, write_image):
    for folder in ("one", "two"):
        write_image(tmp_path / folder / "a.png", seed=1)
        write_image(tmp_path / folder / "b.png", seed=2)
    boxes = [[1, 2, 3, 4], [5, 5, 9, 9]]

    def of(folder="one", boxes=boxes, names=("crop", "weed"), **changes):
        a = image(tmp_path / folder / "a.png", boxes, **changes)
        return dataset(a, image(tmp_path / folder / "b.png", (), 2), names=names)

    first = of().fingerprint()
    assert first.startswith("sha256:") and len(first) == 71
    assert of("two").fingerprint() == first
    assert of(boxes=boxes[::-1]).fingerprint() == first
    assert of(image_id=99).fingerprint() == first
    assert of().subset([1, 0]).fingerprint() == first
    others = [
        of(boxes=[[1, 2, 3, 4], [5, 5, 9, 9.02]]),
        of(boxes=[[1, 2, 3, 4]]),
        of(labels=np.array([0, 1])),
        of(iscrowd=np.array([True, False])),
        of(names=("crop", "dock")),
        of().subset([0]),
        of().subset([]),
    ]
    prints = {other.fingerprint() for other in others}
    assert len(prints) == 7 and first not in prints
    write_image(tmp_path / "one" / "b.png", seed=3)
    assert of().fingerprint() != first
    (tmp_path / "one" / "b.png").unlink()
    with pytest.raises(DataError, match="b.png"):
        of().fingerprint()


def test_fingerprint_sees_a_change_of_a_large_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(3 << 20))
    one = dataset(image(path))
    first = one.fingerprint()
    path.write_bytes(bytes((3 << 20) + 1))
    assert one.fingerprint() != first
    path.write_bytes(bytes((3 << 20) - 1) + b"\1")
    assert one.fingerprint() != first


def repaired(boxes, size_hw=(40, 60)):
    notices = Notices()
    kept, keep = repair_boxes(np.array(boxes, np.float64).reshape(-1, 4), size_hw, notices, "a.png")
    assert kept.dtype == np.float64 and keep.dtype == np.bool_
    return kept.tolist(), keep.tolist(), notices.lines()


def test_repair_of_none_and_of_good_boxes_says_nothing():
    assert repaired([]) == ([], [], ())
    assert repaired([[0, 0, 60, 40], [59, 39, 60, 40]])[1:] == ([True, True], ())


def test_repair_clips_and_says_so():
    kept, keep, lines = repaired([[-2, 3, 10, 12], [50, 30, 61.5, 44], [1, 1, 5, 5]])
    assert kept == [[0, 3, 10, 12], [50, 30, 60, 40], [1, 1, 5, 5]] and keep == [True] * 3
    assert lines == ("2 boxes reaching outside the image: clipped to it (first: a.png)",)


def test_repair_drops_what_is_thin_and_says_so():
    kept, keep, lines = repaired([[60, 0, 60, 9], [-9, 0, 0.5, 9], [3, 3, 3, 9], [3, 3, 9, 3.99], [3, 3, 4, 4]])
    assert kept == [[3, 3, 4, 4]] and keep == [False] * 4 + [True]
    assert lines == ("4 boxes thinner than 1 px inside the image: dropped (first: a.png)",)


@pytest.mark.parametrize("box", [[60, 0, 70, 9], [0, -9, 9, 0], [500, 500, 540, 540]])
def test_a_box_wholly_outside_belongs_to_another_image_and_is_refused(box):
    with pytest.raises(DataError, match="lies wholly outside the image of 60 x 40: correct or remove it"):
        repaired([[3, 3, 9, 9], box])


def test_rounding_is_not_worth_a_word_but_is_clipped():
    assert repaired([[-1e-6, 0, 60.000001, 40]]) == ([[0, 0, 60, 40]], [True], ())


def test_repeated_boxes_are_kept_and_counted():
    kept, _, lines = repaired([[1, 1, 5, 5]] * 3)
    assert len(kept) == 3 and lines == ("2 boxes exactly on top of another: kept (first: a.png)",)


@pytest.mark.parametrize("box", [[np.nan, 0, 1, 1], [0, 0, np.inf, 1], [5, 0, 1, 1], [0, 5, 1, 1]])
def test_what_cannot_be_repaired_is_refused(box):
    with pytest.raises(DataError, match="a.png"):
        repaired([box])


# --- the door: load_dataset


def test_a_folder_is_recognised_by_its_one_file(tmp_path, coco_file):
    path = coco_file()
    assert load_dataset(tmp_path).box_count == 1
    assert load_dataset(str(path)).box_count == 1
    for name in ("_annotations.coco.json", "instances_train2017.json"):
        path = path.rename(tmp_path / name)
        assert load_dataset(tmp_path, split="val").box_count == 1


def test_coco_and_roboflow_trees_have_splits(tmp_path, coco_file):
    source = coco_file()
    roboflow, coco = tmp_path / "roboflow", tmp_path / "coco"
    for part in ("train", "valid"):
        (roboflow / part).mkdir(parents=True)
        shutil.copy(source, roboflow / part / "_annotations.coco.json")
        shutil.copy(tmp_path / "a.png", roboflow / part / "a.png")
    (coco / "annotations").mkdir(parents=True)
    for part in ("train2017", "val2017"):
        (coco / part).mkdir()
        shutil.copy(source, coco / "annotations" / f"instances_{part}.json")
        shutil.copy(tmp_path / "a.png", coco / part / "a.png")
    for home, folders in (
        (roboflow, ("train", "valid", "valid")),
        (coco, ("train2017", "val2017", "val2017")),
    ):
        for split, part in zip(("train", "val", "valid"), folders, strict=True):
            assert load_dataset(home, split=split).images[0].path == home / part / "a.png"
    with pytest.raises(DataError, match="no split 'test' here; there is: train, valid"):
        load_dataset(roboflow, split="test")
    with pytest.raises(DataError, match="no split 'test' among instances_train2017.json, instances_val2017"):
        load_dataset(coco, split="test")


def test_what_is_no_dataset_is_refused_in_one_line(tmp_path, coco_file):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.bin").write_text("x")
    for source, said in (
        (tmp_path / "empty", "no dataset in this folder"),
        (tmp_path / "nowhere", "no such file"),
        (tmp_path / "a.bin", "not a dataset"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            load_dataset(source)
        assert str(source) in str(caught.value) and "\n" not in str(caught.value)
    coco_file()
    (tmp_path / "data.yaml").write_text("names: [weed]")
    with pytest.raises(DataError, match=r"several datasets \(annotations.json, data.yaml\)"):
        load_dataset(tmp_path)
    with pytest.raises(DataError, match="use train, val or test"):
        load_dataset(tmp_path, split="dev")


def test_importing_data_brings_neither_torch_nor_albumentations():
    code = "import sys, data; print(sorted({'torch', 'albumentations', 'pycocotools'} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
