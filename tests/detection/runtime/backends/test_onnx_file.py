from pathlib import Path
from types import ModuleType

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detection.runtime.backends.onnx_file import read_metadata
from detection.runtime.errors import ModelFileError


def test_what_onnx_writes_is_read_back(model_path: Path, tmp_path: Path) -> None:
    model = onnx.load(model_path)
    long = "ä" * 70_000  # a length of three bytes
    onnx.helper.set_model_props(model, {"swath": "{}", "empty": "", "long": long})
    model.doc_string = "text before it"
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    assert read_metadata(path) == {"swath": "{}", "empty": "", "long": long}


def test_a_file_without_metadata_has_none(tiny: ModuleType, tmp_path: Path) -> None:
    assert read_metadata(tiny.write(tmp_path / "m.onnx", with_metadata=False)) == {}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "cannot mmap an empty file"),
        (b"\x08\x08", "it has no graph"),  # field 1 = 8 alone
        (b"\x3a\x05abc", "cut off"),  # a graph of 5 bytes, of which 3 are there
        (b"\x3a\x00\x72\x04\x0a\x09ab", "cut off"),  # a key longer than the entry around it
        (b"\x3a\x00\x72\x04\x0a\x02\xff\xff", "can't decode"),
        (b"\x3b\x00", "not a protobuf"),  # wire type 3
        (b"\x00\x00", "not a protobuf"),  # field 0
        (b"\xff" * 12, "not a protobuf"),  # a number without end
        (b"\x3a\x00\xff", "cut off"),
    ],
)
def test_what_is_no_onnx_file_is_one_line(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=why) as error:
        read_metadata(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_fields_of_every_kind_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    # a varint of two bytes, 8 bytes, 4 bytes, an empty graph, an entry k = v
    path.write_bytes(b"\x08\x80\x01\x11" + b"\0" * 8 + b"\x1d" + b"\0" * 4 + b"\x3a\x00\x72\x06\x0a\x01k\x12\x01v")
    assert read_metadata(path) == {"k": "v"}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=60))
def test_noise_is_read_or_refused_but_never_anything_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "noise"
    path.write_bytes(content)
    try:
        assert isinstance(read_metadata(path), dict)
    except ModelFileError as error:
        assert "not a readable .onnx model" in str(error)
