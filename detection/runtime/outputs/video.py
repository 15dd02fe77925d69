"""The annotated video as an output; the work is `annotated_video`'s."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from detection.runtime.errors import OutputError
from detection.runtime.outputs.contract import Output, per_camera
from detection.runtime.outputs.kind import Flag, OutputContext, OutputKind
from detection.runtime.settings import HomePath


def _open(path: Path, context: OutputContext) -> Iterator[Output]:
    from detection.runtime.outputs.annotated_video import VideoOutput

    cameras = [source.camera for source in context.sources]
    paths = [path if len(cameras) == 1 else per_camera(path, camera) for camera in cameras]
    twice = next((each for place, each in enumerate(paths) if each in paths[:place]), None)
    if twice is not None:
        raise OutputError(f"{twice}: two sources would write it; give them other names")
    for source, own in zip(context.sources, paths, strict=True):
        yield VideoOutput(
            own,
            context.controls.detector.class_names,
            fps=source.fps,
            live=source.live,
            camera=source.camera,
            minutes=context.new_file_minutes,
        )


KIND = OutputKind(
    key="video",
    about="annotated MP4, one per camera",
    settings=HomePath,
    opens=_open,
    flags=(Flag("F", "An annotated MP4 per camera."),),
    example='"season/{date}-{time}.mp4"',
    writes=lambda path: [path],
)
