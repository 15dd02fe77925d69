"""What the docs tell people to type exists: commands, flags, recipe and machine keys, files, extras, Python names."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import commands
import hooks
import pytest
import settings
import yaml
from text import Said, said, words

from detection.recipe.reading import load_recipe
from detection.recipe.schema import Recipe
from detection.runtime.operations.machine import Machine

ROOT = Path(__file__).parents[2]
ALL = list(said())
COMMANDS = dict(commands.commands())
KEYS = {key for key, _ in settings.keys(Recipe)} | {key for key, _ in settings.keys(Machine)}
SECTIONS = {key.split(".")[0].removesuffix("[]") for key in KEYS if "." in key}
FOLDERS = ("detection", "data", "swath", "docs", "scripts", "configs", "tests")


def lines(start: str) -> list[Said]:
    return [one for one in ALL if one.kind == "line" and one.text.startswith(start)]


def inline(pattern: str) -> list[Said]:
    return [one for one in ALL if one.kind == "inline" and re.fullmatch(pattern, one.text)]


def command_of(arguments: list[str]) -> tuple[str, list[str]] | None:
    """The command that the words after `swath` name, and the rest of them."""
    rest = [word for word in arguments if word != "--debug"]
    for length in (2, 1):
        name = " ".join(["swath", *rest[:length]])
        if name in COMMANDS:
            return name, rest[length:]
    return None


def test_there_is_much_to_look_at() -> None:
    assert len(lines("swath ")) > 60 and len(inline(r"swath .*")) > 20 and len(inline(r"--[a-z-]+")) > 20


@pytest.mark.parametrize("one", lines("swath "), ids=str)
def test_a_command_line_is_accepted(one: Said) -> None:
    arguments = words(one.text)[1:]
    if arguments in (["--help"], ["--version"]):
        return
    found = command_of(arguments)
    assert found, f"no such command: {one}"
    name, rest = found
    context = COMMANDS[name].make_context(name, [word for word in rest if word != "--help"])  # parses, runs nothing
    assert_overrides(context.params.get("set_", ()))


def assert_overrides(overrides: Any) -> None:
    """Each key is a recipe's, each value one that it may have."""
    for override in overrides:
        assert override.split("=")[0] in KEYS, f"no such key: {override}"  # old names are read, but not taught
    if overrides:
        load_recipe(ROOT / "configs/demo.yaml", list(overrides))


