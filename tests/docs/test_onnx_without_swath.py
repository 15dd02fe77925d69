"""The script of docs/guides/onnx_without_swath.md, run as it stands there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from PIL import Image

from data import load_dataset
from data.synthetic import render_dataset
from detection.runtime.detections import Detections
from detection.runtime.detector import Detector
from detection.runtime.letterbox import placement
from detection.runtime.metadata import KEY

PAGE = Path(__file__).parents[2] / "docs/guides/onnx_without_swath.md"
ALLOWED = {"json", "sys", "numpy", "onnxruntime", "PIL"}


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path_factory.mktemp("script") / "ten_lines.py"
    path.write_text(block)
    return path


@pytest.fixture(scope="module")
def model(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained file whose thresholds differ, and let several boxes through."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    graph = onnx.load(exported)
    about = json.loads(next(p.value for p in graph.metadata_props if p.key == KEY))
    about["score_thresholds"] = [0.1 + 0.01 * label for label in range(len(about["class_names"]))]
    about.pop("file_sha256", None)  # the digest is of the file as it was exported
    about["schema_version"] = 2
    onnx.helper.set_model_props(graph, {KEY: json.dumps(about)})
    onnx.save(graph, path)
    return path


def printed(script: Path, model: Path, photo: Path, names: tuple[str, ...]) -> Detections:
    done = subprocess.run(
        [sys.executable, str(script), str(model), str(photo)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    boxes = np.array([[float(value) for value in row[2:]] for row in rows], np.float32).reshape(-1, 4)
    return Detections(
        boxes, np.array([float(row[1]) for row in rows]), np.array([names.index(r[0]) for r in rows], int)
    )


def assert_same(found: Detections, expected: Detections, tolerance_px: float) -> None:
    """The same boxes; those of nearly equal scores may stand in another order."""
    assert len(found) == len(expected)
    left = list(range(len(found)))
    for box, score, label in zip(expected.boxes_xyxy, expected.scores, expected.labels, strict=True):
        fits = [
            i
            for i in left
            if found.labels[i] == label
            and abs(found.boxes_xyxy[i] - box).max() <= tolerance_px
            and abs(found.scores[i] - score) <= 2e-3
        ]
        assert fits, (box, score, label)
        left.remove(fits[0])


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """A rendered field, 480 x 600."""
    folder = tmp_path_factory.mktemp("field")
    render_dataset(folder, images=1, size_hw=(480, 600), seed=3)
    (image,) = load_dataset(folder).images
    return image.read()


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize(
    "size_hw",
    [(480, 600), (256, 320), (128, 160), (96, 120), (300, 220), (100, 57), (120, 600), (127, 159), (131, 160)],
)
def test_the_same_boxes_as_the_detector(
    size_hw: tuple[int, int], kind: str, script: Path, model: Path, field: np.ndarray, tmp_path: Path
) -> None:
    # The input is 128 x 160: larger, twice as large, exactly that, smaller, portrait, a strip, a hair off.
    photo = tmp_path / f"field.{kind}"
    image = cv2.resize(field, size_hw[::-1], interpolation=cv2.INTER_AREA)
    assert cv2.imwrite(str(photo), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    detector = Detector(model)
    assert detector.metadata.input_size_hw == (128, 160)
    expected = detector(cv2.imread(str(photo)))
    assert len(expected) >= 3
    px = 0.1 / min(placement(size_hw, (128, 160)).scale_xy)
    assert_same(printed(script, model, photo, detector.class_names), expected, px + 0.01)  # it prints hundredths


def test_a_photo_that_lies_on_its_side(script: Path, model: Path, field: np.ndarray, tmp_path: Path) -> None:
    photo = tmp_path / "field.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it upright
    Image.fromarray(cv2.cvtColor(field, cv2.COLOR_BGR2RGB)).save(photo, exif=exif, quality=95)
    upright = cv2.imread(str(photo))
    assert upright.shape[:2] == (600, 480)
    detector = Detector(model)
    expected = detector(upright)
    assert len(expected) >= 3
    px = 0.1 / min(placement((600, 480), (128, 160)).scale_xy)
    assert_same(printed(script, model, photo, detector.class_names), expected, px + 0.01)


def test_an_empty_image_prints_nothing_and_complains_of_nothing(script: Path, model: Path, tmp_path: Path) -> None:
    photo = tmp_path / "black.png"
    cv2.imwrite(str(photo), np.zeros((50, 70, 3), np.uint8))
    detector = Detector(model)
    found = printed(script, model, photo, detector.class_names)
    assert_same(found, detector(cv2.imread(str(photo))), 0.1)


def test_it_needs_three_packages_and_few_lines(script: Path) -> None:
    code = [line for line in script.read_text().splitlines() if line.strip()]
    imports = [line for line in code if "import" in line]
    assert len(imports) == 1
    assert {
        name.strip().split(".")[0].split(" ")[0] for name in imports[0].removeprefix("import").split(",")
    } <= ALLOWED
    assert len(code) <= 24
