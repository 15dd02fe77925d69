"""Measure the stream: images a second from a video file to boxes, and the age of a camera's at the output.

    python scripts/bench/stream.py MODEL.onnx --images photos --out stream_bench

A 1080p H.264 video is made of the photos (a drive over them, 30 a second; needs the program ffmpeg), or given by
`--video`. Contestants run in processes of their own and take turns, all on the same threads and the same file:

- bare: the runtime's own call in a loop, its input ready in memory: what no stream can beat;
- bound: the same, while another thread decodes one image per call, which is all that sharing the cores leaves;
- swath: `run_stream`, alone, and with JSON lines written;
- loop: `cap.read()` and the same `Detector` in one loop; supervision: the same by its generator and `Detections`;
- ultralytics: `YOLO(onnx).predict(video, stream=True)`, of YOLO11n exported at the size whose graph takes as long as
  the model's (random weights; from an environment of its own, for this alone: AGPL).

Then a camera: another process sends MJPEG over HTTP with the time drawn into each image as black and white fields,
so that the age at the output is read from the pixels, by one clock, and not believed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from ultralytics_venv import ultralytics_env, ultralytics_python

WORKER = Path(__file__).with_name("stream_contestants.py")
SIZE_WH = (1920, 1080)
FPS = 30
YOLO_SIZES = (416, 448, 480, 512, 544, 576, 608, 640)
_EXPORT = """
import sys
from ultralytics import YOLO
for size in sys.argv[1:]:
    path = YOLO("yolo11n.yaml").export(format="onnx", imgsz=int(size), simplify=True)
    import os; os.replace(path, f"yolo11n_{size}.onnx")
"""


def main() -> None:
    """Parse the command line, make the video, let all take turns, then the camera; print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="what `swath export` wrote")
    parser.add_argument("--images", type=Path, help="a folder of photos that the video is made of")
    parser.add_argument("--video", type=Path, help="a video to take as it is")
    parser.add_argument("--out", type=Path, default=Path("stream_bench"))
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--frames", type=int, default=120, help="at a turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--live-fps", type=float, default=15, help="of the camera")
    parser.add_argument("--live-seconds", type=float, default=30)
    parser.add_argument("--skip-ultralytics", action="store_true")
    args = parser.parse_args()
    if (args.video is None) == (args.images is None):
        parser.error("give either --images or --video")
    args.out.mkdir(parents=True, exist_ok=True)
    video = args.video or make_video(args.images, args.out / "drive.mp4", args.frames * 3)
    job = {"model": str(args.model), "video": str(video), "threads": args.threads, "out": str(args.out)}
    jobs = [{**job, "kind": kind} for kind in ("bare", "bound", "swath", "swath_jsonl", "loop", "supervision")]
    if not args.skip_ultralytics:
        yolo = equal_yolo(args.model, args.out, args.threads)
        if yolo is not None:
            jobs += [{**job, "kind": "yolo_bare", **yolo}, {**job, "kind": "ultralytics", **yolo}]
    fps = in_turns(jobs, args.turns, args.frames)
    console = Console()
    console.print(fps_table(fps))
    live = camera(job, args.live_fps, args.live_seconds)
    console.print(live_table(live))
    (args.out / "stream.json").write_text(json.dumps({"fps": fps, "live": live}, indent=2) + "\n")


