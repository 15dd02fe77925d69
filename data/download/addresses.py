"""Which addresses on the web may be downloaded from."""

from __future__ import annotations

import ipaddress
import urllib.request
from typing import IO, Any
from urllib.parse import urlsplit

from data.errors import DataError


def is_loopback(host: str | None) -> bool:
    """Whether the host of a URL is this machine: "localhost" or a loopback address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def check_url(url: str, *, plain_http: bool = False) -> None:
    """Refuse addresses over which others could read or replace what is downloaded.

    Args:
        url: https, or http to this machine.
        plain_http: http to other machines too; for a mirror that the user named.

    Raises:
        DataError: it is no such address.

    """
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise DataError(
            f"{parts.hostname}: an address with a name or password in it is refused: source.json would hold it"
        )
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme != "http" or not parts.hostname:
        raise DataError(f"{url}: not an address to fetch from: use https://, or file:// with --mirror")
    if not plain_http and not is_loopback(parts.hostname):
        raise DataError(f"{url}: http lets anyone replace the file on its way: use https, or name it by --mirror")


class NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to less."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The request to follow with; see urllib."""
        plain = urlsplit(req.full_url).scheme == "http" and urlsplit(newurl).scheme == "http"
        if urlsplit(newurl).scheme != "https" and not plain:
            fp.close()
            raise DataError(f"{req.full_url}: is redirected to {newurl}, which is not https: refused")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
