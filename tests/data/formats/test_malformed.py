"""Files as they should not be: one clear line or an answer in which no box went missing, never a traceback."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data import DataError, load_dataset
from data.errors import one_line
from data.images import image_size_hw, read_image

SIZE_WH = (60, 40)
FORMATS = ("coco", "yolo", "voc", "csv", "masks")
IMAGES = ("a.png", "b.jpg")

Box = tuple[Any, Any, Any, Any]


def write_dataset(home: Path, kind: str, boxes: list[Box]) -> list[Path]:
    """A dataset of two images, the boxes (corners) on the first; returns its label files."""
    folder = {"coco": ".", "yolo": "images", "voc": "JPEGImages", "csv": ".", "masks": "images"}[kind]
    for name in IMAGES:
        (home / folder).mkdir(parents=True, exist_ok=True)
        Image.effect_noise(SIZE_WH, 50).convert("RGB").save(home / folder / name)
    width, height = SIZE_WH
    if kind == "coco":
        annotations = [
            {"id": n, "image_id": 1, "category_id": 5, "bbox": [x1, y1, minus(x2, x1), minus(y2, y1)]}
            for n, (x1, y1, x2, y2) in enumerate(boxes)
        ]
        content = {
            "images": [{"id": n + 1, "file_name": name} for n, name in enumerate(IMAGES)],
            "annotations": annotations,
            "categories": [{"id": 5, "name": "weed"}],
        }
        files = {home / "annotations.json": json.dumps(content)}
    elif kind == "yolo":
        lines = [
            f"0 {plus(x1, x2) / 2 / width} {plus(y1, y2) / 2 / height} "
            f"{minus(x2, x1) / width} {minus(y2, y1) / height}\n"
            for x1, y1, x2, y2 in boxes
        ]
        files = {
            home / "data.yaml": "path: .\ntrain: images\nnames: [weed]\n",
            home / "labels" / "a.txt": "".join(lines),
            home / "labels" / "b.txt": "",
        }
    elif kind == "voc":
        objects = "".join(
            f"<object><name>weed</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>\n"
            for x1, y1, x2, y2 in boxes
        )
        size = f"<size><width>{width}</width><height>{height}</height></size>"
        files = {
            home / "Annotations" / "a.xml": f"<annotation>{size}{objects}</annotation>",
            home / "Annotations" / "b.xml": f"<annotation>{size}</annotation>",
            home / "classes.txt": "weed\n",
        }
    elif kind == "csv":
        rows = "".join(f"a.png,{x1},{y1},{x2},{y2},weed\n" for x1, y1, x2, y2 in boxes)
        files = {home / "train.csv": f"a.png,,,,,\n{rows}b.jpg,,,,,\n", home / "classes.csv": "weed,0\n"}
    else:
        files = {home / "classes.json": '["weed"]'}
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    if kind == "masks":
        mask = np.zeros((height, width), np.uint8)
        for value, (x1, y1, x2, y2) in enumerate(boxes, start=1):
            mask[int(y1) : int(y2), int(x1) : int(x2)] = value
        (home / "masks").mkdir()
        Image.fromarray(mask).save(home / "masks" / "a.png")
        files[home / "masks" / "a.png"] = ""
    return list(files)


def plus(a: Any, b: Any) -> float:
    return float(a) + float(b)


def minus(a: Any, b: Any) -> float:
    return float(a) - float(b)


def written(home: Path, kind: str) -> int:
    """Boxes that stand in the files, counted by other means than the readers'."""
    if kind == "coco":
        return len(json.loads((home / "annotations.json").read_bytes().decode("utf-8-sig"))["annotations"])
    if kind == "yolo":
        labels = [(home / "labels" / name).with_suffix(".txt") for name in IMAGES]
        return sum(1 for file in labels for line in file.read_text("utf-8").splitlines() if line.strip())
    if kind == "voc":
        return sum(len(re.findall(rb"<object>", file.read_bytes())) for file in (home / "Annotations").iterdir())
    if kind == "csv":
        rows = csv.reader(io.StringIO((home / "train.csv").read_text("utf-8"), newline=""))
        return sum(1 for row in rows if any(cell.strip() for cell in row[1:]))
    return len(np.unique(np.asarray(Image.open(home / "masks" / "a.png")))) - 1


def account(home: Path, kind: str) -> str:
    """Read it: a `DataError` of one line, or every box read or counted as dropped."""
    try:
        read = load_dataset(home, format=kind)
    except DataError as error:
        assert str(error) == one_line(str(error)) and len(str(error)) > 20
        return "refused"
    dropped = sum(int(line.split()[0]) for line in read.notices if re.search(r"^\d+ box(es)? .*: dropped", line))
    assert read.box_count + dropped == written(home, kind), read.notices
    return "read"


