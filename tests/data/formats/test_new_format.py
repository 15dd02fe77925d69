"""A new format is one file and one entry in `KINDS`: commands, recipes and the reader find it by that alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data import load_dataset

ROOT = Path(__file__).parents[3]

NDJSON = '''\
"""NDJSON: a line of JSON for each image, {"image": path, "boxes": [[x1, y1, x2, y2, class], ...]}."""

import json
from pathlib import Path

import numpy as np

from data.dataset import Dataset, LabelledImage
from data.files import read_text, write_whole
from data.formats.format import Format, Writer
from data.formats.references import Roots
from data.formats.repair import Notices, repair_boxes
from data.formats.search import files_named
from data.images import image_size_hw


def _finds(folder, split):
    return files_named(folder, "labels.ndjson")


def _reads(path, options):
    lines = [json.loads(line) for line in read_text(path, kind="NDJSON").splitlines()]
    names = tuple(sorted({box[4] for line in lines for box in line["boxes"]}))
    roots, notices, images = Roots(path.parent, images_dir=options.images_dir), Notices(), []
    for number, line in enumerate(lines, start=1):
        file = path.parent / line["image"]
        roots.check(file, str(path))
        size_hw = image_size_hw(file)
        given = np.array([box[:4] for box in line["boxes"]], np.float64).reshape(-1, 4)
        boxes, kept = repair_boxes(given, size_hw, notices, str(file))
        labels = np.array([names.index(box[4]) for box in line["boxes"]], np.int64)[kept]
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        images.append(LabelledImage(number, file, size_hw, boxes, labels, areas, np.zeros(len(boxes), bool)))
    return Dataset(str(path), names, tuple(range(len(names))), tuple(images), notices.lines())


def _save(parts, places, home):
    lines = []
    for split, dataset in parts.items():
        for image, place in zip(dataset.images, places[split], strict=True):
            named = [dataset.class_names[label] for label in image.labels]
            boxes = [[*box, name] for box, name in zip(image.boxes_xyxy.tolist(), named, strict=True)]
            lines.append(json.dumps({"image": place, "boxes": boxes}))
    write_whole(home / "labels.ndjson", "\\n".join(lines) + "\\n")


KIND = Format("ndjson", "NDJSON", "labels.ndjson", _finds, _reads, suffixes=(".ndjson",), writes=Writer(_save))
'''


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """A folder with a copy of `data` that knows one more format."""
    assert len(NDJSON.splitlines()) <= 60
    home = tmp_path / "extended"
    shutil.copytree(ROOT / "data", home / "data", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "data" / "formats" / "ndjson.py").write_text(NDJSON)
    kinds = home / "data" / "formats" / "kinds.py"
    text = kinds.read_text()
    for old, new in (
        ("masks, voc, yolo\n", "masks, ndjson, voc, yolo\n"),
        ("masks.KIND)", "masks.KIND, ndjson.KIND)"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    kinds.write_text(text)
    return home


RUN_ALL = """
import contextlib, io, json, sys
from pathlib import Path
from detection.cli.app import main
from detection.recipe.reading import RecipeError, load_recipe
ran = []
for command in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if command[0] == "recipe":
                print(load_recipe(Path(command[1])).data.format)
            else:
                main(command)
            code = 0
        except RecipeError as error:
            print(error)
            code = 1
        except SystemExit as ended:
            code = ended.code or 0
    ran.append([code, said.getvalue()])
print(json.dumps(ran))
"""


def _run(extended: Path, *commands: list[str | Path]) -> list[tuple[int, str]]:
    """Exit status and output of each command, all in one new process."""
    env = {**os.environ, "PYTHONPATH": f"{extended}{os.pathsep}{ROOT}", "COLUMNS": "200"}
    given = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, given], cwd=extended, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [(code, said) for code, said in json.loads(done.stdout)]


def test_a_format_in_a_file_of_its_own_is_offered_read_and_written(
    extended: Path, rendered: Path, tmp_path: Path
) -> None:
    before = load_dataset(rendered)
    assert before.box_count > 10
    recipe, wrong_recipe = tmp_path / "recipe.yaml", tmp_path / "wrong.yaml"
    recipe.write_text("data: {train: photos, format: ndjson}")
    wrong_recipe.write_text("data: {train: photos, format: njson}")
    (empty := tmp_path / "empty").mkdir()
    ran = _run(
        extended,
        ["data", "convert", "--help"],
        ["data", "check", "--help"],
        ["data", "convert", rendered, tmp_path / "x", "--to", "masks"],
        ["data", "convert", rendered, tmp_path / "lines", "--to", "ndjson", "--copy"],
        ["data", "convert", tmp_path / "lines", tmp_path / "back", "--to", "coco"],  # recognised by its file
        ["data", "check", empty],
        ["recipe", recipe],
        ["recipe", wrong_recipe],
    )
    assert [code for code, _ in ran] == [0, 0, 2, 0, 0, 1, 0, 1], ran
    convert_help, check_help, refused, written, _, nothing, taken, wrong = (said for _, said in ran)
    assert "write: coco, yolo, voc, csv, ndjson." in convert_help
    assert "coco, yolo, voc, csv, masks, ndjson; auto" in convert_help and "masks, ndjson; auto" in check_help
    assert "'masks' is none of coco, yolo, voc, csv, ndjson" in refused
    assert f"{len(before)} images, {before.box_count} boxes" in written
    assert "whose class ids NDJSON cannot represent" in written and (tmp_path / "lines" / "images").is_dir()
    assert "labels.ndjson (ndjson)" in " ".join(nothing.split())
    assert taken.strip() == "ndjson"
    assert "data.format" in wrong and "'masks' or 'ndjson'" in wrong

    after = load_dataset(tmp_path / "back")
    assert set(after.class_names) == set(before.class_names)
    for one, other in zip(before.images, after.images, strict=True):
        assert one.path.name == other.path.name
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-3)
