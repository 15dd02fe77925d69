"""The Authorization header that a camera's challenge asks for: RFC 7617 (Basic) and RFC 7616 (Digest)."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.request import parse_http_list, parse_keqv_list

_HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
_CHALLENGE = re.compile(r"(?is)\b(Digest|Basic)\s+(.*?)\s*(?=,\s*(?:Digest|Basic)\s|$)")


@dataclass(frozen=True)
class Authorization:
    """What was asked for.

    Attributes:
        kinds: how the camera takes user and password: "Basic", "Digest MD5", "Digest SHA-256", ... as it names them.
        header: the value of Authorization; None where none of the kinds is known.

    """

    kinds: tuple[str, ...]
    header: str | None


def authorize(challenges: Iterable[str], method: str, target: str, user: str, password: str) -> Authorization:
    """Answer a camera's challenges, by the safest kind that is known.

    Args:
        challenges: values of its WWW-Authenticate headers.
        method: of the request: "GET", "DESCRIBE".
        target: of the request, as its first line has it.
        user: without percent-encoding.
        password: likewise.

    """
    kinds, answers = [], {}
    for kind, fields in (found for line in challenges for found in _CHALLENGE.findall(line)):
        if kind.lower() == "basic":
            kinds.append("Basic")
            pair = f"{user}:{password}".encode()
            answers[0] = f"Basic {base64.b64encode(pair).decode()}"
            continue
        given = {name.lower(): value for name, value in parse_keqv_list(_pairs(fields)).items()}
        algorithm = given.get("algorithm", "MD5").upper()
        kinds.append(f"Digest {algorithm}")
        name = _HASHES.get(algorithm.removesuffix("-SESS"))
        if name is not None:
            answers[1 + list(_HASHES.values()).index(name)] = _digest(given, name, method, target, user, password)
    return Authorization(tuple(kinds), answers[max(answers)] if answers else None)


def _pairs(fields: str) -> list[str]:
    return [pair for pair in parse_http_list(fields) if "=" in pair]


def _digest(given: dict[str, str], name: str, method: str, target: str, user: str, password: str) -> str:
    def of(text: str) -> str:
        return hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()

    realm, nonce = given.get("realm", ""), given.get("nonce", "")
    once = secrets.token_hex(8)
    first = of(f"{user}:{realm}:{password}")
    if given.get("algorithm", "").upper().endswith("-SESS"):
        first = of(f"{first}:{nonce}:{once}")
    second = of(f"{method}:{target}")
    fields = {"username": user, "realm": realm, "nonce": nonce, "uri": target}
    if "auth" in re.split(r"[\s,]+", given.get("qop", "")):
        fields["response"] = of(f"{first}:{nonce}:00000001:{once}:auth:{second}")
        plain = f', qop=auth, nc=00000001, cnonce="{once}"'
    else:
        fields["response"] = of(f"{first}:{nonce}:{second}")
        plain = ""
    fields |= {key: given[key] for key in ("opaque",) if key in given}
    plain += f", algorithm={given['algorithm']}" if "algorithm" in given else ""
    quoted = ", ".join('{}="{}"'.format(key, re.sub(r'([\\"])', r"\\\1", value)) for key, value in fields.items())
    return f"Digest {quoted}{plain}"
