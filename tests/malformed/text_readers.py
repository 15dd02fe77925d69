"""Readers of recipes, machines and labels."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import yaml

from tests.malformed.mutations import absurd, damaged_bytes, damaged_text
from tests.malformed.reader import Malform, Read, Reader
from tests.malformed.trial import rewritten

RECIPE = """\
data: {train: photos, val: null, tiles: {size_px: 640, overlap: 0.2}}
model:
  preset: fcos_lite_n
  backbone: tf_efficientnet_lite0
input: {size_hw: [480, 640]}
augment: {jpeg: 0.3}
train:
  epochs: 3
  batch_size: 4
  learning_rate: 0.002
  seed: 7
postprocess: {nms_iou: 0.6, pre_nms_top_k: 300}
"""
MACHINE = """\
name: sprayer-7
model: {path: weeds.onnx, score_thresholds: {weed: 0.4}}
cameras:
  - {name: left, source: "rtsp://10.0.0.11/left", roi_xyxy: [0, 200, 1920, 1080], tiles_rc: [1, 2]}
  - &right {name: right, source: "rtsp://user:${PASSWORD}@10.0.0.12/right", max_fps: 15}
tracking: {speed_m_s: 1.5, pixels_per_metre: 900}
limits: {max_age_ms: 200, duty_cycle: 0.8}
outputs:
  jsonl: out/{date}.jsonl
  mqtt: "mqtt://broker/robot7"
  metrics: {port: 9109}
  black_box: {folder: out/box, before_s: 5}
"""
OVERRIDES = (
    "train.epochs=3",
    "input.size_hw=[480, 640]",
    "model.preset=fcos_lite",
    "data.val=photos/val",
    "data.allow=[a]",
)
DATA_YAML = """\
path: .
train: images
val: [images]
names: {0: weed, 1: crop}
nc: 2
"""


def _yaml_reader(text: str, name: str, read: Callable[[Path], object]) -> Callable[[Path], Malform]:
    def prepare(folder: Path) -> Malform:
        path, tree = folder / name, yaml.safe_load(text)
        read(rewritten(path, text.encode()))  # the seed is sound

        def malform(chance: random.Random) -> Read:
            kind = chance.randrange(4)
            if kind == 0:
                content = damaged_bytes(chance, text.encode())
            elif kind == 1:
                content = damaged_text(chance, text).encode(errors="replace")
            elif kind == 2:
                content = yaml.safe_dump(absurd(chance, tree), allow_unicode=chance.random() < 0.5).encode(
                    errors="replace"
                )
            else:
                content = json.dumps(absurd(chance, tree)).encode()
            rewritten(path, content)
            return lambda: read(path)

        return malform

    return prepare


def _recipe(path: Path) -> object:
    from detection.recipe.reading import load_recipe

    return load_recipe(path).to_yaml()


def _machine(path: Path) -> object:
    from detection.runtime.operations.machine_file import load_machine

    return load_machine(path, {"PASSWORD": "secret"}).machine.written


def _run_recipe(path: Path) -> object:
    from detection.recipe.reading import load_written_recipe

    return load_written_recipe(path.parent)


def _overrides(folder: Path) -> Malform:
    from detection.recipe.reading import load_recipe

    path = rewritten(folder / "r.yaml", RECIPE.encode())
    load_recipe(path, OVERRIDES)

    def malform(chance: random.Random) -> Read:
        text = damaged_text(chance, chance.choice(OVERRIDES))
        if chance.random() < 0.3:
            text = f"{chance.choice(OVERRIDES).partition('=')[0]}={json.dumps(absurd(chance, {'a': [1]}))}"
        return lambda: load_recipe(path, [text.replace("\0", "")])

    return malform


def _data_yaml(folder: Path) -> Malform:
    from data import load_dataset

    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    cv2.imwrite(str(folder / "images" / "a.png"), np.full((40, 60, 3), 90, np.uint8))
    (folder / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.1 0.1\n")
    return _yaml_reader(DATA_YAML, "data.yaml", lambda path: load_dataset(path))(folder)


def _labels(folder: Path) -> Malform:
    from tests.data.formats.test_malformed import FORMATS, damaged_once

    def malform(chance: random.Random) -> Read:
        kind, seed = chance.choice(FORMATS), chance.randrange(1 << 40)

        def read() -> object:
            home = folder / f"{kind}{seed}"
            try:
                if damaged_once(home, kind, seed) == "refused":
                    raise _refused()
            finally:
                shutil.rmtree(home, ignore_errors=True)
            return None

        return read

    return malform


def _refused() -> Exception:
    from data.errors import DataError

    return DataError("refused by one line, as its own account compared")


READERS = (
    Reader("recipe", _yaml_reader(RECIPE, "recipe.yaml", _recipe)),
    Reader("override (-s)", _overrides),
    Reader("machine", _yaml_reader(MACHINE, "machine.yaml", _machine)),
    Reader("config.yaml of a run", _yaml_reader(RECIPE, "config.yaml", _run_recipe)),
    Reader("data.yaml", _data_yaml),
    Reader("labels", _labels, cost=2),
)
