"""`swath data fetch` as a user meets it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

import data.download.registry
from data import load_dataset
from data.download.registry import public_sets
from detection.cli.terminal import TerminalWatcher
from tests.archive_server import serving
from tests.detection.conftest import CTRL_C_WORKS, swath


@pytest.fixture
def mirror(rendered, tmp_path, monkeypatch) -> Path:
    """A folder with the archive that the registry calls ghai-broccoli: a rendered dataset; its COCO is coco.json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWATH_MIRROR", raising=False)
    folder = tmp_path / "mirror"
    folder.mkdir()
    with zipfile.ZipFile(folder / "broccoli_annotated.zip", "w") as archive:
        for file in rendered.rglob("*"):
            name = "coco.json" if file.name == "annotations.json" else str(file.relative_to(rendered))
            archive.write(file, f"broccoli/{name}")
    return folder


def test_list_shows_every_set_with_its_licence(capsys):
    code, said, _ = swath(capsys, "data", "fetch", "--list")
    assert code == 0
    for name, one in public_sets().items():
        assert name in said and one.licence in said
    assert "images" in said and "MD5" in said and "none" in said


def test_a_dataset_by_its_name(mirror, rendered, tmp_path, capsys):
    arguments = ("data", "fetch", "ghai-broccoli", "--mirror", mirror.as_uri())
    code, said, notes = swath(capsys, *arguments)
    boxes = load_dataset(rendered).box_count
    assert code == 0
    lines = said.splitlines()
    assert lines[0].startswith("ghai-broccoli: Broccoli")
    assert lines[1].startswith("licence CC-BY-4.0; cite: Axis Ag")
    assert lines[2] == f"coco.json: 12 images, {boxes} boxes, {len(load_dataset(rendered).class_names)} classes"
    digest = hashlib.sha256((mirror / "broccoli_annotated.zip").read_bytes()).hexdigest()
    assert f"not verified: no published checksum. SHA-256 of the archive: {digest}" in notes
    assert f"--sha256 {digest}" in notes
    assert json.loads((tmp_path / "ghai-broccoli" / "source.json").read_text())["sha256"] == digest
    code, said, _ = swath(capsys, *arguments)
    assert code == 0 and said.splitlines()[0].endswith("(is there already)") and said.splitlines()[2] == lines[2]
    assert load_dataset(tmp_path / "ghai-broccoli" / "coco.json").box_count == boxes


def test_the_mirror_may_stand_in_the_environment(mirror, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SWATH_MIRROR", mirror.as_uri())
    code, said, _ = swath(capsys, "data", "fetch", "ghai-broccoli", "--out", tmp_path / "new" / "b")
    assert code == 0 and said.startswith(f"{tmp_path / 'new' / 'b'}: ")
    assert (tmp_path / "new" / "b" / "coco.json").is_file()


def test_a_pinned_checksum_is_compared(mirror, tmp_path, capsys):
    digest = hashlib.sha256((mirror / "broccoli_annotated.zip").read_bytes()).hexdigest()
    arguments = ("data", "fetch", "ghai-broccoli", "--mirror", mirror.as_uri(), "--sha256")
    code, _, error = swath(capsys, *arguments, "0" * 64)
    assert code == 1 and f"its SHA256 is {digest}" in error and not (tmp_path / "ghai-broccoli").exists()
    code, said, error = swath(capsys, *arguments, digest.upper())
    assert code == 0 and "12 images" in said and "not verified" not in error
    assert json.loads((tmp_path / "ghai-broccoli" / "source.json").read_text())["verified"] == ["sha256"]
    assert swath(capsys, *arguments, "0" * 64)[0] == 1  # what is there is not taken for another archive
    assert swath(capsys, *arguments, "abc")[0] == 2


def test_what_cannot_be_done_is_one_line(mirror, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    at = ("--mirror", mirror.as_uri())
    for arguments, line in (
        (("ghai-brocoli",), "did you mean ghai-broccoli?"),
        (("plantdoc", *at), "no such archive at the mirror"),
        (("ghai-broccoli", *at, "--out", tmp_path / "full"), "holds something else"),
        (("ghai-broccoli", "--mirror", "ftp://a.org"), "not an address to fetch from"),
    ):
        code, said, error = swath(capsys, "data", "fetch", *arguments)
        assert (code, said) == (1, "") and line in error.splitlines()[-1]
    for usage in ((), ("ghai-broccoli", "--list")):
        assert swath(capsys, "data", "fetch", *usage)[0] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "mirror"]


def test_a_dataset_that_cannot_be_read_is_there_and_said(mirror, tmp_path, capsys):
    with zipfile.ZipFile(mirror / "broccoli_annotated.zip", "w") as archive:
        archive.writestr("broccoli/notes.txt", "the labels come later")
    for _ in range(2):
        code, said, error = swath(capsys, "data", "fetch", "ghai-broccoli", "--mirror", mirror.as_uri())
        assert code == 1 and "licence CC-BY-4.0" in said
        assert "ghai-broccoli: was fetched, but cannot be read" in error.splitlines()[-1]
    assert (tmp_path / "ghai-broccoli" / "notes.txt").is_file()


def test_ctrl_c_keeps_the_part_and_the_next_call_asks_for_the_rest(mirror, tmp_path, capsys) -> None:
    archive = mirror / "broccoli_annotated.zip"
    with zipfile.ZipFile(archive, "a") as more:  # large enough for several reads
        more.writestr("broccoli/noise.bin", np.random.default_rng(0).bytes(4_000_000))
    content = archive.read_bytes()
    code = CTRL_C_WORKS + "from detection.cli.app import main; import sys; main(sys.argv[1:])"
    part = tmp_path / "got.part"
    with serving(broccoli_annotated__zip=content) as server:
        server.hold = threading.Event()
        arguments = ["data", "fetch", "ghai-broccoli", "--out", str(tmp_path / "got"), "--mirror", server.url]
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(data.download.registry.__file__).parents[2])},
        )
        try:
            deadline = time.monotonic() + 60
            while not part.exists() or part.stat().st_size < len(content) // 2:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGINT)
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
            server.hold.set()
        assert process.returncode == 130 and error.splitlines()[-1] == "swath: interrupted"
        kept = len(content) // 2
        assert part.stat().st_size == kept
        assert f"got.part keeps {kept:,} bytes: the same command continues from there" in error.replace("\n", "")
        assert not (tmp_path / "got").exists()
        server.hold = None
        ended, said, _ = swath(capsys, *arguments)
        assert ended == 0 and "12 images" in said
        assert server.asked == [None, f"bytes={kept}-"] and server.sent[-1] == len(content) - kept
    assert sorted(p.name for p in tmp_path.iterdir()) == ["got", "mirror"]


def test_bytes_are_shown_in_their_units(capsys):
    from rich.console import Console

    console = Console(force_terminal=True, width=120, record=True)
    with TerminalWatcher(console) as watcher:
        for done in (0, 1_500_000):
            watcher.bytes_progress("fetching", done, 3_000_000)
        watcher.bytes_progress("more", 2_000, None)
        watcher.progress("unpacking", 3, 7)
    said = capsys.readouterr().out
    assert "1.5 MB of 3.0 MB" in said and "2.0 kB of ?" in said and "3/7" in said
