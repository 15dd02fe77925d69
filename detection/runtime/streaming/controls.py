"""`Controls`: what may be changed while a stream runs: thresholds, and the model itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from detection.runtime.detector import Detector


class Controls:
    """The detector in force. The pipeline asks for it before each image, so a change falls between two.

    Args:
        detector: warmed up.

    """

    def __init__(self, detector: Detector) -> None:
        self._lock = threading.Lock()
        self._detector = detector

    @property
    def detector(self) -> Detector:
        """The detector that the next image goes to."""
        return self._detector

    def replace(self, detector: Detector) -> None:
        """Take another detector from the next image on; its thresholds come with it."""
        with self._lock:
            self._detector = detector

    @property
    def score_thresholds(self) -> tuple[float, ...]:
        """From which score on a box is reported, one per class."""
        return tuple(float(value) for value in self._detector.score_thresholds)

    def set_score_thresholds(self, score_thresholds: float | Sequence[float]) -> None:
        """Report boxes from these scores on, from the next image.

        Args:
            score_thresholds: one number for all classes, or one per class, 0 to 1.

        Raises:
            ValueError: another length than the classes, or a number outside 0 to 1.

        """
        with self._lock:
            self._detector.set_score_thresholds(score_thresholds)
