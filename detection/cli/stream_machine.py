"""What `swath stream MODEL SOURCE...` does, without its command line: the flags become a `Machine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from detection.runtime.cameras.names import different
from detection.runtime.cameras.sources import camera_name
from detection.runtime.errors import SourceError
from detection.runtime.operations.machine import Machine
from detection.runtime.operations.machine_file import MachineError
from detection.runtime.operations.run import run_machine
from detection.runtime.settings import explain


def stream_command(
    model: Path,
    sources: Sequence[str],
    *,
    provider: str | None = None,
    threads: int | None = None,
    score: float | None = None,
    camera: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    tracking: Mapping[str, Any] | None = None,
    log: Path | None = None,
    max_frames: int | None = None,
    json_summary: Path | None = None,
) -> int:
    """Detect on all sources until they end or the user stops it; see `run_machine`.

    Args:
        model: the deploy graph.
        sources: what `open_source` takes, one or more; names are derived from them ("left", "left-2").
        provider: as `Detector` takes it ("openvino", "cuda", ...); None is onnxruntime on the CPU.
        threads: within one operator; None leaves it to the backend.
        score: threshold for all classes, 0 to 1; None takes the model's own per class.
        camera: keys of `MachineCamera` but `name` and `source`, the same for all sources.
        limits: keys of `Limits`.
        outputs: keys of `Outputs`.
        tracking: keys of `Tracking`; None does not track.
        log: JSON lines, "-" for the standard output.
        max_frames: stop after so many, over all sources; None for no limit.
        json_summary: gets the summary as JSON.

    Returns:
        0 where all went well (being stopped by the user is well), 1 where a source failed on the way.

    Raises:
        SwathError: model, source or output cannot be opened, an output cannot be written, or a setting makes
            no sense.

    """
    if not sources:
        raise SourceError("no source given: name a camera, URL, video or image folder")
    names = different([camera_name(source) for source in sources])
    content = {
        # one's own new file is taken as it is found when the stream is started again
        "model": {"path": model, "provider": provider, "threads": threads, "score": score, "watch": False},
        "cameras": [{**(camera or {}), "name": n, "source": s} for n, s in zip(names, sources, strict=True)],
        "limits": limits or {},
        "outputs": outputs or {},
        "tracking": tracking,
        "log": log,
    }
    try:
        machine = Machine.model_validate(content)
    except ValidationError as error:
        raise MachineError("; ".join(dict.fromkeys(explain(fault, Machine) for fault in error.errors()))) from None
    return run_machine(machine, max_frames=max_frames, json_summary=json_summary)
