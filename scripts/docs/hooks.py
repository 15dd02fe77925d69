"""What MkDocs calls while it builds the site: pages that are generated from the program, and links between pages."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import commands  # beside this file, which MkDocs puts on the path
import notebook
import public
import settings
import tables
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
GENERATED = {
    commands.PAGE: cache(commands.page),
    public.PAGE: cache(public.page),
    settings.RECIPE_PAGE: cache(settings.recipe_page),
    settings.MACHINE_PAGE: cache(settings.machine_page),
}
_TABLE = re.compile(r"^<!-- table: ([a-z-]+) -->$", re.MULTILINE)
_PAGE = re.compile(r"`docs/([a-z0-9_/]+\.(?:md|ipynb))`")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages and the notebooks' ones; nothing of them is written into docs/."""
    for uri, page in GENERATED.items():
        files.append(File.generated(config, uri, content=page()))
    for source in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        files.remove(files.src_uris[f"notebooks/{source.name}"])
        for uri, content in notebook.pages(source):
            files.append(File.generated(config, f"notebooks/{uri}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Fill in tables that are derived from the code; make the path of a page in backticks a link to it."""
    filled = _TABLE.sub(lambda match: tables.table(match[1]), markdown)
    here = PurePosixPath(page.file.src_uri).parent
    prose = _FENCE.split(filled)
    prose[::2] = [_PAGE.sub(lambda match: _link(match[1], here), text) for text in prose[::2]]
    return "".join(prose)


def _link(target: str, here: PurePosixPath) -> str:
    if target.endswith(".ipynb"):
        *_, (_, page) = notebook.pages(ROOT / "docs" / target)
        target = target.replace(".ipynb", ".md")
    else:
        page = GENERATED[target]() if target in GENERATED else (ROOT / "docs" / target).read_text(encoding="utf-8")
    title = str(page).lstrip().split("\n", 1)[0].removeprefix("# ")
    return f"[{title}]({'../' * len(here.parts)}{target})"
