"""`load_machine`: a machine's YAML, with secrets taken from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from detection.runtime import outputs
from detection.runtime.compatibility import MACHINE_MODEL, renamed
from detection.runtime.errors import SwathError, reason
from detection.runtime.operations.machine import Machine
from detection.runtime.operations.redaction import Redaction
from detection.runtime.settings import explain, read_mapping, shown

_OUTPUTS_HERE = "  # (outputs)\n"
_EXAMPLE_OUTPUTS = frozenset(("jsonl", "events", "mqtt", "metrics", "dashboard", "black_box"))
_VARIABLE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)\}")


class MachineError(SwathError):
    """A machine's YAML that cannot be used; the message names the key and the nearest valid one."""


@dataclass(frozen=True)
class MachineFile:
    """A machine's YAML as it was read.

    Attributes:
        path: the file.
        machine: its content.
        secrets: values of the environment variables that it refers to.

    """

    path: Path
    machine: Machine
    secrets: tuple[str, ...] = field(repr=False)

    @property
    def redaction(self) -> Redaction:
        """Keeps its secrets out of logs and messages."""
        return Redaction(self.secrets)


def load_machine(path: Path, environment: Mapping[str, str] | None = None, *, fill_in: bool = True) -> MachineFile:
    """Read a machine's YAML.

    `${NAME}` anywhere in a value is replaced by that environment variable, `$${NAME}` becomes `${NAME}`. Values
    from the environment count as secrets. Relative paths start at the YAML's own folder.

    Args:
        path: the YAML.
        environment: None takes the process's own.
        fill_in: False leaves `${NAME}` as it stands: for looking at a machine without its secrets.

    Raises:
        MachineError: no such file, not YAML, an unknown key, a value of the wrong type or range, or a variable
            that is not set.

    """
    if not path.is_file():
        raise MachineError(f"{path}: no such file; `swath machine example` prints one")
    content = read_mapping(path, MachineError, what="a machine", model=Machine)
    if isinstance(content.get("model"), dict):
        content["model"] = renamed(content["model"], MACHINE_MODEL, f"{path}: model")
    secrets: set[str] = set()
    environment = os.environ if environment is None else environment
    filled = _filled(content, environment, secrets, ()) if fill_in else content
    redaction = Redaction(secrets)
    if isinstance(filled, _Missing):
        raise MachineError(
            f"{path}: {filled.key}: the environment variable {filled.variable} is not set; "
            "export it, or put it into the service's EnvironmentFile"
        )
    try:
        machine = Machine.model_validate(filled, context={"folder": path.parent})
    except ValidationError as error:
        faults = "; ".join(dict.fromkeys(explain(fault, Machine) for fault in error.errors()))
        raise MachineError(redaction(f"{path}: {faults}")) from None
    except (OSError, RuntimeError) as error:  # a path that the system refuses to look at; `~nobody`
        raise MachineError(redaction(f"{path}: a path in it cannot be used ({reason(error)})")) from None
    return MachineFile(path, machine, tuple(sorted(secrets)))


def example_machine() -> str:
    """The YAML of a whole machine: some outputs in use, the others of `KINDS` as comments."""
    text = files(__package__).joinpath("machine.yaml").read_text(encoding="utf-8")
    lines = []
    for kind in outputs.KINDS:
        used = kind.key in _EXAMPLE_OUTPUTS
        lines.append(f"  {'' if used else '# '}{kind.key}: {kind.example} # {kind.about}\n")
    lines.sort(key=lambda line: line.startswith("  #"))
    return text.replace(_OUTPUTS_HERE, "".join(lines))


@dataclass(frozen=True)
class _Missing:
    key: str
    variable: str


def _filled(value: Any, environment: Mapping[str, str], secrets: set[str], key: tuple[str | int, ...]) -> Any:
    """The value with variables replaced; `_Missing` where one of them is not set."""
    if isinstance(value, dict):
        entries = {k: _filled(v, environment, secrets, (*key, str(k))) for k, v in value.items()}
        return next((v for v in entries.values() if isinstance(v, _Missing)), entries)
    if isinstance(value, list):
        items = [_filled(v, environment, secrets, (*key, place)) for place, v in enumerate(value)]
        return next((v for v in items if isinstance(v, _Missing)), items)
    if not isinstance(value, str):
        return value
    for escaped, name in _VARIABLE.findall(value):
        if not escaped and name not in environment:
            return _Missing(shown(key), name)

    def replaced(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        secrets.add(environment[match[2]])
        return environment[match[2]]

    return _VARIABLE.sub(replaced, value)
