"""Latency of graphs compared on this machine's CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

_WARM_UPS = 2


def median_ms(models: Sequence[onnx.ModelProto], image_rgb: NDArray[np.uint8], runs: int = 11) -> list[float]:
    """Median latency of each graph for one image, on onnxruntime's CPU provider with its default threads.

    The graphs take turns, so that other load on the machine affects all of them alike.

    Args:
        models: end-to-end graphs.
        image_rgb: uint8 (H, W, 3), letterboxed.
        runs: of each.

    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    sessions = [
        onnxruntime.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for m in models
    ]
    taken: list[list[float]] = [[] for _ in models]
    for turn in range(_WARM_UPS + runs):
        for session, times, model in zip(sessions, taken, models, strict=True):
            began = time.perf_counter()
            session.run(None, {model.graph.input[0].name: image_rgb[None]})
            if turn >= _WARM_UPS:
                times.append(1000 * (time.perf_counter() - began))
    return [statistics.median(times) for times in taken]
