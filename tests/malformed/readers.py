"""Every reader of files that others wrote, with sound files to start from and ways to damage them."""

from __future__ import annotations

import io
import json
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from tests.malformed.mutations import absurd, absurd_array, damaged_bytes, damaged_text
from tests.malformed.trial import rewritten

Read = Callable[[], object]
Malform = Callable[[random.Random], Read]
"""One malformed input, written; calling the result reads it."""

TESTS = Path(__file__).parents[1]
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


@dataclass(frozen=True)
class Reader:
    """A reader under trial.

    Attributes:
        name: in tables.
        prepare: makes sound files in a folder; gives what malforms them.
        cost: how long a read takes, in those of the quickest: fewer are tried.

    """

    name: str
    prepare: Callable[[Path], Malform]
    cost: int = 1


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


def _images(folder: Path) -> Malform:
    from data.images import image_size_hw, read_image

    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    seeds = {s: cv2.imencode(s, noise)[1].tobytes() for s in (".png", ".jpg", ".bmp", ".tif", ".webp")}

    def malform(chance: random.Random) -> Read:
        suffix = chance.choice(sorted(seeds))
        path = rewritten(folder / f"image{suffix}", damaged_bytes(chance, seeds[suffix]))
        return lambda: (image_size_hw(path), read_image(path))

    return malform


def _model_file(folder: Path) -> Malform:
    from detection.runtime.model_file import read_model

    sound = (folder / "sound.onnx", _tiny().write(folder / "sound.onnx"))[1].read_bytes()

    def malform(chance: random.Random) -> Read:
        content = damaged_bytes(chance, sound)
        path = rewritten(folder / "m.onnx", content)

        def read() -> None:
            read_model(path)
            assert content == sound, "a changed file was taken for the one that was exported"

        return read

    return malform


def _metadata(folder: Path) -> Malform:
    from detection.runtime.detector import Detector
    from detection.runtime.parity.report import parity_fault

    tiny = _tiny()
    base = json.loads(tiny.changed_json(parity=PARITY))
    image = np.zeros((50, 70, 3), np.uint8)

    def malform(chance: random.Random) -> Read:
        content = json.dumps(absurd(chance, base))
        if chance.random() < 0.2:
            content = damaged_bytes(chance, content.encode()).decode("utf-8", "replace")
        path = tiny.write(folder / "m.onnx", text=content.replace("\ud800", "?"))

        def read() -> None:
            detector = Detector(path, threads=1)
            parity_fault(path, detector.metadata)
            detector.detect_batch([image, image])

        return read

    return malform


PARITY = {
    "schema": 2,
    "precision": "fp32",
    "images": 40,
    "boxes": 300,
    "unmatched_boxes": 0,
    "malformed_outputs": 0,
    "delta_ap_points": 0.01,
    "small_ap_fall_points": None,
}


def _parity_report(folder: Path) -> Malform:
    from detection.runtime.model_file import read_model
    from detection.runtime.parity.report import parity_fault

    path = _tiny().write(folder / "m.onnx", _tiny().metadata(parity=PARITY))
    metadata, beside = read_model(path), folder / "m.parity.json"
    text = json.dumps(PARITY, indent=2)

    def malform(chance: random.Random) -> Read:
        content = absurd(chance, PARITY)
        raw = damaged_bytes(chance, text.encode()) if chance.random() < 0.5 else json.dumps(content).encode()
        rewritten(beside, raw)

        def read() -> None:
            if fault := parity_fault(path, metadata):
                raise _model_error(fault)
            assert json.loads(raw) == PARITY, "a changed report was taken for the model's own"

        return read

    return malform


def _model_error(line: str) -> Exception:
    from detection.runtime.errors import ModelFileError

    error = ModelFileError("")
    error.args = (line,)  # as it stands, to be judged
    return error


