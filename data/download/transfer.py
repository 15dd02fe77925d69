"""One file from the web, into a part file that a later call continues.

Why not `pooch` (1.9.0, run against this module's test server): after a kill or a lost connection it starts again at
byte 0, a killed download leaves its temporary file behind, one answer 503 ends it, and it follows any redirect. Data
sets are gigabytes over field networks, so resuming is worth these lines.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Protocol
from urllib.parse import urlsplit

from data.download.addresses import NoDowngrade, check_url, is_loopback
from data.errors import DataError
from data.files import read_text, write_whole

_CHUNK_BYTES = 1 << 18
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""HTTP answers of a server that is busy or broken for now; every other refusal is final."""


class Watcher(Protocol):
    """Receives how a download goes; `detection.cli.terminal.TerminalWatcher` is one."""

    def progress(self, task: str, done: int, total: int) -> None:
        """So many of the task's items are done."""

    def bytes_progress(self, task: str, done: int, total: int | None) -> None:
        """So many of the task's bytes are done; None: the server does not say how many there are."""

    def note(self, line: str) -> None:
        """A line that the user should see."""


@dataclass(frozen=True)
class Options:
    """How to download.

    Attributes:
        plain_http: allow http to other machines too (see `check_url`).
        checked: the caller compares a checksum later, so a server that states no version may be resumed from.
        size_bytes: how large the file is, where that is known before the server says so.
        most_bytes: where neither that nor the server says how large it is, more than this is refused.
        timeout_s: seconds without a byte after which the connection counts as lost.
        tries: how often in a row to try without a single new byte.
        wait_s: seconds before the second try; doubled for each one after it.

    """

    plain_http: bool = False
    checked: bool = False
    size_bytes: int | None = None
    most_bytes: int = 20 << 30
    timeout_s: float = 30.0
    tries: int = 5
    wait_s: float = 1.0


class _Lost(Exception):
    """The connection failed in a way that another try may mend."""


@dataclass(frozen=True)
class _Kept:
    """What is known of a part file: it may be continued only while the address and the file there are the same."""

    url: str
    validator: str | None  # a strong ETag, or else Last-Modified: what If-Range takes
    total: int | None

    @classmethod
    def read(cls, part: Path) -> _Kept | None:
        try:
            found = json.loads(read_text(_beside(part), kind="a note on a download"))
            url, validator, total = found["url"], found["validator"], found["total"]
        except (DataError, ValueError, KeyError, TypeError):
            return None
        sound = isinstance(url, str) and isinstance(validator, str | None) and isinstance(total, int | None)
        return cls(url, validator, total) if sound else None

    def write(self, part: Path) -> None:
        write_whole(_beside(part), json.dumps(asdict(self)), sync=False)


