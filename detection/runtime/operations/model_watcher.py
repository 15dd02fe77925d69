"""`ModelWatcher`: a new model file is loaded beside the old one, checked, and taken between two images."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from detection.runtime.closing import Closing
from detection.runtime.detector import Detector
from detection.runtime.errors import ModelFileError, SwathError
from detection.runtime.events import Event, Listener, ignore_event
from detection.runtime.metadata import ModelMetadata
from detection.runtime.parity.report import parity_fault
from detection.runtime.parity.verify import unpadded
from detection.runtime.streaming.controls import Controls

_log = logging.getLogger(__name__)
_TICK_S = 0.1
_LOOK_EVERY_S = 1.0

Thresholds = Callable[[ModelMetadata], float | Sequence[float] | None]
"""What a new file's thresholds are to be; None: its own. Raises ValueError where that cannot be."""


class ModelWatcher(Closing):
    """Watches a model's path, in a thread of its own.

    A file that was replaced (and then stood still for a second) is loaded, checked and warmed up while the old
    detector goes on. It is taken if its parity report passed and is its own, it finds the same classes, and it
    answers well-formed. Otherwise the old one goes on, and an event says why: kind "model", status "swapped" or
    "refused". A refused file is tried again when it changes, or when `ask` is called.

    Args:
        controls: of the stream; gets the new detector.
        path: what is watched.
        listener: is told of each try.
        providers, threads: as `Detector` takes them.
        thresholds: of a new detector; None: the file's own.
        other_classes: take files that find other classes, too.
        unverified: take files without a parity report that passed, too.
        watch: look at the path by itself; False: when `ask` is called only.

    """

    def __init__(
        self,
        controls: Controls,
        path: Path,
        *,
        listener: Listener = ignore_event,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        thresholds: Thresholds | None = None,
        other_classes: bool = False,
        unverified: bool = False,
        watch: bool = True,
    ) -> None:
        self.path = path
        self.swaps = 0
        self.refusals = 0
        self._controls = controls
        self._listener = listener
        self._providers = providers
        self._threads = threads
        self._thresholds = thresholds
        self._other_classes = other_classes
        self._unverified = unverified
        self._watch = watch
        self._asked = False
        self._closing = threading.Event()
        self._tried = self._seen = _signature(path)
        self._thread = threading.Thread(target=self._run, name="model watcher", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Look now, and load the file even if it is the same; from a signal handler or any thread."""
        self._asked = True  # no lock: a second signal may come while the first is handled

    def _run(self) -> None:
        looked_s = time.monotonic()
        while not self._closing.wait(_TICK_S):
            asked, self._asked = self._asked, False
            if not asked and (not self._watch or time.monotonic() - looked_s < _LOOK_EVERY_S):
                continue
            looked_s = time.monotonic()
            before, self._seen = self._seen, _signature(self.path)
            settled = self._seen == before and self._seen[0] is not None
            if asked or (settled and self._seen != self._tried):
                self._tried = self._seen
                self._try()

    def _try(self) -> None:
        """Load, check and take the file, or say why not."""
        try:
            detector = self._checked()
        except (SwathError, ValueError) as error:
            self._refuse(str(error))
        except Exception as error:  # whatever a library says of a broken file: the machine goes on
            _log.exception("%s: cannot be taken", self.path)
            self._refuse(f"{self.path}: cannot be loaded ({type(error).__name__})")
        else:
            if _signature(self.path) != self._tried:
                self._asked = not self._watch  # replaced once more meanwhile: the next look loads that one
                return
            self._controls.replace(detector)
            self.swaps += 1
            told = detector.metadata
            thresholds = ", ".join(
                f"{name} {value:.2f}"
                for name, value in zip(told.class_names, detector.score_thresholds.tolist(), strict=True)
            )
            message = f"now {told.preset}, {told.precision}, of dataset {told.dataset_fingerprint[:12]}; {thresholds}"
            self._listener(Event("model", str(self.path), "swapped", message))

    def _checked(self) -> Detector:
        running = self._controls.detector
        detector = Detector(self.path, providers=self._providers, threads=self._threads)
        told = detector.metadata
        if not self._unverified and (fault := parity_fault(self.path, told)):
            raise ModelFileError(fault)
        if not self._other_classes and told.class_names != running.class_names:
            new, old = ", ".join(told.class_names), ", ".join(running.class_names)
            raise ModelFileError(f"{self.path}: finds {new}, the running model {old}")
        if self._thresholds is not None:
            detector.set_score_thresholds(self._thresholds(told))
        detector.warm_up()
        noise = np.random.default_rng(0).integers(0, 256, (1, *told.input_size_hw, 3), dtype=np.uint8)
        if unpadded(detector.infer(noise), 0) is None:
            raise ModelFileError(f"{self.path}: gives a malformed answer here; swath verify says more")
        return detector

    def _refuse(self, why: str) -> None:
        self.refusals += 1
        self._listener(Event("model", str(self.path), "refused", why))

    def close(self) -> None:
        """Stop watching; safe to call twice. A model that is just being loaded is not waited for."""
        self._closing.set()
        self._thread.join(0.8)  # a machine is to stop within a second


@contextmanager
def asked_by_hangup(watcher: ModelWatcher) -> Iterator[None]:
    """While it lasts, SIGHUP (`systemctl reload`) makes the watcher look; elsewhere it does nothing."""
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: Any) -> None:
        watcher.ask()

    before = signal.signal(signal.SIGHUP, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


_Stat = tuple[int, int, int]


def _signature(path: Path) -> tuple[_Stat | None, _Stat | None]:
    """What tells that the model or its report was replaced; the first is None where no model is there."""
    return _stat(path), _stat(path.with_suffix(".parity.json"))


def _stat(path: Path) -> _Stat | None:
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_ino, told.st_size, told.st_mtime_ns
