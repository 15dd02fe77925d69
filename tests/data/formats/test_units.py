"""Boxes in another unit or order than their format's: an error with its likely cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from data import DataError, load_dataset
from data.check import check, read_parts
from tests.data.formats.test_exports import coco, write

MANY = [(3 + 9 * (n % 6), 2 + 9 * (n // 6), 10 + 9 * (n % 6), 10 + 9 * (n // 6)) for n in range(24)]


def boxes_file(kind: str, boxes, write_image, home: Path) -> None:
    write_image(home / "a.png")
    if kind == "csv":
        write(home, {"train.csv": "".join(f"a.png,{x1},{y1},{x2},{y2},weed\n" for x1, y1, x2, y2 in boxes)})
    elif kind == "coco":
        annotations = [{"id": n, "bbox": [x1, y1, x2 - x1, y2 - y1]} for n, (x1, y1, x2, y2) in enumerate(boxes)]
        write(home, {"annotations.json": coco(annotations=annotations)})
    else:
        objects = "".join(
            f"<object><name>weed</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            "</bndbox></object>"
            for x1, y1, x2, y2 in boxes
        )
        write(home, {"a.xml": f"<annotation>{objects}</annotation>"})


UNITS = {
    "fractions": ([(x1 / 60, y1 / 40, x2 / 60, y2 / 40) for x1, y1, x2, y2 in MANY], "fractions of the image"),
    "some fractions": (
        [*MANY[:11], *[(x1 / 60, y1 / 40, x2 / 60, y2 / 40) for x1, y1, x2, y2 in MANY[11:]]],
        "13 of",
    ),
    "points": ([(x1, y1, x1, y1) for x1, y1, _, _ in MANY], "thinner than a pixel"),
    "corners as sizes": ([(x1, y1, x1 + x2, y1 + y2) for x1, y1, x2, y2 in MANY], "where x, y, width, height"),
}


@pytest.mark.parametrize("kind", ["csv", "coco", "voc"])
@pytest.mark.parametrize(("boxes", "said"), UNITS.values(), ids=UNITS.keys())
def test_a_repair_that_hits_most_boxes_is_a_fault_with_its_likely_cause(boxes, said, kind, tmp_path, write_image):
    boxes_file(kind, boxes, write_image, tmp_path)
    with pytest.raises(DataError, match=said):
        load_dataset(tmp_path)
    (fault,) = [f for f in check(read_parts(tmp_path)).findings if f.kind == "box-unit"]
    assert fault.severity == "error" and said in fault.examples[0].detail


@pytest.mark.parametrize(("limit", "unit"), [(100, "percent"), (1000, "thousandths")])
def test_percent_and_thousandths_of_large_images(limit, unit, tmp_path, write_image):
    rows = []
    for number in range(4):
        write_image(tmp_path / f"{number}.png", (3 * limit, 4 * limit), seed=number)
        rows += [
            f"{number}.png,{x * limit},{x * limit},{(x + 0.2) * limit},{(x + 0.3) * limit},weed\n"
            for x in (0.1, 0.4, 0.65)
        ]
    write(tmp_path, {"train.csv": "".join(rows)})
    with pytest.raises(DataError, match=f"all 12 boxes lie within 0 to {limit} px.*: {unit} where pixels are wanted"):
        load_dataset(tmp_path)
    write(tmp_path, {"train.csv": "".join([*rows, f"0.png,{2 * limit},5,{2.5 * limit},50,weed\n"])})
    assert load_dataset(tmp_path).box_count == 13


def test_sizes_as_corners_are_explained_by_the_check(tmp_path, write_image):
    boxes_file("csv", [(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in MANY], write_image, tmp_path)
    with pytest.raises(DataError, match="negative width or height"):
        load_dataset(tmp_path)
    found = {f.kind: f for f in check(read_parts(tmp_path)).findings}
    assert "x, y, width, height where corners" in found["box-unit"].examples[0].detail


@pytest.mark.parametrize("kind", ["csv", "coco", "voc"])
def test_slips_of_the_hand_are_no_fault(kind, tmp_path, write_image):
    slips = [(-2, 3, 10, 12), (55, 30, 63, 41), (5, 5, 5, 9), (0, 0, 0.4, 0.6), (0, 0, 60, 40)]
    boxes_file(kind, [*MANY[:12], *slips], write_image, tmp_path)
    assert load_dataset(tmp_path).box_count == 15


def test_corners_as_centres_in_yolo(tmp_path, write_image):
    write_image(tmp_path / "a.png")
    lines = [f"0 {x1 / 60} {y1 / 40} {x2 / 60} {y2 / 40}\n" for x1, y1, x2, y2 in MANY]
    write(tmp_path, {"data.yaml": "train: .\nnames: [weed]\n", "a.txt": "".join(lines)})
    with pytest.raises(DataError, match="reach far outside their image"):
        load_dataset(tmp_path)


# --- labels of other tools