def _beside(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def remove_part(part: Path) -> None:
    """Remove a part file and the note beside it."""
    part.unlink(missing_ok=True)
    _beside(part).unlink(missing_ok=True)


def download(url: str, part: Path, watcher: Watcher, options: Options | None = None) -> None:
    """Download `url` into `part`, continuing what an earlier call left there.

    What has arrived is kept when the connection is lost or the caller is interrupted. It is continued only if the
    server confirms that the file has not changed since (If-Range); otherwise the download starts again.

    Args:
        url: see `check_url`.
        part: complete when this returns; its folder is made.
        watcher: receives the bytes, those of earlier calls included, and a note of each new try.
        options: limits and patience; the defaults where left out.

    Raises:
        DataError: refused, not there, no room, or lost for good; one line that says whether to try again.

    """
    options = options or Options()
    check_url(url, plain_http=options.plain_http)
    # A proxy does not reach this machine.
    proxies = [urllib.request.ProxyHandler({})] if is_loopback(urlsplit(url).hostname) else []
    opener = urllib.request.build_opener(NoDowngrade, *proxies)
    fruitless = 0
    with _open_part(part) as file:
        transfer = _Transfer(url, part, file, opener, watcher, options)
        while True:
            before = os.fstat(file.fileno()).st_size
            try:
                transfer.receive()
                return
            except _Lost as lost:
                got = os.fstat(file.fileno()).st_size
                fruitless = 0 if got > before else fruitless + 1
                if fruitless >= options.tries:
                    kept = f"; {got:,} bytes are kept in {part} for the next try" if got else ""
                    raise DataError(f"{url}: {lost}, {options.tries} times: try again later{kept}") from None
                pause_s = options.wait_s * 2 ** max(0, fruitless - 1)
                watcher.note(f"{lost}: trying again in {pause_s:g} s, from byte {got:,}")
                time.sleep(pause_s)


@contextmanager
def _open_part(part: Path) -> Iterator[IO[bytes]]:
    """The part file, to append to, for this process alone; gone when it is left empty."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        # A link or pipe that another user put there is not followed: what it leads to would be written over.
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        handle = os.open(part, flags | getattr(os, "O_BINARY", 0), 0o666)
        if os.path.islink(part) or not stat.S_ISREG(os.fstat(handle).st_mode) or os.fstat(handle).st_nlink > 1:
            os.close(handle)
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        file = os.fdopen(handle, "ab")
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EMLINK):
            raise DataError(f"{part}: is a link or no plain file, and is not followed: remove it") from None
        raise DataError(f"{part}: cannot be written ({error.strerror or error})") from None
    with file:
        try:
            import fcntl
        except ImportError:  # not on Windows, where two at once are on their own
            pass
        else:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataError(f"{part}: is being fetched by another process: wait for it, or stop it") from None
        try:
            yield file
        finally:
            file.flush()
            if os.fstat(file.fileno()).st_size == 0:
                remove_part(part)


@dataclass(frozen=True)
class _Transfer:
    """A download in progress."""

    url: str
    part: Path
    file: IO[bytes]
    opener: urllib.request.OpenerDirector
    watcher: Watcher
    options: Options

    def receive(self) -> None:
        """Request what is missing once, and write what arrives."""
        have = os.fstat(self.file.fileno()).st_size
        kept = _Kept.read(self.part) if have else None
        if kept is None or kept.url != self.url or not (kept.validator or self.options.checked):
            kept, have = None, _restart(self.file)
        elif kept.total == have:
            return  # complete already: it was interrupted after its last byte
        answer = self._answer(kept, have)
        if answer is None:
            return
        with answer:
            if kept is not None and (answer.status != 206 or _number(r"bytes (\d+)-", answer.headers) != have):
                # 200 is the whole file; a 206 that begins elsewhere is of no use, so the whole is requested.
                have, kept = _restart(self.file), None
                if answer.status == 206:
                    raise _Lost("the server sends another part than was requested")
                self.watcher.note("the file there has changed, or its server cannot resume: starting again")
            total = kept.total if kept else _number(r"(\d+)$", answer.headers, "Content-Length")
            _Kept(self.url, _validator(answer.headers) if kept is None else kept.validator, total).write(self.part)
            _check_room(self.part, (total or self.options.size_bytes or 0) - have)
            have = self._write(answer, have, total)
        if total is not None and have != total:
            raise _Lost(f"the connection ended after {have:,} of {total:,} bytes")

    def _answer(self, kept: _Kept | None, have: int) -> http.client.HTTPResponse | None:
        """The server's answer to a request from byte `have` on; None where it has no more."""
        request = urllib.request.Request(self.url, headers={"User-Agent": "swath", "Accept-Encoding": "identity"})
        if kept is not None:
            request.add_header("Range", f"bytes={have}-")
            if kept.validator:
                request.add_header("If-Range", kept.validator)
        try:
            answer: http.client.HTTPResponse = self.opener.open(request, timeout=self.options.timeout_s)
            return answer
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and kept is not None:
                    if _number(r"bytes \*/(\d+)", error.headers) == have:
                        return None
                    _restart(self.file)
                    raise _Lost("the file there is not the one that was begun") from None
                if error.code in _AGAIN:
                    raise _Lost(f"the server answers {error.code} {error.reason}") from None
            meaning = {404: "not there (404): it was moved or taken down", 403: "refused by the server (403)"}
            reason = meaning.get(error.code, f"the server answers {error.code} {error.reason}")
            raise DataError(
                f"{self.url}: {reason}; a mirror or a copy of the archive serves too (--mirror)"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise _failure(self.url, error, have) from None

    def _write(self, answer: http.client.HTTPResponse, have: int, total: int | None) -> int:
        """Append what arrives; how many bytes there are then."""
        known = total or self.options.size_bytes
        most = known or self.options.most_bytes
        while True:
            self.watcher.bytes_progress("fetching", have, total)
            try:
                # read1 returns what has arrived; read would wait for a whole chunk, and lose it with the connection.
                chunk = answer.read1(_CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _failure(self.url, error, have) from None
            if not chunk:
                return have
            if have + len(chunk) > most:
                _restart(self.file)
                what = (
                    f"the {most:,} bytes that it should have"
                    if known
                    else f"{most >> 30} GiB without saying how much"
                )
                raise DataError(f"{self.url}: sends more than {what}: refused, nothing of it is kept")
            try:
                self.file.write(chunk)
                self.file.flush()
            except OSError as error:
                raise _no_write(self.part, error) from None
            have += len(chunk)


def _restart(file: IO[bytes]) -> int:
    file.truncate(0)
    return 0


def _number(pattern: str, headers: Message, name: str = "Content-Range") -> int | None:
    found = re.match(pattern, (headers.get(name) or "").strip())
    return int(found[1]) if found else None


def _validator(headers: Message) -> str | None:
    etag = headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _check_room(part: Path, missing_bytes: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if missing_bytes > free:
        raise DataError(
            f"{part.parent}: {missing_bytes / 1e6:,.0f} MB are still missing, {free / 1e6:,.0f} MB are free there: "
            "make room, or name another folder (--out)"
        )


def _no_write(part: Path, error: OSError) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(f"{part}: the disk is full: make room; what has arrived is kept, and continued")
    return DataError(f"{part}: cannot be written ({error.strerror or error})")


def _failure(url: str, error: Exception, have: int) -> Exception:
    """A failed connection: final where another try at once would fail alike, else lost for now."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    host = urlsplit(url).hostname
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DataError(f"{url}: the certificate of {host} cannot be trusted ({reason.verify_message})")
    if isinstance(reason, TimeoutError):
        return _Lost(f"{host} sends nothing")
    if isinstance(reason, socket.gaierror) and not have:
        return DataError(
            f"{url}: {host} cannot be found: is there a network? A copy of the archive serves too (--mirror)"
        )
    if isinstance(reason, ConnectionRefusedError) and not have:
        return DataError(f"{url}: {host} cannot be reached (connection refused): is a server running there?")
    reason_text = (
        reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason) or type(reason).__name__
    )
    return _Lost(f"the connection to {host} was lost ({reason_text})")
