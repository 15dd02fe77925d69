"""The metadata of an .onnx, read without loading its graph or a library.

An .onnx is one protobuf message, `ModelProto` (onnx/onnx.proto): field 7 is the graph, field 14 (`metadata_props`,
repeated) holds messages of two strings, key (1) and value (2). The rest is skipped by its length, so a file of any
size takes a few page reads.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from detection.runtime.errors import ModelFileError

_GRAPH, _METADATA, _KEY, _VALUE = 7, 14, 1, 2


def read_metadata(path: Path) -> dict[str, str]:
    """All entries of `metadata_props`.

    Raises:
        ModelFileError: missing, cannot be read, cut off, or not an .onnx.

    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _props(content)
    except FileNotFoundError:
        raise ModelFileError(f"{path}: there is no such model file") from None
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # mmap raises it for an empty file
        raise ModelFileError(f"{path}: not a readable .onnx model ({error})") from None


def _props(content: mmap.mmap) -> dict[str, str]:
    found = {}
    has_graph = False
    for field, start, end in _fields(content, 0, len(content)):
        has_graph |= field == _GRAPH
        if field == _METADATA:
            entry = {key: content[a:b].decode() for key, a, b in _fields(content, start, end)}
            found[entry.get(_KEY, "")] = entry.get(_VALUE, "")
    if not has_graph:
        raise ValueError("it has no graph")
    return found


def _fields(content: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field's content in a message.

    See protobuf.dev/programming-guides/encoding: a tag of number * 8 + wire type, then 0: a varint, 1: 8 bytes,
    2: a length and so many bytes, 5: 4 bytes.

    Raises:
        ValueError: not such a message, or a truncated one.

    """
    while at < end:
        tag, at = _varint(content, at, end)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            after = _varint(content, at, end)[1]
        elif wire == 2:
            length, at = _varint(content, at, end)
            after = at + length
        elif wire in (1, 5):
            after = at + (8 if wire == 1 else 4)
        else:
            raise ValueError("not a protobuf")
        if not field or after > end:
            raise ValueError("cut off" if field else "not a protobuf")
        yield field, at, after
        at = after


def _varint(content: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number of 7 bits a byte, lowest first, the top bit set on all bytes but the last; and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("cut off")
        byte = content[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError("not a protobuf")
