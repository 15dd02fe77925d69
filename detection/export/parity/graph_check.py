"""The parity check of a float32 graph in its two parts: the network, and the postprocessing on given tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from torchvision.models.detection import FasterRCNN

from detection.export.parity.errors import NetworkError
from detection.export.parity.graph_part import Part, Tensors
from detection.export.parity.one_stage_side import OneStageSide
from detection.export.parity.outcome import Margin
from detection.export.parity.side import Side
from detection.export.parity.suppression_check import differing
from detection.export.parity.two_stage_side import TwoStageSide
from detection.models.torch_detector import TorchDetector
from detection.runtime.backends.contract import Raw
from detection.runtime.parity.box_parity import BOX_TOLERANCE_PX, SCORE_TOLERANCE, BoxParity
from detection.runtime.parity.expected import Expected
from detection.runtime.parity.verify import unpadded

_TAIL_IMAGES = 8  # whose tensors the postprocessing is tried on
_TAIL_SCORE, _TAIL_BOX_PX = 5e-6, 0.01
"""By how much decoding may differ on the same tensors: the last bits of exp()."""

_MARGIN_OF_ERRORS = 10.0
_LEAST_MARGIN = Margin(2e-6, 2e-4)
"""What is borderline is found for ten times the error measured, and for this at least: another batch or another
machine rounds otherwise."""


@dataclass(frozen=True)
class GraphParity:
    """Outcome of the parity check of a graph's parts.

    Attributes:
        images: on which the networks were compared.
        max_score_error: of all positions.
        max_box_error_px: of the positions that may take part.
        noise: largest error of a channel in shares of what is allowed.
        noise_tensor: where.
        postprocessing: what its postprocessing makes of given tensors, box by box.
        suppression: of designed candidates, the places that differ from torchvision's, by part and design.

    """

    images: int
    max_score_error: float
    max_box_error_px: float
    noise: float
    noise_tensor: str
    postprocessing: BoxParity
    suppression: dict[str, int]

    @property
    def faults(self) -> list[str]:
        """Why the graph is refused, one clause each; empty where it passed."""
        faults = []
        if self.max_score_error > SCORE_TOLERANCE or self.max_box_error_px > BOX_TOLERANCE_PX:
            faults.append(
                f"the network's scores are off by up to {self.max_score_error:.2g}, its boxes by "
                f"{self.max_box_error_px:.2g} px"
            )
        if self.noise > 1:
            faults.append(f"{self.noise_tensor} is off by {self.noise:.3g} times what rounding explains")
        tail = self.postprocessing
        if not tail.same or tail.max_score_error > _TAIL_SCORE or tail.max_box_error_px > _TAIL_BOX_PX:
            faults.append(
                f"the postprocessing gives other boxes for the same tensors: {tail.different} of {tail.boxes} "
                f"differ, the others by up to {tail.max_box_error_px:.2g} px and {tail.max_score_error:.2g} in score"
            )
        if wrong := [name for name, count in self.suppression.items() if count]:
            faults.append(f"it suppresses otherwise than torchvision: {', '.join(wrong)}")
        return faults

    def to_dict(self) -> dict[str, object]:
        """For the parity report."""
        return {
            "network": {
                "images": self.images,
                "max_score_error": float(f"{self.max_score_error:.3g}"),
                "max_box_error_px": float(f"{self.max_box_error_px:.3g}"),
                "noise_of_allowed": float(f"{self.noise:.3g}"),
            },
            "postprocessing": {
                "tensors_of_images": self.postprocessing.images,
                "boxes": self.postprocessing.boxes,
                "unmatched_boxes": self.postprocessing.different,
                "max_score_error": float(f"{self.postprocessing.max_score_error:.3g}"),
                "max_box_error_px": float(f"{self.postprocessing.max_box_error_px:.3g}"),
                "suppression_designs": len(self.suppression),
            },
        }


def side_of(detector: TorchDetector) -> Side:
    """PyTorch's side of the check."""
    return TwoStageSide(detector) if isinstance(detector.model, FasterRCNN) else OneStageSide(detector)


def check_graph(
    model: onnx.ModelProto,
    side: Side,
    inputs_rgb: Sequence[NDArray[np.uint8]],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[GraphParity, list[Expected]]:
    """Check a float32 graph's parts, and find what is borderline in PyTorch's detections.

    Args:
        model: as `detection.export.onnx_file.to_onnx` gives it.
        side: of the detector in PyTorch.
        inputs_rgb: letterboxed, uint8 (H, W, 3) each.
        progress: called with (done, total) inputs.

    Returns:
        The result; and PyTorch's detections of every input, with what is borderline in them.

    Raises:
        SwathError: a graph that does not name its tensors.

    """
    parts = {name: Part(model, *ends) for name, ends in side.parts.items()}
    whole, tail = NetworkError(), BoxParity()
    expected: list[Expected] = []
    every = -(-len(inputs_rgb) // _TAIL_IMAGES)
    for index, image in enumerate(inputs_rgb):
        output = side.run(image[None])
        error = NetworkError()
        side.compare(parts, image[None], output, error)
        # in a uniform image all positions say the same, and normalisation divides by next to nothing
        whole.include(error, with_noise=image.min() != image.max())
        expected.append(side.expected(output, _margin(error)))
        if index % every == 0:
            _postprocess(side, parts, output.tensors, tail)
        if progress:
            progress(index + 1, len(inputs_rgb))
    for tensors in side.designed():
        _postprocess(side, parts, tensors, tail)
    suppression = {
        f"{step.part} ({name})": count
        for step in side.suppressions()
        for name, count in differing(parts[step.part], step).items()
    }
    noise, where = whole.noise()
    return GraphParity(whole.images, whole.max_score, whole.max_box_px, noise, where, tail, suppression), expected


def _margin(error: NetworkError) -> Margin:
    return Margin(
        max(_LEAST_MARGIN.score, _MARGIN_OF_ERRORS * min(error.max_score, SCORE_TOLERANCE)),
        max(_LEAST_MARGIN.box_px, _MARGIN_OF_ERRORS * min(error.max_box_px, BOX_TOLERANCE_PX)),
    )


def _postprocess(side: Side, parts: dict[str, Part], tensors: Tensors, tail: BoxParity) -> None:
    for right, raw in side.postprocessed(parts, tensors):
        found = unpadded(Raw(*raw), 0)
        if found is None:
            tail.malformed += 1
        else:
            tail.add(right, found)