def make_video(images: Path, path: Path, frames: int) -> Path:
    """A drive over the photos, laid end to end: the view moves down by some pixels a frame."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise SystemExit("no program ffmpeg here to make the video with; give one by --video")
    files = sorted(p for p in images.iterdir() if p.suffix.lower() in {".jpg", ".png"})
    command = [ffmpeg, "-hide_banner", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24"]
    command += ["-s", f"{SIZE_WH[0]}x{SIZE_WH[1]}", "-r", str(FPS), "-i", "-", "-c:v", "libx264"]
    command += ["-preset", "medium", "-crf", "23", "-g", "30", "-pix_fmt", "yuv420p", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        strip = np.zeros((0, SIZE_WH[0], 3), np.uint8)
        number = 0
        for _ in track(range(frames), "making the video", console=Console(stderr=True), transient=True):
            while len(strip) < SIZE_WH[1] + 12:
                photo = cv2.imread(str(files[number % len(files)]))
                number += 1
                height = round(photo.shape[0] * SIZE_WH[0] / photo.shape[1])
                strip = np.concatenate([strip, cv2.resize(photo, (SIZE_WH[0], height))])
            encoder.stdin.write(strip[: SIZE_WH[1]].tobytes())
            strip = strip[12:]
        encoder.stdin.close()
    if encoder.returncode:
        raise SystemExit("ffmpeg failed")
    return path


def equal_yolo(model: Path, out: Path, threads: int) -> dict[str, Any] | None:
    """YOLO11n's ONNX at the size whose graph takes nearest to as long as the model's, timed in turns."""
    venv = out / "ultralytics"
    python, why = ultralytics_python(venv)
    if python is None:
        print(f"no Ultralytics: {why}", file=sys.stderr)
        return None
    missing = [str(s) for s in YOLO_SIZES if not (out / f"yolo11n_{s}.onnx").exists()]
    if missing:
        environment = ultralytics_env(venv.resolve())
        subprocess.run([python, "-c", _EXPORT, *missing], cwd=out, check=True, env=environment)
    graphs = {0: str(model), **{size: str(out / f"yolo11n_{size}.onnx") for size in YOLO_SIZES}}
    took = json.loads(
        subprocess.run(
            [sys.executable, str(WORKER), json.dumps({"kind": "graphs", "graphs": graphs, "threads": threads})],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    size = min(YOLO_SIZES, key=lambda s: abs(took[str(s)] - took["0"]))
    print(f"graphs alone: model {took['0']:.1f} ms, YOLO11n at {size} px {took[str(size)]:.1f} ms", file=sys.stderr)
    return {"yolo": graphs[size], "size": size, "python": python, "environment": ultralytics_env(venv.resolve())}


def in_turns(jobs: list[dict[str, Any]], turns: int, frames: int) -> dict[str, list[float]]:
    """Frames a second of each contestant, turn by turn; each begins with a video opened anew."""
    running = []
    for job in jobs:
        python, environment = job.pop("python", sys.executable), job.pop("environment", None)
        python = python if job["kind"] == "ultralytics" else sys.executable
        running.append(
            subprocess.Popen(
                [python, str(WORKER), json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment if job["kind"] == "ultralytics" else None,
            )
        )
    fps: dict[str, list[float]] = {job["kind"]: [] for job in jobs}
    try:
        for one in running:
            assert one.stdout is not None and one.stdout.readline().strip() == "ready"
        for turn in track(range(turns), "in turns", console=Console(stderr=True), transient=True):
            # who comes first changes, so that nobody always follows the same one
            order = list(range(len(jobs)))
            for at in order[turn % len(order) :] + order[: turn % len(order)]:
                print(frames, file=running[at].stdin, flush=True)
                fps[jobs[at]["kind"]].append(json.loads(running[at].stdout.readline()))
    finally:
        for one in running:
            one.stdin.close()
            one.wait(30)
    return fps


def fps_table(fps: dict[str, list[float]]) -> Table:
    """Medians, and the medians of the ratios turn by turn."""
    table = Table(title="images a second")
    for column in ("", "median", "to bare", "to bound", "to ultralytics"):
        table.add_column(column, justify="right")
    for kind, own in fps.items():
        ratios = [
            f"{statistics.median(a / b for a, b in zip(own, fps[other], strict=True)):.3f}" if other in fps else ""
            for other in ("bare", "bound", "ultralytics")
        ]
        table.add_row(kind, f"{statistics.median(own):.1f}", *ratios)
    return table


def camera(job: dict[str, Any], fps: float, seconds: float) -> dict[str, Any]:
    """What a live camera's images were, age by the pixels."""
    server = subprocess.Popen(
        [sys.executable, str(WORKER), json.dumps({"kind": "camera", "fps": fps, "video": job["video"]})],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        url = server.stdout.readline().strip()
        watcher = {**job, "kind": "watch", "url": url, "seconds": seconds, "fps": fps}
        command = [sys.executable, str(WORKER), json.dumps(watcher)]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    finally:
        server.stdin.close()
        server.wait(10)


def live_table(live: dict[str, Any]) -> Table:
    """Ages in ms, and the limit that they are held against."""
    table = Table(title=f"a camera of {live['fps']:g} images a second: age at the output, ms")
    for column in ("", "p50", "p95", "p99", "max"):
        table.add_column(column, justify="right")
    for name in ("age_by_pixels", "age_by_record", "infer"):
        table.add_row(name, *(f"{live[name][p]:.1f}" for p in ("p50", "p95", "p99", "max")))
    table.caption = (
        f"{live['frames']} images; limit of p99: 2 intervals + inference (p50) = {live['limit_ms']:.1f} ms; "
        f"dropped {live['dropped']}"
    )
    return table


if __name__ == "__main__":
    main()
