"""`swath stream`: its flags.

Heavy imports stand inside the command, so that `swath --help` answers at once.
"""

from __future__ import annotations

import atexit
import gc
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperArgument, TyperCommand

from detection.cli.help import example

EXAMPLE = example(
    "swath stream crop_weed.onnx drive.mp4 --jsonl found.jsonl --video seen.mp4 --track",
    "swath stream crop_weed.onnx rtsp://10.0.0.11/stream1 0 --dashboard 8080 --mqtt mqtt://broker/robot7",
    "swath stream --machine machine.yaml",
)
_CAMERAS, _FILES, _NETWORK, _LIMITS = "Cameras", "Files", "Network and people", "Limits"


class StreamCommand(TyperCommand):
    """`swath stream`, whose help lists the kinds of cameras; they are loaded when it is this command's turn."""

    def get_params(self, ctx: Any) -> Any:
        """Its parameters, SOURCE with the forms of all kinds."""
        from detection.runtime.cameras import source_forms

        parameters = super().get_params(ctx)
        for parameter in parameters:
            if isinstance(parameter, TyperArgument) and parameter.name == "sources":
                parameter.help = f"What to detect in: {escape(source_forms())}."
        return parameters


def stream(
    model: Annotated[
        Path | None, typer.Argument(help="The .onnx that swath export wrote.", metavar="MODEL", show_default=False)
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to detect in.",  # and how it is written: StreamCommand
            metavar="SOURCE...",
            show_default=False,
        ),
    ] = None,
    machine: Annotated[
        Path | None,
        typer.Option(metavar="YAML", help="A whole machine instead of MODEL and SOURCE: swath machine example."),
    ] = None,
    score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Report boxes from this score on, not the model's own.")
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="cpu, openvino, cuda, tensorrt, coreml or directml. An error if it is not live."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads of the network for one image: all cores; for recordings 1, several images at once.",
        ),
    ] = None,
    track: Annotated[bool, typer.Option("--track", help="Follow plants, number them, count each once.")] = False,
    speed_m_s: Annotated[
        float | None, typer.Option(help="Of driving, where it is known: helps --track on bare ground.")
    ] = None,
    pixels_per_metre: Annotated[float | None, typer.Option(help="On the ground; with --speed-m-s.")] = None,
    ground_moves: Annotated[
        str, typer.Option(help="In the image when driving forwards: down, up, left, right; with --speed-m-s.")
    ] = "down",
    roi: Annotated[
        str | None, typer.Option(metavar="X1,Y1,X2,Y2", help="Look at this part.", rich_help_panel=_CAMERAS)
    ] = None,
    tiles: Annotated[
        str,
        typer.Option(
            metavar="ROWSxCOLUMNS", help="Look at tiles one by one: small plants.", rich_help_panel=_CAMERAS
        ),
    ] = "1x1",
    max_fps: Annotated[
        float | None, typer.Option(help="Of each camera: take at most so many.", rich_help_panel=_CAMERAS)
    ] = None,
    transport: Annotated[str, typer.Option(help="Of RTSP: tcp or udp.", rich_help_panel=_CAMERAS)] = "tcp",
    jsonl: Annotated[
        Path | None,
        typer.Option(
            metavar="F", help="One JSON line per image; {date} in the name: a file a day.", rich_help_panel=_FILES
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="F", help="One row per detection; {date} as above.", rich_help_panel=_FILES),
    ] = None,
    events: Annotated[
        Path | None, typer.Option(metavar="F", help="One JSON line per event.", rich_help_panel=_FILES)
    ] = None,
    video: Annotated[
        Path | None, typer.Option(metavar="F", help="An annotated MP4 per camera.", rich_help_panel=_FILES)
    ] = None,
    mcap: Annotated[
        Path | None,
        typer.Option(metavar="F", help="Images, boxes and records for Foxglove.", rich_help_panel=_FILES),
    ] = None,
    video_minutes: Annotated[
        float | None,
        typer.Option(help="A new video and .mcap every so often; {time} in their names.", rich_help_panel=_FILES),
    ] = None,
    black_box: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep the seconds around faults, and uncertain images.", rich_help_panel=_FILES
        ),
    ] = None,
    dashboard: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="A page for a browser or a phone.", rich_help_panel=_NETWORK),
    ] = None,
    dashboard_token: Annotated[
        str | None,
        typer.Option(
            envvar="SWATH_DASHBOARD_TOKEN", help="Who opens it from elsewhere needs it.", rich_help_panel=_NETWORK
        ),
    ] = None,
    dashboard_record: Annotated[
        Path, typer.Option(metavar="DIR", help="Of the record button's videos.", rich_help_panel=_NETWORK)
    ] = Path("recordings"),
    mqtt: Annotated[
        str | None,
        typer.Option(metavar="URL", help="mqtt[s]://USER:PASSWORD@HOST:PORT/PREFIX?qos=1", rich_help_panel=_NETWORK),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="URL", help="POST finds and events there as JSON.", rich_help_panel=_NETWORK),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="[HOST:]PORT", help="A page for Prometheus.", rich_help_panel=_NETWORK)
    ] = None,
    ros2: Annotated[
        str | None,
        typer.Option(
            metavar="NODE", help="Publish vision_msgs/Detection2DArray; needs rclpy.", rich_help_panel=_NETWORK
        ),
    ] = None,
    max_age_ms: Annotated[
        float, typer.Option(min=1, help="Older live images are decided on no more.", rich_help_panel=_LIMITS)
    ] = 1000,
    batch_wait_ms: Annotated[
        float | None,
        typer.Option(
            min=0, help="Give the network several cameras' images at once, if it pays.", rich_help_panel=_LIMITS
        ),
    ] = None,
    duty_cycle: Annotated[
        float, typer.Option(min=0.01, max=1, help="Compute so much of the time.", rich_help_panel=_LIMITS)
    ] = 1,
    cool_below_c: Annotated[
        float | None, typer.Option(help="Compute less when it gets this hot.", rich_help_panel=_LIMITS)
    ] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after this many images.")] = None,
    log_json: Annotated[
        Path | None, typer.Option(metavar="F|-", help="Messages as JSON lines, without passwords.")
    ] = None,
    summary: Annotated[Path | None, typer.Option(metavar="F", help="Write the latency summary as JSON.")] = None,
) -> None:
    """Detect in cameras, videos or images, as the robot does. Needs no torch.

    Cameras that fail are opened again for ever. Ctrl-C ends it within a second, with whole files.
    """
    # The interpreter's last collections look at every object of every library: half a second of a busy robot's stop.
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    if machine is not None:
        if model is not None or sources:
            raise typer.BadParameter(
                "it names model and cameras itself: leave MODEL and SOURCE out", param_hint="--machine"
            )
        from detection.runtime.operations.machine_file import load_machine
        from detection.runtime.operations.run import run_machine

        loaded = load_machine(machine)
        code = run_machine(loaded.machine, redaction=loaded.redaction, max_frames=max_frames, json_summary=summary)
        raise typer.Exit(code)
    if model is None or not sources:
        raise typer.BadParameter(
            "name a model and a camera, video or folder (or --machine)", param_hint="MODEL SOURCE..."
        )
    from detection.cli.stream_machine import stream_command

    driving = {"speed_m_s": speed_m_s, "pixels_per_metre": pixels_per_metre, "direction": ground_moves}
    if not track and (speed_m_s is not None or pixels_per_metre is not None):
        raise typer.BadParameter("they help --track: add it", param_hint="--speed-m-s, --pixels-per-metre")
    outputs: dict[str, Any] = {
        "jsonl": jsonl,
        "csv": csv,
        "events": events,
        "video": video,
        "video_minutes": video_minutes,
        "mcap": mcap,
        "mqtt": mqtt,
        "webhook": webhook,
        "ros2": ros2,
        "metrics": None if metrics is None else _host_port(metrics, "--metrics"),
        "dashboard": None
        if dashboard is None
        else {"address": dashboard, "token": dashboard_token, "record_into": dashboard_record},
        "black_box": None if black_box is None else {"folder": black_box},
    }
    code = stream_command(
        model,
        sources,
        provider=provider,
        threads=threads,
        score=score,
        camera={
            "roi_xyxy": None if roi is None else _numbers(roi, ",", 4, "--roi", "X1,Y1,X2,Y2"),
            "tiles_rc": _numbers(tiles, "x", 2, "--tiles", "ROWSxCOLUMNS"),
            "max_fps": max_fps,
            "transport": transport,
        },
        limits={
            "max_age_ms": max_age_ms,
            "batch_wait_ms": batch_wait_ms,
            "duty_cycle": duty_cycle,
            "cool_below_c": cool_below_c,
        },
        outputs=outputs,
        tracking=driving if track else None,
        log=log_json,
        max_frames=max_frames,
        json_summary=summary,
    )
    raise typer.Exit(code)


def _numbers(text: str, separator: str, count: int, flag: str, form: str) -> tuple[int, ...]:
    parts = text.split(separator)
    if len(parts) != count or not all(part.strip().isdecimal() for part in parts):
        raise typer.BadParameter(f"{text!r} is not {form}, in whole numbers", param_hint=flag)
    return tuple(int(part) for part in parts)


def _host_port(text: str, flag: str) -> dict[str, Any]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal():
        raise typer.BadParameter(f"{text!r} is not PORT or HOST:PORT", param_hint=flag)
    return {"port": int(port), **({"host": host.strip("[]")} if host else {})}
