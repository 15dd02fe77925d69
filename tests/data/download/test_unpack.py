from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.download.unpack import ArchiveError, Limits, parts_of, unpack

TREE = {"set/images/a.jpg": b"image" * 100, "set/images/B.jpg": b"", "set/labels/deep/er/a.txt": b"0 .5 .5 1 1\n"}


def zipped(path: Path, files: dict[str, bytes], **changes) -> Path:
    """A zip of `files`; `changes` to each of its entries."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            for key, value in changes.items():
                setattr(entry, key, value)
            archive.writestr(entry, content)
    return path


def tarred(path: Path, files: dict[str, bytes], kind: str = "w", **changes) -> Path:
    with tarfile.open(path, kind) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for key, value in changes.items():
                setattr(entry, key, value)
            archive.addfile(entry, io.BytesIO(content))
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def target(tmp_path) -> Path:
    """A folder to unpack into, with a neighbour that must stay as it is."""
    (tmp_path / "home").mkdir()
    (tmp_path / "neighbour").write_text("mine")
    return tmp_path / "home"


def refused(archive: Path, target: Path, line: str, **options) -> None:
    """Unpacking is refused, and nothing outside of the target is touched."""
    around = sorted(p.name for p in target.parent.iterdir())
    with pytest.raises(ArchiveError, match=line) as error:
        unpack(archive, target, **options)
    assert "\n" not in str(error.value)
    assert sorted(p.name for p in target.parent.iterdir()) == around
    assert (target.parent / "neighbour").read_text() == "mine"
    assert not any(p.is_symlink() for p in target.rglob("*"))


# what unpacks


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_an_only_folder_is_taken_away(kind, tmp_path, target):
    archive = zipped(tmp_path / "a", TREE) if kind == "zip" else tarred(tmp_path / "a", TREE, kind)
    told: list[tuple[int, int]] = []
    unpack(archive, target, progress=lambda *at: told.append(at))
    assert tree(target) == {name.removeprefix("set/"): content for name, content in TREE.items()}
    assert sorted(os.listdir(target)) == ["images", "labels"]
    assert len(told) >= 3 and told == sorted(told) and told[-1][0] == told[-1][1]


def test_several_at_the_top_stay_and_litter_goes(tmp_path, target):
    files = {
        "a.jpg": b"1",
        "x/b.jpg": b"2",
        "__MACOSX/._a.jpg": b"3",
        "x/._b.jpg": b"4",
        ".DS_Store": b"5",
        "y/": b"",
    }
    unpack(zipped(tmp_path / "a.zip", files), target)
    assert tree(target) == {"a.jpg": b"1", "x/b.jpg": b"2"} and (target / "y").is_dir()


def test_an_only_file_and_names_of_all_sorts(tmp_path, target):
    unpack(zipped(tmp_path / "a.zip", {"only.jpg": b"1"}), target)
    assert tree(target) == {"only.jpg": b"1"}
    names = ["%20 a.jpg", "b?c=d.jpg", "grün.jpg", "..a", "a..", "...", "-rf", "x\ny"]
    (target.parent / "more").mkdir()
    unpack(tarred(tmp_path / "a.tar", {f"t/{name}": b"1" for name in names}), target.parent / "more")
    assert sorted(tree(target.parent / "more")) == sorted(names)


def test_backslashes_separate(tmp_path, target):
    archive = tarred(tmp_path / "a.tar", {"set\\images\\a.jpg": b"1", "set\\b.txt": b"2"})
    unpack(archive, target)
    assert tree(target) == {"images/a.jpg": b"1", "b.txt": b"2"}


def test_permissions_are_those_of_new_files(tmp_path, target):
    unpack(tarred(tmp_path / "a.tar", {"a.sh": b"1", "b": b"2"}, mode=0o6777), target)
    assert stat.S_IMODE((target / "a.sh").stat().st_mode) & 0o7111 == 0


def test_names_that_differ_in_capitals_are_two_files_or_an_error(tmp_path, target):
    archive = zipped(tmp_path / "a.zip", {"a.jpg": b"1", "A.jpg": b"2"})
    try:
        unpack(archive, target)
    except ArchiveError as error:
        assert "but for capitals" in str(error)
    else:
        assert tree(target) == {"a.jpg": b"1", "A.jpg": b"2"}


# what is refused

LEADING_OUT = [
    "../neighbour",
    "set/../../neighbour",
    "/tmp/swath",
    "..\\neighbour",
    "C:\\a",
    "c:a",
    "\\\\host\\a",
    "..",
]


@pytest.mark.parametrize("name", LEADING_OUT)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_paths_that_lead_out(pack, name, tmp_path, target):
    archive = pack(tmp_path / "a", {"good.jpg": b"1", name: b"evil"})
    refused(archive, target, "is absolute|climbs out")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
@pytest.mark.parametrize("leads", ["../neighbour", "good.jpg"])
def test_links_and_devices_in_a_tar(kind, leads, tmp_path, target):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        entry = tarfile.TarInfo("good.jpg")
        archive.addfile(entry, io.BytesIO())
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = kind, leads
        archive.addfile(entry)
        entry = tarfile.TarInfo("link/evil")
        archive.addfile(entry, io.BytesIO())
    refused(tmp_path / "a.tar", target, "'link' is a link or a device")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip(kind, tmp_path, target):
    archive = zipped(tmp_path / "a.zip", {"link": b"../neighbour"}, external_attr=(kind | 0o777) << 16)
    refused(archive, target, "'link' is a link or a device")


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_file_that_is_a_folder_too(pack, tmp_path, target):
    refused(pack(tmp_path / "a", {"a": b"1", "a/b": b"2"}), target, "is a file and a folder at once")
    refused(pack(tmp_path / "b", {"a/b": b"1", "a": b"2"}), _new(target), "occurs twice")


def _new(target: Path) -> Path:
    folder = target.parent / "home2"
    folder.mkdir()
    return folder


def test_the_same_file_twice(tmp_path, target):
    archive = tarred(tmp_path / "a.tar", {"a": b"1", "./a": b"2"})
    refused(archive, target, "'./a' occurs twice")


@pytest.mark.parametrize("kind", ["zip", "w:gz", "w:xz"])
def test_bombs(kind, tmp_path, target):
    files = {"zeros": bytes(12 << 20), "more": bytes(12 << 20)}
    archive = zipped(tmp_path / "a", files) if kind == "zip" else tarred(tmp_path / "a", files, kind)
    assert archive.stat().st_size < 100_000
    refused(archive, target, "more than 200 times as much.*refused", limits=Limits(floor_bytes=16 << 20))
    assert sum(p.stat().st_size for p in target.rglob("*") if p.is_file()) <= 16 << 20
    unpack(archive, _new(target))  # a small one is let be: 24 MiB fill no disk
    folder = target.parent / "home3"
    folder.mkdir()
    refused(archive, folder, "or to more than 0 GiB", limits=Limits(bytes=1 << 20))


def test_a_zip_that_lies_about_its_size(tmp_path, target):
    archive = zipped(tmp_path / "a.zip", {"zeros": bytes(3 << 20)})
    content = bytearray(archive.read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", content, content.index(signature) + at, 10)
    archive.write_bytes(content)
    refused(archive, target, "broken or cut short")
    assert all(p.stat().st_size <= 10 for p in target.rglob("zeros"))


def test_too_many_files(tmp_path, target):
    archive = zipped(tmp_path / "a.zip", {f"{n}.txt": b"" for n in range(6)})
    refused(archive, target, "holds more than 5 files", limits=Limits(entries=5))
    unpack(archive, _new(target), limits=Limits(entries=6))


def test_an_encrypted_zip(tmp_path, target):
    archive = zipped(tmp_path / "a.zip", {"a.jpg": b"secret"})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    refused(archive, target, "is encrypted: unpack it by hand")


def test_a_method_that_nobody_knows(tmp_path, target):
    archive = zipped(tmp_path / "a.zip", {"a.jpg": b"1"})
    content = bytearray(archive.read_bytes())
    struct.pack_into("<H", content, content.index(b"PK\x03\x04") + 8, 77)
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 10, 77)
    archive.write_bytes(content)
    refused(archive, target, "cannot be unpacked")


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_cut_short(kind, share, tmp_path, target):
    files = {f"{n}.bin": os.urandom(50_000) for n in range(4)}
    archive = zipped(tmp_path / "a", files) if kind == "zip" else tarred(tmp_path / "a", files, kind)
    # A plain tar ends in a block or more of zeros: cut within the files.
    size = archive.stat().st_size if kind != "w" else 200_000
    archive.write_bytes(archive.read_bytes()[: int(size * share)])
    refused(archive, target, "cut short|is empty")


@pytest.mark.parametrize("kind", ["zip", "w:gz", "w:bz2", "w:xz"])
def test_a_flipped_bit(kind, tmp_path, target):
    files = {"a.bin": os.urandom(50_000)}
    archive = zipped(tmp_path / "a", files) if kind == "zip" else tarred(tmp_path / "a", files, kind)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1  # within pixels: only a checksum tells
    archive.write_bytes(content)
    refused(archive, target, "cut short")


@pytest.mark.parametrize("content", [b"", b"<html>sign in first</html>", bytes(2000), b"PK\x05\x06" + bytes(18)])
def test_no_archive_or_an_empty_one(content, tmp_path, target):
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", target, "neither a zip nor a tar|is empty")


# the names

_NAMES = st.lists(
    st.sampled_from(["..", ".", "/", "\\", "a", "b.jpg", "C:", "~", " ", "...", "é"]) | st.text(max_size=3),
    max_size=8,
).map("".join)


@given(_NAMES)
def test_no_name_leads_out_of_its_folder(name):
    try:
        parts = parts_of(name)
    except ValueError:
        plain = name.replace("\\", "/")
        assert ".." in plain.split("/") or plain.startswith("/") or plain[1:2] == ":" or "\0" in plain
        return
    home = os.path.join(os.sep, "home", "target")
    lands = os.path.normpath(os.path.join(home, *parts))
    assert lands == os.path.join(home, *parts) if parts else lands == home
    assert lands == home or lands.startswith(home + os.sep)
    assert parts_of("/".join(parts)) == parts
