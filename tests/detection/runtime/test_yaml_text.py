"""YAML from strangers: one line with the place, for whatever is wrong, and in no time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

import data.yaml_text
import detection.runtime.yaml_text
from detection.recipe.reading import RecipeError, load_recipe
from detection.runtime.operations.machine_file import MachineError, load_machine
from detection.runtime.yaml_text import LIMIT_BYTES, YamlError, compose_yaml, parse_yaml

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)
)
MALFORMED = [
    (LAUGHS, "line 5: more than 50,000 values, aliases expanded"),
    ("a: &a [*a]", "line 1: an alias that refers to what it stands in"),
    ("a: 1\nb: *x", "line 2: found undefined alias"),
    ("[" * 100_000, "line 1: nested more than 50 deep"),
    ("- " * 2000, "nested more than 50 deep"),
    ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands there twice"),
    ("a: 2001-99-99", "line 1: '2001-99-99' is no timestamp; put it into quotes"),
    ("a: !!timestamp foo", "'foo' is no timestamp"),
    ("a: !!bool foo", "'foo' is no bool"),
    ("a: !!int foo", "'foo' is no int"),
    ("a: !!float ''", "is no float"),
    ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ("? [1]\n: 2", "found unhashable key"),
    ("a: " + "9" * 5000, "a number of too many digits"),
    ("1" + ":1" * 3000, "a number of too many digits"),
    ("a: \x07", r"a character that no YAML may hold \(#x07\)"),
    ("a: 1\n--- b", "another document"),
    ("x" * (LIMIT_BYTES + 1), "larger than 1024 KiB"),
]


@pytest.mark.parametrize(("text", "said"), MALFORMED, ids=lambda value: repr(value[:24]))
def test_whatever_is_wrong_is_one_line_with_its_place(text: str, said: str) -> None:
    begun_s = time.monotonic()
    with pytest.raises(YamlError, match=said) as error:
        parse_yaml(text)
    assert "\n" not in str(error.value) and time.monotonic() - begun_s < 10


def test_sound_yaml_is_what_safe_load_gives() -> None:
    text = "a: &a {b: [1, 2.5, no, ~]}\nc: {<<: *a, d: 'x'}\ne: [*a, *a]\nf: 2026-05-01\n"
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml("") is None and compose_yaml("") is None
    node = compose_yaml("names: [no, 010]")
    assert node is not None and [item.value for item in node.value[0][1].value] == ["no", "010"]


def test_both_halves_have_the_same_rule() -> None:
    ours, theirs = detection.runtime.yaml_text.__file__, data.yaml_text.__file__
    assert Path(ours).read_text(encoding="utf-8") == Path(theirs).read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [text for text, _ in MALFORMED] + ["a: \ud800", "\ufeff[", "on: 1\n7: 2"])
def test_recipe_override_and_machine_say_it_in_one_printable_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    good = tmp_path / "good.yaml"
    good.write_text("data: {train: photos}")
    for read, error in (
        (lambda: load_recipe(path), RecipeError),
        (lambda: load_machine(path), MachineError),
        (lambda: load_recipe(good, [f"train={text}"]), RecipeError),
    ):
        with pytest.raises(error) as caught:
            read()
        assert str(caught.value).isprintable()


def test_a_key_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("data: {train: x, on: 3}")
    with pytest.raises(RecipeError, match="data: the key 'True' is no text for YAML; put it into quotes"):
        load_recipe(path)


@pytest.mark.parametrize("place", ["~nobody-there/x", "x" * 5000, "a\0b"])
def test_a_path_that_no_system_takes_is_one_line(place: str, tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    for read, error, content in (
        (load_recipe, RecipeError, {"data": {"train": place}}),
        (load_machine, MachineError, {"model": {"path": "m.onnx"}, "cameras": [{"name": "a", "source": place}]}),
        (load_machine, MachineError, {"model": {"path": place}, "cameras": [{"name": "a", "source": "0"}]}),
    ):
        path.write_text(json.dumps(content))
        try:
            read(path)
        except error as refused:
            assert str(refused).isprintable() and len(str(refused)) < 2100
        except ValueError as refused:
            raise AssertionError from refused
