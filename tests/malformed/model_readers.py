"""Readers of model files, checkpoints and what lies beside them."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.malformed.mutations import absurd, absurd_array, damaged_bytes
from tests.malformed.reader import Malform, Read, Reader
from tests.malformed.trial import rewritten

TESTS = Path(__file__).parents[1]


def _model_file(folder: Path) -> Malform:
    from detection.runtime.model_file import read_model

    sound = (folder / "sound.onnx", tiny_model().write(folder / "sound.onnx"))[1].read_bytes()

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

    tiny = tiny_model()
    base = json.loads(tiny.changed_json(parity=tiny_model().PASSED))
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


def _parity_report(folder: Path) -> Malform:
    from detection.runtime.model_file import read_model
    from detection.runtime.parity.report import parity_fault

    path = tiny_model().write(folder / "m.onnx", tiny_model().metadata(parity=tiny_model().PASSED))
    metadata, beside = read_model(path), folder / "m.parity.json"
    text = json.dumps(tiny_model().PASSED, indent=2)

    def malform(chance: random.Random) -> Read:
        content = absurd(chance, tiny_model().PASSED)
        raw = damaged_bytes(chance, text.encode()) if chance.random() < 0.5 else json.dumps(content).encode()
        rewritten(beside, raw)

        def read() -> None:
            if fault := parity_fault(path, metadata):
                raise _model_error(fault)
            assert json.loads(raw) == tiny_model().PASSED, "a changed report was taken for the model's own"

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


def tiny_model() -> Any:
    """The module of the model that is small enough to check by hand."""
    import importlib

    return importlib.import_module("tests.detection.runtime.tiny_model")


READERS = (
    Reader("model file", _model_file),
    Reader("model metadata", _metadata, cost=4),
    Reader("parity report", _parity_report),
    Reader("reference.npz", _reference),
    Reader("best.safetensors", _safetensors(_load_trained), cost=20),
    Reader("model.weights", _safetensors(_weights)),
    Reader("last.ckpt", _checkpoint),
)
