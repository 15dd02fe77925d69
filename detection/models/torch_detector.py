"""The trained detector in PyTorch, with the interface of the robot's `Detector`: image in, `Detections` out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detection.models.checkpoint import Trained
from detection.models.presets import preset_named
from detection.runtime.detections import Detections
from detection.runtime.detector import to_detections
from detection.runtime.letterbox import letterbox


class TorchDetector:
    """A torchvision detector with torchvision's own postprocessing.

    Args:
        model: in eval mode; it stays on its device.
        preset: its preset's name.
        class_names: label 0, 1, ... by name.
        size_hw: the input's height and width in pixels.

    Attributes:
        model: as given.
        class_names, size_hw: as given.

    """

    def __init__(
        self, model: torch.nn.Module, preset: str, class_names: tuple[str, ...], size_hw: tuple[int, int]
    ) -> None:
        self.class_names = class_names
        self.model: Any = model
        self._label_offset = preset_named(preset).label_offset
        self._takes_top_k = preset_named(preset).takes_top_k
        self.size_hw = size_hw

    @classmethod
    def of(cls, trained: Trained) -> TorchDetector:
        """The detector of a loaded checkpoint."""
        return cls(trained.model, trained.config.preset, trained.class_names, trained.config.size_hw)

    @property
    def runs_on(self) -> str:
        """Framework, device and input size, in words."""
        device = next(self.model.parameters()).device
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}"
        height, width = self.size_hw
        return f"PyTorch {torch.__version__}, {where}, input {height} x {width}"

    @property
    def max_detections(self) -> int:
        """Most boxes of an image."""
        second_stage: Any = getattr(self.model, "roi_heads", self.model)
        return int(second_stage.detections_per_img)

    @property
    def pre_nms_top_k(self) -> int | None:
        """Most boxes into its NMS, per level or class; None where it has no such limit."""
        return int(self.model.topk_candidates) if self._takes_top_k else None

    @torch.inference_mode()
    def on_inputs(self, inputs_rgb: NDArray[np.uint8]) -> list[Detections]:
        """Letterboxed inputs uint8 (N, H, W, 3) RGB -> detections in input pixels, all above the score threshold."""
        device = next(self.model.parameters()).device
        images = torch.from_numpy(inputs_rgb).to(device).permute(0, 3, 1, 2).float() / 255
        return [
            Detections(
                answer["boxes"].float().cpu().numpy(),
                answer["scores"].float().cpu().numpy(),
                answer["labels"].cpu().numpy() - self._label_offset,
            )
            for answer in self.model(list(images))
        ]

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """An image uint8 (H, W, 3) BGR -> detections in its own pixels, all above the score threshold."""
        canvas, place = letterbox(image_bgr, self.size_hw)
        found = self.on_inputs(canvas[None])[0]
        everything = np.zeros(len(self.class_names), np.float32)
        return to_detections(found.boxes_xyxy, found.scores, found.labels, place, everything)