def _reference(folder: Path) -> Malform:
    from detection.runtime.parity.reference import Reference

    sound = (TESTS / "fixtures" / "model_schema_1" / "model.reference.npz").read_bytes()
    arrays = dict(np.load(io.BytesIO(sound)))
    about = json.loads(str(arrays["about"]))

    def malform(chance: random.Random) -> Read:
        if chance.random() < 0.4:
            content = damaged_bytes(chance, sound)
        else:
            changed = dict(arrays)
            name = chance.choice([n for n in changed if not n.startswith("input_")] + ["input_0"])
            if name == "about" and chance.random() < 0.7:
                changed[name] = np.array(json.dumps(absurd(chance, about)))
            elif chance.random() < 0.15:
                del changed[name]
            else:
                changed[name] = absurd_array(chance, changed[name])
            file = io.BytesIO()
            np.savez(file, **changed)
            content = file.getvalue()
        path = rewritten(folder / "m.reference.npz", content)
        return lambda: Reference.read(path)

    return malform


def _safetensors(read: Callable[[Path], object]) -> Callable[[Path], Malform]:
    def prepare(folder: Path) -> Malform:
        sound = (TESTS / "detection" / "models" / "version_0_1" / "best.safetensors").read_bytes()
        size = int.from_bytes(sound[:8], "little")
        head, body = json.loads(sound[8 : 8 + size]), sound[8 + size :]
        ours = json.loads(head["__metadata__"]["swath"])
        read(rewritten(folder / "best.safetensors", sound))

        def malform(chance: random.Random) -> Read:
            kind = chance.randrange(4)
            if kind == 0:
                content = damaged_bytes(chance, sound)
            else:
                changed = json.loads(json.dumps(head))
                if kind == 1:
                    name = chance.choice(list(changed))
                    changed[name] = absurd(chance, changed[name])
                else:
                    changed["__metadata__"]["swath"] = json.dumps(absurd(chance, ours))
                raw = json.dumps(changed).encode()
                content = len(raw).to_bytes(8, "little") + raw + body
            path = rewritten(folder / "best.safetensors", content)
            return lambda: read(path)

        return malform

    return prepare


def _load_trained(path: Path) -> object:
    from detection.models.checkpoint import load_trained
    from detection.recipe.reading import written_recipe

    trained = load_trained(path)
    return trained.class_names, written_recipe(trained.recipe)


def _weights(path: Path) -> object:
    from detection.models.presets import preset_named
    from detection.models.weight_sources import find_weights

    return find_weights(str(path), preset_named("fcos_lite"), "tf_efficientnet_lite0", trust_hub=False)


def _checkpoint(folder: Path) -> Malform:
    import torch

    from detection.training.saved_state import resumable

    state = {
        "model": {"a.weight": torch.zeros(3, 4), "b.bias": torch.zeros(3)},
        "precision": {},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "ema": None,
        "rng": torch.get_rng_state(),
        "state": {
            "step": 3,
            "elapsed_s": 1.5,
            "best_ap": 0.2,
            "best_step": 3,
            "since_best": 0,
            "scored_step": 3,
            "saved_s": 1.0,
        },
        "class_names": ["weed"],
        "preset": "fcos_lite",
        "weights_licence": "none",
    }

    def saved(content: Any) -> bytes:
        file = io.BytesIO()
        torch.save(content, file)
        return file.getvalue()

    sound = saved(state)
    resumable(rewritten(folder / "last.ckpt", sound))
    plain = {
        key: value for key, value in state.items() if key in ("state", "class_names", "preset", "weights_licence")
    }

    def malform(chance: random.Random) -> Read:
        if chance.random() < 0.5:
            content = damaged_bytes(chance, sound)
        else:
            changed = absurd(chance, plain)
            whole = {**state, **changed} if isinstance(changed, dict) else changed
            if isinstance(whole, dict):
                for key in set(plain) - set(changed):
                    del whole[key]
            content = saved(whole)
        path = rewritten(folder / "last.ckpt", content)
        return lambda: (resumable(path), _weights(path))

    return malform


def _recording(folder: Path) -> Malform:
    from detection.runtime.blackbox.recording import read_recording

    about = {
        "schema": 2,
        "class_names": ["weed"],
        "model": "m.onnx",
        "slices": {"front": {"roi_xyxy": None, "tiles_rc": [1, 1], "overlap": 0.2}},
    }
    frame = {
        "image": "pictures/0.jpg",
        "camera": "front",
        "frame": 3,
        "captured_ns": 5,
        "stream_s": None,
        "age_ms": 40.5,
        "model_sha256": "",
        "score_thresholds": [0.3],
        "boxes_xyxy": [[1, 2, 3, 4]],
        "scores": [0.5],
        "labels": [0],
        "track_ids": None,
    }
    rewritten(folder / "recording.json", json.dumps(about).encode())
    rewritten(folder / "frames.jsonl", (json.dumps(frame) + "\n").encode())
    read_recording(folder)

    def malform(chance: random.Random) -> Read:
        changed, line = about, frame
        if chance.random() < 0.5:
            changed = absurd(chance, about)
        else:
            line = absurd(chance, frame)
        raw = (json.dumps(changed).encode(), (json.dumps(line) + "\n").encode())
        if chance.random() < 0.3:
            raw = (damaged_bytes(chance, raw[0]), damaged_bytes(chance, raw[1]))
        rewritten(folder / "recording.json", raw[0])
        rewritten(folder / "frames.jsonl", raw[1])
        return lambda: read_recording(folder)

    return malform


