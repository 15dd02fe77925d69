"""Old command-line flags and values, read for one minor version: rewritten before the command sees them.

A renamed flag is one line in `FLAGS`, a renamed value of a flag one line in `VALUES`. (Old recipe keys, also those
of `-s KEY=VALUE`, stand in `detection.recipe.compatibility`; old keys of a machine's YAML in
`detection.runtime.compatibility`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

UNTIL = "0.2"
"""The version that no longer reads the old names."""


@dataclass(frozen=True)
class Flag:
    """A flag that was renamed.

    Attributes:
        command: the words of the command, such as ("data", "convert").
        old: its name before, such as "--flips".
        new: its name now.

    """

    command: tuple[str, ...]
    old: str
    new: str


@dataclass(frozen=True)
class Value:
    """A value of a flag that was renamed.

    Attributes:
        command: the words of the command.
        flag: the flag's name now.
        old: the value before.
        new: the value now.

    """

    command: tuple[str, ...]
    flag: str
    old: str
    new: str


FLAGS: tuple[Flag, ...] = (Flag(("evaluate",), "--flips", "--tta"),)
VALUES: tuple[Value, ...] = ()


def renamed(
    argv: Sequence[str], flags: Sequence[Flag] | None = None, values: Sequence[Value] | None = None
) -> tuple[list[str], list[str]]:
    """A command line with today's names, and a line for each old one in it.

    Args:
        argv: words after `swath`.
        flags: renamed flags; None: those of this version.
        values: renamed values; None: those of this version.

    Returns:
        The command line to run, and messages such as "--flips is now --tta; the old name works until 0.2".
        Words after `--` are left alone.

    """
    flags = FLAGS if flags is None else flags
    values = VALUES if values is None else values
    words = [word for word in argv if not word.startswith("-")]
    flags = [flag for flag in flags if tuple(words[: len(flag.command)]) == flag.command]
    values = [value for value in values if tuple(words[: len(value.command)]) == value.command]
    rewritten: list[str] = []
    notes: list[str] = []
    for place, word in enumerate(argv):
        if word == "--":
            rewritten += argv[place:]
            break
        name, equals, content = word.partition("=")
        flag = next((flag for flag in flags if flag.old == name), None)
        if flag is not None:
            notes.append(f"{flag.old} is now {flag.new}; the old name works until {UNTIL}")
            name = flag.new
        for value in values:
            after_flag = not equals and rewritten[-1:] == [value.flag] and name == value.old
            if after_flag or (equals and name == value.flag and content == value.old):
                notes.append(f"{value.flag} {value.old} is now {value.new}; the old name works until {UNTIL}")
                name, content = (name, value.new) if equals else (value.new, content)
        rewritten.append(f"{name}{equals}{content}")
    return rewritten, list(dict.fromkeys(notes))
