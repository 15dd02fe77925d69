"""Tables of the docs that list what the code has: presets, effects, formats, findings, cameras, outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def table(name: str) -> str:
    """One of the tables as Markdown; a page asks for it by a line `<!-- table: NAME -->`.

    Raises:
        KeyError: there is none of this name.

    """
    return TABLES[name]()


def findings() -> str:
    """What `swath data check` finds, by severity."""
    from data.check.findings import KINDS

    return _rows(
        ("kind", "severity", ""), ((f"`{kind}`", severity, text) for kind, (severity, text) in KINDS.items())
    )


def formats() -> str:
    """The dataset formats: name, what is looked for, whether it is written."""
    from data.formats.kinds import KINDS

    return _rows(
        ("`--format`", "is", "recognised by", "written by `swath data convert`"),
        ((f"`{k.name}`", k.title, f"`{k.looked_for}`", "yes" if k.writes is not None else "no") for k in KINDS),
    )


def presets() -> str:
    """The presets by name, with a line about each."""
    from detection.models.presets import KINDS

    return _rows(("preset", "is"), ((f"`{preset.name}`", preset.title) for preset in KINDS))


def effects() -> str:
    """The augmentation effects in the order in which they are applied, with the settings that each brings along."""
    from data.augmentation.effects import KINDS

    return _rows(
        ("key of `augment`", "what it does", "applies to", "settings"),
        (
            (
                f"`augment.{effect.name}`",
                f"{effect.title}: {effect.caption}",
                effect.group,
                ", ".join(f"`augment.{name}`" for name in effect.settings.model_fields),
            )
            for effect in KINDS
        ),
    )


def cameras() -> str:
    """What can be a source of `swath stream`, in the order of recognition."""
    from detection.runtime.cameras import KINDS

    rows = (
        (f"`{kind.form}`" if ":" in kind.form else kind.form, "live" if kind.live else "recording") for kind in KINDS
    )
    return _rows(("written", "is read as"), rows)


def outputs() -> str:
    """Where `swath stream` writes: flag, key of a machine's YAML, what it is."""
    from detection.runtime.outputs import KINDS

    return _rows(
        ("flag", "machine key", "is", "needs"),
        (
            (
                f"`{kind.flags[0].option(kind.key)} {kind.flags[0].metavar}`" if kind.flags else "",
                f"`outputs.{kind.key}`",
                kind.about,
                f"`{kind.needs.install}`" if kind.needs else "",
            )
            for kind in KINDS
        ),
    )


def encodings() -> str:
    """The encodings of pixels in ROS and Foxglove messages."""
    from detection.runtime.cameras.encodings import ENCODINGS

    return _rows(("encodings of `sensor_msgs/Image` that are read",), ((", ".join(f"`{e}`" for e in ENCODINGS),),))


def _rows(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [titles, ("---",) * len(titles), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


TABLES: dict[str, Callable[[], str]] = {
    "cameras": cameras,
    "effects": effects,
    "encodings": encodings,
    "findings": findings,
    "formats": formats,
    "outputs": outputs,
    "presets": presets,
}
