from __future__ import annotations

import mmap
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from detection.runtime.errors import OutputError
from detection.runtime.outputs import lines
from detection.runtime.outputs.lines import LinesFile
from tests.detection.runtime.outputs.kills import ROOT

PAGE = mmap.PAGESIZE


def opened(path: Path, **changes: Any) -> LinesFile:
    return LinesFile(path, **{"newline": b"\n", "fill": b" ", **changes})


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Files of this process cannot grow beyond `size`, as on a full disk."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_lines_stand_there_at_once_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x"
    file = opened(path)
    for i in range(500):
        file.append(b"line %d" % i)
        if i % 50 == 0:
            assert path.read_bytes().endswith(b"line %d\n" % i)
    file.close()
    file.close()
    assert [line.rstrip() for line in path.read_bytes().splitlines()] == [b"line %d" % i for i in range(500)]


def test_no_line_crosses_a_page(tmp_path: Path) -> None:
    file = opened(tmp_path / "x")
    lengths = [1, 100, PAGE - 1, 1, PAGE - 1, 700, 900, PAGE // 2, PAGE // 2, PAGE // 2 + 1, 3, PAGE - 4]
    for i, length in enumerate(lengths * 3):
        file.append(bytes([ord("a") + i % 26]) * length)
    file.close()
    content = (tmp_path / "x").read_bytes()
    begin = 0
    for i, line in enumerate(content.splitlines(keepends=True)):
        text = line.rstrip()
        assert len(text) == lengths[i % len(lengths)]
        assert begin // PAGE == (begin + len(text) - 1) // PAGE, f"line {i} lies on two pages"
        begin += len(line)
    assert i == 3 * len(lengths) - 1
    assert len(content) < 2 * 3 * sum(lengths)


def test_a_line_longer_than_a_page_begins_at_its_border(tmp_path: Path) -> None:
    file = opened(tmp_path / "x")
    for line in (b"short", b"x" * (3 * PAGE), b"short", b"y" * PAGE):
        file.append(line)
    file.close()
    content = (tmp_path / "x").read_bytes()
    assert content.index(b"x") == PAGE and content.index(b"y") % PAGE == 0
    assert [len(line.rstrip()) for line in content.splitlines()] == [5, 3 * PAGE, 5, PAGE]


def test_full_disk_leaves_what_was_there_and_goes_on_later(tmp_path: Path) -> None:
    path = tmp_path / "x"
    file = opened(path)
    file.append(b"a" * 100)
    before = path.read_bytes()
    with disk_of(150):
        for line in (b"b" * 100, b"c" * (PAGE - 50)):  # the second would begin a new page
            with pytest.raises(OutputError, match=f"{path}: cannot be written"):
                file.append(line)
            assert path.read_bytes() == before
        file.append(b"d" * 10)
    file.append(b"e" * PAGE)
    file.close()
    assert [line.rstrip() for line in path.read_bytes().splitlines()] == [b"a" * 100, b"d" * 10, b"e" * PAGE]


def test_full_disk_is_one_line_whatever_it_says(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    file = opened(Path("/dev/full"))
    with pytest.raises(OutputError, match="/dev/full: cannot be written"):
        file.append(b"x")
    file.close()


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written") as error:
        opened(tmp_path / "file" / "x")
    assert "\n" not in str(error.value)


def test_without_a_date_the_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old\n")
    file = opened(tmp_path / "x", header=b"head")
    file.append(b"new")
    file.close()
    assert (tmp_path / "x").read_bytes() == b"head\nnew\n"


class Calendar:
    """Stands for the class `datetime`; the day is what the test says."""

    day = 1

    @classmethod
    def now(cls) -> datetime:
        return datetime(2026, 5, cls.day)


def test_with_a_date_each_day_has_a_file_that_goes_on(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(lines, "datetime", Calendar)
    monkeypatch.setattr(Calendar, "day", 1)
    template = tmp_path / "{date}" / "x"
    file = opened(template, header=b"head")
    file.append(b"a")
    file.close()
    first = tmp_path / "2026-05-01" / "x"
    with first.open("ab") as cut:
        cut.write(b"a line that was c")  # as a kill or a power cut leaves it
    file = opened(template, header=b"head")
    assert first.read_bytes() == b"head\na\n"  # mended before anything is added
    file.append(b"b")
    monkeypatch.setattr(Calendar, "day", 2)
    file.append(b"c")
    file.close()
    assert first.read_bytes() == b"head\na\nb\n"
    assert (tmp_path / "2026-05-02" / "x").read_bytes() == b"head\nc\n"


def test_only_a_cut_line_is_taken_off(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(lines, "datetime", Calendar)
    monkeypatch.setattr(Calendar, "day", 1)
    for content, kept in [(b"", b""), (b"cut", b""), (b"whole\n", b"whole\n"), (b"whole\ncut", b"whole\n")]:
        path = tmp_path / "x2026-05-01"
        path.write_bytes(content)
        opened(tmp_path / "x{date}").close()
        assert path.read_bytes() == kept


def test_pipes_are_written_as_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    file = opened(tmp_path / "pipe")
    big = b"x" * 200_000  # more than a pipe takes at once
    for line in (b"a", big, b"b"):
        file.append(line)
    file.close()
    reader.join(30)
    assert got == [b"a\n" + big + b"\nb\n"]


KILLED = """
import sys
from pathlib import Path
from detection.runtime.outputs.lines import LinesFile
file = LinesFile(Path(sys.argv[1]), newline=b"\\n", fill=b" ")
file.append(b"begin"); print("ready", flush=True)
lengths = [2900, 300, 3500, 64, 1800, 4000]
while True:
    for n in lengths:
        file.append(b"<" + b"x" * n + b">")
"""


@pytest.mark.parametrize("kills", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_no_kill_cuts_a_line(tmp_path: Path, kills: int) -> None:
    """At full speed: with plain writes a fifth of these files ended in a cut line."""
    path = tmp_path / "x"
    seen = 0
    for kill in range(kills):
        command = [sys.executable, "-c", KILLED, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
            try:
                writer.wait(0.003 + 0.0013 * (kill % 13))
            except subprocess.TimeoutExpired:
                writer.kill()
        content = path.read_bytes()
        assert content.endswith(b"\n")
        written = content.splitlines()[1:]
        assert all(line.rstrip().startswith(b"<") and line.rstrip().endswith(b">") for line in written)
        seen += len(written)
    assert seen > 1000
