"""The robot half: images in, detections out. Needs neither torch nor anything of training.

from detection.runtime import Detector, open_source

detector = Detector("weeds.onnx")
with open_source("field.mp4") as source:
    for frame in source:
        detections = detector(frame.image)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detection.runtime.cameras.source import Source as Source
    from detection.runtime.cameras.sources import open_source as open_source
    from detection.runtime.detections import Detections as Detections
    from detection.runtime.detections import Frame as Frame
    from detection.runtime.detector import Detector as Detector
    from detection.runtime.errors import DeviceError as DeviceError
    from detection.runtime.errors import ModelFileError as ModelFileError
    from detection.runtime.errors import OutputError as OutputError
    from detection.runtime.errors import SourceError as SourceError
    from detection.runtime.errors import SwathError as SwathError
    from detection.runtime.metadata import ModelMetadata as ModelMetadata
    from detection.runtime.outputs.annotated_video import VideoOutput as VideoOutput
    from detection.runtime.outputs.contract import Output as Output
    from detection.runtime.outputs.jsonl import JsonlOutput as JsonlOutput
    from detection.runtime.streaming.options import StreamOptions as StreamOptions
    from detection.runtime.streaming.pipeline import run_stream as run_stream
    from detection.runtime.streaming.slices import FrameSlicer as FrameSlicer
    from detection.runtime.streaming.summary import StreamSummary as StreamSummary

# Resolved on first use: `swath --help` must not wait for cv2 and onnxruntime.
_HOMES = {
    "Detections": "detections",
    "Frame": "detections",
    "Detector": "detector",
    "DeviceError": "errors",
    "ModelFileError": "errors",
    "OutputError": "errors",
    "SourceError": "errors",
    "SwathError": "errors",
    "ModelMetadata": "metadata",
    "JsonlOutput": "outputs.jsonl",
    "Output": "outputs.contract",
    "VideoOutput": "outputs.annotated_video",
    "Source": "cameras.source",
    "open_source": "cameras.sources",
    "FrameSlicer": "streaming.slices",
    "StreamOptions": "streaming.options",
    "StreamSummary": "streaming.summary",
    "run_stream": "streaming.pipeline",
}

__all__ = list(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
