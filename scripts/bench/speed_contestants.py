"""One contestant of speed.py, in a process of its own: reads a number of calls, answers with milliseconds.

A library's threads go on spinning after a call; in one process they would slow whoever comes next.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.images import read_image
from detection.runtime import Detector

SCORE, IOU, MOST = 0.25, 0.7, 300  # Ultralytics' own defaults of predict: conf, iou, max_det


def main() -> None:
    """Load, warm up, then answer."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    cv2.setNumThreads(job["threads"])
    images = [read_image(Path(path)) for path in job["images"]]
    detect = swath(job) if job["kind"] == "swath" else Yolo(job)
    found = [len(detect(image)) for image in images]
    print(json.dumps({"found": sum(found) / len(found)}), flush=True)
    at = 0
    for line in sys.stdin:
        took = []
        for _ in range(int(line)):
            image = images[at % len(images)]
            at += 1
            start = time.perf_counter_ns()
            detect(image)
            took.append((time.perf_counter_ns() - start) / 1e6)
        print(json.dumps(took), flush=True)


def swath(job: dict[str, Any]) -> Callable[[Any], Any]:
    """The robot's own detector."""
    provider = {"onnxruntime": "cpu", "openvino": "openvino"}[job["backend"]]
    return Detector(job["model"], providers=[provider], threads=job["threads"])


class Yolo:
    """YOLO as its makers run their ONNX: LetterBox, the network, non_max_suppression where it is not in the graph.

    Written in numpy and OpenCV; theirs in torch cost more. YOLO26's graph ends in 300 boxes that need no suppression.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        if job["backend"] == "openvino":
            from detection.runtime.backends.openvino_backend import import_openvino

            openvino = import_openvino()
            # float32, as Swath's files: by default this library takes bfloat16 where the processor has it
            settings = {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32",
                "INFERENCE_NUM_THREADS": job["threads"],
            }
            request = openvino.Core().compile_model(job["model"], "CPU", settings).create_infer_request()
            self._run = lambda pixels: request.infer([pixels])[0]
        else:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = job["threads"]
            session = onnxruntime.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
            self._run = lambda pixels: session.run(None, {"images": pixels})[0]

    def __call__(self, image_bgr: Any) -> Any:
        """An image uint8 (H, W, 3) -> rows (N, 6) of xyxy in its pixels, score, class."""
        pixels, scale, (left, top) = letterboxed(image_bgr, 640)
        answer = self._run(pixels)[0]
        rows = answer[answer[:, 4] > SCORE] if answer.shape[-1] == 6 else suppressed(answer)
        rows[:, :4] = (rows[:, :4] - [left, top, left, top]) / scale
        height, width = image_bgr.shape[:2]
        rows[:, :4] = rows[:, :4].clip(0, [width, height, width, height])
        return rows


def letterboxed(image_bgr: Any, size: int) -> tuple[Any, float, tuple[int, int]]:
    """Ultralytics' LetterBox: centred, filled with 114, then RGB, channels first, 0 to 1, float32 (1, 3, S, S)."""
    height, width = image_bgr.shape[:2]
    scale = min(size / height, size / width)
    new_wh = round(width * scale), round(height * scale)
    if new_wh != (width, height):
        image_bgr = cv2.resize(image_bgr, new_wh, interpolation=cv2.INTER_LINEAR)
    left, top = (size - new_wh[0]) // 2, (size - new_wh[1]) // 2
    right, bottom = size - new_wh[0] - left, size - new_wh[1] - top
    image_bgr = cv2.copyMakeBorder(image_bgr, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    return cv2.dnn.blobFromImage(image_bgr, 1 / 255, swapRB=True), scale, (left, top)


def suppressed(answer: Any) -> Any:
    """(4 + C, A) of centre, size and class scores -> rows of what is kept, class by class."""
    scores = answer[4:].max(axis=0)
    sure = scores > SCORE
    boxes, scores, labels = answer[:4, sure].T, scores[sure], answer[4:, sure].argmax(axis=0)
    corner_wh = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)
    kept = np.array(cv2.dnn.NMSBoxesBatched(corner_wh, scores, labels, SCORE, IOU, top_k=MOST), int).reshape(-1)
    rows = np.concatenate([corner_wh, scores[:, None], labels[:, None]], axis=1)[kept]
    rows[:, 2:4] += rows[:, :2]
    return rows


if __name__ == "__main__":
    main()
