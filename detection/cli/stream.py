"""`swath stream`: its flags become a `Machine`, which is run in the terminal.

Heavy imports stand inside the command, so that `swath --help` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from detection.cli.help import example
from detection.cli.stream_flags import outputs_from_flags

if TYPE_CHECKING:
    from pydantic import ValidationError

    from detection.runtime.operations.machine_file import MachineError

EXAMPLE = example(
    "swath stream crop_weed.onnx drive.mp4 --jsonl found.jsonl --video seen.mp4 --track",
    "swath stream crop_weed.onnx rtsp://10.0.0.11/stream1 0 --dashboard 8080 --mqtt mqtt://broker/robot7",
    "swath stream --machine machine.yaml",
)
_CAMERAS, _FILES, _LIMITS = "Cameras", "Files", "Limits"


def stream(
    context: typer.Context,
    model: Annotated[
        Path | None, typer.Argument(help="The .onnx that swath export wrote.", metavar="MODEL", show_default=False)
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to detect in.",  # StreamCommand adds how it is written
            metavar="SOURCE...",
            show_default=False,
        ),
    ] = None,
    machine: Annotated[
        Path | None,
        typer.Option(metavar="YAML", help="A whole machine instead of MODEL and SOURCE: swath machine example."),
    ] = None,
    require_signed: Annotated[
        Path | None, typer.Option(metavar="PUBLIC.pem", help="Refuse a MODEL that is not signed with this key.")
    ] = None,
    score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Score threshold of all classes, instead of the model's own.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="cpu, openvino, cuda, tensorrt, coreml or directml. An error if it does not work here."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads of the network for one image: all cores; for recordings 1, several images at once.",
        ),
    ] = None,
    track: Annotated[bool, typer.Option("--track", help="Track plants, number them, count each once.")] = False,
    speed_m_s: Annotated[float | None, typer.Option(help="Driving speed: helps --track on bare ground.")] = None,
    pixels_per_metre: Annotated[
        float | None, typer.Option(help="Scale of the image on the ground; with --speed-m-s.")
    ] = None,
    ground_moves: Annotated[
        str, typer.Option(help="Where the ground moves in the image when driving forwards: down, up, left, right.")
    ] = "down",
    roi: Annotated[
        str | None,
        typer.Option(
            metavar="X1,Y1,X2,Y2",
            help="Region of interest in pixels: detect in this part of the image only.",
            rich_help_panel=_CAMERAS,
        ),
    ] = None,
    tiles: Annotated[
        str,
        typer.Option(
            metavar="ROWSxCOLUMNS",
            help="Detect in tiles, for small plants in large images.",
            rich_help_panel=_CAMERAS,
        ),
    ] = "1x1",
    max_fps: Annotated[
        float | None,
        typer.Option(min=0.01, help="Take at most so many images a second of each camera.", rich_help_panel=_CAMERAS),
    ] = None,
    transport: Annotated[str, typer.Option(help="Transport of RTSP: tcp or udp.", rich_help_panel=_CAMERAS)] = "tcp",
    video_minutes: Annotated[
        float | None,
        typer.Option(
            help="Begin a new video and .mcap after this time; needs {time} in their names.", rich_help_panel=_FILES
        ),
    ] = None,
    max_age_ms: Annotated[
        float, typer.Option(min=1, help="Drop live images that are older.", rich_help_panel=_LIMITS)
    ] = 1000,
    batch_wait_ms: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Wait this long for other cameras' images, to infer them together where that is faster.",
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    duty_cycle: Annotated[
        float,
        typer.Option(
            min=0.01, max=1, help="Fraction of the time that may be spent computing.", rich_help_panel=_LIMITS
        ),
    ] = 1,
    cool_below_c: Annotated[
        float | None,
        typer.Option(
            help="Compute less when the processor gets this hot, in degrees Celsius.", rich_help_panel=_LIMITS
        ),
    ] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many images.")] = None,
    log_json: Annotated[
        Path | None,
        typer.Option(metavar="F|-", help="Log messages as JSON lines, without passwords; - for the standard output."),
    ] = None,
    summary: Annotated[Path | None, typer.Option(metavar="F", help="Write counts and latencies as JSON.")] = None,
) -> None:
    """Detect in cameras, videos or images, as on the robot. Needs no torch.

    Cameras that fail are reopened until they are back. Ctrl-C ends it within a second; all files are complete.
    """
    # The interpreter's last garbage collections visit every object of every library: half a second of a busy robot's
    # stop.
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    if machine is not None:
        if model is not None or sources or require_signed is not None:
            raise typer.BadParameter(
                "the YAML has model and cameras: leave MODEL, SOURCE and --require-signed out", param_hint="--machine"
            )
        from detection.cli.stream_terminal import run_in_terminal
        from detection.runtime.operations.machine_file import load_machine

        loaded = load_machine(machine)
        code = run_in_terminal(loaded.machine, redaction=loaded.redaction, max_frames=max_frames, summary=summary)
        raise typer.Exit(code)
    if model is None or not sources:
        raise typer.BadParameter(
            "name a model and a camera, video or folder (or --machine)", param_hint="MODEL SOURCE..."
        )
    if not track and (speed_m_s is not None or pixels_per_metre is not None):
        raise typer.BadParameter("only with --track", param_hint="--speed-m-s, --pixels-per-metre")
    roi_xyxy = None if roi is None else _numbers(roi, ",", 4, "--roi", "X1,Y1,X2,Y2")
    tiles_rc = _numbers(tiles, "x", 2, "--tiles", "ROWSxCOLUMNS")
    from detection.runtime.cameras.settings import Transport

    if transport not in get_args(Transport):
        raise typer.BadParameter(
            f"{transport!r} is none of {', '.join(get_args(Transport))}", param_hint="--transport"
        )
    outputs = outputs_from_flags(context.obj, video_minutes=video_minutes)
    from pydantic import ValidationError

    from detection.cli.stream_terminal import run_in_terminal
    from detection.runtime.cameras.names import different
    from detection.runtime.cameras.sources import camera_name
    from detection.runtime.operations.machine import Machine

    camera = {"roi_xyxy": roi_xyxy, "tiles_rc": tiles_rc, "max_fps": max_fps, "transport": transport}
    names = different([camera_name(source) for source in sources])
    driving = {"speed_m_s": speed_m_s, "pixels_per_metre": pixels_per_metre, "direction": ground_moves}
    try:
        wanted = Machine.model_validate(
            {
                # a new file at the model's path is taken when the stream is started again
                "model": {
                    "path": model,
                    "provider": provider,
                    "threads": threads,
                    "score": score,
                    "watch": False,
                    "require_signed": require_signed,
                },
                "cameras": [{**camera, "name": n, "source": s} for n, s in zip(names, sources, strict=True)],
                "tracking": driving if track else None,
                "limits": {
                    "max_age_ms": max_age_ms,
                    "batch_wait_ms": batch_wait_ms,
                    "duty_cycle": duty_cycle,
                    "cool_below_c": cool_below_c,
                },
                "outputs": outputs,
                "log": log_json,
            }
        )
    except ValidationError as error:
        raise _in_flags(error) from None
    raise typer.Exit(run_in_terminal(wanted, max_frames=max_frames, summary=summary))


_FLAGS = {
    "roi_xyxy": "--roi",
    "tiles_rc": "--tiles",
    "direction": "--ground-moves",
    "path": "MODEL",
    "source": "SOURCE",
    "log": "--log-json",
}
"""Settings whose flags have other names; all others are spelled alike."""


def _in_flags(error: ValidationError) -> MachineError:
    """What is wrong with a setting, in terms of the flags that give it."""
    from detection.runtime.operations.machine import Machine
    from detection.runtime.operations.machine_file import MachineError
    from detection.runtime.operations.redaction import Redaction
    from detection.runtime.settings import explain

    lines = []
    for fault in error.errors():
        key, separator, message = explain(fault, Machine).partition(": ")
        key = key.rsplit(".", 1)[-1]
        if fault["loc"]:
            key = _FLAGS.get(key) or f"--{key.replace('_', '-')}"
        # settings that do not go together are named in the message
        lines.append(re.sub(r"\b[a-z]+(_[a-z]+)+\b", lambda found: f"--{found[0].replace('_', '-')}", message or key))
        if message:
            lines[-1] = f"{key}: {lines[-1]}"
    return MachineError(Redaction()("; ".join(dict.fromkeys(lines))))


def _numbers(text: str, separator: str, count: int, flag: str, form: str) -> tuple[int, ...]:
    parts = text.split(separator)
    if len(parts) != count or not all(part.strip().isdecimal() for part in parts):
        raise typer.BadParameter(f"{text!r} is not {form}, in whole numbers", param_hint=flag)
    return tuple(int(part) for part in parts)
