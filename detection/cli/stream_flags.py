"""The flags of `swath stream` that are derived: those of its outputs, and the forms of SOURCE."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand

if TYPE_CHECKING:
    from detection.runtime.operations.machine import Outputs


class StreamCommand(TyperCommand):
    """`swath stream`, which knows the kinds of cameras and has the flags of all kinds of outputs.

    The kinds are loaded when it is this command's turn: `swath --help` does not wait for them. The command finds the
    values of the outputs' flags in the context's `obj`, by option name ("--dashboard-token").
    """

    _options: tuple[Any, ...] = ()

    @property
    def params(self) -> list[Any]:
        """Its own parameters, then those of the outputs; the list itself, as the parser changes it."""
        from detection.runtime.cameras import source_forms

        if not self._options:
            self._options = tuple(_output_options())
            self._params.extend(self._options)
            (sources,) = (parameter for parameter in self._params if parameter.name == "sources")
            sources.help = f"What to detect in: {escape(source_forms())}."
        return self._params

    @params.setter
    def params(self, own: list[Any]) -> None:
        self._params = own

    def invoke(self, ctx: Any) -> Any:
        """Run it, with the values of the outputs' flags in `ctx.obj`."""
        ctx.obj = {option.opts[0]: ctx.params.pop(option.name) for option in self._options}
        return super().invoke(ctx)


def _output_options() -> list[Any]:
    """The flags as typer makes them out of a function's signature."""
    from detection.runtime.outputs import KINDS

    def takes_all(**values: str | None) -> None:
        """Never called: typer reads its signature."""

    signature = []
    for kind in KINDS:
        for flag in kind.flags:
            name = flag.option(kind.key)
            option = typer.Option(
                name,
                metavar=flag.metavar,
                help=flag.help,
                envvar=flag.environment or None,
                rich_help_panel=kind.panel,
            )
            name = flag.option(kind.key)[2:].replace("-", "_")
            annotation = Annotated[str | None, option]
            signature.append(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            )
    takes_all.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    takes_all.__annotations__ = {parameter.name: parameter.annotation for parameter in signature}
    app = typer.Typer(add_completion=False)
    app.command()(takes_all)
    return list(typer.main.get_command(app).params)


def outputs_from_flags(given: Mapping[str, Any], **settings: Any) -> Outputs:
    """The outputs of a machine, from the flags of a command line.

    Args:
        given: values by option name; None where a flag was left out.
        settings: of the outputs together, such as `video_minutes`.

    Raises:
        BadParameter: a value that an output cannot use; the message names its flag.

    """
    from pydantic import ValidationError

    from detection.runtime.operations.machine import Outputs
    from detection.runtime.outputs import KINDS
    from detection.runtime.settings import explain

    wanted = {kind.key: kind.from_flags(given) for kind in KINDS}
    try:
        return Outputs.model_validate({**settings, **wanted})
    except ValidationError as error:
        fault = error.errors()[0]
        key, _, message = explain(fault, Outputs).partition(": ")
        output, _, field = key.partition(".")
        kind = next((kind for kind in KINDS if kind.key == output), None)
        options = [flag.option(output) for flag in kind.flags if flag.field == field] if kind else []
        if not options:  # one of the settings together, or a flag that gives several of an output's settings
            options = [kind.flags[0].option(output)] if kind else [f"--{output.replace('_', '-')}"]
        raise typer.BadParameter(message, param_hint=options[0]) from None
