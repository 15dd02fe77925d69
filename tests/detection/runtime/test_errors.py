"""Messages give the cause whole, in one printable line, in words that are not of Python's classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, Field, ValidationError

import data.errors
from detection.runtime import errors
from detection.runtime.backends.onnxruntime_backend import _said
from detection.runtime.errors import SwathError, reason
from detection.runtime.settings import explain


def test_a_message_is_one_printable_line() -> None:
    assert str(SwathError("a\nb\x1b[31m\x85\ud800")) == "a\\nb\\x1b[31m\\x85\\ud800"
    for text in ("a\nb", "x" * 5000, "é\u2028", ""):
        assert errors.one_line(text) == data.errors.one_line(text)


def test_a_reason_is_whole() -> None:
    long = "cause " * 100
    assert reason(RuntimeError(f"{long}\n\n  more")) == f"{long.strip()}; more"
    assert reason(KeyError()) == "KeyError"


def test_what_onnxruntime_says_is_not_cut_off() -> None:
    why = (
        'This is an invalid model. In Node, ("n", Foo, "", -1) : ("a": tensor(float),) -> ("b",) , Error No Op'
        + "x" * 300
    )
    assert _said(RuntimeError(f"[ONNXRuntimeError] : 10 : INVALID_GRAPH : {why}")) == why


class Part(BaseModel):
    size: int | str | None = None


class Whole(BaseModel):
    part: Part
    many: dict[str, Part] = {}
    path: Path | None = None
    either: int | list[int] = Field(3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"part": 3}, "part: must be a mapping of keys to values, got 3"),
        ({"part": {}, "many": {"a": "x"}}, "many.a: must be a mapping of keys to values, got 'x'"),
        ({"part": {}, "path": 3}, "path: Input is not a valid path, got 3"),
        ({"part": {"size": []}}, "part.size: Input should be a valid integer, got []"),
        ({"part": {}, "either": "x"}, "either: Input should be a valid integer, unable to parse"),
    ],
)
def test_no_class_of_python_is_named(content: dict, said: str) -> None:
    with pytest.raises(ValidationError) as error:
        Whole.model_validate(content)
    assert explain(error.value.errors()[0], Whole).startswith(said)
