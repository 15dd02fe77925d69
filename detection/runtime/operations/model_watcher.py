"""`ModelWatcher`: loads a new model file beside the old one, checks it, and swaps it in between two images."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detection.runtime.closing import Closing
from detection.runtime.detector import Detector
from detection.runtime.errors import ModelFileError, SwathError
from detection.runtime.events import Event, Listener, ignore_event
from detection.runtime.operations.machine import MachineModel
from detection.runtime.parity.report import parity_fault
from detection.runtime.signing import signature_path
from detection.runtime.streaming.controls import Controls

_log = logging.getLogger(__name__)
_TICK_S = 0.1
_CHECK_EVERY_S = 1.0


class ModelWatcher(Closing):
    """Watches a model's path in its own thread.

    A file that was replaced (and then did not change for a second) is loaded, checked and warmed up while the old
    detector goes on. It is used if its parity report passed and belongs to it, it detects the same classes, and its
    outputs are well-formed. Otherwise the old one stays. An event of kind "model" has the status "swapped" or
    "refused", and the reason. A refused file is tried again when it changes, or when `reload` is called.

    Args:
        controls: of the stream; gets the new detector.
        model: path, provider, thresholds, and which new files are accepted.
        listener: receives an event for each attempt.

    """

    def __init__(self, controls: Controls, model: MachineModel, listener: Listener = ignore_event) -> None:
        self.path = model.path
        self.swaps = 0
        self.refusals = 0
        self._controls = controls
        self._model = model
        self._listener = listener
        self._requested = False
        self._closing = threading.Event()
        self._tried = self._seen = _seen_now(model.path)
        self._thread = threading.Thread(target=self._run, name="model watcher", daemon=True)
        self._thread.start()

    def reload(self) -> None:
        """Load the file now, even if it did not change; from a signal handler or any thread."""
        self._requested = True  # no lock: a second signal may come while the first is handled

    def _run(self) -> None:
        checked_s = time.monotonic()
        while not self._closing.wait(_TICK_S):
            requested, self._requested = self._requested, False
            if not requested and (not self._model.watch or time.monotonic() - checked_s < _CHECK_EVERY_S):
                continue
            checked_s = time.monotonic()
            before, self._seen = self._seen, _seen_now(self.path)
            settled = self._seen == before and self._seen[0] is not None
            if requested or (settled and self._seen != self._tried):
                self._tried = self._seen
                self._try()

    def _try(self) -> None:
        """Load, check and use the file, or publish why not."""
        try:
            detector = self._checked()
        except (SwathError, ValueError) as error:
            self._refuse(str(error))
        except Exception as error:  # a library may raise anything for a broken file: the machine goes on
            _log.exception("%s: cannot be used", self.path)
            self._refuse(f"{self.path}: cannot be loaded ({type(error).__name__})")
        else:
            if _seen_now(self.path) != self._tried:
                self._requested = not self._model.watch  # replaced once more meanwhile: the next check loads that one
                return
            self._controls.replace(detector)
            self.swaps += 1
            metadata = detector.metadata
            thresholds = ", ".join(
                f"{name} {value:.2f}"
                for name, value in zip(metadata.class_names, detector.score_thresholds.tolist(), strict=True)
            )
            message = (
                f"now {metadata.preset}, {metadata.precision}, of dataset {metadata.dataset_fingerprint[:12]}; "
                f"thresholds {thresholds}"
            )
            self._listener(Event("model", str(self.path), "swapped", message))

    def _checked(self) -> Detector:
        running = self._controls.detector
        self._model.check_signature()
        detector = Detector(self.path, providers=self._model.providers, threads=self._model.threads)
        metadata = detector.metadata
        if not self._model.unverified and (fault := parity_fault(self.path, metadata)):
            raise ModelFileError(fault)
        if not self._model.other_classes and metadata.class_names != running.class_names:
            new, old = ", ".join(metadata.class_names), ", ".join(running.class_names)
            raise ModelFileError(f"{self.path}: detects {new}; the running model detects {old}")
        detector.set_score_thresholds(self._model.thresholds(metadata.class_names, metadata.score_thresholds))
        detector.warm_up()
        return detector

    def _refuse(self, why: str) -> None:
        self.refusals += 1
        self._listener(Event("model", str(self.path), "refused", why))

    def close(self) -> None:
        """Stop watching; safe to call twice. Does not wait for a model that is being loaded."""
        self._closing.set()
        self._thread.join(0.8)  # a machine is to stop within a second


@contextmanager
def reloads_on_hangup(watcher: ModelWatcher) -> Iterator[None]:
    """Reload the model on SIGHUP (`systemctl reload`); does nothing where there are no such signals."""
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: Any) -> None:
        watcher.reload()

    before = signal.signal(signal.SIGHUP, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


_Stat = tuple[int, int, int]


def _seen_now(path: Path) -> tuple[_Stat | None, ...]:
    """Changes when the model, its report or its signature is replaced; the first is None where there is no model."""
    return _stat(path), _stat(path.with_suffix(".parity.json")), _stat(signature_path(path))


def _stat(path: Path) -> _Stat | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
