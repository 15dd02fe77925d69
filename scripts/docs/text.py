"""What the docs say to type and which names they mention, as the tests of the docs read it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import notebook

ROOT = Path(__file__).parents[2]

_INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_SHELL = ("", "sh", "bash", "console")
_STARTS = ("swath ", "python ", "make ", "pytest ", "pip install ", "torchrun ", "fabric ")


@dataclass(frozen=True)
class Said:
    """A piece of a page: a command line of a block, a piece of inline code, or a whole fenced block."""

    page: str
    text: str
    kind: str  # "line", "inline", or the language of a fenced block

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def pages() -> Iterator[tuple[str, str]]:
    """Path and text of each page that people read, notebooks' text and code too."""
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "docs").rglob("*.ipynb")):
        *_, (_, page) = notebook.pages(path)
        assert isinstance(page, str)
        yield str(path.relative_to(ROOT)), page


def said() -> Iterator[Said]:
    """All command lines and inline code of all pages, and the fenced blocks of other languages."""
    for page, text in pages():
        for _, language, body in _FENCE.findall(text):
            if language in _SHELL:
                yield from (Said(page, line, "line") for line in _lines(body))
            else:
                yield Said(page, body, language)
        prose = _FENCE.sub("", text)
        indented = "\n".join(line[4:] if line.startswith("    ") else "" for line in prose.split("\n"))
        yield from (Said(page, line, "line") for line in _lines(indented))
        yield from (Said(page, " ".join(code.split()), "inline") for code in _INLINE.findall(prose))


def _lines(block: str) -> Iterator[str]:
    """The commands in a block: continued lines joined, comments and prompts taken off, pipes taken apart."""
    joined = re.sub(r"\\\n\s*", " ", block)
    for line in joined.split("\n"):
        bare = re.sub(r"(^|\s)#\s.*$", "", line).strip().removeprefix("$ ")
        bare = bare.replace("2>&1", "")
        bare = re.sub(r"^for \w+ in .*?; do ", "", bare)
        for part in _split(bare):
            if part.startswith(_STARTS):
                yield part


def _split(line: str) -> list[str]:
    """A line at its pipes, `;` and `&&`; redirections go. Quoted ones stay."""
    parts, quote, current = [], "", ""
    for character in line:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "|;&":
            parts.append(current)
            current = ""
            continue
        elif character == ">":
            parts.append(current)
            current = ">"
            continue
        current += character
    parts.append(current)
    return [part.strip() for part in parts if part.strip() and not part.startswith(">")]


def words(line: str) -> list[str]:
    """A command line's words, as a shell splits them; `...` says that something is left out, and goes."""
    return [word for word in shlex.split(line) if word != "..."]
