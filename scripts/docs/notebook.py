# python scripts/docs/notebook.py docs/notebooks/first_detector.ipynb        (runs it, and keeps its outputs in it)
"""A notebook as a page of the site: text, code, and what the code printed or drew when it was run last."""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def pages(source: Path) -> Iterator[tuple[str, str | bytes]]:
    """The page (`first.md`), and each image of its outputs (`first_3_0.png`), with their content."""
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
    parts: list[str] = []
    for number, cell in enumerate(cells):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
            continue
        parts.append(f"```python\n{text}\n```")
        for place, output in enumerate(cell["outputs"]):
            image = _image(output)
            if image is not None:
                kind, content = image
                name = f"{source.stem}_{number}_{place}.{kind}"
                parts.append(f"![What the cell above shows]({name})")
                yield name, content
            elif printed := _text(output):
                parts.append(f"```text\n{printed.rstrip()}\n```")
    yield f"{source.stem}.md", "\n\n".join(parts) + "\n"


def _image(output: dict[str, Any]) -> tuple[str, bytes] | None:
    data = output.get("data", {})
    for mime, kind in (("image/jpeg", "jpg"), ("image/png", "png")):
        if mime in data:
            return kind, base64.b64decode("".join(data[mime]))
    return None


def _text(output: dict[str, Any]) -> str:
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", ""))


def run(source: Path) -> None:
    """Run a notebook from beginning to end in an empty folder, and keep its outputs in it.

    `swath` in its cells is this checkout's.
    """
    import nbformat
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "bin", "swath")
        script.parent.mkdir()
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m swath "$@"\n')
        script.chmod(0o755)
        os.environ["PATH"] = f"{script.parent}:{os.environ['PATH']}"
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
        work = Path(folder, "work")
        work.mkdir()
        notebook = nbformat.read(source, 4)
        NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(work)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which would differ in every commit
    nbformat.write(notebook, source)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
