"""What an exported file is held against: PyTorch's answers to real and artificial images, and PyTorch's AP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.curves import Matches
from detection.evaluation.evaluate import Evaluation, evaluate
from detection.evaluation.intervals import differences, draw_groups
from detection.models.checkpoint import Trained
from detection.models.torch_detector import TorchDetector
from detection.runtime import letterbox as letterbox_rule
from detection.runtime.detector import Detector
from detection.runtime.letterbox import letterbox
from detection.runtime.parity.agreement import Agreement
from detection.runtime.parity.parity import ap_faults
from detection.runtime.parity.verify import Outcome, Reference, compare, pixels_digest

Progress = Callable[[str, int, int], None]
"""Called with (task, done, total)."""

_PARITY_IMAGES = 64  # compared box by box at most; AP is compared on all
_KEPT_IMAGES = 4  # of these so many stay beside the model, to be compared again elsewhere
_RESAMPLES = 400


@dataclass(frozen=True)
class Verdict:
    """How a file did.

    Attributes:
        outcome: boxes compared, on all images chosen for that.
        ap, aps: of the file, all objects and small ones; fractions, -1 where undefined.
        delta_points: by how much AP differs from PyTorch's, in hundredths, either way.
        chance_points: of that, what other images may have shown instead: down to the near end of the difference's
            95 % interval. 0 in float32, where boxes must be the same.
        small_fall_points: by how much that of small objects is lower; None where there are none.
        faults: why the file is refused, in words; none where it holds.

    """

    outcome: Outcome
    ap: float
    aps: float
    delta_points: float
    chance_points: float
    small_fall_points: float | None
    faults: tuple[str, ...]


class Proof:
    """Judges files by the same images.

    Args:
        trained: the detector.
        reference: the same, as PyTorch runs it.
        truth: what PyTorch reaches on labelled images, not none.
        progress: told of every comparison.

    Attributes:
        asked: what stays beside the model, of no file yet.

    """

    def __init__(
        self,
        trained: Trained,
        reference: TorchDetector,
        truth: Evaluation,
        progress: Progress | None = None,
    ) -> None:
        self._truth = truth
        self._progress = progress
        real = [image.read() for image in truth.dataset.spread(_PARITY_IMAGES).images]
        size_hw = trained.config.size_hw
        self.asked = _reference(reference, real, size_hw)
        self._inputs = [*self.asked.inputs_rgb, *(letterbox(image, size_hw)[0] for image in real)]
        self._answers = [*self.asked.answers, *(self.asked.seen[pixels_digest(image)] for image in real)]

    def judge(self, detector: Detector, task: str | None = None) -> Verdict:
        """Compare a file's detector, that gives every box, with PyTorch; `task` names it to `progress`."""

        def told(name: str) -> Callable[[int, int], None]:
            return lambda done, total: self._progress(task or name, done, total) if self._progress else None

        outcome = compare(detector, self._inputs, self._answers, told("box by box"))
        faults = [outcome.fault()]
        if isinstance(outcome, Agreement) and outcome.holds:
            # `swath verify` without a dataset has these few alone: they must hold by themselves
            faults.append(compare(detector, self.asked.inputs_rgb, self.asked.answers).fault())
        metrics = evaluate(detector, self._truth.dataset, progress=told("onnxruntime")).metrics
        own, pytorch = metrics.coco, self._truth.metrics.coco
        delta = 100 * abs(own["AP"] - pytorch["AP"])
        chance = self._chance_points(metrics.matches) if isinstance(outcome, Agreement) else 0.0
        small_fall = 100 * (pytorch["APs"] - own["APs"]) if pytorch["APs"] >= 0 else None
        faults += ap_faults(detector.metadata.precision, delta, small_fall, chance)
        return Verdict(outcome, own["AP"], own["APs"], delta, chance, small_fall, tuple(f for f in faults if f))

    def _chance_points(self, matches: Matches) -> float:
        # Image by image, not field by field: how numbers round in one tells nothing of its neighbour.
        each = [str(number) for number in range(len(self._truth.dataset))]
        drawn = draw_groups(each, _RESAMPLES, seed=0)
        return 100 * differences(self._truth.metrics.matches, matches, drawn)["AP"].by_chance


def _reference(detector: TorchDetector, images: Sequence[NDArray[np.uint8]], size_hw: tuple[int, int]) -> Reference:
    """What PyTorch answers to real images (BGR), a grey, a black, a white and a noise one; of no file yet."""
    noise = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    flat = [np.full((*size_hw, 3), level, np.uint8) for level in (letterbox_rule.PAD_VALUE, 0, 255)]
    kept = [letterbox(image, size_hw)[0] for image in images[:: -(-len(images) // _KEPT_IMAGES) or 1]]
    # real and artificial images mixed, so that a batch that confuses its images is caught
    inputs = (*flat, *kept, noise)
    return Reference(
        model_sha256="",
        inputs_rgb=inputs,
        answers=tuple(detector.on_inputs(one[None])[0] for one in inputs),
        seen={pixels_digest(p): detector.on_inputs(letterbox(p, size_hw)[0][None])[0] for p in images},
    )