def _archive(folder: Path) -> Malform:
    from data.download.unpack import Limits, unpack

    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("set/a.txt", "set/b/c.txt"):
            archive.writestr(name, "0 0.5 0.5 0.1 0.1\n" * 40)
    with tarfile.open(fileobj=tarred, mode="w:gz") as opened:
        for name in ("set/a.txt", "set/b/c.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 18 * 40
            opened.addfile(entry, io.BytesIO(b"0 0.5 0.5 0.1 0.1\n" * 40))
    seeds = (zipped.getvalue(), tarred.getvalue())

    def malform(chance: random.Random) -> Read:
        path = rewritten(folder / "set.part", damaged_bytes(chance, chance.choice(seeds)))
        target = folder / "out"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        limits = Limits(bytes=1 << 22, floor_bytes=1 << 20)
        return lambda: unpack(path, target, limits=limits)

    return malform


def _containers(folder: Path) -> Malform:
    from data.errors import DataError
    from detection.runtime.cameras.containers import contents_of, lacks_its_index

    seeds: dict[str, bytes] = {}
    for suffix, code in ((".mp4", "mp4v"), (".avi", "MJPG"), (".mkv", "MJPG")):
        path = folder / f"sound{suffix}"
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), 25.0, (96, 64))
        for value in range(6):
            writer.write(np.full((64, 96, 3), 40 * value, np.uint8))
        writer.release()
        seeds[suffix] = path.read_bytes()
        assert contents_of(path) is not None

    def malform(chance: random.Random) -> Read:
        suffix = chance.choice(sorted(seeds))
        path = rewritten(folder / f"video{suffix}", damaged_bytes(chance, seeds[suffix]))

        def read() -> None:
            lacks_its_index(path)
            if contents_of(path) is None:
                raise DataError(f"{suffix}: tables that say nothing: FFmpeg alone decides")

        return read

    return malform


def _jpeg_streams(folder: Path) -> Malform:
    from data.errors import DataError
    from detection.runtime.cameras.web_images import jpeg_end

    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    sound = cv2.imencode(".jpg", noise)[1].tobytes()
    assert jpeg_end(sound + b"--frame") == len(sound)

    def malform(chance: random.Random) -> Read:
        content = damaged_bytes(chance, sound)

        def read() -> None:
            try:
                jpeg_end(content)
            except ValueError as error:  # which its caller counts as an unreadable image
                raise DataError(f"a camera's image: {error}") from None

        return read

    return malform


def _tiny() -> Any:
    import importlib

    return importlib.import_module("tests.detection.runtime.tiny_model")


READERS = (
    Reader("recipe", _yaml_reader(RECIPE, "recipe.yaml", _recipe)),
    Reader("override (-s)", _overrides),
    Reader("machine", _yaml_reader(MACHINE, "machine.yaml", _machine)),
    Reader("config.yaml of a run", _yaml_reader(RECIPE, "config.yaml", _run_recipe)),
    Reader("data.yaml", _data_yaml),
    Reader("labels", _labels, cost=2),
    Reader("images", _images),
    Reader("model file", _model_file),
    Reader("model metadata", _metadata, cost=4),
    Reader("parity report", _parity_report),
    Reader("reference.npz", _reference),
    Reader("best.safetensors", _safetensors(_load_trained), cost=20),
    Reader("model.weights", _safetensors(_weights)),
    Reader("last.ckpt", _checkpoint),
    Reader("recording", _recording),
    Reader("archive", _archive),
    Reader("video container", _containers),
    Reader("JPEG of a camera", _jpeg_streams),
)
