"""Decode a video to BGR images in memory by OpenCV and by PyAV: which one should read cameras and files.

    python scripts/bench/decode.py                  # makes a 1080p H.264 video with the program ffmpeg
    python scripts/bench/decode.py --video drive.mp4

PyAV is installed into an environment of its own, for this alone: its wheels carry GPL codecs. Both take turns, in a
process for each turn; the CPU time of the process counts where others use the machine too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

_OPENCV = """
import cv2, json, sys, time
path, threads = sys.argv[1], int(sys.argv[2])
capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads] if threads else [])
wall, cpu, images = time.perf_counter(), time.process_time(), 0
while capture.grab():
    images += capture.retrieve()[0]
"""
_PYAV = """
import av, json, sys, time
path, threads = sys.argv[1], int(sys.argv[2])
container = av.open(path)
stream = container.streams.video[0]
stream.thread_type = "NONE" if threads == 1 else "AUTO"
wall, cpu, images = time.perf_counter(), time.process_time(), 0
for frame in container.decode(stream):
    frame.to_ndarray(format="bgr24")
    images += 1
"""
_ANSWER = """
print(json.dumps([images, time.perf_counter() - wall, time.process_time() - cpu]))
"""


def main() -> None:
    """Parse the command line, make the video, take turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = args.video or make_video(Path(folder, "video.mp4"))
        contestants = [
            ("OpenCV, all cores", sys.executable, _OPENCV, 0),
            ("OpenCV, one thread", sys.executable, _OPENCV, 1),
        ]
        python = pyav_python(Path(folder, "pyav"))
        if python is not None:
            contestants += [("PyAV, AUTO", python, _PYAV, 0), ("PyAV, one thread", python, _PYAV, 1)]
        took: dict[str, list[tuple[float, float]]] = {name: [] for name, *_ in contestants}
        for _ in track(range(args.turns), "in turns", console=Console(stderr=True), transient=True):
            for name, interpreter, code, threads in contestants:
                command = [interpreter, "-c", code + _ANSWER, str(video), str(threads)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                images, wall_s, cpu_s = json.loads(done.stdout)
                took[name].append((cpu_s / images * 1e3, images / wall_s))
    table = Table(title=f"{images} images of {args.video or '1080p H.264, 6 Mbit/s'}, medians of {args.turns}")
    for column in ("", "CPU ms an image", "images a second"):
        table.add_column(column, justify="right")
    for name, own in took.items():
        cpu_ms, rate = (statistics.median(values) for values in zip(*own, strict=True))
        table.add_row(name, f"{cpu_ms:.1f}", f"{rate:.0f}")
    Console().print(table)


def make_video(path: Path) -> Path:
    """12 s of a test image with grain, 25 a second."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise SystemExit("no program ffmpeg here to make a video with; give one by --video")
    source = ["-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=25", "-vf", "noise=alls=8:allf=t", "-t", "12"]
    encoder = ["-c:v", "libx264", "-b:v", "6M", "-g", "50", "-pix_fmt", "yuv420p"]
    subprocess.run([ffmpeg, "-loglevel", "error", "-y", *source, *encoder, str(path)], check=True)
    return path


def pyav_python(venv: Path) -> str | None:
    """The interpreter of an environment with PyAV and numpy, or None where it cannot be had."""
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = str(venv / "bin" / "python")
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "av", "numpy"], capture_output=True, check=False
    )
    if done.returncode:
        print("no PyAV: it could not be installed", file=sys.stderr)
        return None
    return python


if __name__ == "__main__":
    main()
