from __future__ import annotations

import errno
import io
import json
import os
import shutil
import socket
from collections import namedtuple
from pathlib import Path
from urllib.request import Request

import pytest

from data import DataError
from data.download.addresses import NoDowngrade, check_url
from data.download.transfer import Options, download, remove_part
from tests.archive_server import serving

CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes: several reads


class Told:
    """What a download said."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.bytes: list[tuple[int, int | None]] = []

    def note(self, line: str) -> None:
        self.notes.append(line)

    def progress(self, task: str, done: int, total: int) -> None:
        raise AssertionError("a download is counted in bytes")

    def bytes_progress(self, task: str, done: int, total: int | None) -> None:
        assert task == "fetching"
        self.bytes.append((done, total))


@pytest.fixture
def server():
    with serving(a__zip=CONTENT) as running:
        yield running


@pytest.fixture
def part(tmp_path) -> Path:
    return tmp_path / "set.part"


def get(server, part, told=None, name="a.zip", **options) -> Told:
    told = told or Told()
    options = {"wait_s": 0.01, "timeout_s": 10, **options}
    download(f"{server.url}/{name}", part, told, Options(**options))
    return told


def test_a_file_comes_whole_and_its_progress_is_told_in_bytes(server, part):
    told = get(server, part)
    assert part.read_bytes() == CONTENT and server.asked == [None]
    assert told.bytes[0] == (0, len(CONTENT)) and told.bytes[-1] == (len(CONTENT), len(CONTENT))
    assert sorted(told.bytes) == told.bytes and not told.notes


def test_a_lost_connection_is_gone_on_with_and_only_missing_bytes_are_asked_for(server, part):
    server.drop_after = [300_000, 1]
    told = get(server, part)
    assert part.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=300001-"]
    assert server.sent == [300_000, 1, len(CONTENT) - 300_001]
    assert len(told.notes) == 2 and "after 300,000 of 1,024,000 bytes" in told.notes[0]


def test_a_connection_that_breaks_again_and_again_is_borne_while_bytes_come(server, part):
    server.drop_after = [100_000] * 7
    get(server, part, tries=2)
    assert part.read_bytes() == CONTENT and server.sent == [100_000] * 7 + [len(CONTENT) - 700_000]


def test_a_later_call_goes_on(server, part):
    server.drop_after = [400_000]
    with pytest.raises(DataError, match=r"1 times: try again later; 400,000 bytes are kept in .*set\.part"):
        get(server, part, tries=1, told=_once(server))
    assert part.stat().st_size == 400_000
    get(server, part)
    assert part.read_bytes() == CONTENT and server.asked[-1] == "bytes=400000-"
    assert server.sent[-1] == len(CONTENT) - 400_000
    before = len(server.asked)
    get(server, part)  # whole already: nothing is asked
    assert len(server.asked) == before
    remove_part(part)
    assert list(part.parent.iterdir()) == []


def _once(server) -> Told:
    """After the first lost connection the server is down."""

    class Once(Told):
        def note(self, line: str) -> None:
            server.answers = [503]

    return Once()


def test_a_file_that_has_changed_is_fetched_from_the_start(server, part):
    server.drop_after = [400_000]
    changed = CONTENT[::-1]

    class Changing(Told):
        def note(self, line: str) -> None:
            super().note(line)
            server.files["/a.zip"], server.etag = changed, '"two"'

    told = get(server, part, Changing())
    assert part.read_bytes() == changed and server.asked == [None, "bytes=400000-"]
    assert "has changed" in told.notes[1]


def test_a_server_without_ranges_sends_it_from_the_start(server, part):
    server.ranges, server.drop_after = False, [400_000]
    told = get(server, part)
    assert part.read_bytes() == CONTENT and server.sent == [400_000, len(CONTENT)]
    assert "starting again" in told.notes[-1]


def test_without_a_version_it_is_gone_on_with_only_where_a_checksum_follows(server, part):
    server.etag = None
    server.drop_after = [400_000]
    get(server, part)
    assert server.asked == [None, None] and part.read_bytes() == CONTENT
    remove_part(part)
    server.asked.clear()
    server.drop_after = [400_000]
    get(server, part, checked=True)
    assert server.asked == [None, "bytes=400000-"] and part.read_bytes() == CONTENT


def test_a_server_that_does_not_know_the_size(server, part):
    server.sizes = False
    told = get(server, part)
    assert part.read_bytes() == CONTENT and told.bytes[-1] == (len(CONTENT), None)
    # interrupted after its last byte: 416 says that nothing is missing
    get(server, part)
    assert server.asked == [None, f"bytes={len(CONTENT)}-"] and part.read_bytes() == CONTENT
    # and that the file is another one now, shorter than what is here
    server.files["/a.zip"] = CONTENT[:1000]
    get(server, part)
    assert part.read_bytes() == CONTENT[:1000]


def test_a_part_of_another_address_or_with_a_broken_note_is_not_gone_on_with(server, part):
    get(server, part)
    server.files["/b.zip"] = b"b" * 1000
    get(server, part, name="b.zip")
    assert part.read_bytes() == b"b" * 1000 and server.asked == [None, None]
    beside = part.with_name("set.part.json")
    for broken in ("", "[]", json.dumps({"url": f"{server.url}/b.zip", "validator": 3, "total": 1000})):
        beside.write_text(broken)
        get(server, part, name="b.zip")
    assert server.asked == [None] * 5 and part.read_bytes() == b"b" * 1000


def test_a_busy_server_is_asked_again_and_a_refusal_is_final(server, part):
    server.answers = [503, 429]
    told = get(server, part)
    assert part.read_bytes() == CONTENT and len(told.notes) == 2 and "503" in told.notes[0]
    server.asked.clear()
    for status, line in ((404, "not there"), (403, "refused by the server"), (410, "answers 410 Gone")):
        remove_part(part)
        server.answers = [status]
        with pytest.raises(DataError, match=line):
            get(server, part)
    assert len(server.asked) == 3
    assert list(part.parent.iterdir()) == []  # an empty part is no part


def test_a_server_that_stays_silent_or_away_is_given_up(server, part):
    server.answers = [500] * 9
    with pytest.raises(DataError, match="500 Internal Server Error, 3 times: try again later$"):
        get(server, part, tries=3)
    assert len(server.asked) == 3
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections, never answers
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/a.zip"
        with pytest.raises(DataError, match=r"127\.0\.0\.1 sends nothing, 2 times"):
            download(url, part, Told(), Options(timeout_s=0.1, tries=2, wait_s=0.01))
    with pytest.raises(DataError, match="connection refused"):
        download(url, part, Told())


def test_an_unknown_host_is_one_line(part, monkeypatch):
    def nowhere(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    with pytest.raises(DataError, match=r"data\.invalid cannot be found: is there a network\?"):
        download("https://data.invalid/a.zip", part, Told())


def test_no_room_is_said_before_anything_is_fetched(server, part, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(DataError, match="1 MB are still missing, 0 MB are free there"):
        get(server, part)
    assert list(part.parent.iterdir()) == []
    server.sizes = False
    with pytest.raises(DataError, match="5 MB are still missing"):
        get(server, part, size_bytes=5_000_000)


def test_a_disk_that_fills_up_keeps_what_came(server, part, monkeypatch):
    written = 0
    real = os.fdopen

    class Full:
        def __init__(self, file):
            self._file = file

        def __getattr__(self, name):
            return getattr(self._file, name)

        def write(self, chunk: bytes) -> int:
            nonlocal written
            if written > 200_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            written += len(chunk)
            return self._file.write(chunk)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self._file.close()

    with monkeypatch.context() as patched:
        patched.setattr("os.fdopen", lambda handle, mode="r", **more: _full(real, Full, handle, mode, **more))
        with pytest.raises(DataError, match="the disk is full"):
            get(server, part)
    kept = part.stat().st_size
    assert 200_000 < kept < len(CONTENT)
    get(server, part)
    assert part.read_bytes() == CONTENT and server.asked[-1] == f"bytes={kept}-"


def _full(real, wrapper, handle, mode, **more):
    return wrapper(real(handle, mode, **more)) if mode == "ab" else real(handle, mode, **more)


def test_two_at_once_are_refused(server, part):
    class Second(Told):
        def bytes_progress(self, task: str, done: int, total: int | None) -> None:
            get(server, part)

    with pytest.raises(DataError, match="is being fetched by another process"):
        get(server, part, told=Second())


@pytest.mark.parametrize(
    "url", ["https://a.org/b.zip", "http://localhost:8/b.zip", "http://127.0.0.1/b", "http://[::1]/b"]
)
def test_addresses_to_fetch_from(url):
    check_url(url)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://a.org/b.zip", "http lets anyone replace"),
        ("http://127.0.0.1.a.org/b.zip", "http lets anyone replace"),
        ("ftp://a.org/b.zip", "not an address to fetch from"),
        ("file:///etc/passwd", "not an address to fetch from"),
        ("/etc/passwd", "not an address to fetch from"),
        ("https:///b.zip", "not an address to fetch from"),
        ("https://me:secret@a.org/b.zip", "with a name or password"),
    ],
)
def test_addresses_that_are_refused(url, line):
    with pytest.raises(DataError, match=line) as refused:
        check_url(url)
    assert "secret" not in str(refused.value)
    if url.startswith("http://"):
        check_url(url, plain_http=True)


def test_redirects_lead_on_but_never_to_less(server, part):
    with serving(b__zip=b"b" * 10) as other:
        server.redirect = f"{other.url}/b.zip"
        get(server, part)
        assert part.read_bytes() == b"b" * 10 and other.asked == [None]
    for leads in ("ftp://a.org/b.zip", "file:///etc/passwd"):
        remove_part(part)
        server.redirect = leads
        with pytest.raises(DataError):
            get(server, part, tries=1)
        assert not part.exists()


@pytest.mark.parametrize("leads", ["http://a.org/c.zip", "http://127.0.0.1/c.zip", "file:///etc/passwd"])
def test_a_redirect_from_https_to_less_is_refused(leads):
    asked = Request("https://a.org/b.zip", headers={"Range": "bytes=5-"})
    with pytest.raises(DataError, match="which is not https: refused"):
        NoDowngrade().redirect_request(asked, io.BytesIO(), 302, "Found", {}, leads)
    followed = NoDowngrade().redirect_request(asked, io.BytesIO(), 302, "Found", {}, "https://b.org/c.zip")
    assert followed is not None and followed.get_header("Range") == "bytes=5-"


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "hard link"])
def test_what_lies_at_the_part_file_and_is_no_plain_file_is_not_followed(server, part, tmp_path, kind):
    precious = tmp_path / "precious.txt"
    precious.write_bytes(b"mine")
    if kind == "pipe":
        os.mkfifo(part)
    elif kind == "hard link":
        os.link(precious, part)
    else:
        part.symlink_to(precious if kind == "link" else tmp_path / "new.txt")
    with pytest.raises(DataError, match="set.part: is a link or no plain file, and is not followed: remove it"):
        get(server, part)
    assert precious.read_bytes() == b"mine" and not (tmp_path / "new.txt").exists() and server.asked == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"most_bytes": 600_000}, "sends more than 0 GiB without saying how much: refused"),
        ({"size_bytes": 600_000}, "sends more than the 600,000 bytes that it should have: refused"),
    ],
)
def test_a_server_that_does_not_say_how_much_may_not_send_without_end(server, part, options, said):
    server.sizes = False
    with pytest.raises(DataError, match=said):
        get(server, part, **options)
    assert not part.exists()
    get(server, part, size_bytes=len(CONTENT))
    assert part.read_bytes() == CONTENT
