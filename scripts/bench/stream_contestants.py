"""One contestant of stream.py, in a process of its own: reads a number of frames, answers with the rate."""

from __future__ import annotations

import http.server
import itertools
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

BITS = 40  # of the clock, in tenths of a millisecond
FIELD_PX = 24


def main() -> None:
    """Do what the job says."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    alone = {"graphs": graphs, "camera": serve_camera, "watch": watch}
    if job["kind"] in alone:
        alone[job["kind"]](job)
        return
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries say there is not an answer
    turn = CONTESTANTS[job["kind"]](job)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        frames = int(line)
        started = time.perf_counter()
        turn(frames)
        print(json.dumps(frames / (time.perf_counter() - started)), file=answers, flush=True)


def _detector(job: dict[str, Any]) -> Any:
    from detection.runtime import Detector

    detector = Detector(job["model"], threads=job["threads"])
    detector.warm_up(5)
    return detector


def bare(job: dict[str, Any]) -> Callable[[int], None]:
    """Its input is ready in memory."""
    detector = _detector(job)
    ready = [detector.prepare(image).pixels[None].copy() for image in images(job, 8)]
    run = detector.bare_run

    def turn(frames: int) -> None:
        for i in range(frames):
            run(ready[i % len(ready)])

    return turn


def bound(job: dict[str, Any]) -> Callable[[int], None]:
    """The same while another thread decodes an image per call, and does nothing with it."""
    run_bare = bare(job)

    def turn(frames: int) -> None:
        tokens: queue.Queue[None] = queue.Queue(2)

        def decode() -> None:
            capture = cv2.VideoCapture(job["video"], cv2.CAP_FFMPEG)
            for _ in range(frames):
                assert capture.read()[0]
                tokens.put(None)

        thread = threading.Thread(target=decode)
        thread.start()
        for _ in range(frames):
            tokens.get()
            run_bare(1)
        thread.join()

    return turn


def swath(job: dict[str, Any]) -> Callable[[int], None]:
    """The stream as `swath stream` runs it on a recording: one thread an image, several images at once."""
    from detection.runtime import StreamOptions, open_source, run_stream
    from detection.runtime.outputs.jsonl import JsonlOutput

    detector, options = _detector({**job, "threads": 1}), StreamOptions(workers=job["threads"])

    def turn(frames: int) -> None:
        with open_source(job["video"]) as source:
            if job["kind"] == "swath_jsonl":
                with JsonlOutput(Path(job["out"]) / "bench.jsonl") as output:
                    summary = run_stream(detector, [source], [output], options, max_frames=frames)
            else:
                summary = run_stream(detector, [source], [], options, max_frames=frames)
        assert summary.frames == frames

    return turn


def loop(job: dict[str, Any]) -> Callable[[int], None]:
    """What one writes first."""
    detector = _detector(job)

    def turn(frames: int) -> None:
        capture = cv2.VideoCapture(job["video"])
        for _ in range(frames):
            _, image = capture.read()
            detector(image)

    return turn


def by_supervision(job: dict[str, Any]) -> Callable[[int], None]:
    """Its frames generator and its detections."""
    import supervision

    detector = _detector(job)

    def turn(frames: int) -> None:
        generator = supervision.get_video_frames_generator(job["video"])
        for image in itertools.islice(generator, frames):
            detector(image).to_supervision()

    return turn


def yolo_bare(job: dict[str, Any]) -> Callable[[int], None]:
    """Its graph alone."""
    run = _graph(job["yolo"], job["threads"])

    def turn(frames: int) -> None:
        for _ in range(frames):
            run()

    return turn


def ultralytics(job: dict[str, Any]) -> Callable[[int], None]:
    """As its documentation says: predict with stream=True on the exported file."""
    import onnxruntime
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(job["threads"])
    options = onnxruntime.SessionOptions

    def as_many_threads() -> Any:  # it takes no number: told to the library instead, so that all have the same
        made = options()
        made.intra_op_num_threads = job["threads"]
        return made

    onnxruntime.SessionOptions = as_many_threads
    model = YOLO(job["yolo"], task="detect")

    def turn(frames: int) -> None:
        found = model.predict(job["video"], stream=True, imgsz=job["size"], device="cpu", verbose=False)
        for _ in itertools.islice(found, frames):
            pass
        found.close()

    turn(3)
    return turn


CONTESTANTS: dict[str, Callable[[dict[str, Any]], Callable[[int], None]]] = {
    "bare": bare,
    "bound": bound,
    "swath": swath,
    "swath_jsonl": swath,
    "loop": loop,
    "supervision": by_supervision,
    "yolo_bare": yolo_bare,
    "ultralytics": ultralytics,
}


def images(job: dict[str, Any], count: int) -> list[Any]:
    """The first frames of the video."""
    capture = cv2.VideoCapture(job["video"])
    return [capture.read()[1] for _ in range(count)]


def _graph(path: str, threads: int) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (first,) = session.get_inputs()
    shape = [n if isinstance(n, int) else 1 for n in first.shape]
    filled = np.full(shape, 114, np.uint8) if "uint8" in first.type else np.full(shape, 0.45, np.float32)
    return lambda: session.run(None, {first.name: filled})


def graphs(job: dict[str, Any]) -> None:
    """Median ms of each graph, in turns."""
    runs = {name: _graph(path, job["threads"]) for name, path in job["graphs"].items()}
    took: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(20):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if turn > 2:
                took[name].append((time.perf_counter() - started) * 1e3)
    print(json.dumps({name: float(np.median(ms)) for name, ms in took.items()}))


def draw_clock(image: Any) -> None:
    """The time as black and white fields along the top edge, the lowest bit first."""
    now = time.monotonic_ns() // 100_000
    for bit in range(BITS):
        image[:FIELD_PX, bit * FIELD_PX : (bit + 1) * FIELD_PX] = 255 if now >> bit & 1 else 0


def read_clock_ns(image: Any) -> int:
    """What `draw_clock` drew, from the fields' middles, so that JPEG may blur their edges."""
    middle = FIELD_PX // 2
    fields = image[middle, middle : BITS * FIELD_PX : FIELD_PX, 1]
    return sum(1 << bit for bit, level in enumerate(fields.tolist()) if level > 127) * 100_000