@pytest.mark.parametrize("kind", FORMATS)
def test_as_it_should_be_everything_is_read(kind, tmp_path):
    write_dataset(tmp_path, kind, [(1, 2, 11, 12), (20, 20, 50, 39)])
    read = load_dataset(tmp_path)
    assert [image.boxes_xyxy.tolist() for image in read.images] == [
        [[pytest.approx(v, abs=1e-4) for v in box] for box in ((1, 2, 11, 12), (20, 20, 50, 39))],
        [],
    ]
    assert read.class_names == ("weed",)


# --- 5 x 40 files, each damaged in one to four places; seeded, so that a failure can be had again


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_label_files(kind, tmp_path):
    outcomes = [damaged_once(tmp_path / f"{kind}{seed}", kind, seed) for seed in range(40)]
    assert len(outcomes) == 40 and outcomes.count("refused") > 5  # the damage is real,
    assert outcomes.count("read") > 2 or kind == "masks"  # but not always the end; a PNG checks its own sums


def damaged_once(home: Path, kind: str, seed: int) -> str:
    chance = random.Random(f"{kind}{seed}")
    boxes = [(x, y, x + 9, y + 8) for x, y in ((1, 2), (15, 12), (33, 25))]
    labels = write_dataset(home, kind, boxes)
    file = chance.choice(labels[:1] * 2 + labels)
    content = bytearray(file.read_bytes())
    digits = [at for at, byte in enumerate(content) if 48 <= byte < 58] or [0]
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(max(1, len(content)))
        what = chance.randrange(12)
        if what > 5:  # the file stays whole, a number changes
            at = min(chance.choice(digits), max(0, len(content) - 1))
            content[at : at + 1] = chance.choice([b"0", b"1", b"3", b"5", b"12", b"", b"-0"])
        elif what == 0:
            content[at : at + 1] = bytes([chance.randrange(256)])
        elif what == 1:
            del content[at:]
        elif what == 2:
            del content[at : at + chance.randint(1, 12)]
        elif what == 3:
            content[at:at] = chance.choice(
                [b"-", b"nan", b"1e999", b"\0", b"\xff", b"{", b"<", b'"', b"\n", b"9" * 40]
            )
        elif what == 4:
            content[at:at] = bytes(content[at : at + chance.randint(1, 60)])
        else:
            content[at : at + 3] = chance.choice([b"../", b"\r\n", b"&x;", b"*a ", b",,,", b"0.0"])
    file.write_bytes(content)
    return account(home, kind)


NUMBERS = st.one_of(
    st.integers(-100, 200),
    st.floats(-20, 80),
    st.sampled_from([0, 60, 40, 59.9999, 1e-9, -0.0, 1e6, 1e308, -1e308, 10**25, float("nan"), float("inf")]),
)

# Most boxes are slips of the hand: over the edge, thin, on top of each other.
SLIPS = st.builds(
    lambda x, y, width, height: (x, y, x + width, y + height),
    st.integers(-1, 58),
    st.integers(-1, 38),
    st.sampled_from([0, 0.5, 1, 2, 30]),
    st.sampled_from([0, 0.25, 1, 5, 60]),
)
BOXES = st.one_of(SLIPS, SLIPS, SLIPS, SLIPS, SLIPS, SLIPS, SLIPS, st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS))


@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(boxes=st.lists(BOXES, max_size=5), kind=st.sampled_from(FORMATS[:4]))
def test_boxes_of_any_numbers_are_read_counted_or_refused(boxes, kind, tmp_path_factory):
    home = tmp_path_factory.mktemp("boxes")
    write_dataset(home, kind, boxes)
    account(home, kind)


# --- horrors by hand: what stands in a label file, and what must be said

BOMB = '<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY a{n} "{f"&a{n - 1 if n else str()};" * 10}">' for n in range(10)
)
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)
)
DEEP = 50_000


def coco(**changes: Any) -> str:
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": "a.png"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [1, 2, 9, 9]}],
            "categories": [{"id": 5, "name": "weed"}],
            **changes,
        }
    )


def outline(segmentation: object) -> str:
    return coco(annotations=[{"id": 1, "image_id": 1, "category_id": 5, "segmentation": segmentation}])


