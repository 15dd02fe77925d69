"""`swath`: the commands. Each one parses, loads, calls and prints; the work is elsewhere.

Heavy imports stand inside the commands, so that `swath --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import detection
import detection.cli.fetch  # adds its command to data_app
from detection.cli.data import app as data_app
from detection.cli.data import example
from detection.cli.dataset_options import DatasetCommand
from detection.cli.evaluate import evaluate
from detection.cli.machine import REPLAY_EXAMPLE, replay
from detection.cli.machine import app as machine_app
from detection.cli.stream import STREAM_EXAMPLE, stream

app = typer.Typer(
    name="swath",
    help="From labelled field photos to an object detector on a farm robot.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(data_app, name="data")

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


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


@app.command(
    epilog=example(
        "swath train configs/crop_weed.yaml --out runs/crop_weed -s train.epochs=60",
        "swath train configs/crop_weed.yaml --dry-run",
        "swath train configs/crop_weed.yaml --find-lr",
    )
)
def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, one YAML.", metavar="RECIPE")],
    set_: Annotated[
        list[str], typer.Option("-s", "--set", metavar="KEY=VALUE", help="Change one key of the recipe.")
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="The run folder; runs/ and the recipe's name.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last.ckpt.")] = False,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Train nothing: find a learning rate, draw it in the run folder.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: say what the run would take, draw its first batch.")
    ] = False,
) -> None:
    """Fine-tune a detector on labelled images.

    Leaves a run: config.yaml, metrics.csv, TensorBoard events, best.safetensors, last.ckpt.
    """
    if find_lr + dry_run + resume > 1:
        raise typer.BadParameter("give one of --resume, --find-lr and --dry-run", param_hint="swath train")
    from detection.recipe.reading import load_recipe

    resolved = load_recipe(recipe, set_)
    run = out or Path("runs", recipe.stem)
    if find_lr or dry_run:
        from detection.cli.train import look_before

        look_before(resolved, run if find_lr else out, find_lr=find_lr)
        return
    from detection.cli.terminal import TerminalWatcher
    from detection.runtime.signals import stopped_by_signals
    from detection.training.train import train as run_training

    with stopped_by_signals() as stop, TerminalWatcher() as watcher:
        best = run_training(resolved, run, watcher=watcher, resume=resume, stop=stop)
    typer.echo(f"{best}")


app.command(
    cls=DatasetCommand,
    epilog=example(
        "swath evaluate runs/crop_weed photos/test/annotations.json --out report",
        "swath evaluate runs/old runs/new photos/test/annotations.json --by field",
    ),
)(evaluate)


@app.command(
    epilog=example(
        "swath export runs/crop_weed --out crop_weed.onnx",
        "swath export runs/crop_weed --out crop_weed.onnx --goal 'weed:crop-hits<=0.01'",
        "swath export runs/crop_weed --out crop_weed_int8.onnx --precision int8 --calibration photos/train",
    )
)
def export(
    run: Annotated[Path, typer.Argument(help="A run or its best.safetensors.", metavar="RUN")],
    out: Annotated[Path, typer.Option("--out", metavar="F.onnx", help="The model file to write.")],
    precision: Annotated[
        str, typer.Option(help="fp32; fp16 for GPUs and ARM; int8 for CPUs with VNNI and for accelerators.")
    ] = "fp32",
    calibration: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Images to calibrate int8 on; the run's training images if left out."),
    ] = None,
    goal: Annotated[
        list[str],
        typer.Option(
            metavar="[CLASS:]GOAL",
            help="What thresholds are to give on the validation images: f1, recall>=0.95, precision>=0.9, "
            "crop-hits<=0.01.",
        ),
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    crop: Annotated[
        list[str], typer.Option("--crop", metavar="NAME", help="A class that must not be hit; 'crop' if left out.")
    ] = [],  # noqa: B006
) -> None:
    """Write the deploy graph: one .onnx, compared with PyTorch, or refused.

    Leaves the .onnx, its .parity.json and its .reference.npz, which swath verify compares with.
    """
    from detection.evaluation.thresholds import Goal

    try:
        goals = [Goal.parse(text) for text in goal]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--goal") from None
    if precision not in ("fp32", "fp16", "int8"):
        raise typer.BadParameter(f"{precision!r} is none of fp32, fp16, int8", param_hint="--precision")
    if calibration and precision != "int8":
        raise typer.BadParameter("only --precision int8 is calibrated", param_hint="--calibration")
    if out.suffix != ".onnx":
        raise typer.BadParameter(f"{out} must end in .onnx", param_hint="--out")
    from data.formats import load_dataset
    from detection.cli.terminal import TerminalWatcher
    from detection.export.export import calibration_images, deploy_graph_of, parity_images
    from detection.export.export import export as write
    from detection.export.precision.lowering import Fp16, Int8, Lowering, said_of
    from detection.models.checkpoint import load_trained

    trained = load_trained(run)
    graph = deploy_graph_of(trained)  # says at once if there is none
    images, held_out = parity_images(trained, load_dataset)
    lower: Lowering | None = Fp16() if precision == "fp16" else None
    if precision == "int8":
        shown = load_dataset(calibration, split="train") if calibration else calibration_images(trained, load_dataset)
        lower = Int8(shown)
    with TerminalWatcher() as watcher:
        if not held_out:
            watcher.note("no validation split: compared on the training images; no metrics go into the file")
        report = write(
            trained,
            out,
            images=images,
            held_out=held_out,
            progress=watcher.progress,
            graph=graph,
            goals=goals,
            crops=crop,
            lower=lower,
        )
        for name, chosen in report["thresholds"].items():
            rate, verb = chosen["rate"], "reached" if chosen["reached"] else "NOT reached"
            watcher.note(
                f"{name}: threshold {chosen['threshold']:.3f}; {chosen['goal']} {verb} ({rate['count']} of "
                f"{rate['of']}, 95 % interval {rate['low']:.3f} to {rate['high']:.3f})"
            )
        for line in said_of(report):
            watcher.note(line)
    near = f"corners within {report['max_box_error_px']:.4f} px" if precision == "fp32" else report["agreement_means"]
    alike = report["boxes"] if precision == "fp32" else f"{report['agreement']:.1%} of {report['boxes']}"
    typer.echo(
        f"{out}: agrees with PyTorch on {alike} boxes of {report['images']} images "
        f"({near}, AP within {report['delta_ap_points']:.2f} points)"
    )


@app.command(
    epilog=example(
        "swath verify crop_weed.onnx", "swath verify crop_weed.onnx photos/val --provider cuda --json v.json"
    )
)
def verify(
    model: Annotated[Path, typer.Argument(help="The .onnx that swath export wrote.", metavar="MODEL")],
    dataset: Annotated[
        str | None,
        typer.Argument(help="The images that the export was checked on, for AP too.", metavar="DATASET"),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="cpu, openvino, cuda, tensorrt, coreml or directml. An error if it is not live."),
    ] = None,
    split: Annotated[str, typer.Option(help="Which part, where the dataset has parts: train, val, test.")] = "val",
    json_: Annotated[Path | None, typer.Option("--json", metavar="F", help="Write the outcome as JSON.")] = None,
) -> None:
    """Compare a model file with PyTorch's answers at its export, here and now. Needs no torch.

    Reads crop_weed.reference.npz beside crop_weed.onnx; only with DATASET the training half's packages are needed.

    Exits with 1 if a box differs, or if the file was changed since.
    """
    from detection.cli.verify import verify_command

    raise typer.Exit(verify_command(model, dataset, provider=provider, split=split, out=json_))


app.command(epilog=STREAM_EXAMPLE)(stream)
app.command(epilog=REPLAY_EXAMPLE)(replay)
app.add_typer(machine_app, name="machine")


@app.command(
    epilog=example(
        "swath bench crop_weed.onnx --source drive.mp4 --json bench.json",
        "swath bench fp32.onnx int8.onnx --provider cpu --provider openvino",
    )
)
def bench(
    models: Annotated[
        list[Path], typer.Argument(help="What swath export wrote; several are timed in turns.", metavar="MODEL...")
    ],
    source: Annotated[
        str | None,
        typer.Option(metavar="VIDEO", help="A video or images to detect in; made-up images if left out."),
    ] = None,
    provider: Annotated[
        list[str], typer.Option(help="cpu, openvino, cuda, ...; repeat it to compare. An error if it is not live.")
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    threads: Annotated[list[int], typer.Option(min=1, help="Threads of the network; repeat it to compare.")] = [],  # noqa: B006
    runs: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 200,
    seconds: Annotated[float, typer.Option(min=0, help="Begin no turn after so many seconds.")] = 120,
    cold_starts: Annotated[int, typer.Option(min=0, help="Processes started afresh, of each.")] = 3,
    camera_ahead_m: Annotated[float, typer.Option(help="From the view's foremost line to the nozzle.")] = 0.30,
    pulse_m: Annotated[float, typer.Option(help="Ground that one decision covers.")] = 0.10,
    valve_ms: Annotated[float, typer.Option(help="From the decision to the drop on the ground.")] = 15,
    exposure_ms: Annotated[float, typer.Option(help="Of the camera.")] = 0,
    fps: Annotated[
        float | None, typer.Option(help="Of the camera; as many as the detector asks for if left out.")
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", metavar="F", help="Write everything as JSON.")] = None,
) -> None:
    """Measure a model file here: start, every stage, batches, memory, and how fast a sprayer may drive with it.

    Needs no torch. Ctrl-C shows what was measured so far.
    """
    from detection.cli.bench import bench_command
    from detection.runtime.bench.safe_speed import Sprayer

    try:
        sprayer = Sprayer(camera_ahead_m, pulse_m, valve_ms, exposure_ms, fps)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="swath bench") from None
    code = bench_command(
        models,
        source=source,
        providers=provider,
        threads=threads,
        runs=runs,
        seconds=seconds,
        cold_starts=cold_starts,
        sprayer=sprayer,
        json_=json_,
    )
    raise typer.Exit(code)


@app.command(epilog=example("swath doctor", "swath doctor --provider cuda"))
def doctor(
    provider: Annotated[
        list[str], typer.Option(help="What must be live: cuda, tensorrt, openvino, ...; repeat it for more.")
    ] = [],  # noqa: B006  (typer reads it, nothing changes it)
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is really live here: wheels, cv2, execution providers, GPUs. Needs no torch.

    Exits with 1 where wheels overwrite one another, or a provider that was asked for does not run a graph.
    """
    import json

    from rich.console import Console

    from detection.cli.doctor import examine, render, to_json

    findings = examine(provider)
    if json_:
        typer.echo(json.dumps(to_json(findings), indent=2))
    else:
        Console().print(render(findings))
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


@app.command(epilog=example("swath demo --out demo"))
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where everything goes.")] = Path("demo"),
) -> None:
    """Render a field, train on it, evaluate, export and stream a drive along its rows.

    No network, no account, no GPU needed. Leaves metrics.json, model.onnx, report.html and stream/.
    """
    from detection.cli.demo import run_demo

    run_demo(out)


def _missing_extra(error: ModuleNotFoundError) -> str | None:
    """What to install, where a package of the training half is missing."""
    name = (error.name or "").partition(".")[0]
    ours = (
        "torch",
        "torchvision",
        "timm",
        "albumentations",
        "pycocotools",
        "lightning_fabric",
        "safetensors",
    )
    more = ("tensorboard", "onnx", "onnxscript", "PIL", "scipy", "imagehash", "sklearn", "defusedxml", "jinja2")
    return 'this command needs the training half: pip install "swath[train]"' if name in (*ours, *more) else None


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 failed or found problems, 2 wrong usage, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = ["--debug", *(a for a in arguments if a != "--debug")] if debug else arguments
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


if __name__ == "__main__":
    main()
