"""`Controls`: what can be changed while a stream runs: score thresholds, and the model itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from detection.runtime.detector import Detector


class Controls:
    """The detector in use. The pipeline reads it before each image, so a change takes effect between two images.

    Args:
        detector: warmed up.

    """

    def __init__(self, detector: Detector) -> None:
        self._lock = threading.Lock()
        self._detector = detector

    @property
    def detector(self) -> Detector:
        """The detector for the next image."""
        return self._detector

    def replace(self, detector: Detector) -> None:
        """Use another detector, with its thresholds, from the next image on."""
        with self._lock:
            self._detector = detector

    @property
    def score_thresholds(self) -> tuple[float, ...]:
        """The score thresholds, one per class."""
        return tuple(float(value) for value in self._detector.score_thresholds)

    def set_score_thresholds(self, score_thresholds: float | Sequence[float]) -> None:
        """Change the score thresholds, from the next image on.

        Args:
            score_thresholds: one number for all classes, or one per class, 0 to 1.

        Raises:
            ValueError: another length than the classes, or a number outside 0 to 1.

        """
        with self._lock:
            self._detector.set_score_thresholds(score_thresholds)
