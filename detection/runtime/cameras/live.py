"""`LiveSource`: a camera read by its own thread into a mailbox with one slot, newest wins."""

from __future__ import annotations

import logging
import threading
import time

import cv2

from detection.runtime.cameras.capture import READ_TIMEOUT_S, Capture
from detection.runtime.cameras.source import Source
from detection.runtime.detections import Frame
from detection.runtime.errors import SourceError

_log = logging.getLogger(__name__)
_GRACE_S = 2.0
"""What the reader may take beyond its own timeout before it is given up."""


class Mailbox:
    """One slot between a reader thread and a consumer: a new frame replaces one that nobody took.

    Attributes:
        dropped: how many frames were replaced untaken.

    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._error: Exception | None = None
        self.dropped = 0

    def put(self, frame: Frame) -> None:
        """Leave a frame; an untaken one is dropped and counted."""
        with self._changed:
            self.dropped += self._frame is not None
            self._frame = frame
            self._changed.notify()

    def fail(self, error: Exception) -> None:
        """Leave the reason why no more frames come; what lies in the slot can still be taken."""
        with self._changed:
            self._error = error
            self._changed.notify()

    def take(self, timeout_s: float) -> Frame | Exception | None:
        """The frame, else the error, else None after `timeout_s` seconds without either."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._error is not None, timeout_s)
            frame, self._frame = self._frame, None
            return self._error if frame is None else frame


class LiveSource(Source):
    """A camera or network stream. Pictures are stamped when the grab returns.

    A thread reads as fast as the camera delivers, so that no queue of old pictures builds up in
    the driver or on the network. A camera does not end: when it stops delivering, that is an error.

    Args:
        capture: opened; the thread is the only one to use and release it.
        camera: its name in outputs and messages.
        read_timeout_s: how long one picture may take before the camera counts as dead.

    """

    live = True
    length = None

    def __init__(self, capture: Capture, camera: str, *, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        self.camera = camera
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else None
        self.unreadable = 0
        self.ended = False
        self._dead_after_s = read_timeout_s + _GRACE_S
        self._mailbox = Mailbox()
        self._stop = threading.Event()
        self._last_seen_s = time.monotonic()
        self._thread = threading.Thread(target=self._read, args=(capture,), name=f"read {camera}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:  # type: ignore[override] # read-only: the mailbox counts
        """Pictures that were overtaken by a newer one before anybody took them."""
        return self._mailbox.dropped

    def _read(self, capture: Capture) -> None:
        """The thread: read until told to stop; whatever goes wrong reaches the consumer."""
        index = 0
        try:
            while not self._stop.is_set():
                if not capture.grab():
                    raise SourceError(f"{self.camera}: no more pictures after {index}; camera or network down?")
                captured_ns = time.monotonic_ns()
                readable, image = capture.retrieve()
                self._last_seen_s = time.monotonic()
                if readable:
                    self._mailbox.put(Frame(image, self.camera, index, captured_ns))
                else:
                    self.unreadable += 1
                index += 1
        except Exception as error:
            self._mailbox.fail(error)
        finally:
            capture.release()

    def poll(self, timeout_s: float) -> Frame | None:
        """The newest picture that was not taken yet; waits up to `timeout_s` seconds for one.

        Raises:
            SourceError: the camera stopped delivering, or its thread failed or hangs.

        """
        if self.ended:
            return None
        found = self._mailbox.take(timeout_s)
        if isinstance(found, Frame):
            return found
        if found is not None:
            self.ended = True
            if isinstance(found, SourceError):
                raise found
            raise SourceError(f"{self.camera}: reading failed ({found})") from found
        silent_s = time.monotonic() - self._last_seen_s
        if silent_s > self._dead_after_s:
            self.ended = True
            raise SourceError(f"{self.camera}: no picture for {silent_s:.0f} s; camera or network down?")
        return None

    def close(self) -> None:
        """Stop the thread and wait for it, as long as one picture may take at most."""
        self.ended = True
        self._stop.set()
        self._thread.join(self._dead_after_s)
        if self._thread.is_alive():
            _log.warning("%s: the camera's driver does not answer; its thread is left behind", self.camera)
