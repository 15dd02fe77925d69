"""How files go wrong: damaged bytes, and well-formed content that says something absurd. Seeded, so repeatable."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np

PIECES = (
    b"\0",
    b"\xff",
    b"-",
    b"nan",
    b"1e999",
    b"{",
    b"[",
    b'"',
    b"\n",
    b"\r",
    b"9" * 40,
    b"../",
    b"\x1b[31m",
    b"\xc2\x85",
)
YAML_PIECES = (
    *(
        "&a ",
        "*a",
        "<<: *a\n",
        "<<: 3\n",
        "!!timestamp ",
        "!!bool ",
        "!!int ",
        "!!binary ",
        "!!set ",
        "!!omap ",
        "!!x ",
    ),
    *(
        "!!python/object:os.system ",
        "2001-99-99",
        "0o9",
        "1:99:99",
        "1" * 5000,
        ".inf",
        ".nan",
        "~",
        "on: ",
        "? ",
        "- ",
    ),
    *(
        ": ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "|\n",
        ">\n",
        "#",
        "%YAML 9\n",
        "---\n",
        "...\n",
        "\t",
        "'",
        '"',
        "@",
        "`",
        "\x07",
    ),
    *(
        "\u2028",
        "\U0001f33f",
        "\\ud800",
        "[" * 60,
        "{a: " * 60,
        "- " * 400,
        "1: ",
        "null: ",
        "true: ",
        "${NOT_SET}",
        "~/",
        "~nobody/",
    ),
)
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 10**6, 10**30, -(10**30), 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *(
        "",
        " ",
        "x",
        "x" * 5000,
        "\x1b[31mred\x1b[0m",
        "a\nb",
        "a\0b",
        "\u202e",
        "no",
        "0o17",
        "12:30",
        "1e5",
        "../../etc",
    ),
    *(
        [],
        {},
        [[]],
        [None],
        [1, 2],
        [1, "a", None],
        {"a": 1},
        {"": {}},
        [[1, 2], [3]],
        "~nobody/x",
        "rtsp://[",
        "#",
        "-",
    ),
    *(["x"] * 300, {"schema": 10**9}, [0, 0], [-1, 5], [1e9, 1e9], [2**63], [2**31, 2**31]),
)


def damaged_bytes(chance: random.Random, content: bytes) -> bytes:
    """One to four places of it are changed, cut, repeated, zeroed or written over."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4])):
        # headers decide more than bodies: half of the places lie near the start or the end
        size = len(changed)
        at = chance.choice(
            [
                chance.randrange(size + 1),
                chance.randrange(min(size, 300) + 1),
                max(0, size - chance.randrange(1, 300)),
            ]
        )
        kind = chance.randrange(9)
        if kind == 0:
            changed[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            del changed[at : at + chance.choice([1, 4, 64, 4096])]
        elif kind == 3:
            changed[at:at] = chance.choice(PIECES)
        elif kind == 4:
            changed[at:at] = changed[at : at + chance.choice([1, 8, 100])]
        elif kind == 5:
            end = min(size, at + chance.choice([1, 8, 512, 4096]))
            changed[at:end] = bytes(end - at)
        elif kind == 6:
            changed[at : at + 8] = chance.choice([b"\xff" * 8, b"\0" * 7 + b"\x7f", b"\0\0\0\x80\0\0\0\0"])
        elif kind == 7 and size:
            changed[min(at, size - 1)] ^= 1 << chance.randrange(8)
        else:
            other = chance.randrange(size + 1)
            changed[at : at + 16] = changed[other : other + 16]
    return bytes(changed)


def damaged_text(chance: random.Random, text: str, pieces: tuple[str, ...] = YAML_PIECES) -> str:
    """Pieces of syntax where they do not belong, lines twice, missing or in another order."""
    lines = text.splitlines(keepends=True) or [""]
    for _ in range(chance.choice([1, 1, 2, 3])):
        at = chance.randrange(len(lines))
        kind = chance.randrange(7)
        line = lines[at]
        where = chance.randrange(len(line) + 1)
        if kind < 3:
            lines[at] = line[:where] + chance.choice(pieces) + line[where:]
        elif kind == 3:
            lines.insert(at, chance.choice(lines))
        elif kind == 4:
            lines[at] = ""
        elif kind == 5:
            lines[at] = " " * chance.randrange(1, 9) + line
        else:
            lines[at] = line[:where] + chance.choice(pieces) + "\n"
    return "".join(lines)


def absurd(chance: random.Random, content: Any) -> Any:
    """A deep copy of JSON-like content in which one to three values, keys or types are others."""
    changed = copy.deepcopy(content)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        holders = [value for value in _walk(changed) if isinstance(value, dict | list) and value]
        if not holders:
            return chance.choice(ODD)
        holder = chance.choice(holders)
        key = chance.choice(list(holder)) if isinstance(holder, dict) else chance.randrange(len(holder))
        kind = chance.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[chance.choice([f"{key}x", "", "\x1b[0m", "schema", "x" * 300])] = holder.pop(key)
        elif kind == 2:
            holder[key] = [holder[key]]
        elif kind == 3:
            holder[key] = str(holder[key])
        elif kind == 4:
            holder[key] = deep(chance.choice([20, 200]))
        else:
            holder[key] = copy.deepcopy(chance.choice(ODD))
    return changed


def _walk(value: Any) -> Any:
    yield value
    if isinstance(value, dict | list):
        for item in list(value.values()) if isinstance(value, dict) else list(value):
            yield from _walk(item)


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


def absurd_array(chance: random.Random, array: np.ndarray) -> np.ndarray:
    """An array of another dtype, shape or range."""
    kind = chance.randrange(9)
    if kind == 0:
        return array.astype(
            chance.choice([np.int8, np.float64, np.complex64, np.bool_, "U3"]) if array.dtype.kind in "iuf" else "S9"
        )
    if kind == 1:
        return array[:-1] if array.ndim else np.array([])
    if kind == 2:
        return np.concatenate([array, array]) if array.ndim else np.array([array, array])
    if kind == 3:
        return array.reshape(-1)[..., None] if array.size else np.zeros((0, 0, 3))
    if kind == 4 and array.dtype.kind == "f":
        return np.full_like(array, chance.choice([np.nan, np.inf, -1, 1e30]))
    if kind == 5 and array.dtype.kind in "iu":
        return np.full_like(array, chance.choice([0, 1, 127, np.iinfo(array.dtype).min]))
    if kind == 6:
        return np.array(chance.choice([0, -1, 2**62, "x", 1.5]))
    if kind == 7:
        return np.zeros((0,), array.dtype)
    return np.array([], "U1")