HORRORS = [
    ("coco", "annotations.json", "", "not valid JSON"),
    ("coco", "annotations.json", "[" * DEEP, "nested too deeply|not valid JSON"),
    ("coco", "annotations.json", '{"a":' * DEEP, "nested too deeply|not valid JSON"),
    ("coco", "annotations.json", coco().replace("[1, 2,", "[1, " + "9" * 5000 + ","), "thousands of digits"),
    ("coco", "annotations.json", coco(images=[{"id": 1, "file_name": "\ud800.png"}]), "missing"),
    ("coco", "annotations.json", coco(images=[{"id": 1, "file_name": "a\n\x1b[31m.png"}]), r"missing.*\\n\\x1b"),
    ("coco", "annotations.json", coco(images=[{"id": 1, "file_name": "http://[a"}]), "missing"),
    ("coco", "annotations.json", coco(images=[{"id": 1, "file_name": "."}]), "missing"),
    ("coco", "annotations.json", coco(categories=[{"id": True, "name": "weed"}]), "whole-number id"),
    ("coco", "annotations.json", outline({"size": [0, 60], "counts": [5]}), "needs its size"),
    ("coco", "annotations.json", outline({"size": [40, 60], "counts": [5, 10**30]}), "do not add up"),
    ("coco", "annotations.json", outline({"size": [40, 60], "counts": [-5, 2405]}), "do not add up"),
    ("coco", "annotations.json", outline({"size": [40, 60], "counts": "\u20ac"}), "damaged"),
    (
        "coco",
        "annotations.json",
        outline({"size": [40, 60], "counts": "oooooooooooooooooooooo"}),
        "damaged|cut short",
    ),
    ("coco", "annotations.json", outline({"size": [10**20, 10**20], "counts": [0, 10**40]}), "do not add up"),
    ("coco", "annotations.json", outline([[1, 2, 3]]), "pairs of x and y"),
    ("coco", "annotations.json", outline([[1, 2, None, 4]]), "no number"),
    ("coco", "annotations.json", outline([[1, 2, 10**400, 4]]), "not finite"),
    ("coco", "annotations.json", outline([[]]), "pairs of x and y"),
    ("coco", "annotations.json", outline("x"), "polygons or an RLE"),
    ("yolo", "data.yaml", LAUGHS + "names: *m\ntrain: images\n", "aliases"),
    ("yolo", "data.yaml", "names: [a]\ntrain: &t [*t]\n", "an alias"),
    ("yolo", "data.yaml", "[" * DEEP, "not (valid YAML|a YOLO)"),
    ("yolo", "data.yaml", "names: {0: a, 0: b}\ntrain: images\n", "line 1: the key '0' stands there twice"),
    ("yolo", "data.yaml", "names: [a]\ntrain: images\n? [x]\n: y\n", "a key at line 3 is no word"),
    ("yolo", "data.yaml", "!!python/object/apply:os.system ['true']", "not valid YAML"),
    ("yolo", "data.yaml", "names: [[a], [b]]\ntrain: images\n", "names must be a list"),
    ("yolo", "data.yaml", "names: [a]\npath: [1]\ntrain: images\n", "path must be a folder"),
    ("yolo", "data.yaml", "names: [a]\npath: /\ntrain: tmp\n", "takes in the whole disk"),
    ("yolo", "data.yaml", "names: [a]\ntrain: ../../../../../../etc\n", "leads out of the dataset's folder"),
    ("yolo", "data.yaml", "names: [a]\ntrain: /etc\n", "leads out of the dataset's folder"),
    ("yolo", "data.yaml", 'names: [a]\ntrain: "a\\0b"\n', "not there"),
    ("yolo", "data.yaml", "names: [a]\n" + "#" * (5 << 20), "larger than 1 MiB"),
    ("yolo", "labels/a.txt", "0 " + "9" * 400 + " 0 0 0\n", "not finite|look like pixels"),
    ("yolo", "labels/a.txt", "0\x000 .5 .5 .5 .5\n", "not numbers"),
    ("voc", "Annotations/a.xml", BOMB + "]><annotation>&a9;</annotation>", "document type or entities"),
    (
        "voc",
        "Annotations/a.xml",
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><annotation>&e;</annotation>',
        "document type or entities",
    ),
    ("voc", "Annotations/a.xml", "", "not valid XML"),
    ("voc", "Annotations/a.xml", "<annotation>" + "<a>" * 5000, "not valid XML"),
    ("voc", "Annotations/a.xml", '<?xml version="1.0" encoding="klingon"?><annotation>', "not valid XML"),
    ("voc", "Annotations/a.xml", "<html/>", "not a VOC annotation"),
    ("voc", "Annotations/a.xml", "<annotation><object/></annotation>", "object 1 has no name"),
    (
        "voc",
        "Annotations/a.xml",
        "<annotation><object><name>weed</name></object></annotation>",
        "object 1: xmin: not a number: None",
    ),
    ("voc", "classes.txt", "crop\n", "lacks weed"),
    ("voc", "ImageSets/Main/train.txt", "../../etc/passwd\n", "leads out of the dataset's folder"),
    ("voc", "ImageSets/Main/train.txt", "nothing\n", "neither .*nothing.xml nor an image"),
    ("csv", "train.csv", "a.png,1,2\n", "3 values"),
    ("csv", "train.csv", 'a.png,1,2,3,4,"weed\n', "not valid CSV"),
    ("csv", "train.csv", "a.png,1,2,x,4,weed\n", "must be numbers"),
    ("csv", "train.csv", "a.png,1,2,30,4,\n", "without a class"),
    ("csv", "train.csv", ",1,2,30,4,weed\n", "names no image"),
    ("csv", "train.csv", "/etc/hostname,1,2,30,14,weed\n", "leads out of the dataset's folder"),
    ("csv", "train.csv", "a.png,1,2,30,14," + "w" * 200_000, "not valid CSV"),
    ("csv", "train.csv", "", "empty|no dataset"),
    ("csv", "classes.csv", "weed\n", "name,number"),
    ("csv", "classes.csv", "weed,0\ncrop,0\n", "twice"),
    ("masks", "classes.json", "{}", "must be"),
    ("masks", "classes.json", '["weed", "weed"]', "each class once"),
    ("masks", "classes.json", '["weed", "crop"]', "not which instance"),
    ("masks", "classes.json", '{"classes": ["weed"], "instances": {"a": {"7": "weed"}}}', "no class for instance 1"),
    ("masks", "classes.json", '{"classes": ["weed"], "instances": {"a": ["7"]}}', "must be"),
    ("masks", "masks/a.png", "no image", "not an image"),
    ("masks", "masks/a.png", "", "0 bytes"),
]


