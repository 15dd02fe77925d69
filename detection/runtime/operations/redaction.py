"""`Redaction`: passwords and tokens are taken out of whatever is written for people and logs."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from detection.runtime.addresses import shown_address
from detection.runtime.errors import one_line

MASK = "***"
_SHORTEST = 4
"""Shorter secrets are not looked for by themselves: "a" would blacken every word."""

# Bounded repeats: each takes time in proportion to the text, whatever stands in it.
_URL = re.compile(r"\S+")
_OF_THE_SENTENCE = ":,.;)]}>'\""
_NO_SCHEME = re.compile(r"(?<!\S)[^\s:/@]{1,100}:[^\s@/]{1,100}(?:@[^\s@/]{0,100})?@(?=[\w[])")
_WORD = r"(?:passw(?:or)?d|passphrase|pwd|user[-_]pw|secret|token|api[-_]?key|credential)"
_NAMED = re.compile(rf"(?i)({_WORD}[\w-]{{0,20}}['\"]?\s{{0,4}}[=:]\s{{0,4}}['\"]?)[^\s'\"&,;]+")
_HEADER = re.compile(
    r"(?i)\b(authorization['\"]?\s{0,4}[=:]\s{0,4}['\"]?(?:bearer|basic)?\s{0,4}|bearer\s{1,4})[^\s'\"]+"
)


class Redaction:
    """Takes out what a text must not show.

    That is: users and passwords of URLs, their queries, named passwords and tokens, and secrets that are known.

    Args:
        secrets: known ones, such as the values of the environment variables that a machine's YAML names.
            They are found as they are and as a URL has them; those below four letters are not looked for.

    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = frozenset(secrets)
        known = {secret for secret in self._secrets if len(secret) >= _SHORTEST}
        known |= {quote(secret, safe="") for secret in known}
        # the longest first: one may hold another
        self._known = re.compile("|".join(map(re.escape, sorted(known, key=len, reverse=True)))) if known else None

    def with_secrets(self, secrets: Iterable[str]) -> Redaction:
        """One that knows these secrets too."""
        return Redaction(self._secrets | set(secrets))

    def __call__(self, text: str) -> str:
        """The text without them."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        text = _URL.sub(_without_secrets, text) if "://" in text else text
        text = _NO_SCHEME.sub(rf"{MASK}@", text) if "@" in text else text
        text = _HEADER.sub(rf"\1{MASK}", text)
        return _NAMED.sub(rf"\1{MASK}", text)


def _without_secrets(match: re.Match[str]) -> str:
    scheme, found, _ = match[0].partition("://")
    if not found:
        return match[0]
    address = match[0].rstrip(_OF_THE_SENTENCE)
    return f"{scheme}://{shown_address(address, MASK)}{match[0][len(address) :]}"


class RedactedFormatter(logging.Formatter):
    """What a handler writes holds no secret and no control characters, tracebacks included.

    Args:
        redaction: the rule.
        inner: formats the record that was cleaned.

    """

    def __init__(self, redaction: Redaction, inner: logging.Formatter | None = None) -> None:
        super().__init__()
        self._redaction = redaction
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """Format a copy of the record, whose message, exception, `camera` and `event` hold no secrets."""
        clean = logging.makeLogRecord(record.__dict__)
        try:
            message = record.getMessage()
        except Exception:  # a foreign library's message with wrong arguments
            message = f"{record.msg} {record.args}"
        clean.msg, clean.args = self._lines(message), ()
        text = record.exc_text
        if record.exc_info and record.exc_info[0] is not None:
            text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        clean.exc_info, clean.exc_text = None, text and self._lines(text)
        clean.stack_info = record.stack_info and self._lines(record.stack_info)
        for name in ("camera", "event"):
            if hasattr(record, name):
                setattr(clean, name, self._cleaned(getattr(record, name)))
        return self._inner.format(clean)

    def _lines(self, text: str) -> str:
        return "\n".join(map(one_line, self._redaction(text).split("\n")))

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._cleaned(one) for key, one in value.items()}
        return self._redaction(value) if isinstance(value, str) else value
