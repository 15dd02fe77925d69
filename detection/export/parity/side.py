"""What PyTorch's sides of the parity check share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from detection.export.parity.errors import NetworkError
from detection.export.parity.graph_part import Part, Tensors
from detection.export.parity.outcome import Candidates, Margin
from detection.runtime.detections import Detections
from detection.runtime.parity.expected import Expected

OUTPUTS = ("boxes", "scores", "labels")
"""Of the end-to-end graph."""

PIXELS = "network.inputs"
"""The normalised pixels: compared too, for a network that has learned nothing may say the same of any."""

DECODING = Margin(1e-6, 1e-3)
"""By how much two implementations of exp, sigmoid and softmax differ on the same tensors."""


@dataclass(frozen=True, eq=False)
class TorchOutput:
    """What a detector says of one image in PyTorch.

    Attributes:
        tensors: by their names in the graph.
        found: its detections, by torchvision.
        features: the backbone's maps, where a second network reads them.

    """

    tensors: Tensors
    found: Detections
    features: Any = None


@dataclass(frozen=True)
class Suppression:
    """A step of a graph that suppresses candidates.

    Attributes:
        part: its name among the parts of the graph.
        shape: of the candidates of one image, one group in each row; with one axis they are in any order.
        groups: number of groups that do not suppress each other: classes, or levels.
        iou: a box that overlaps a better one of its group by more is dropped.
        score_threshold: only candidates above it take part.
        most: of what is kept the best so many are returned.
        size_hw: height and width of the input in pixels.

    """

    part: str
    shape: tuple[int, ...]
    groups: int
    iou: float
    score_threshold: float
    most: int
    size_hw: tuple[int, int]


class Side(Protocol):
    """A torchvision detector, image by image: what its networks say, and what torchvision makes of any tensors."""

    @property
    def parts(self) -> Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """The parts of its end-to-end graph by name: the tensors that go in, those that come out."""

    def run(self, input_rgb: NDArray[np.uint8]) -> TorchOutput:
        """Detect in one input, uint8 (1, H, W, 3)."""

    def compare(
        self, parts: Mapping[str, Part], input_rgb: NDArray[np.uint8], output: TorchOutput, error: NetworkError
    ) -> None:
        """Add the error of a file's network on one input to `error`."""

    def expected(self, output: TorchOutput, margin: Margin) -> Expected:
        """The detections of an input, and what is borderline in them within a margin."""

    def postprocessed(
        self, parts: Mapping[str, Part], tensors: Tensors
    ) -> list[tuple[Expected, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]]:
        """What torchvision makes of tensors of one image, and the boxes, scores, labels that a file makes of them."""

    def designed(self) -> list[Tensors]:
        """Tensors of one image each that try decoding, top-k and suppression: none, few and far too many boxes."""

    def suppressions(self) -> list[Suppression]:
        """The steps that suppress."""


def expected_of(
    found: Detections,
    candidates: Candidates,
    sure: NDArray[np.bool_],
    possible: NDArray[np.bool_],
    margin: Margin,
) -> Expected:
    """The detections of one image, with what is borderline in them.

    Args:
        found: the detections, by torchvision.
        candidates: what entered suppression, their groups the labels.
        sure: bool (M,), which of the candidates are sure to be returned.
        possible: bool (M,), which may be.
        margin: within which this is so.

    """
    borderline = np.ones(len(found), bool)
    there = np.zeros(len(possible), bool)
    # corners and scores of the two are from the same tensors
    near = Margin(max(margin.score, DECODING.score), max(margin.box_px, DECODING.box_px))
    for index in range(len(found)):
        apart = np.abs(candidates.boxes_xyxy - found.boxes_xyxy[index]).max(axis=1, initial=0.0)
        fits = (candidates.groups == found.labels[index]) & ~there & (apart <= near.box_px)
        fits &= np.abs(candidates.scores - found.scores[index]) <= near.score
        if fits.any():
            own = int(np.where(fits, apart, np.inf).argmin())
            there[own] = True
            borderline[index] = not sure[own]
    others = np.flatnonzero(possible & ~there)
    order = others[np.argsort(-candidates.scores[others], kind="stable")]
    alternates = Detections(candidates.boxes_xyxy[order], candidates.scores[order], candidates.groups[order])
    return Expected(found, borderline, alternates)
