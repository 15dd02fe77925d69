"""The parity check of an export: a file's detector against PyTorch, on real and artificial images and by AP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from detection.evaluation.curves import Matches
from detection.evaluation.evaluate import evaluate
from detection.evaluation.evaluation import Evaluation
from detection.evaluation.intervals import differences, draw_groups
from detection.export.parity.graph_check import GraphParity, check_graph, side_of
from detection.models.torch_detector import TorchDetector
from detection.runtime import letterbox as letterbox_rule
from detection.runtime.detector import Detector
from detection.runtime.letterbox import letterbox
from detection.runtime.parity.agreement import Agreement
from detection.runtime.parity.budgets import ap_faults, has_learned
from detection.runtime.parity.expected import Expected
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
        delta_points: absolute difference of its AP from PyTorch's, in hundredths; None where AP is undefined, the
            images have no boxes.
        chance_points: the part of it that may be sampling error: down to the near end of the difference's 95 %
            interval. 0 in float32, where boxes must be the same; None where AP is undefined.
        small_fall_points: by how much the AP of small objects is lower; None where there are none.
        faults: why the file is refused, one clause each; empty where it passed.

    """

    parity: Parity
    ap: float
    aps: float
    delta_points: float | None
    chance_points: float | None
    small_fall_points: float | None
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the file agrees with PyTorch."""
        return not self.faults

    def to_dict(self) -> dict[str, object]:
        """For the parity report."""

        def rounded(points: float | None) -> float | None:
            return None if points is None else round(points, 4)

        return {
            **self.parity.to_dict(),
            "ap_onnx": self.ap,
            "aps_onnx": self.aps,
            "delta_ap_points": rounded(self.delta_points),
            "delta_ap_chance_points": rounded(self.chance_points),
            "small_ap_fall_points": rounded(self.small_fall_points),
        }


class ParityCheck:
    """Checks files of one detector against PyTorch, always on the same images.

    A float32 graph is taken apart first (`check_parts`), which also tells what is borderline in PyTorch's detections;
    then its files, and those of lower precision made from it, are compared as a whole.

    Args:
        detector: as PyTorch runs it.
        evaluation: of that detector on labelled images, at least one.
        progress: called during every comparison.

    """

    def __init__(self, detector: TorchDetector, evaluation: Evaluation, progress: Progress | None = None) -> None:
        self._evaluation = evaluation
        self._progress = progress
        self._side = side_of(detector)
        self._learned = has_learned(evaluation.metrics.coco["AP"])
        size_hw = detector.size_hw
        self._digests: list[str] = []
        real = []
        for image in evaluation.dataset.spread(_PARITY_IMAGES).images:
            pixels = image.read()
            self._digests.append(pixels_digest(pixels))
            real.append(letterbox(pixels, size_hw)[0])
        self._kept = _kept_inputs(real, size_hw)
        self._inputs = [*self._kept, *real]
        self._expected: list[Expected] = []

    @property
    def inputs_rgb(self) -> Sequence[NDArray[np.uint8]]:
        """What files are compared on, uint8 (H, W, 3) each."""
        return self._inputs

    @property
    def reference(self) -> Reference:
        """What stays beside the model, after `check_parts`; its `model_sha256` is empty."""
        kept = len(self._kept)
        by_digest = dict(zip(self._digests, self._expected[kept:], strict=True))
        return Reference("", tuple(self._kept), tuple(self._expected[:kept]), by_digest)

    def check_parts(self, model: onnx.ModelProto) -> GraphParity:
        """Check the network and the postprocessing of the float32 graph, each by itself."""
        result, self._expected = check_graph(model, self._side, self._inputs, self._report("its parts"))
        return result

    def __call__(self, detector: Detector, task: str | None = None) -> CheckResult:
        """Check a file, after `check_parts` of the float32 graph.

        Args:
            detector: of the file, reporting every box (score thresholds 0).
            task: names the check for `progress`; None: its two stages by their own names.

        """
        learned = self._learned
        compared = self._inputs, self._expected
        parity = compare(detector, *compared, self._report(task or "box by box"), learned=learned)
        faults = [parity.fault()]
        if isinstance(parity, Agreement) and parity.passed:
            # `swath verify` without a dataset has these few inputs alone: they must pass by themselves
            faults.append(compare(detector, self._kept, self._expected[: len(self._kept)]).fault())
        progress = self._report(task or "onnxruntime")
        metrics = evaluate(detector, self._evaluation.dataset, progress=progress).metrics
        found, pytorch = metrics.coco, self._evaluation.metrics.coco
        delta = 100 * abs(found["AP"] - pytorch["AP"]) if pytorch["AP"] >= 0 else None
        chance = self._chance_points(metrics.matches) if isinstance(parity, Agreement) else 0.0
        chance = None if delta is None else chance
        small_fall = 100 * (pytorch["APs"] - found["APs"]) if pytorch["APs"] >= 0 else None
        faults += ap_faults(detector.metadata.precision, delta, small_fall, chance)
        return CheckResult(
            parity, found["AP"], found["APs"], delta, chance, small_fall, tuple(fault for fault in faults if fault)
        )

    def _report(self, task: str) -> Callable[[int, int], None]:
        return lambda done, total: self._progress(task, done, total) if self._progress else None

    def _chance_points(self, matches: Matches) -> float | None:
        # Image by image, not by field: how rounding turns out in one image is independent of its neighbours.
        groups = [str(number) for number in range(len(self._evaluation.dataset))]
        resamples = draw_groups(groups, _RESAMPLES, seed=0)
        by_chance = differences(self._evaluation.metrics.matches, matches, resamples)["AP"].by_chance
        return None if by_chance is None else 100 * by_chance


def _kept_inputs(real: Sequence[NDArray[np.uint8]], size_hw: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """A grey, a black and a white input, a few real ones, and noise: what stays beside the model."""
    noise = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    flat = [np.full((*size_hw, 3), level, np.uint8) for level in (letterbox_rule.PAD_VALUE, 0, 255)]
    # real and artificial images mixed, so that a batch that mixes up its images is caught
    return [*flat, *real[:: -(-len(real) // _KEPT_IMAGES) or 1], noise]
