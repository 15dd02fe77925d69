"""`Recorder`: annotated videos on demand, one per camera."""

from __future__ import annotations

import logging
import queue
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detection.runtime.detections import Detections, Frame
from detection.runtime.errors import OutputError
from detection.runtime.events import Event, Listener
from detection.runtime.outputs.annotated_video import VideoOutput
from detection.runtime.outputs.contract import Record, per_camera

_log = logging.getLogger(__name__)

FREE_BYTES = 500_000_000
"""A recording ends when the disk has less room: a forgotten one must not use up the machine's space."""

# Images that wait for the encoder: 8 of 1080p are 50 MB.
_WAITING = 8
_CHECK_DISK_S = 1.0
_STOP_S = 10.0

_Item = tuple[Frame, Detections, Record]


class Recorder:
    """Annotates and writes in a separate thread; images that it has no time for are skipped and counted.

    Args:
        folder: for the videos; made when the first recording starts.
        class_names: by label.
        listener: receives events at start, end and failure.

    """

    def __init__(self, folder: Path, class_names: Sequence[str], listener: Listener) -> None:
        self._folder = folder
        self._class_names = class_names
        self._listener = listener
        self._lock = threading.Lock()
        self._run: _Run | None = None
        self._last: _Run | None = None

    def start(self) -> None:
        """Record from the next image on; without effect while it records.

        Raises:
            OutputError: no room on the disk, or the folder cannot be written.

        """
        with self._lock:
            if self._run is not None and self._run.is_alive():
                return
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                free = shutil.disk_usage(self._folder).free
            except OSError as error:
                raise OutputError(f"{self._folder}: cannot be written ({error.strerror})") from None
            if free < FREE_BYTES:
                raise OutputError(f"{self._folder}: only {free / 1e6:.0f} MB free, {FREE_BYTES / 1e6:.0f} are needed")
            self._run = self._last = _Run(self._folder, self._class_names, self._listener)
            self._run.start()

    def stop(self) -> None:
        """Finish the videos and wait for that; without effect where nothing is recorded."""
        with self._lock:
            run, self._run = self._run, None
            if run is not None:
                run.stop()

    def take(self, frame: Frame, detections: Detections, record: Record) -> None:
        """An image; returns at once."""
        run = self._run
        if run is not None:
            run.take((frame, detections, record))

    def to_json(self) -> dict[str, Any]:
        """Whether it records, for how long and where; else the last recording."""
        run = self._last
        if run is None:
            return {"on": False, "folder": str(self._folder.absolute()), "seconds": 0.0, "files": [], "images": 0,
                    "left_out": 0, "error": None}  # fmt: skip
        return {
            "on": run.is_alive(),
            "folder": str(self._folder.absolute()),
            "seconds": round(run.seconds, 1),
            "files": [path.name for path in run.files],
            "images": run.images,
            "left_out": run.left_out,
            "error": run.error,
        }


class _Run(threading.Thread):
    """One recording, from start to stop."""

    def __init__(self, folder: Path, class_names: Sequence[str], listener: Listener) -> None:
        super().__init__(name="dashboard-recorder", daemon=True)
        self._path = folder / time.strftime("%Y-%m-%d_%H-%M-%S.mp4")
        self._class_names = class_names
        self._listener = listener
        self._waiting: queue.Queue[_Item] = queue.Queue(_WAITING)
        self._stopping = threading.Event()
        self._started_s = time.monotonic()
        self._ended_s: float | None = None
        self.files: list[Path] = []
        self.images = 0
        self.left_out = 0
        self.error: str | None = None

    @property
    def seconds(self) -> float:
        return (self._ended_s or time.monotonic()) - self._started_s

    def take(self, item: _Item) -> None:
        if self._stopping.is_set():
            return
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            self.left_out += 1

    def stop(self) -> None:
        self._stopping.set()
        self.join(_STOP_S)

    def run(self) -> None:
        self._publish("started", f"into {self._path.parent}")
        videos: dict[str, VideoOutput] = {}
        try:
            self._write(videos)
        except OutputError as error:
            self.error = str(error)
        except Exception as error:  # nobody waits for this thread: publish it, and let the stream go on
            _log.exception("dashboard: recording failed")
            self.error = f"recording failed: {error}"
        finally:
            self._stopping.set()
            for video in videos.values():
                try:
                    video.close()
                except OutputError as error:
                    self.error = self.error or str(error)
        self._ended_s = time.monotonic()
        if self.error is None:
            self._publish("ended", f"{len(self.files)} videos in {self._path.parent}, {self.left_out} images skipped")
        else:
            _log.warning("%s", self.error)
            self._publish("failed", self.error)

    def _write(self, videos: dict[str, VideoOutput]) -> None:
        check_disk_s = time.monotonic()
        while True:
            try:
                item = self._waiting.get(timeout=0.1)
            except queue.Empty:
                if self._stopping.is_set():
                    return
                continue
            camera = item[0].camera
            if camera not in videos:
                path = self._free_path(camera)
                videos[camera] = VideoOutput(path, self._class_names, fps=None, live=True, camera=camera)
                self.files.append(path)
            videos[camera].write(*item)
            self.images += 1
            if time.monotonic() >= check_disk_s:
                check_disk_s = time.monotonic() + _CHECK_DISK_S
                if shutil.disk_usage(self._path.parent).free < FREE_BYTES:
                    raise OutputError(f"{self._path.parent}: recording ended, the disk is nearly full")

    def _free_path(self, camera: str) -> Path:
        """Two cameras whose names differ in what no file name may hold, or two recordings of one second."""
        path = wanted = per_camera(self._path, camera)
        count = 1
        while path in self.files or path.exists():
            count += 1
            path = wanted.with_stem(f"{wanted.stem}-{count}")
        return path

    def _publish(self, status: str, message: str) -> None:
        self._listener(Event("recording", "dashboard", status, message))
