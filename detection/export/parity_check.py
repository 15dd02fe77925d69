"""The parity check of an export: a file's detector against PyTorch, on real and artificial images and by AP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.curves import Matches
from detection.evaluation.evaluate import evaluate
from detection.evaluation.evaluation import Evaluation
from detection.evaluation.intervals import differences, draw_groups
from detection.models.torch_detector import TorchDetector
from detection.runtime import letterbox as letterbox_rule
from detection.runtime.detector import Detector
from detection.runtime.letterbox import letterbox
from detection.runtime.parity.agreement import Agreement
from detection.runtime.parity.budgets import ap_faults
from detection.runtime.parity.reference import Reference, pixels_digest
from detection.runtime.parity.verify import Parity, compare

Progress = Callable[[str, int, int], None]
"""Called with (task, done, total)."""

_PARITY_IMAGES = 64  # compared box by box at most; AP is compared on all
_KEPT_IMAGES = 4  # of these, the number that stays beside the model, to be compared again elsewhere
_RESAMPLES = 400


@dataclass(frozen=True)
class CheckResult:
    """Outcome of the parity check of one file.

    Attributes:
        parity: comparison of the boxes.
        ap, aps: of the file, all objects and small ones; fractions, -1 where undefined.
        delta_points: absolute difference of its AP from PyTorch's, in hundredths.
        chance_points: the part of it that may be sampling error: down to the near end of the difference's 95 %
            interval. 0 in float32, where boxes must be the same.
        small_fall_points: by how much the AP of small objects is lower; None where there are none.
        faults: why the file is refused, one clause each; empty where it passed.

    """

    parity: Parity
    ap: float
    aps: float
    delta_points: float
    chance_points: float
    small_fall_points: float | None
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the file agrees with PyTorch."""
        return not self.faults

    def to_dict(self) -> dict[str, object]:
        """For the parity report."""
        fall = self.small_fall_points
        return {
            **self.parity.to_dict(),
            "ap_onnx": self.ap,
            "aps_onnx": self.aps,
            "delta_ap_points": round(self.delta_points, 4),
            "delta_ap_chance_points": round(self.chance_points, 4),
            "small_ap_fall_points": None if fall is None else round(fall, 4),
        }


class ParityCheck:
    """Checks files of one detector against PyTorch, always on the same images.

    Args:
        detector: as PyTorch runs it.
        evaluation: of that detector on labelled images, at least one.
        size_hw: height and width of the network's input in pixels.
        progress: called during every comparison.

    Attributes:
        reference: what stays beside the model; its `model_sha256` is empty.

    """

    def __init__(
        self,
        detector: TorchDetector,
        evaluation: Evaluation,
        size_hw: tuple[int, int],
        progress: Progress | None = None,
    ) -> None:
        self._evaluation = evaluation
        self._progress = progress
        real = [image.read() for image in evaluation.dataset.spread(_PARITY_IMAGES).images]
        self.reference = _reference(detector, real, size_hw)
        self._inputs = [*self.reference.inputs_rgb, *(letterbox(image, size_hw)[0] for image in real)]
        self._expected = [
            *self.reference.detections,
            *(self.reference.by_digest[pixels_digest(image)] for image in real),
        ]

    def __call__(self, detector: Detector, task: str | None = None) -> CheckResult:
        """Check a file.

        Args:
            detector: of the file, reporting every box (score thresholds 0).
            task: names the check for `progress`; None: its two stages by their own names.

        """

        def report(stage: str) -> Callable[[int, int], None]:
            return lambda done, total: self._progress(task or stage, done, total) if self._progress else None

        parity = compare(detector, self._inputs, self._expected, report("box by box"))
        faults = [parity.fault()]
        if isinstance(parity, Agreement) and parity.passed:
            # `swath verify` without a dataset has these few inputs alone: they must pass by themselves
            faults.append(compare(detector, self.reference.inputs_rgb, self.reference.detections).fault())
        metrics = evaluate(detector, self._evaluation.dataset, progress=report("onnxruntime")).metrics
        onnx, pytorch = metrics.coco, self._evaluation.metrics.coco
        delta = 100 * abs(onnx["AP"] - pytorch["AP"])
        chance = self._chance_points(metrics.matches) if isinstance(parity, Agreement) else 0.0
        small_fall = 100 * (pytorch["APs"] - onnx["APs"]) if pytorch["APs"] >= 0 else None
        faults += ap_faults(detector.metadata.precision, delta, small_fall, chance)
        return CheckResult(
            parity, onnx["AP"], onnx["APs"], delta, chance, small_fall, tuple(fault for fault in faults if fault)
        )

    def _chance_points(self, matches: Matches) -> float:
        # Image by image, not by field: how rounding turns out in one image is independent of its neighbours.
        groups = [str(number) for number in range(len(self._evaluation.dataset))]
        resamples = draw_groups(groups, _RESAMPLES, seed=0)
        return 100 * differences(self._evaluation.metrics.matches, matches, resamples)["AP"].by_chance


def _reference(detector: TorchDetector, images: Sequence[NDArray[np.uint8]], size_hw: tuple[int, int]) -> Reference:
    """PyTorch's detections of real images (BGR), and of a grey, a black, a white and a noise image."""
    noise = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    flat = [np.full((*size_hw, 3), level, np.uint8) for level in (letterbox_rule.PAD_VALUE, 0, 255)]
    kept = [letterbox(image, size_hw)[0] for image in images[:: -(-len(images) // _KEPT_IMAGES) or 1]]
    # real and artificial images mixed, so that a batch that mixes up its images is caught
    inputs = (*flat, *kept, noise)
    return Reference(
        model_sha256="",
        inputs_rgb=inputs,
        detections=tuple(detector.on_inputs(one[None])[0] for one in inputs),
        by_digest={pixels_digest(p): detector.on_inputs(letterbox(p, size_hw)[0][None])[0] for p in images},
    )
