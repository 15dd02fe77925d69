"""Swath: from labelled field photos to an object detector that acts on a farm robot.

Everything that a program needs is here; a name is imported when it is first used, and only the training names
(`load_dataset`, `train`, `evaluate`, `export`) bring torch.

    import cv2
    from swath import Detector, JsonlOutput, open_source, run_stream

    detector = Detector("weeds.onnx")                     # a file that `swath export` wrote; needs no torch
    detections = detector(cv2.imread("field.jpg"))        # boxes_xyxy in pixels of the image, scores, labels
    for box_xyxy, score, label in zip(detections.boxes_xyxy, detections.scores, detections.labels):
        print(detector.class_names[label], box_xyxy, score)

    with open_source("rtsp://10.0.0.11/front") as camera, JsonlOutput("detections.jsonl") as output:
        run_stream(detector, [camera], [output])          # until Ctrl-C, or the camera is lost
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from swath._siblings import check_siblings

if TYPE_CHECKING:
    from data import DataError as DataError
    from data import Dataset as Dataset
    from data import load_dataset as load_dataset
    from detection.evaluation.evaluate import evaluate as evaluate
    from detection.export.export import export as export
    from detection.runtime import Detections as Detections
    from detection.runtime import Detector as Detector
    from detection.runtime import Frame as Frame
    from detection.runtime import FrameSlicer as FrameSlicer
    from detection.runtime import JsonlOutput as JsonlOutput
    from detection.runtime import StreamOptions as StreamOptions
    from detection.runtime import SwathError as SwathError
    from detection.runtime import VideoOutput as VideoOutput
    from detection.runtime import open_source as open_source
    from detection.runtime import run_stream as run_stream
    from detection.runtime.tracking.tracker import PlantTracker as PlantTracker
    from detection.training.train import train as train

_HOMES = {
    "DataError": "data",
    "Dataset": "data",
    "Detections": "detection.runtime",
    "Detector": "detection.runtime",
    "Frame": "detection.runtime",
    "FrameSlicer": "detection.runtime",
    "JsonlOutput": "detection.runtime",
    "PlantTracker": "detection.runtime.tracking.tracker",
    "StreamOptions": "detection.runtime",
    "SwathError": "detection.runtime",
    "VideoOutput": "detection.runtime",
    "evaluate": "detection.evaluation.evaluate",
    "export": "detection.export.export",
    "load_dataset": "data",
    "open_source": "detection.runtime",
    "run_stream": "detection.runtime",
    "train": "detection.training.train",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name != "__version__" and name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_siblings()
    return getattr(import_module(_HOMES.get(name, "detection")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
