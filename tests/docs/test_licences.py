"""No GPL or AGPL in the chain, and the README says what is not permissive."""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from scripts.docs.licences import BEGIN, README, USED, Found, faults, found, here, paragraph, written


def test_nothing_in_the_chain_is_the_gpl_or_agpl_or_unknown() -> None:
    items = found([*USED, "docs", "dev"], here())
    assert {"numpy", "torch", "opencv-python", "pytest"} <= {item.package for item in items}
    assert faults(items) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other wheels bundle other libraries")
def test_the_readme_says_what_is_not_permissive() -> None:
    text = README.read_text(encoding="utf-8")
    assert BEGIN in text
    assert text == written(text, paragraph(found(USED, here()))), "run: python scripts/docs/licences.py --write"


@pytest.mark.parametrize(
    ("licence", "kind"),
    [
        ("GPL-3.0-or-later", "strong"),
        ("AGPL-3.0", "strong"),
        ("GNU Affero General Public License v3", "strong"),
        ("GNU General Public License v2 (GPLv2)", "strong"),
        ("GPL-2.0-only OR MIT", "permissive"),
        ("MIT AND GPL-2.0-only", "strong"),
        ("LGPL-3.0-or-later", "weak"),
        ("GNU Lesser General Public License v2 (LGPLv2)", "weak"),
        ("GPL-3.0 WITH GCC-exception-3.1", "weak"),
        ("EPL-2.0 OR BSD-3-Clause", "permissive"),
        ("LicenseRef-NVIDIA-Proprietary", "proprietary"),
        ("", "unknown"),
        ("see LICENSE", "unknown"),
    ],
)
def test_kinds(licence: str, kind: str) -> None:
    item = Found("p", "p", licence)
    assert item.kind == kind
    assert bool(faults([item])) == (kind in ("strong", "unknown"))


def test_a_package_or_a_bundled_library_under_the_gpl_is_found(tmp_path: Path) -> None:
    def planted(name: str, licence: str, *files: str) -> Distribution:
        home = tmp_path / f"{name.replace('-', '_')}-1.dist-info"
        home.mkdir()
        (home / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1\n{licence}\n")
        (home / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        return next(d for d in distributions(path=[str(tmp_path)]) if d.metadata["Name"] == name)

    installed = {
        "typer": planted("typer", "License-Expression: AGPL-3.0-only"),
        "numpy": planted("numpy", "License: BSD", "numpy.libs/libx264-9.so"),
        "rich": planted("rich", "Classifier: License :: OSI Approved :: MIT License"),
    }
    assert [line.split(":")[0] for line in faults(found([], installed))] == ["numpy", "typer"]