def serve_camera(job: dict[str, Any]) -> None:
    """MJPEG over HTTP on a free port, at a rate, until stdin closes."""
    stills = images(job, 12)
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            due = time.monotonic()
            for image in itertools.cycle(stills):
                if stop.is_set():
                    return
                due += 1 / job["fps"]
                time.sleep(max(0.0, due - time.monotonic()))
                draw_clock(image)
                jpeg = cv2.imencode(".jpg", image)[1].tobytes()
                try:
                    self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
                    self.wfile.write(jpeg + b"\r\n")
                except OSError:
                    return

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}/camera", flush=True)
    sys.stdin.read()
    stop.set()
    server.shutdown()


def watch(job: dict[str, Any]) -> None:
    """The stream on the camera; the age of each image at the output, by its record and by its pixels."""
    from detection.runtime import Detections, Frame, Output, open_source, run_stream
    from detection.runtime.outputs.contract import Record

    class Ages(Output):
        def __init__(self) -> None:
            self.by_pixels: list[float] = []
            self.by_record: list[float] = []
            self.infer: list[float] = []

        def write(self, frame: Frame, detections: Detections, record: Record) -> None:
            self.by_pixels.append((time.monotonic_ns() - read_clock_ns(frame.image)) / 1e6)
            self.by_record.append(record["age_ms"])
            self.infer.append(record["latency_ms"]["infer"])

        def close(self) -> None:
            pass

    detector, ages, stop = _detector(job), Ages(), threading.Event()
    with open_source(job["url"]) as source:
        threading.Timer(job["seconds"], stop.set).start()
        summary = run_stream(detector, [source], [ages], stop=stop)
    warm = 10

    def told(values: list[float]) -> dict[str, float]:
        kept = values[warm:]
        return {**{f"p{p}": float(np.percentile(kept, p)) for p in (50, 95, 99)}, "max": max(kept)}

    infer = told(ages.infer)
    told_all = {"age_by_pixels": told(ages.by_pixels), "age_by_record": told(ages.by_record), "infer": infer}
    limit_ms = 2e3 / job["fps"] + infer["p50"]
    print(
        json.dumps(
            {
                **told_all,
                "limit_ms": limit_ms,
                "frames": summary.frames,
                "dropped": summary.dropped,
                "fps": job["fps"],
            }
        )
    )


if __name__ == "__main__":
    main()
