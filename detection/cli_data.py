"""`swath data ...`: the commands that look after labelled pictures.

Heavy imports stand inside the commands, so that `swath --help` answers at once.
"""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Look after labelled pictures: check, convert, split, preview, tile, fetch.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def example(*lines: str) -> str:
    """The end of a command's help: what one types."""
    return "[bold]Example[/bold]\n\n" + "\n\n".join(f"$ {line}" for line in lines)
