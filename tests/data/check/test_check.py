from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.check import check, check_before_training, load_allowing, named_apart, read_parts
from data.check.findings import KINDS
from data.dataset import Dataset
from data.errors import DataError, NoSuchSplit
from data.formats import load_dataset


def scene(seed: int, size_hw: tuple[int, int] = (240, 320)) -> np.ndarray:
    """An image with structure at every scale, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    image = np.zeros((*size_hw, 3), np.float32)
    for cells in (4, 12, 40):
        grid = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(grid, size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(image * 45 + 120, 0, 255).astype(np.uint8)


def coco(folder: Path, images: dict[str, np.ndarray | None], boxes: dict[str, list] | None = None, **more) -> Path:
    """A COCO dataset; an image None is not written."""
    folder.mkdir(parents=True, exist_ok=True)
    entries, annotations = [], []
    for number, (name, pixels) in enumerate(images.items(), start=1):
        size_hw = (240, 320) if pixels is None else pixels.shape[:2]
        if pixels is not None:
            assert cv2.imwrite(str(folder / name), pixels)
        own = more.get("keys", {}).get(name, {})
        entries.append({"id": number, "file_name": name, "width": size_hw[1], "height": size_hw[0], **own})
        for box in (boxes or {}).get(name, [[10, 10, 40, 40]]):
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": box}
            annotations.append(entry)
    categories = more.get("categories", [{"id": 1, "name": "weed"}])
    annotations += more.get("annotations", [])
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": categories}))
    return path


def counts(report) -> dict[str, int]:
    return {found.kind: found.count for found in report.findings}


def test_every_fault_is_listed_at_once(tmp_path):
    names = [f"{i:03}.png" for i in range(8)]
    images = {name: scene(i) for i, name in enumerate(names)} | {"gone.png": None}
    boxes = {
        names[0]: [[float("nan"), 1, 5, 5], [1, 2, -3, 4], [400, 10, 20, 20], [10, 10, 50, 50]],
        names[1]: [[-5, 10, 50, 50], [10, 10, 50, 0.4], [60, 60, 30, 30], [60, 60, 30, 30], [7, 8, "x", 9]],
        names[2]: [[5, 5, 4, 100]],
        names[3]: [],
    }
    stray = [{"id": 90, "image_id": 77, "category_id": 1, "bbox": [1, 1, 9, 9]}]
    stray += [{"id": 91, "image_id": 1, "category_id": 9, "bbox": [1, 1, 9, 9]}]
    sizes = {names[5]: {"width": 300}}
    classes = [{"id": 1, "name": "weed"}, {"id": 4, "name": "crop"}]
    path = coco(tmp_path, images, boxes, annotations=stray, keys=sizes, categories=classes)
    (tmp_path / names[6]).write_bytes(b"")
    content = (tmp_path / names[7]).read_bytes()
    (tmp_path / names[7]).write_bytes(content[: len(content) // 2])
    report = check(read_parts(path))
    assert counts(report) == {
        "image-missing": 1,
        "image-unreadable": 1,  # the empty one, by the reader
        "size-mismatch": 1,
        "box-not-finite": 1,
        "box-swapped": 1,
        "box-outside": 1,
        "label-malformed": 1,
        "class-unknown": 1,
        "image-unknown": 1,
        "box-clipped": 1,
        "box-thin": 1,
        "box-duplicate": 1,
        "box-below-stride": 1,
        "class-unused": 1,
        "class-id-gap": 2,
        "background": 1,
    } | {"image-unreadable": 1}
    unreadable = [found for found in report.findings if found.kind == "image-unreadable"]
    assert sorted(Path(e.where).name for f in unreadable for e in f.examples) == [names[6], names[7]]
    (outside,) = [found for found in report.findings if found.kind == "box-outside"]
    assert outside.examples[0].box_xyxy == (400, 10, 420, 30) and outside.examples[0].where.endswith(names[0])
    assert report.count("error") == 10 and [f.severity for f in report.findings][0] == "error"
    assert json.loads(json.dumps(report.to_json()))["errors"] == 10


def test_a_clean_dataset_has_no_findings(tmp_path):
    path = coco(tmp_path, {f"{i:03}.png": scene(i) for i in range(6)})
    report = check(read_parts(path))
    assert report.findings == () and report.parts["annotations"]["boxes"] == 6


def test_what_cannot_be_read_at_all_is_one_error(tmp_path):
    (tmp_path / "a.json").write_text("{")
    report = check(read_parts(tmp_path / "a.json"))
    assert [(f.kind, f.count) for f in report.findings] == [("dataset-unreadable", 1)]
    assert "not valid JSON" in report.findings[0].examples[0].detail


def test_the_rule_is_the_readers_own(tmp_path):
    """What the check lets pass is what training gets, and what it calls an error stops training."""
    path = coco(tmp_path, {"a.png": scene(0), "b.png": scene(1)}, {"a.png": [[-5, 10, 50, 50], [400, 1, 9, 9]]})
    with pytest.raises(DataError, match="lies wholly outside"):
        load_dataset(path)
    with pytest.raises(DataError, match="box-outside.*data.allow"):
        load_allowing(lambda: load_dataset(path), ["duplicate-across"])
    allowed = load_allowing(lambda: load_dataset(path), ["box-outside"])
    assert allowed.images[0].boxes_xyxy.tolist() == [[0, 10, 45, 60]]
    assert any("skipped, as data.allow permits" in line for line in allowed.notices)
    (part,) = read_parts(path)
    assert part.dataset.images[0].boxes_xyxy.tolist() == [[0, 10, 45, 60]]
    with pytest.raises(DataError, match="'box-outsid' is no kind of error; there are: .*box-outside"):
        load_allowing(lambda: load_dataset(path), ["box-outsid"])


def parts_of(tmp_path: Path, train: dict, val: dict, **more) -> list:
    coco(tmp_path / "train", train)
    coco(tmp_path / "val", val, **more)
    return read_parts(tmp_path)


def test_duplicates_across_parts_are_errors_and_within_them_warnings(tmp_path):
    one, other, jpeg = scene(1), scene(2), scene(3)
    small = cv2.imdecode(cv2.imencode(".jpg", jpeg, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
    shifted = scene(4, (300, 400))
    train = {"a.png": one, "b.png": one, "c.png": jpeg, "d.png": shifted[:240, :320], "e.png": scene(5)}
    val = {"v.png": one, "w.png": other, "x.png": small, "y.png": shifted[12:252, 14:334]}
    val["z.png"] = np.ascontiguousarray(scene(5)[:, ::-1] // 2 + 60)
    found = check(parts_of(tmp_path, train, val)).findings
    kinds = {(f.kind, f.part): f for f in found}
    assert kinds["duplicate-within", "train"].severity == "warning"
    across = kinds["duplicate-across", "train / val"]
    assert (across.severity, across.count) == ("error", 1)
    near = kinds["near-duplicate-across", "train / val"]
    assert near.severity == "error"
    pairs = {(Path(e.where).name, Path(e.other).name) for e in near.examples}
    assert pairs == {("c.png", "x.png"), ("d.png", "y.png"), ("e.png", "z.png")}


def test_tiles_of_one_photo_across_parts_are_found_by_their_pixels(tmp_path):
    photo, another = scene(7, (640, 900)), scene(8, (640, 900))
    rng = np.random.default_rng(0)
    for image in (photo, another):  # leaves and stones: something for a keypoint to hold on to
        for x, y, r, c in zip(
            *(rng.integers(*lim, 400) for lim in ((0, 900), (0, 640), (3, 12), (0, 255))), strict=True
        ):
            cv2.circle(image, (int(x), int(y)), int(r), (int(c), 255 - int(c), int(c) // 2), -1)
    train = {"north.png": photo[:, :480], "south.png": another[:, :480]}
    val = {"west.png": photo[:, 340:820], "east.png": another[:, 500:900]}
    (found,) = [f for f in check(parts_of(tmp_path, train, val)).findings if f.severity == "error"]
    assert (found.kind, found.count) == ("overlap-across", 1)
    assert [Path(p).name for p in (found.examples[0].where, found.examples[0].other)] == ["north.png", "west.png"]
    assert found.examples[0].detail.endswith("places agree, shifted by -340, 0 px")
    quick = check(read_parts(tmp_path), overlaps=False)
    assert quick.count("error") == 0


def test_groups_on_both_sides(tmp_path):
    def fields(*names):
        return {f"{name}.png": {"field": field} for name, field in names}

    train = {"IMG_0001_0.png": scene(1), "b.png": scene(2)}
    val = {"IMG_0001_1.png": scene(3), "c.png": scene(4)}
    coco(tmp_path / "train", train, keys=fields(("IMG_0001_0", "n"), ("b", "s")))
    coco(tmp_path / "val", val, keys=fields(("IMG_0001_1", "n"), ("c", "w")))
    parts = read_parts(tmp_path)
    found = [f for f in check(parts, overlaps=False).findings if f.kind == "group-on-both-sides"]
    assert [(f.severity, f.count, f.message.split()[0]) for f in found] == [
        ("error", 1, "photo"),
        ("warning", 1, "field"),
    ]
    (asked,) = [f for f in check(parts, by="field", overlaps=False).findings if f.kind == "group-on-both-sides"]
    assert (asked.severity, asked.examples[0].detail) == ("error", "n: 1 in train, 1 in val")
    with pytest.raises(DataError, match="to group by"):
        check(parts, by="row", overlaps=False)


def test_classes_of_one_part_only(tmp_path):
    classes = [{"id": 1, "name": "weed"}, {"id": 2, "name": "crop"}]
    extra = [{"id": 99, "image_id": 1, "category_id": 2, "bbox": [9, 9, 20, 20]}]
    parts = parts_of(tmp_path, {"a.png": scene(1)}, {"b.png": scene(2)}, categories=classes, annotations=extra)
    kinds = {f.kind: f for f in check(parts).findings}
    assert kinds["class-in-one-split"].examples[0].detail == "in val, not in train"
    coco(tmp_path / "val", {"b.png": scene(2)}, categories=[{"id": 1, "name": "maize"}])
    assert "no-common-class" in counts(check(read_parts(tmp_path)))


def test_a_rare_class_is_a_warning(tmp_path):
    boxes = {"a.png": [[10 + i, 10, 40, 40] for i in range(41)]}
    extra = [{"id": 99, "image_id": 1, "category_id": 2, "bbox": [9, 9, 20, 20]}]
    classes = [{"id": 1, "name": "weed"}, {"id": 2, "name": "crop"}]
    report = check(read_parts(coco(tmp_path, {"a.png": scene(0)}, boxes, annotations=extra, categories=classes)))
    assert [(f.kind, f.examples[0].detail) for f in report.findings] == [("class-imbalance", "1 of 41")]


def test_splits_of_the_same_images_are_said_once(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), scene(0))
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [weed]\n")
    report = check(read_parts(tmp_path))
    assert counts(report) == {"splits-identical": 2}


def test_exif_orientation_is_noted(tmp_path, write_oriented):
    path = coco(tmp_path, {"a.png": scene(0)}, keys={"a.png": {"file_name": "t.jpg"}})
    write_oriented(tmp_path / "t.jpg", scene(0), 6)
    assert counts(check(read_parts(path))) == {"exif-turned": 1, "exif-orientation": 1}


def test_one_split_or_a_list_can_be_named(tmp_path):
    parts_of(tmp_path, {"a.png": scene(1)}, {"b.png": scene(2)})
    assert [part.name for part in read_parts(tmp_path, split="val")] == ["val"]
    with pytest.raises(NoSuchSplit):
        read_parts(tmp_path, split="test")
    again = named_apart(read_parts(tmp_path, split="val"), read_parts(tmp_path, split="val"))
    assert [part.name for part in again] == ["val (first)", "val (second)"]


def test_training_waits_for_the_quick_part(tmp_path):
    parts_of(tmp_path, {"a_r0c0.png": scene(1), "b.png": scene(2)}, {"a_r0c0.png": scene(1), "c.png": scene(3)})
    train, val = (load_dataset(tmp_path, split=split) for split in ("train", "val"))
    with pytest.raises(
        DataError, match=r"duplicate-across: train / val: 1 .*data.allow=\[duplicate-across, group-on"
    ):
        check_before_training(train, val)
    said = check_before_training(train, val, allow=["duplicate-across", "group-on-both-sides"])
    assert [line.split(":")[:2] for line in said] == [
        ["allowed", " duplicate-across"],
        ["allowed", " group-on-both-sides"],
    ]
    assert check_before_training(train, None) == ()
    (tmp_path / "train" / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match="image-unreadable: train: 1 .*b.png: the image file is empty"):
        check_before_training(train, None)


def test_a_counter_that_starts_again_in_each_part_is_no_leak(tmp_path):
    parts_of(tmp_path, {"000000.png": scene(1), "000001.png": scene(2)}, {"000000.png": scene(3)})
    train, val = (load_dataset(tmp_path, split=split) for split in ("train", "val"))
    assert check_before_training(train, val) == ()


def test_kinds_are_words_and_every_severity_is_one():
    assert all(kind == kind.lower() and " " not in kind for kind in KINDS)
    assert {severity for severity, _ in KINDS.values()} == {"error", "warning", "info"}


def test_flat_images_are_no_near_duplicates(tmp_path):
    flat = {f"{i}.png": np.full((100, 120, 3), 90 + i, np.uint8) for i in range(4)}
    (tmp_path / "flat").mkdir()
    assert counts(check(read_parts(coco(tmp_path / "flat", flat)))) == {}


def test_no_images_is_no_crash():
    empty = Dataset("none", ("weed",), (1,), ())
    assert check_before_training(empty, None) == ()


def test_before_training_every_image_is_decoded_and_faults_are_counted(tmp_path, write_image):
    coco(tmp_path, {f"{name}.jpg": scene(i) for i, name in enumerate("abcdefgh")})
    made = load_dataset(tmp_path)
    seen: list[tuple[str, int, int]] = []
    check_before_training(made, None, progress=lambda *step: seen.append(step))
    assert seen == [("checking images", done, 8) for done in range(1, 9)]
    write_image(tmp_path / "a.jpg", (40, 61))
    for name in "bcdef":
        (tmp_path / f"{name}.jpg").write_bytes((tmp_path / f"{name}.jpg").read_bytes()[:-100])
    with pytest.raises(DataError, match=r"5 images that are .*cut short.*size-mismatch.*a.jpg: is 61 x 40") as caught:
        check_before_training(made, None)
    assert "\n" not in str(caught.value)
