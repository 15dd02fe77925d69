"""A model file that is not what was exported is refused, whichever byte of it differs."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import onnx
import pytest

from detection.runtime.backends.onnx_file import read_metadata
from detection.runtime.compatibility import current_model_metadata
from detection.runtime.detector import Detector
from detection.runtime.errors import ModelFileError
from detection.runtime.metadata import KEY, NO_DIGEST, SCHEMA_VERSION
from detection.runtime.model_file import read_model, sealed

PAGE = 4096
OLD = Path(__file__).parents[2] / "fixtures" / "model_schema_1" / "model.onnx"


def exported_today() -> bytes:
    """A trained model file of an earlier version, with today's metadata."""
    model = onnx.load(OLD)
    content = current_model_metadata(json.loads(next(p.value for p in model.metadata_props if p.key == KEY)))
    text = json.dumps({**content, "schema_version": SCHEMA_VERSION, "file_sha256": NO_DIGEST}, separators=(",", ":"))
    onnx.helper.set_model_props(model, {KEY: text})
    return sealed(model.SerializeToString())


def test_the_digest_is_the_sha_256_of_the_file_with_its_own_digits_as_zeros(model_path: Path) -> None:
    content = model_path.read_bytes()
    stated = read_model(model_path).file_sha256
    assert stated is not None
    assert hashlib.sha256(content.replace(stated.encode(), b"0" * 64)).hexdigest() == stated


def test_a_byte_anywhere_is_noticed(model_path: Path, tmp_path: Path) -> None:
    content = model_path.read_bytes()
    places = range(0, len(content), 7)
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / "m.onnx").write_bytes(changed)
        with pytest.raises(ModelFileError, match="m.onnx: ") as error:
            read_model(tmp_path / "m.onnx")
        assert "\n" not in str(error.value)
    assert len(places) > 300


def test_zeroed_pages_of_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(exported_today())
    Detector(path).warm_up()
    content = bytearray(path.read_bytes())
    for page in random.Random(0).sample(range(1, len(content) // PAGE - 4), 20):
        content[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="model.onnx: .*(damaged|not a readable)"):
        Detector(path)


def test_thresholds_changed_by_hand_are_refused(model_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model_path.read_bytes().replace(b"[0.7,0.9]", b"[0.1,0.9]"))
    with pytest.raises(ModelFileError, match="damaged or changed: its content is not what was exported"):
        Detector(path)


def test_sealing_twice_or_without_a_place_is_a_fault_of_the_program(model_path: Path) -> None:
    with pytest.raises(ValueError):
        sealed(model_path.read_bytes())


def test_a_file_without_a_digest_is_read_and_one_line_says_so(
    tiny: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tiny.write(tmp_path / "old.onnx", tiny.metadata(file_sha256=None))
    assert "file_sha256" in read_metadata(path)[KEY]
    for _ in range(3):
        Detector(path)
    assert caplog.messages == [
        f"{path}: of an older Swath, without a digest: damage to it goes unnoticed; export it again"
    ]
