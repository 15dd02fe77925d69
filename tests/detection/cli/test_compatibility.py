"""Old flags are read, and answered by one line that names the new one."""

from pathlib import Path

import pytest
import typer

from detection.cli.app import app
from detection.cli.compatibility import FLAGS, VALUES, Flag, Value, renamed
from tests.detection.conftest import swath


def options_of(words: tuple[str, ...]) -> set[str]:
    command = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def test_each_new_name_exists_and_no_old_one_does() -> None:
    assert FLAGS
    for flag in FLAGS:
        options = options_of(flag.command)
        assert flag.new in options and flag.old not in options, flag
    for value in VALUES:
        assert value.flag in options_of(value.command), value


FLAG = (Flag(("data", "convert"), "--as", "--to"),)
VALUE = (Value(("data", "convert"), "--to", "marks", "masks"),)


@pytest.mark.parametrize(
    ("given", "run", "notes"),
    [
        (["data", "convert", "a", "--as", "csv"], ["data", "convert", "a", "--to", "csv"], ["--as is now --to"]),
        (["data", "convert", "--as=csv"], ["data", "convert", "--to=csv"], ["--as is now --to"]),
        (["data", "convert", "--to", "csv"], ["data", "convert", "--to", "csv"], []),
        (["--debug", "data", "convert", "--as", "x"], ["--debug", "data", "convert", "--to", "x"], ["--as is now"]),
        (["data", "split", "--as", "csv"], ["data", "split", "--as", "csv"], []),
        (["data", "convert", "--", "--as"], ["data", "convert", "--", "--as"], []),
        (["data", "convert", "--to", "marks"], ["data", "convert", "--to", "masks"], ["--to marks is now masks"]),
        (["data", "convert", "--to=marks"], ["data", "convert", "--to=masks"], ["--to marks is now masks"]),
        (["data", "convert", "marks"], ["data", "convert", "marks"], []),
        (
            ["data", "convert", "--as", "marks"],
            ["data", "convert", "--to", "masks"],
            ["--as is now --to", "--to marks is now masks"],
        ),
        (["data", "convert", "--as", "a", "--as", "b"], ["data", "convert", "--to", "a", "--to", "b"], ["--as is"]),
        ([], [], []),
    ],
)
def test_old_names_become_new_ones(given: list[str], run: list[str], notes: list[str]) -> None:
    rewritten, said = renamed(given, FLAG, VALUE)
    assert rewritten == run
    assert len(said) == len(notes)
    for line, start in zip(said, notes, strict=True):
        assert line.startswith(start) and line.endswith("; the old name works until 0.2")


def test_the_user_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = swath(capsys, "evaluate", tmp_path / "none.onnx", tmp_path, "--flips")
    first, last = error.splitlines()
    assert first == "swath: --flips is now --tta; the old name works until 0.2"
    assert code == 1 and "no such model file" in last
