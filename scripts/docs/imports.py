# python scripts/docs/imports.py        (draws docs/images/imports.svg anew)
"""The diagram of `docs/architecture.md`: which part imports which, as it is in the code.

Only arrows that are not implied by others are drawn: where `cli` imports `training` and `training` imports `models`,
no arrow leads from `cli` to `models`. Each part stands below everything that imports it.
"""

from __future__ import annotations

from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
DIAGRAM = ROOT / "docs/images/imports.svg"

Edges = frozenset[tuple[str, str]]

_ABOUT = {
    "swath": "the public face",
    "cli": "commands: parse, call, print",
    "training": "trainer, optimizer, callbacks",
    "export": "ONNX graph, parity check",
    "evaluation": "COCO metrics, report",
    "recipe": "the YAML and its schema",
    "models": "presets, weights",
    "runtime": "what the robot runs: no torch",
    "data": "datasets in, batches out",
}
_WIDTH, _BOX_W, _BOX_H, _ROW = 760, 224, 58, 104


def imports() -> Edges:
    """Pairs (importing part, imported part) of the direct imports between parts, type-checking ones left out."""
    graph = grimp.build_graph("swath", "detection", "data", cache_dir=None, exclude_type_checking_imports=True)
    pairs = {
        (part(importer), part(imported))
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
    }
    # swath imports by name, when one of its names is first used; grimp cannot see that.
    import swath

    pairs |= {("swath", part(home)) for home in swath._HOMES.values()}
    return frozenset((a, b) for a, b in pairs if a != b and "detection" not in (a, b))


def part(module: str) -> str:
    """The part that a module belongs to: `detection.training.train` is in `training`, `data.files` in `data`."""
    top, _, rest = module.partition(".")
    return rest.partition(".")[0] or top if top == "detection" else top


def rows(edges: Edges) -> dict[str, int]:
    """Row of each part: one below the lowest of those that import it; parts that import none are in the last row.

    Raises:
        ValueError: parts that import one another in a circle.

    """
    row = dict.fromkeys(sorted({name for edge in edges for name in edge}), 0)
    for _ in row:
        before = dict(row)
        for upper, lower in sorted(edges):
            row[lower] = max(row[lower], row[upper] + 1)
        if row == before:
            importing = {upper for upper, _ in edges}
            return {name: row[name] if name in importing else max(row.values()) for name in row}
    raise ValueError(f"parts import one another in a circle: {sorted(edges)}")


def without_implied(edges: Edges) -> Edges:
    """The edges that do not follow from two or more others (transitive reduction)."""
    below: dict[str, set[str]] = {a: {b for c, b in edges if c == a} for a, _ in edges}

    def reaches(start: str, goal: str) -> bool:
        return any(name == goal or reaches(name, goal) for name in below.get(start, ()))

    return frozenset((a, b) for a, b in edges if not any(reaches(name, b) for name in below[a] - {b}))


def svg(edges: Edges) -> str:
    """The diagram as SVG."""
    row = rows(edges)
    levels = [sorted(name for name in row if row[name] == level) for level in range(max(row.values()) + 1)]
    middle = {
        name: (_WIDTH * (2 * place + 1) / (2 * len(level)), 44 + number * _ROW)
        for number, level in enumerate(levels)
        for place, name in enumerate(level)
    }
    arrows = [_arrow(middle[a], middle[b]) for a, b in sorted(without_implied(edges))]
    boxes = [_box(name, *middle[name]) for level in levels for name in level]
    height = 44 * 2 + (len(levels) - 1) * _ROW
    return "\n".join([_HEAD.format(width=_WIDTH, height=height), *arrows, *boxes, "</svg>", ""])


_HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" \
text-anchor="middle">
<title>Which part of Swath imports which</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">\
<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>
<rect width="{width}" height="{height}" fill="#fff"/>"""


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = start, (end[0], end[1] - _BOX_H / 2)
    if x1 != x2 and end[1] - start[1] > _ROW:  # past other rows: out of the box's side
        path = f"M{x1 + (_BOX_W / 2 if x2 > x1 else -_BOX_W / 2):g} {y1:g}Q{x2:g} {y1:g} {x2:g} {y2:g}"
    else:
        y1 += _BOX_H / 2
        bend = (y2 - y1) / 2
        path = f"M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}"
    return f'<path d="{path}" fill="none" stroke="#555" marker-end="url(#tip)"/>'


def _box(name: str, x: float, y: float) -> str:
    shade = {"runtime": "#c8e6c9", "swath": "#fff3e0"}.get(name, "#eceff1")
    folder = name if name in ("swath", "data") else f"detection/{name}"
    left, top = x - _BOX_W / 2, y - _BOX_H / 2
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{_BOX_W}" height="{_BOX_H}" rx="6" fill="{shade}" stroke="#777"/>'
        f'<text x="{x:g}" y="{y - 5:g}" font-size="15" font-weight="bold">{folder}</text>'
        f'<text x="{x:g}" y="{y + 16:g}" font-size="12" fill="#333">{_ABOUT.get(name, "")}</text>'
    )


if __name__ == "__main__":
    DIAGRAM.write_text(svg(imports()), encoding="utf-8")
