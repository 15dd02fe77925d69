"""One file from the web, into a part file that a later call goes on with."""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
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


class BytesProgress(Protocol):
    """Is told of bytes: the task, how many are done, how many there are (None: the server does not say)."""

    def __call__(self, task: str, done: int, total: int | None) -> None:
        """Show it."""


class _Lost(Exception):
    """The connection failed in a way that another try may mend."""


@dataclass(frozen=True)
class _Kept:
    """What is known of a part file: it may only be gone on with while it is the same file at the same place."""

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


def download(
    url: str,
    part: Path,
    *,
    progress: BytesProgress,
    note: Callable[[str], None],
    plain_http: bool = False,
    checked: bool = False,
    size_bytes: int | None = None,
    timeout_s: float = 30.0,
    tries: int = 5,
    wait_s: float = 1.0,
) -> None:
    """Fetch `url` into `part`, going on from what an earlier call left there.

    What is there is kept when the connection is lost or the caller is interrupted. It is gone on with only if the
    server says that the file has not changed since (If-Range), or else from the start.

    Args:
        url: see `check_url`.
        part: complete when this returns; its folder is made.
        progress: told of the bytes, those of earlier calls included.
        note: told of each new try.
        plain_http: see `check_url`.
        checked: the caller compares a checksum later, so a server that names no version may be trusted to go on.
        size_bytes: how large the file is, where that is known before the server says so.
        timeout_s: seconds without a byte after which the connection counts as lost.
        tries: how often in a row to try without a single new byte.
        wait_s: seconds before the second try; doubled for each one after it.

    Raises:
        DataError: refused, not there, no room, or lost for good; one line that says whether to try again.

    """
    check_url(url, plain_http=plain_http)
    # A proxy does not reach this machine.
    proxies = [urllib.request.ProxyHandler({})] if is_loopback(urlsplit(url).hostname) else []
    opener = urllib.request.build_opener(NoDowngrade, *proxies)
    fruitless = 0
    with _open_part(part) as file:
        while True:
            before = os.fstat(file.fileno()).st_size
            try:
                _receive(opener, url, file, part, progress, note, checked, size_bytes, timeout_s)
                return
            except _Lost as lost:
                got = os.fstat(file.fileno()).st_size
                fruitless = 0 if got > before else fruitless + 1
                if fruitless >= tries:
                    kept = f"; {got:,} bytes are kept in {part} for the next try" if got else ""
                    raise DataError(f"{url}: {lost}, {tries} times: try again later{kept}") from None
                pause_s = wait_s * 2 ** max(0, fruitless - 1)
                note(f"{lost}: trying again in {pause_s:g} s, from byte {got:,}")
                time.sleep(pause_s)


@contextmanager
def _open_part(part: Path) -> Iterator[IO[bytes]]:
    """The part file, to append to, for this process alone; gone when it is left empty."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        file = open(part, "ab")
    except OSError as error:
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


def _receive(
    opener: urllib.request.OpenerDirector,
    url: str,
    file: IO[bytes],
    part: Path,
    progress: BytesProgress,
    note: Callable[[str], None],
    checked: bool,
    size_bytes: int | None,
    timeout_s: float,
) -> None:
    """Ask once, for what is missing, and write what comes."""
    have = os.fstat(file.fileno()).st_size
    kept = _Kept.read(part) if have else None
    if kept is None or kept.url != url or not (kept.validator or checked):
        kept, have = None, _restart(file)
    elif kept.total == have:
        return  # whole already: it was interrupted after its last byte
    request = urllib.request.Request(url, headers={"User-Agent": "swath", "Accept-Encoding": "identity"})
    if kept is not None:
        request.add_header("Range", f"bytes={have}-")
        if kept.validator:
            request.add_header("If-Range", kept.validator)
    try:
        answer = opener.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and kept is not None:
                total = _number(r"bytes \*/(\d+)", error.headers)
                if total == have:
                    return
                _restart(file)
                raise _Lost("the file there is another one than that begun") from None
            if error.code in _AGAIN:
                raise _Lost(f"the server answers {error.code} {error.reason}") from None
        meaning = {404: "not there (404): it was moved or taken down", 403: "refused by the server (403)"}
        hint = "a mirror or a copy of the archive serves too (--mirror)"
        raise DataError(
            f"{url}: {meaning.get(error.code, f'the server answers {error.code} {error.reason}')}; {hint}"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise _failure(url, error, have) from None
    with answer:
        if kept is not None and (answer.status != 206 or _number(r"bytes (\d+)-", answer.headers) != have):
            # 200 is the whole file; a 206 that begins elsewhere is of no use, so the whole is asked for.
            have, kept = _restart(file), None
            if answer.status == 206:
                raise _Lost("the server sends another part than was asked for")
            note("the file there has changed, or its server cannot go on: from the start")
        total = kept.total if kept else _number(r"(\d+)$", answer.headers, "Content-Length")
        _Kept(url, _validator(answer.headers) if kept is None else kept.validator, total).write(part)
        _check_room(part, (total or size_bytes or 0) - have)
        while True:
            progress("fetching", have, total)
            try:
                # read1 hands over what has come; read would wait for a whole chunk, and lose it with the connection.
                chunk = answer.read1(_CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _failure(url, error, have) from None
            if not chunk:
                break
            try:
                file.write(chunk)
                file.flush()
            except OSError as error:
                raise _no_write(part, error) from None
            have += len(chunk)
    if total is not None and have != total:
        raise _Lost(f"the connection ended after {have:,} of {total:,} bytes")


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
            f"{part.parent}: {missing_bytes / 1e6:,.0f} MB are still to come, {free / 1e6:,.0f} MB are free there: "
            "make room, or name another folder (--out)"
        )


def _no_write(part: Path, error: OSError) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(f"{part}: the disk is full: make room; what came so far is kept, and gone on with")
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
    said = (
        reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason) or type(reason).__name__
    )
    return _Lost(f"the connection to {host} was lost ({said})")
