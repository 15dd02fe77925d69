from __future__ import annotations

import hashlib
import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from data import DataError
from data.download.fetch import SOURCE, fetch, read_fetched
from data.download.registry import LICENCES, REGISTRY, PublicSet, public_set, public_sets, read_registry
from tests.archive_server import ArchiveServer, serving


def zip_of(folder: Path) -> bytes:
    """A zip of a folder, all of it within `set/`."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, Path("set") / file.relative_to(folder))
    return packed.getvalue()


@pytest.fixture(scope="session")
def packed(rendered) -> bytes:
    """The rendered dataset, COCO, as an archive."""
    return zip_of(rendered)


def entry(content: bytes = b"", **changes) -> PublicSet:
    known = {
        "name": "field",
        "title": "A field",
        "url": "https://data.invalid/version-1/field-2024",
        "file": "field.zip",
        "sha256": hashlib.sha256(content).hexdigest(),
        "licence": "CC-BY-4.0",
        "citation": "A. Farmer (2024): A field",
        "homepage": "https://data.invalid/",
        "classes": "crop, weed",
        "format": "coco",
        "verified": "nothing of it, it is a test's own",
    }
    return PublicSet.model_validate({**known, **changes})


class Told:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.tasks: set[str] = set()

    def progress(self, task: str, done: int, total: int) -> None:
        self.tasks.add(task)

    def bytes_progress(self, task: str, done: int, total: int | None) -> None:
        self.tasks.add(task)

    def note(self, line: str) -> None:
        self.notes.append(line)


def get(wanted: PublicSet, folder: Path, mirror: str | ArchiveServer | None, told: Told | None = None, **options):
    told = told or Told()
    return fetch(
        wanted,
        folder,
        told,
        mirror=mirror.url if isinstance(mirror, ArchiveServer) else mirror,
        wait_s=0.01,
        **options,
    )


@pytest.fixture
def server(packed):
    with serving(field__zip=packed) as running:
        yield running


# fetching


def test_a_dataset_comes_whole_and_says_where_it_came_from(server, packed, rendered, tmp_path):
    told = Told()
    fetched = get(entry(packed), tmp_path / "field", server, told)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["field"]  # no part is left
    assert told.tasks == {"fetching", "comparing", "unpacking"} and not told.notes
    source = json.loads((tmp_path / "field" / SOURCE).read_text())
    assert fetched.new and source == fetched.source
    assert source["sha256"] == hashlib.sha256(packed).hexdigest() and source["verified"] == ["sha256"]
    assert source["url"] == "https://data.invalid/version-1/field-2024"
    assert source["fetched_from"] == f"{server.url}/field.zip" and source["size_bytes"] == len(packed)
    assert (source["licence"], source["citation"]) == ("CC-BY-4.0", "A. Farmer (2024): A field")
    assert datetime.now(UTC) - datetime.fromisoformat(source["fetched"]) < timedelta(minutes=5)
    (part,) = read_fetched(entry(packed), tmp_path / "field").values()
    assert len(part) == 12 and part.box_count > 0
    originals = {p.name: p.read_bytes() for p in rendered.rglob("*") if p.is_file()}
    copies = {p.name: p.read_bytes() for p in (tmp_path / "field").rglob("*") if p.is_file() and p.name != SOURCE}
    assert originals == copies


def test_a_second_call_does_nothing_and_other_content_is_refused(server, packed, tmp_path):
    get(entry(packed), tmp_path / "field", server)
    before = (tmp_path / "field" / SOURCE).stat().st_mtime_ns
    again = get(entry(packed), tmp_path / "field", server)
    assert not again.new and len(server.asked) == 1
    assert (tmp_path / "field" / SOURCE).stat().st_mtime_ns == before
    assert get(entry(packed, sha256=None), tmp_path / "field", server).new is False
    for other in (entry(b"other"), entry(packed, name="meadow"), entry(packed, url="https://data.invalid/v2")):
        with pytest.raises(DataError, match="holds something else than this (field|meadow): name another folder"):
            get(other, tmp_path / "field", server)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    for content in (None, "", "[]", "{}", "\xff"):
        if content is not None:
            (tmp_path / "mine" / SOURCE).write_text(content, encoding="latin-1")
        with pytest.raises(DataError, match="holds something else"):
            get(entry(packed), tmp_path / "mine", server)
    assert (tmp_path / "mine" / "photo.jpg").exists() and len(server.asked) == 1


def test_an_empty_folder_is_taken(server, packed, tmp_path):
    (tmp_path / "field").mkdir()
    assert get(entry(packed), tmp_path / "field", server).new


def test_a_file_mirror_is_read_where_it_lies(packed, tmp_path):
    mirror = tmp_path / "my mirror"
    mirror.mkdir()
    with pytest.raises(DataError, match=r"field\.zip: no such archive at the mirror"):
        get(entry(packed), tmp_path / "field", mirror.as_uri())
    (mirror / "field.zip").write_bytes(packed)
    told = Told()
    assert get(entry(packed), tmp_path / "field", f"{mirror.as_uri()}/", told).new
    assert told.tasks == {"comparing", "unpacking"}
    with pytest.raises(DataError, match="its SHA256 is"):
        get(entry(b"other"), tmp_path / "other", mirror.as_uri())
    assert (mirror / "field.zip").read_bytes() == packed  # the user's own: never removed
    assert sorted(p.name for p in tmp_path.iterdir()) == ["field", "my mirror"]
    for wrong in ("file://usb/sets", "ftp://a.org", str(mirror)):
        with pytest.raises(DataError, match="three slashes|not an address to fetch from"):
            get(entry(packed), tmp_path / "more", wrong)


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_says_both_and_removes_the_file(kind, server, packed, tmp_path):
    expected = hashlib.new(kind, b"another").hexdigest()
    found = hashlib.new(kind, packed).hexdigest()
    wanted = entry(packed, **{"sha256": None, kind: expected})
    with pytest.raises(DataError, match=f"its {kind.upper()} is {found}, expected {expected}"):
        get(wanted, tmp_path / "field", server)
    assert list(tmp_path.iterdir()) == []


def test_without_a_checksum_the_one_found_is_written_down(server, packed, tmp_path):
    fetched = get(entry(packed, sha256=None), tmp_path / "field", server)
    assert fetched.source["verified"] == [] and fetched.source["sha256"] == hashlib.sha256(packed).hexdigest()
    md5 = hashlib.md5(packed).hexdigest()
    assert get(entry(packed, sha256=None, md5=md5), tmp_path / "b", server).source["verified"] == ["md5"]


def test_an_archive_that_is_none_is_removed(server, tmp_path):
    for content, line in ((b"<html>sign in</html>", "neither a zip nor a tar"), (_with_source(), "of its own")):
        server.files["/field.zip"] = content
        with pytest.raises(DataError, match=line):
            get(entry(content), tmp_path / "field", server)
        assert list(tmp_path.iterdir()) == []


def _with_source() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.jpg", b"1")
        archive.writestr(SOURCE, "{}")
    return packed.getvalue()


def test_interrupted_while_unpacking_the_archive_is_kept_for_the_next_call(server, packed, tmp_path):
    class Interrupting(Told):
        def progress(self, task: str, done: int, total: int | None) -> None:
            if task == "unpacking" and done == 5:
                raise KeyboardInterrupt

    told = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        get(entry(packed), tmp_path / "field", server, told)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["field.part", "field.part.json"]
    assert told.notes == [
        f"{tmp_path / 'field.part'} keeps {len(packed):,} bytes: the same command continues from there"
    ]
    assert get(entry(packed), tmp_path / "field", server).new
    assert len(server.asked) == 1 and sorted(p.name for p in tmp_path.iterdir()) == ["field"]


def test_a_disk_that_fills_up_while_unpacking_keeps_the_archive(server, packed, tmp_path, monkeypatch):
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("data.download.fetch.unpack", full)
        with pytest.raises(DataError, match="cannot be written .No space left on device"):
            get(entry(packed), tmp_path / "field", server)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["field.part", "field.part.json"]
    assert get(entry(packed), tmp_path / "field", server).new and len(server.asked) == 1


# reading what was fetched


def test_what_is_read(tmp_path, rendered):
    nothing = entry(format=None)
    assert read_fetched(nothing, rendered) == {}
    (name,) = read_fetched(entry(), rendered)
    assert name == "all"
    assert list(read_fetched(entry(datasets=[rendered.name]), rendered.parent)) == [rendered.name]
    with pytest.raises(DataError):
        read_fetched(entry(format="voc"), rendered)


# the registry


def test_the_registry_is_sound():
    sets = public_sets()
    assert set(sets) == {"ghai-broccoli", "mango-yolo", "plantdoc"}
    for name, one in sets.items():
        assert one.name == name and one.licence in LICENCES and one.url.startswith("https://")
        assert "NC" not in one.licence and "ND" not in one.licence
        assert len(one.citation) > 30 and "http" in one.citation and one.homepage.startswith("https://")
        assert one.sha256 is None or len(one.sha256) == 64
        assert one.sha256 is not None or "not downloaded" in one.verified or "not opened" in one.verified
    assert len({one.url for one in sets.values()}) == len({one.file for one in sets.values()}) == len(sets)


@pytest.mark.parametrize(
    "wrong",
    [
        {"licence": "CC-BY-NC-4.0"},
        {"licence": ""},
        {"citation": ""},
        {"url": "http://data.invalid/a.zip"},
        {"url": "https://me:word@data.invalid/a.zip"},
        {"sha256": "abc"},
        {"sha256": "A" * 64},
        {"file": "../field.zip"},
        {"file": "field.exe"},
        {"datasets": ["../elsewhere"]},
        {"datasets": ["/etc"]},
        {"datasets": []},
        {"name": "A Field"},
        {"homepage": "data.invalid"},
        {"format": "auto"},
        {"liscence": "CC0-1.0"},
    ],
)
def test_a_malformed_entry_is_refused(wrong):
    entry()
    with pytest.raises(ValidationError):
        entry(**wrong)


@pytest.mark.parametrize("lacking", ["licence", "citation", "url", "sha256", "format", "verified", "homepage"])
def test_every_fact_must_be_stated(lacking, tmp_path):
    said = {key: value for key, value in entry().model_dump(mode="json").items() if key not in (lacking, "name")}
    (tmp_path / "registry.yaml").write_text(json.dumps({"field": said}))
    with pytest.raises(ValidationError, match=lacking):
        read_registry(tmp_path / "registry.yaml")


def test_an_unknown_name_is_answered_by_the_nearest():
    assert public_set("plantdoc").licence == "CC-BY-4.0"
    with pytest.raises(DataError, match=r"PlantDocs: no dataset of that name; did you mean plantdoc\?"):
        public_set("PlantDocs")
    with pytest.raises(DataError, match="qqq: no dataset of that name; there is: .*plantdoc"):
        public_set("qqq")


def test_the_registry_lies_in_the_package():
    assert REGISTRY.is_file() and REGISTRY.parent.name == "download"
