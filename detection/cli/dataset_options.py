"""The options by which commands take a dataset, the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand

SPLITS = ("train", "val", "valid", "test")

FormatOption = Annotated[str, typer.Option("--format", help="The dataset's format: {formats}; auto recognises it.")]
UnlabelledOption = Annotated[
    str, typer.Option(help="What an image without a label file is: background, or not labelled yet: skip it.")
]
ImagesDirOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The images' folder, if outside of the dataset's own; trusted.")
]
PartOption = Annotated[str | None, typer.Option("--split", help="Only this split: train, val or test; else all.")]


class DatasetCommand(TyperCommand):
    """A command whose help lists the dataset formats, in place of {formats} and {writable}.

    They are filled in when the command is run or its help is shown, not when it is defined: naming them imports
    what reads them, which takes a moment and needs packages that a robot lacks.
    """

    def get_params(self, ctx: typer.Context) -> list[Any]:  # type: ignore[override]  # click's context, vendored
        """The parameters, their help complete."""
        from data.formats.kinds import FORMATS, WRITABLE

        for parameter in self.params:
            text = getattr(parameter, "help", None)
            if isinstance(text, str):
                text = text.replace("{formats}", ", ".join(FORMATS)).replace("{writable}", ", ".join(WRITABLE))
                parameter.help = text  # type: ignore[attr-defined]  # an option's, not every parameter's
        return list(super().get_params(ctx))


def reading(format: str, unlabelled: str, images_dir: Path | None, *, option: str = "--format") -> dict[str, Any]:
    """The keyword arguments of `load_dataset`; wrong usage where a word is unknown."""
    from data.formats.kinds import READABLE
    from data.formats.repair import Unlabelled

    return {
        "format": one_of(format, READABLE, option),
        "unlabelled": one_of(unlabelled, get_args(Unlabelled), "--unlabelled"),
        "images_dir": images_dir,
    }


def one_of(value: str, known: tuple[str, ...], option: str) -> Any:
    """The word of an option, or wrong usage."""
    if value not in known:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(known)}", param_hint=option)
    return value
