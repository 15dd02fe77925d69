"""The end-to-end graph of a trained detector, whatever its family."""

from __future__ import annotations

from torchvision.models.detection import FasterRCNN

from detection.export.graph.one_stage import OneStageGraph
from detection.export.graph.two_stage import TwoStageGraph
from detection.models.checkpoint import Trained


def end_to_end_graph(trained: Trained) -> OneStageGraph | TwoStageGraph:
    """The end-to-end graph of a trained detector: uint8 images in, fixed-size detections out, in eval mode.

    Raises:
        SwathError: no graph for detectors of this family.

    """
    size_hw = trained.config.size_hw
    if isinstance(trained.model, FasterRCNN):
        return TwoStageGraph(trained.model, size_hw).eval()
    return OneStageGraph(trained.model, trained.config.label_offset, size_hw).eval()
