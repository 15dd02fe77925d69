"""The reference of the public module `swath`, from its docstrings."""

from __future__ import annotations

import swath

PAGE = "reference/python.md"
_INTRO = """# Python

`from swath import ...`: a name is imported when it is first used, and only `load_dataset`, `train`, `evaluate` and
`export` need `swath[train]`.
"""


def page() -> str:
    """The page as Markdown; mkdocstrings reads each name's signature and docstring from the source."""
    homes = sorted(swath._HOMES.items(), key=lambda item: item[0].lower())
    return "\n".join([_INTRO, *(f"## {name} {{#swath.{name}}}\n\n::: {home}.{name}\n" for name, home in homes)])
