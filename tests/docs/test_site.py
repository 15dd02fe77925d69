"""The site: built strictly from what is here, nothing fetched from elsewhere, the diagram true to the imports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import imports
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={
            **os.environ,
            "NO_MKDOCS_2_WARNING": "1",
            "https_proxy": "http://127.0.0.1:9",
            "http_proxy": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    for source in (ROOT / "docs").rglob("*.md"):
        assert (site / source.relative_to(ROOT / "docs")).with_suffix(".html").is_file()
    assert "train.epochs" in (site / "reference/recipe.html").read_text()
    assert "cameras[].max_fps" in (site / "reference/machine.html").read_text()
    assert "swath data check" in (site / "reference/commands.html").read_text()


def test_no_placeholder_is_left(site: Path) -> None:
    assert not [page for page in site.rglob("*.html") if "<!-- table:" in page.read_text()]


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    fetched = re.compile(
        r"<(?:script|img|iframe|source)[^>]+src=\"?https?:|<link[^>]+rel=\"?(?:stylesheet|preconnect|icon)[^>]+https?:"
    )
    assert not [page for page in pages if fetched.search(page.read_text())]
    assert not [css for css in site.rglob("*.css") if re.search(r"url\(['\"]?https?:|@import", css.read_text())]


def test_the_diagram_is_true_to_the_imports() -> None:
    drawn = imports.DIAGRAM.read_text(encoding="utf-8")
    assert drawn == imports.svg(imports.imports()), "python scripts/docs/imports.py draws it anew"


def test_implied_arrows_are_left_out() -> None:
    edges = frozenset({("cli", "training"), ("training", "models"), ("cli", "models"), ("cli", "data")})
    assert imports.without_implied(edges) == edges - {("cli", "models")}
    assert imports.rows(edges) == {"cli": 0, "training": 1, "models": 2, "data": 2}


def test_a_circle_is_an_error() -> None:
    with pytest.raises(ValueError, match="circle"):
        imports.rows(frozenset({("a", "b"), ("b", "a")}))