@pytest.mark.parametrize(("kind", "name", "content", "said"), HORRORS, ids=lambda value: str(value)[:24])
def test_horrors_by_hand(kind, name, content, said, tmp_path):
    write_dataset(tmp_path, kind, [(1, 2, 11, 12)])
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(DataError, match=said) as caught:
        load_dataset(tmp_path, format=kind)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2200


# --- images


def test_damaged_images(tmp_path):
    outcomes = []
    for seed in range(60):
        chance = random.Random(seed)
        suffix = chance.choice([".png", ".jpg", ".bmp", ".tif", ".webp"])
        path = tmp_path / f"{seed}{suffix}"
        Image.effect_noise(SIZE_WH, 50).convert("RGB").save(path)
        content = bytearray(path.read_bytes())
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(min(len(content), chance.choice([60, 100_000])) or 1)
            content[at : at + 1] = bytes([chance.randrange(256)])
        path.write_bytes(content[: chance.choice([len(content), chance.randrange(len(content) + 1)])])
        outcomes += [tried(image_size_hw, path), tried(read_image, path)]
    assert outcomes.count("refused") > 20 and outcomes.count("read") > 20


def tried(read: Callable[[Path], object], path: Path) -> str:
    try:
        read(path)
    except DataError as error:
        assert str(path) in str(error) and str(error) == one_line(str(error))
        return "refused"
    return "read"


def write_png(path: Path, side: int, pixels: bytes) -> None:
    """A PNG of side x side black-and-white pixels, whatever its content."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_decompression_bombs_are_refused_by_their_header(tmp_path):
    write_png(tmp_path / "huge.png", 30_000, zlib.compress(bytes(30_000 * 3_751), 9))
    write_png(tmp_path / "large.png", 9_000, zlib.compress(bytes(9_000 * 1_126), 9))
    assert (tmp_path / "huge.png").stat().st_size < 120_000
    for read in (image_size_hw, read_image):
        with pytest.raises(DataError, match="huge.png: 30000 x 30000 pixels, more than the 180 megapixels"):
            read(tmp_path / "huge.png")
        with pytest.raises(DataError, match="large.png: 9000 x 9000 pixels in .* decompression bomb"):
            read(tmp_path / "large.png")
    # As large, but with detail in it: no bomb, and no reason for a warning.
    write_png(tmp_path / "map.png", 10_000, zlib.compress(random.Random(0).randbytes(10_000 * 1_251), 1))
    assert image_size_hw(tmp_path / "map.png") == (10_000, 10_000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_pipe_for_a_image_or_label_file_is_refused_and_does_not_hang(kind, tmp_path):
    for part in ("images", "labels"):
        home = tmp_path / part
        labels = write_dataset(home, kind, [(1, 2, 11, 12)])
        victim = labels[0] if part == "labels" else next(home.rglob("b.jpg"))
        victim.unlink()
        os.mkfifo(victim)
        with pytest.raises(DataError, match="pipe|no such|missing|no dataset"):
            load_dataset(home, format=kind)
