"""The public datasets that can be fetched by name: `registry.yaml`, read and checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from data.download.unpack import parts_of
from data.errors import DataError
from data.formats.kinds import FormatName

REGISTRY = Path(__file__).with_name("registry.yaml")

Licence = Literal["CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-4.0", "MIT", "Apache-2.0"]
"""Licences that permit every use, by their SPDX names: no set of the registry forbids commercial use."""

LICENCES: tuple[str, ...] = get_args(Licence)

_Https = Annotated[str, Field(pattern=r"^https://[^\s@]+$")]
_Inside = Annotated[str, AfterValidator(lambda path: "/".join(parts_of(path)) or ".")]
_Line = Annotated[str, Field(min_length=3, pattern=r"^[^\r\n]+$")]


class PublicSet(BaseModel):
    """A dataset on the web, with its licence and citation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", description="What the user types.")]
    title: _Line = Field(description="What it shows, in a line.")
    url: _Https = Field(description="The archive; pinned to a version wherever its host can.")
    file: Annotated[str, Field(pattern=r"^[\w.-]+\.(zip|tar|tar\.gz|tgz|tar\.bz2|tar\.xz)$")] = Field(
        description="The archive's name at a mirror."
    )
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        description="Of the archive; null where none is published."
    )
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        None, description="Of the archive, where that is the only published checksum."
    )
    size_bytes: Annotated[int, Field(gt=0)] | None = Field(None, description="Of the archive, where it is known.")
    licence: Licence = Field(description="SPDX name.")
    citation: _Line = Field(description="Authors, year, title, where it appeared.")
    homepage: _Https = Field(description="Its makers' page.")
    images: Annotated[int, Field(gt=0)] | None = Field(None, description="As its publisher counts them.")
    classes: _Line = Field(description="What is labelled.")
    format: FormatName | None = Field(description="How Swath reads it; null where it cannot.")
    datasets: tuple[_Inside, ...] = Field((".",), min_length=1, description="What to read, once it is unpacked.")
    note: str | None = Field(None, description="What a user should know before training on it.")
    verified: str = Field(min_length=20, description="Where these facts were read; what was not tried.")

    @property
    def checksum_kind(self) -> str | None:
        """The published checksum that is compared, "SHA-256" or "MD5"; None where none is published."""
        return "SHA-256" if self.sha256 else "MD5" if self.md5 else None


def read_registry(path: Path) -> Mapping[str, PublicSet]:
    """The sets of a registry file, by name, in its order.

    Raises:
        pydantic.ValidationError: an entry lacks a fact, or has one that is malformed.

    """
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    named = {name: {"name": name, **entry} for name, entry in entries.items()}
    return TypeAdapter(dict[str, PublicSet]).validate_python(named)


@cache
def public_sets() -> Mapping[str, PublicSet]:
    """The sets that Swath knows, by name."""
    return read_registry(REGISTRY)


def public_set(name: str) -> PublicSet:
    """The set called `name`.

    Raises:
        DataError: there is none; the line names the nearest.

    """
    known = public_sets()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower(), known, 1, 0.4)
    guess = f"did you mean {near[0]}?" if near else f"there is: {', '.join(known)}"
    raise DataError(f"{name}: no dataset of that name; {guess} (swath data fetch --list)")
