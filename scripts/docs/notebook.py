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
        parts.append(_code(text))
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


def _code(text: str) -> str:
    """A cell as a fenced block, in the language of its magic."""
    magic, _, rest = text.partition("\n")
    if magic.startswith("%%sh"):
        return f"```sh\n{rest}\n```"
    if magic.startswith("%%writefile"):
        name = magic.split()[1]
        return f"`{name}`:\n\n```{Path(name).suffix.removeprefix('.')}\n{rest}\n```"
    return f"```python\n{text}\n```"


def _image(output: dict[str, Any]) -> tuple[str, bytes] | None:
    data = output.get("data", {})
    for mime, kind in (("image/jpeg", "jpg"), ("image/png", "png")):
        if mime in data:
            return kind, base64.b64decode("".join(data[mime]))
    return None


def _text(output: dict[str, Any]) -> str:
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", ""))


def run(source: Path, work: Path) -> None:
    """Run a notebook from beginning to end, and keep its outputs in it. `swath` in its cells is this checkout's.

    Args:
        source: the notebook.
        work: an empty or new folder, in which it runs.

    """
    import nbformat
    from nbclient import NotebookClient

    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "swath")
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m swath "$@"\n')
        script.chmod(0o755)
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}
        notebook = nbformat.read(source, 4)
        client = NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(work)}})
        client.execute(env={**os.environ, **environment})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which would differ in every commit
    nbformat.write(notebook, source)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty:
        run(Path(sys.argv[1]), Path(empty))
