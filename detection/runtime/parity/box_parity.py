"""Box-by-box parity of two detectors: what every float32 file must show against PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.runtime.detections import Detections
from detection.runtime.parity.expected import Expected

BOX_TOLERANCE_PX = 0.05
"""Corners may differ by this many input pixels in float32: rounding, magnified by RetinaNet's exp().

Files of lower precision are compared by `detection.runtime.parity.agreement`."""

SCORE_TOLERANCE = 1e-3
"""Scores may differ by this much."""

BORDERLINE_SHARE = 0.01
"""Share of the boxes above their class's score threshold that may be borderline and differ; with more, the last bit
decides too often what a robot acts on."""

BORDERLINE_BOXES = 4
"""So many may differ in any case: two pairs that changed places."""


@dataclass
class BoxParity:
    """How far two detectors' boxes are apart, over all images compared.

    Attributes:
        score_thresholds: one per class, those in use; none: nothing is bounded.
        learned: whether the detector has learned something (`detection.runtime.parity.budgets.has_learned`): if not,
            any number of boxes may be borderline.
        images: compared.
        boxes: of the reference.
        max_box_error_px: largest distance of matched corners, in input pixels.
        max_score_error: largest difference of matched scores.
        borderline: boxes on one side only where the last bits decide, as the reference says.
        different: boxes on one side only, for no such reason.
        unfollowed: boxes on one side only, where the reference does not know what is borderline.
        malformed: outputs that break the graph's contract (order, padding, range).
        above: boxes of the reference at or above their score threshold, each image once, uniform ones left out.
        borderline_above: boxes at or above it among `borderline`, counted likewise.

    """

    score_thresholds: Sequence[float] = ()
    learned: bool = True
    images: int = 0
    boxes: int = 0
    max_box_error_px: float = 0.0
    max_score_error: float = 0.0
    borderline: int = 0
    different: int = 0
    unfollowed: int = 0
    malformed: int = 0
    above: int = 0
    borderline_above: int = 0

    @property
    def unmatched(self) -> int:
        """Boxes that count against parity."""
        return self.different + (self.unfollowed if self.unfollowed > BORDERLINE_SHARE * self.boxes else 0)

    @property
    def same(self) -> bool:
        """Whether all boxes are the same that are not borderline."""
        return self.unmatched == 0 and self.malformed == 0

    @property
    def too_borderline(self) -> str:
        """Whether too many boxes above the score thresholds were decided by the last bit: a clause, else empty."""
        if self.borderline_above <= max(BORDERLINE_BOXES, BORDERLINE_SHARE * self.above):
            return ""
        return (
            f"{self.borderline_above} boxes at or above the score thresholds, of {self.above}, differ where the last "
            "bits of scores decide: a detector whose scores are nearly equal"
        )

    @property
    def passed(self) -> bool:
        """Whether the two are the same detector."""
        return not self.fault()

    def add(self, expected: Expected, output: Detections, *, bounded: bool = True) -> None:
        """Compare the detections of one image, in input pixels.

        Two boxes match if label, corners and score agree within the tolerances; each is used once.

        Args:
            expected: of the detector that is right by definition.
            output: of the other.
            bounded: whether the image counts for what is bounded above the score thresholds.

        """
        reference = expected.detections
        self.images += 1
        self.boxes += len(reference)
        followed = expected.borderline is not None
        borderline = expected.borderline if expected.borderline is not None else np.zeros(len(reference), bool)
        free = np.ones(len(output), bool)
        # what must be there has the first choice
        missing = self._match(reference, np.flatnonzero(~borderline), output, free)
        gone = self._match(reference, np.flatnonzero(borderline), output, free)
        alternates, come = expected.alternates, free.copy()
        self._match(alternates, np.arange(len(alternates)), output, free, measured=False)
        come &= ~free
        lost = len(missing) + int(free.sum())
        if followed:
            self.different += lost
        else:
            self.unfollowed += lost
        self.borderline += len(gone) + int(come.sum())
        if bounded and len(self.score_thresholds):
            self.above += int(self._above(reference).sum())
            self.borderline_above += int(self._above(reference[np.array(gone, int)]).sum())
            self.borderline_above += int(self._above(output[come]).sum())

    def _above(self, found: Detections) -> NDArray[np.bool_]:
        thresholds = np.asarray(self.score_thresholds, np.float32)
        above: NDArray[np.bool_] = found.scores >= thresholds[found.labels]
        return above

    def _match(
        self,
        wanted: Detections,
        indices: NDArray[np.intp],
        output: Detections,
        free: NDArray[np.bool_],
        *,
        measured: bool = True,
    ) -> list[int]:
        """Give boxes of `output` that are free to those of `wanted`; returns the indices that got none."""
        alone: list[int] = []
        for index in indices:
            if not free.any():
                alone.append(int(index))
                continue
            box_error = np.abs(output.boxes_xyxy - wanted.boxes_xyxy[index]).max(axis=1, initial=0.0)
            score_error = np.abs(output.scores - wanted.scores[index])
            fits = (
                free
                & (output.labels == wanted.labels[index])
                & (box_error <= BOX_TOLERANCE_PX)
                & (score_error <= SCORE_TOLERANCE)
            )
            if not fits.any():
                alone.append(int(index))
                continue
            best = int(np.where(fits, box_error, np.inf).argmin())
            free[best] = False
            if measured:
                self.max_box_error_px = max(self.max_box_error_px, float(box_error[best]))
                self.max_score_error = max(self.max_score_error, float(score_error[best]))
        return alone

    def to_dict(self) -> dict[str, float | int]:
        """For the parity report."""
        return {
            "images": self.images,
            "boxes": self.boxes,
            "max_box_error_px": round(self.max_box_error_px, 6),
            "max_score_error": round(self.max_score_error, 8),
            "borderline_boxes": self.borderline + (0 if self.unmatched > self.different else self.unfollowed),
            "boxes_above_thresholds": self.above,
            "borderline_above_thresholds": self.borderline_above,
            "unmatched_boxes": self.unmatched,
            "malformed_outputs": self.malformed,
        }

    def fault(self) -> str:
        """What is wrong, in one clause; empty where it passed."""
        if self.same:
            return self.too_borderline if self.learned else ""
        return f"{self.unmatched} of {self.boxes} boxes differ from PyTorch's, {self.malformed} malformed outputs"

    def summary(self) -> str:
        """The largest differences, in one clause."""
        return f"corners within {self.max_box_error_px:.4f} px, scores within {self.max_score_error:.1e}"