@pytest.mark.parametrize("one", inline(r"swath .*"), ids=str)
def test_a_command_in_a_sentence_exists(one: Said) -> None:
    arguments = words(one.text)[1:]
    groups = {name.rsplit(" ", 1)[0] for name in COMMANDS}
    if " ".join(["swath", *arguments]) in groups or arguments[0].startswith("--"):
        return
    found = command_of(arguments)
    assert found, f"no such command: {one}"
    name, rest = found
    known = {option for p in COMMANDS[name].params for option in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
    for word in rest:
        if re.match(r"--?[a-z]", word):
            assert word.split("=")[0] in known, f"{word} is no option of {name}: {one}"


SCRIPT_OPTIONS = {
    option
    for path in (ROOT / "scripts").rglob("*.py")
    for option in re.findall(r'"(--?[a-z][a-z0-9-]*)"', path.read_text(encoding="utf-8"))
}
OPTIONS = {o for c in COMMANDS.values() for p in c.params for o in (*p.opts, *p.secondary_opts)}


@pytest.mark.parametrize("one", inline(r"--[a-z].*"), ids=str)
def test_an_option_in_a_sentence_exists(one: Said) -> None:
    option = re.split(r"[ =]", one.text)[0]
    assert option in OPTIONS | SCRIPT_OPTIONS | {"--help", "--debug", "--version"}, str(one)


KEY = re.compile(rf"(?:-s )?((?:{'|'.join(sorted(SECTIONS))})(?:\[\])?\.[a-z0-9_.\[\]]+)(?:=.*|: .*)?")


@pytest.mark.parametrize("one", inline(KEY.pattern), ids=str)
def test_a_key_in_a_sentence_exists(one: Said) -> None:
    match = KEY.fullmatch(one.text)
    assert match
    key = match[1].rstrip(".")
    if key.endswith((".md", ".yaml")):  # a file of the user's
        return
    assert key in KEYS or exists_in_python(key) or (ROOT / key).exists(), f"no such key: {one}"


def exists_in_python(dotted: str) -> bool:
    """Whether `data.synthetic.render_dataset` can be imported: a module, or a name in one."""
    module, _, name = dotted.rpartition(".")
    for path, attribute in ((dotted, None), (module, name)):
        try:
            found = importlib.import_module(path)
        except ImportError:
            continue
        if attribute is None or hasattr(found, attribute):
            return True
    return False


@pytest.mark.parametrize("one", [one for one in ALL if one.kind in ("yaml", "yml")], ids=lambda o: o.page)
def test_yaml_has_known_keys(one: Said) -> None:
    content = yaml.safe_load(one.text)
    assert isinstance(content, dict)
    model = Machine if "cameras" in content else Recipe
    if set(content) & set(model.model_fields):
        known = {re.sub(r"\[\]", "", key) for key, _ in settings.keys(model)}
        free = {re.sub(r"\[\]", "", k) for k, f in settings.keys(model) if "dict" in str(f.annotation)}
        assert set(dotted(content, free)) <= known, one.page


def dotted(content: Any, free: set[str], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        yield f"{prefix}{key}"
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict) and f"{prefix}{key}" not in free:
                yield from dotted(inner, free, f"{prefix}{key}.")


def paths() -> list[tuple[Said, str]]:
    """Paths of the repository in inline code and in command lines."""
    pattern = re.compile(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*")
    return [
        (one, word.rstrip("."))
        for one in ALL
        if one.kind in ("line", "inline")
        for word in one.text.replace('"', " ").replace("'", " ").split()
        if pattern.fullmatch(word.split("::")[0].rstrip("."))
    ]


@pytest.mark.parametrize(("one", "path"), paths(), ids=str)
def test_a_path_exists(one: Said, path: str) -> None:
    file, _, node = path.partition("::")
    if one.page.startswith("docs/extend/") and f"`{path}`:\n\n```python" in (ROOT / one.page).read_text():
        return  # the new file that the page is about
    generated = file.removeprefix("docs/") in hooks.GENERATED
    assert generated or (ROOT / file).exists(), f"no such file: {one}"
    if node:
        assert f"def {node}(" in (ROOT / file).read_text(encoding="utf-8"), f"no such test: {one}"


@pytest.mark.parametrize("one", [*lines("python "), *lines("torchrun "), *lines("fabric ")], ids=str)
def test_a_script_has_the_options_that_it_is_given(one: Said) -> None:
    given = words(one.text)
    script = next((word for word in given if word.startswith("scripts/")), None)
    if script is None:  # a user's own script, or python -m
        assert not one.page.startswith("README") or given[1] == "-m", str(one)
        return
    rest = given[given.index(script) + 1 :]
    text = (ROOT / script).read_text(encoding="utf-8")
    known = set(re.findall(r'"(--?[a-z][a-z0-9-]*)"', text))
    if "main([" in text:  # a command of swath
        known = {o for p in COMMANDS[f"swath {Path(script).stem}"].params for o in (*p.opts, *p.secondary_opts)}
    for word in rest:
        if re.match(r"--?[a-z]", word):
            assert word.split("=")[0] in known, f"{script} has no {word}: {one}"
    overrides = [value for option, value in zip(rest, rest[1:], strict=False) if option == "-s"]
    assert_overrides(overrides)


@pytest.mark.parametrize("one", lines("pytest "), ids=str)
def test_pytest_would_find_something(one: Said) -> None:
    given = words(one.text)
    if "-k" not in given:
        return
    name = given[given.index("-k") + 1]
    where = [ROOT / word for word in given if word.startswith("tests/")] or [ROOT / "tests"]
    files = [file for path in where for file in (path.rglob("test_*.py") if path.is_dir() else [path])]
    assert any(re.search(rf"def test_\w*{name}|class \w*{name}", file.read_text()) for file in files), str(one)


@pytest.mark.parametrize("one", [*lines("make "), *inline(r"make [a-z]+")], ids=str)
def test_make_has_the_target(one: Said) -> None:
    target = words(one.text)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), str(one)


def test_extras_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [
        name
        for one in ALL
        for group in re.findall(r"(?:swath|\.)\[([a-z,-]+)\]", one.text)
        for name in group.split(",")
    ]
    assert len(named) > 10 and set(named) <= set(extras)


@pytest.mark.parametrize("one", [one for one in ALL if one.kind == "python"], ids=lambda one: one.page)
def test_python_compiles_and_imports_what_exists(one: Said) -> None:
    if one.text.lstrip().startswith((">>>", "from __future__ import missing")):
        return
    tree = ast.parse(one.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in FOLDERS:
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or exists_in_python(f"{node.module}.{alias.name}"), one.text


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)[^):]*\)", text)
    assert len(links) > 5
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 112
