"""Addresses as users type them, with passwords anywhere in them: taken apart, and shown without secrets.

This is the one rule for names, messages, logs and outputs: what may be shown of an address is `shown_address`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")

_HOST = re.compile(r"(?:\[[0-9a-fA-F:.%]+\]|[\w.%~-]+)(?::\d*)?(?=[/?#]|$)")
_CERTAIN_HOST = re.compile(r"(?:\[[0-9a-fA-F:.%]+\]|[\w~-]+(?:\.[\w~-]+)+\.?|localhost)(?::\d*)?|[\w~-]+:\d+")
"""A host that is one for certain: with a dot, an IPv6 address, or with a port."""

_SECRET = (
    r"(?:passw(?:or)?d|passphrase|passwd|pass|pwd|psw|pw|secret|token|auth|(?:api|access|stream)?[-_]?key|"
    r"sig(?:nature)?|session|sid|credentials?)"
)
_SECRET_SEGMENT = re.compile(rf"(?i)user(?:name)?|usr|login|{_SECRET}")
_HARMLESS = (
    r"(?:channel|chan|chn|ch|camera|cam|stream|streamtype|stream-type|subtype|type|id|profile|track|trackid|"
    r"resolution|res|codec|fps|quality|unicast|proto|transport|input|source|video|media)"
)
_PAIR = re.compile(r"(?:^|[_&;,])([A-Za-z][A-Za-z0-9-]*)=")
_HARMLESS_END = re.compile(rf"(?i)(?:(?<=^)|(?<=[_&;,]))(?:{_HARMLESS}=\w{{1,4}}[_&;,]?){{1,8}}(?:\.\w{{1,5}})?$")
_RANDOM = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[\w-]{16,}")
"""Of a path: nobody names a stream so; who knows it may watch."""


@dataclass(frozen=True)
class Address:
    """An address, taken apart.

    Attributes:
        scheme: in lower case; empty where there is none.
        user: without percent-encoding; None where there is none.
        password: likewise.
        host: name or number, with the port where one is given, as it was written.
        target: path, query and fragment, as they were written.

    """

    scheme: str
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)
    host: str
    target: str = field(repr=False)

    @property
    def url(self) -> str:
        """The address as libraries read it: what they would misread in user and password is percent-encoded."""
        if self.user is None:
            return f"{self.scheme}://{self.host}{self.target}"
        password = "" if self.password is None else f":{quote(self.password, safe='')}"
        return f"{self.scheme}://{quote(self.user, safe='')}{password}@{self.host}{self.target}"


def split_address(text: str) -> Address:
    """Take an address apart; a password may hold @ / ? # as they are, or percent-encoded.

    Where both readings are possible, a host that is certainly one (with a dot, or a port) ends user and password, and
    otherwise the last @ does.

    Args:
        text: with or without a scheme.

    """
    scheme, rest = _scheme_of(text)
    end, _ = _end_of_credentials(rest)
    user = password = None
    if end >= 0:
        first, colon, second = rest[:end].partition(":")
        user, password = unquote(first), unquote(second) if colon else None
    place = rest[end + 1 :]
    host = _before(place, "/?#")
    return Address(scheme.lower(), user, password, host, place[len(host) :])


def readable_url(url: str) -> str:
    """The URL as libraries read it; as it was written, where they read it rightly."""
    parts = split_address(url)
    authority = _before(_scheme_of(url)[1], "/?#")
    plain = authority.count("@") == (parts.user is not None) and authority.endswith(parts.host)
    return url if plain else parts.url


def shown_address(text: str, mask: str = "") -> str:
    """Host and path of an address, without user and password, query and fragment, and secrets in the path.

    Args:
        text: with or without a scheme.
        mask: stands where something was taken out; with "" it is left out as if it had not been there.

    """
    _, rest = _scheme_of(text)
    _, end = _end_of_credentials(rest)
    if end is None:  # even the host may be a part of the password
        return mask
    place = rest[end + 1 :]
    plain = _before(place, "?#")
    host, slash, path = plain.partition("/")
    path = "/".join(_shown_segments(path.split("/"), mask))
    if not mask:
        return f"{host}{slash}{path}".rstrip("/")
    return f"{mask + '@' if end >= 0 else ''}{host}{slash}{path}{'?' + mask if len(plain) < len(place) else ''}"


def secrets_of(text: str) -> set[str]:
    """What of an address is secret, as it is written there and without percent-encoding."""
    _, rest = _scheme_of(text)
    end, _ = _end_of_credentials(rest)
    written = rest[: max(end, 0)].partition(":")[2]
    return {one for secret in (written, *_values(rest[end + 1 :])) for one in (secret, unquote(secret)) if one}


def looks_like_address(text: str) -> bool:
    """Whether it holds user and password like an address, without a scheme: `farm:PASSWORD@10.0.0.7/stream`."""
    return "://" not in text and re.match(r"(?:[a-z]+:/?)?[^\s/:@]+:\S*@[\w\[]", text) is not None


def _scheme_of(text: str) -> tuple[str, str]:
    scheme, found, rest = text.partition("://")
    return (scheme, rest) if found else ("", text)


def _before(text: str, ends: str) -> str:
    return re.split(f"[{ends}]", text, maxsplit=1)[0]


def _end_of_credentials(rest: str) -> tuple[int, int | None]:
    """Where the @ after user and password stands, -1 for none: for connecting, and for showing.

    For showing it is the last one that is possible, and None where nothing may be shown.
    """
    authority = _before(rest, "/?#")
    inside = authority.rfind("@")
    host = authority[inside + 1 :]
    is_host = _HOST.fullmatch(host) is not None
    last = rest.rfind("@")
    if last <= inside or (_HOST.match(rest, last + 1) is None and is_host):
        return inside, inside  # a later one belongs to a path or a query
    if not is_host:
        return last, last
    between = rest[len(authority) : last]
    query = between.find("?")
    named = query >= 0 and "=" in between[query:]
    if _CERTAIN_HOST.fullmatch(host):
        usual = inside >= 0 or "." in host or named
    else:
        usual = inside < 0 and named and ":" not in host
    if "?" not in between and "#" not in between:
        return (inside if usual else last), last
    if usual:
        return inside, inside if named else None
    shown = "?" not in between and _CERTAIN_HOST.match(rest, last + 1) is not None
    return last, last if shown else None


def _shown_segments(segments: Sequence[str], mask: str) -> Iterator[str]:
    hidden = False
    for segment in segments:
        shown = mask if hidden and segment else _shown_segment(segment, mask)
        hidden = _SECRET_SEGMENT.fullmatch(unquote(segment)) is not None
        if shown or not segment:
            yield shown


def _shown_segment(segment: str, mask: str) -> str:
    plain = unquote(segment)
    keys = _PAIR.findall(plain)
    if keys or "=" in plain:
        end = _HARMLESS_END.search(plain)
        if end is None:
            return mask
        return plain if end.start() == 0 else (mask and f"{mask}_") + end[0]
    if _RANDOM.fullmatch(plain) or (":" in plain and not re.fullmatch(r"[\d:.T-]+Z?", plain)):
        return mask
    return segment


def _values(target: str) -> Iterator[str]:
    """Values behind the names of secrets, in path, query or fragment."""
    for text in {target, unquote(target)}:
        for match in re.finditer(rf"(?i){_SECRET}=([^/?#&;]*)", text):
            yield match[1]
            yield re.split(r"_[A-Za-z-]+=", match[1], maxsplit=1)[0]
