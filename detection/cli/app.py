"""`swath`: the commands joined, and what `main` does with their errors."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import detection
import detection.cli.fetch  # adds its command to data.app
from detection.cli import bench, data, demo, doctor, evaluate, export, machine, replay, stream, train, verify
from detection.cli.compatibility import renamed
from detection.cli.stream_flags import StreamCommand

app = typer.Typer(
    name="swath",
    help="From labelled field photos to an object detector on a farm robot.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130

_TRAINING_HALF = frozenset(
    ("torch", "torchvision", "timm", "lightning_fabric", "safetensors", "tensorboard", "onnx", "onnxscript")
) | frozenset(("albumentations", "pycocotools", "PIL", "scipy", "imagehash", "sklearn", "defusedxml", "jinja2"))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"swath {detection.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    pass


# In the order in which `swath --help` shows them.
app.add_typer(data.app, name="data")
app.command(epilog=train.EXAMPLE)(train.train)
app.command(epilog=evaluate.EXAMPLE)(evaluate.evaluate)
app.command(epilog=export.EXAMPLE)(export.export)
app.command(epilog=verify.EXAMPLE)(verify.verify)
app.command(cls=StreamCommand, epilog=stream.EXAMPLE)(stream.stream)
app.command(epilog=replay.EXAMPLE)(replay.replay)
app.add_typer(machine.app, name="machine")
app.command(epilog=bench.EXAMPLE)(bench.bench)
app.command(epilog=doctor.EXAMPLE)(doctor.doctor)
app.command(epilog=demo.EXAMPLE)(demo.demo)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 failed or found problems, 2 wrong usage, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text, a terminal no UTF-8
    debug = "--debug" in arguments
    arguments = ["--debug", *(a for a in arguments if a != "--debug")] if debug else arguments
    arguments, notes = renamed(arguments)
    for note in notes:
        typer.echo(f"swath: {note}", err=True)
    # Decoders and TensorFlow-born loggers would bury the one clear line.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    try:
        app(arguments, prog_name="swath")
    except Exception as error:
        if debug:
            raise
        line = _one_line(error)
        if line is None:
            raise
        typer.echo(f"swath: {line}", err=True)
        sys.exit(FAILED)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # typer's way to say Ctrl-C; it prints nothing
            typer.echo("swath: interrupted", err=True)
        raise


def _one_line(error: Exception) -> str | None:
    """The message for the user; None where the error is a fault of Swath itself and deserves its traceback."""
    from detection.runtime.errors import SwathError

    # A robot has no packages to import `data` with; its errors exist only where it was imported already.
    data_errors = sys.modules.get("data.errors")
    if isinstance(error, SwathError) or (data_errors and isinstance(error, data_errors.DataError)):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return _missing_extra(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return None


def _missing_extra(error: ModuleNotFoundError) -> str | None:
    """What to install, where a package of the training half is missing."""
    package = (error.name or "").partition(".")[0]
    missing = package in _TRAINING_HALF
    return 'this command needs the training half: pip install "swath[train]"' if missing else None
