"""The flags of `swath stream`: what they reach, and what they refuse."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from tests.detection.conftest import swath


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An end-to-end graph that finds red (weed) and green (crop) rectangles."""
    spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "runtime" / "tiny_model.py")
    assert spec is not None and spec.loader is not None
    tiny: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    return tiny.write(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Five of 240 x 160; two red squares stand still on grained ground, far apart."""
    folder = tmp_path / "images"
    folder.mkdir()
    image = np.random.default_rng(0).integers(0, 80, (160, 240, 3)).astype(np.uint8)
    image[20:44, 20:44] = (0, 0, 255)
    image[100:124, 180:204] = (0, 0, 255)
    for i in range(5):
        cv2.imwrite(str(folder / f"{i}.png"), image)
    return folder


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_tiles_find_two_where_the_whole_image_gives_one(
    model: Path, images: Path, tmp_path: Path, capsys: Any
) -> None:
    for flags, boxes in (([], 1), (["--tiles", "2x2"], 2), (["--roi", "120,80,240,160"], 1)):
        code, _, error = swath(capsys, "stream", model, images, *flags, "--jsonl", tmp_path / "d.jsonl")
        assert code == 0, error
        records = _records(tmp_path / "d.jsonl")
        assert [len(r["detections"]) for r in records] == [boxes] * 5, flags
    (found,) = records[0]["detections"]  # of the region alone
    np.testing.assert_allclose(found["box_xyxy"], [180, 100, 204, 124], atol=2)


def test_tracked_and_written_everywhere(model: Path, images: Path, tmp_path: Path, capsys: Any) -> None:
    code, _, error = swath(
        capsys,
        *("stream", model, images, "--track", "--speed-m-s", 0, "--pixels-per-metre", 1000),
        *("--ground-moves", "up", "--csv", tmp_path / "d.csv", "--jsonl", tmp_path / "d.jsonl"),
        *("--events", tmp_path / "e.jsonl", "--log-json", tmp_path / "log.jsonl", "--summary", tmp_path / "s.json"),
    )
    assert code == 0, error
    assert _records(tmp_path / "d.jsonl")[-1]["counted"] == {"weed": 1, "crop": 0}
    with (tmp_path / "d.csv").open(newline="") as file:
        assert {row["track_id"] for row in csv.DictReader(file)} <= {"", "1"}
    assert json.loads((tmp_path / "s.json").read_text())["frames"] == 5
    assert (tmp_path / "e.jsonl").exists() and (tmp_path / "log.jsonl").exists()


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--roi", "1,2,3"], "X1,Y1,X2,Y2"),
        (["--tiles", "two"], "ROWSxCOLUMNS"),
        (["--metrics", "here"], "HOST:PORT"),
        (["--metrics", "0.0.0.0:99999"], "--metrics: Input should be less than or equal to 65535"),
        (["--video-minutes", 0], "--video-minutes: Input should be greater than 0"),
        (["--speed-m-s", 1], "--track"),
        (["--duty-cycle", 2], "duty-cycle"),
        (["--max-fps", 0], "--max-fps"),
        (["--transport", "pigeon"], "--transport: 'pigeon' is none of tcp, udp"),
    ],
)
def test_wrong_usage_is_2_and_writes_nothing(
    model: Path, images: Path, tmp_path: Path, capsys: Any, flags: list[Any], word: str
) -> None:
    code, _, error = swath(capsys, "stream", model, images, *flags, "--jsonl", tmp_path / "out" / "d.jsonl")
    assert code == 2 and word in " ".join(error.replace("│", "").split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--roi", "9,9,9,20"], "--roi: a region of interest is x1,y1,x2,y2"),
        (["--track", "--speed-m-s", 1], "--speed-m-s and --pixels-per-metre belong together"),
        (["--cool-below-c", 80], "temperature"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(
    model: Path, images: Path, tmp_path: Path, capsys: Any, monkeypatch: Any, flags: list[Any], message: str
) -> None:
    monkeypatch.setattr("detection.runtime.streaming.duty.Path.glob", lambda *_: [])  # a machine without sensors
    code, _, error = swath(capsys, "stream", model, images, *flags, "--jsonl", tmp_path / "out" / "d.jsonl")
    assert code == 1 and message in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_machine_names_model_and_cameras_itself(model: Path, images: Path, capsys: Any) -> None:
    assert swath(capsys, "stream", model, images, "--machine", "m.yaml")[0] == 2
    assert swath(capsys, "stream", model)[0] == 2
    code, _, error = swath(capsys, "stream", "--machine", "none.yaml")
    assert code == 1 and "no such file" in error
