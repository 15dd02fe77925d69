"""PyTorch's side of the parity check of FCOS, RetinaNet and SSD: one network, one suppression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection import FCOS
from torchvision.models.detection.ssd import SSD
from torchvision.ops import clip_boxes_to_image

from detection.export.parity.errors import NetworkError
from detection.export.parity.graph_part import Part, Tensors
from detection.export.parity.outcome import Candidates, Margin, outcome, within_top
from detection.export.parity.replaced import answers_of, replaced
from detection.export.parity.side import DECODING, OUTPUTS, PIXELS, Suppression, TorchOutput, expected_of
from detection.models.torch_detector import TorchDetector
from detection.runtime.parity.expected import Expected

_PREFIX = "network."


class OneStageSide:
    """See `detection.export.parity.side.Side`.

    Args:
        detector: FCOS, RetinaNet or SSD in PyTorch.

    """

    def __init__(self, detector: TorchDetector) -> None:
        self._detector = detector
        self._model: Any = detector.model
        self._nothing = np.zeros((1, *detector.size_hw, 3), np.uint8)
        with answers_of(anchors=self._model.anchor_generator, features=self._model.backbone) as seen:
            self._shape = {name: tensor.shape for name, tensor in self.run(self._nothing).tensors.items()}
        self._anchors: Tensor = seen["anchors"][0]
        maps = list(seen["features"].values())
        each = self._model.anchor_generator.num_anchors_per_location()
        self._levels = [one.shape[-2] * one.shape[-1] * own for one, own in zip(maps, each, strict=True)]
        self._names = tuple(name for name in self._shape if name != PIXELS)
        self.parts: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
            "network": (("images",), (PIXELS, *self._names)),
            "postprocessing": (self._names, OUTPUTS),
            "suppression": (tuple(f"candidates.{name}" for name in OUTPUTS), OUTPUTS),
        }

    @torch.inference_mode()
    def run(self, input_rgb: NDArray[np.uint8]) -> TorchOutput:
        """See `Side`."""
        with answers_of(pixels=self._model.transform, head=self._model.head) as seen:
            found = self._detector.on_inputs(input_rgb)[0]
        tensors = {PIXELS: seen["pixels"][0].tensors}
        tensors |= {f"{_PREFIX}{name}": one for name, one in seen["head"].items()}
        return TorchOutput({name: one.float().cpu().numpy() for name, one in tensors.items()}, found)

    def compare(
        self, parts: Mapping[str, Part], input_rgb: NDArray[np.uint8], output: TorchOutput, error: NetworkError
    ) -> None:
        """See `Side`."""
        found = parts["network"]({"images": input_rgb})
        (boxes, scores), (own_boxes, own_scores) = self._positions(output.tensors), self._positions(found)
        taking_part = scores.max(axis=1) > self._model.score_thresh - 1e-3
        error.widen(scores, own_scores, boxes[taking_part], own_boxes[taking_part])
        error.add(PIXELS, np.moveaxis(output.tensors[PIXELS], 1, -1), np.moveaxis(found[PIXELS], 1, -1))
        for name in self._names:
            error.add(name, output.tensors[name], found[name])

    def expected(self, output: TorchOutput, margin: Margin) -> Expected:
        """See `Side`."""
        candidates = self._candidates(output.tensors, margin)
        model = self._model
        sure, possible = outcome(candidates, iou=model.nms_thresh, most=model.detections_per_img, margin=margin)
        return expected_of(output.found, candidates, sure, possible, margin)

    @torch.inference_mode()
    def postprocessed(
        self, parts: Mapping[str, Part], tensors: Tensors
    ) -> list[tuple[Expected, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]]:
        """See `Side`."""
        with replaced((self._model.head, self._on_device(tensors))):
            found = self._detector.on_inputs(self._nothing)[0]
        own = parts["postprocessing"](tensors)
        return [(self.expected(TorchOutput(tensors, found), DECODING), (own["boxes"], own["scores"], own["labels"]))]

    def designed(self) -> list[Tensors]:
        """See `Side`."""
        random = np.random.default_rng(0)

        def like(name: str, scale: float, shift: float = 0.0) -> NDArray[np.float32]:
            values = random.normal(shift, scale, self._shape[name])
            return np.asarray(np.abs(values) if "bbox_regression" in name and self._fcos else values, np.float32)

        spread = 2.0 if self._fcos else 0.7
        full = {name: like(name, spread if name.endswith("bbox_regression") else 2.0) for name in self._names}
        few = {name: tensor.copy() for name, tensor in full.items()}
        few[f"{_PREFIX}cls_logits"] -= 9
        empty = {name: tensor.copy() for name, tensor in full.items()}
        empty[f"{_PREFIX}cls_logits"][:] = -30
        if self._background:
            few[f"{_PREFIX}cls_logits"][..., 0] += 5
            empty[f"{_PREFIX}cls_logits"][..., 0] = 30
        return [full, empty, few]

    def suppressions(self) -> list[Suppression]:
        """See `Side`."""
        model = self._model
        if self._background:
            places = self._classes * min(model.topk_candidates, sum(self._levels))
        else:
            places = sum(min(model.topk_candidates, size * self._classes) for size in self._levels)
        return [
            Suppression(
                "suppression",
                (places,),
                self._classes,
                model.nms_thresh,
                model.score_thresh,
                model.detections_per_img,
                self._detector.size_hw,
            )
        ]

    @property
    def _fcos(self) -> bool:
        return isinstance(self._model, FCOS)

    @property
    def _background(self) -> bool:
        return isinstance(self._model, SSD)

    @property
    def _classes(self) -> int:
        return int(self._shape[f"{_PREFIX}cls_logits"][-1]) - self._background

    def _on_device(self, tensors: Tensors) -> dict[str, Tensor]:
        device = self._anchors.device
        return {name.removeprefix(_PREFIX): torch.from_numpy(tensors[name]).to(device) for name in self._names}

    @torch.inference_mode()
    def _positions(self, tensors: Tensors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes (A, 4) and scores (A, C) of every position of one image."""
        head = {name: tensor[0] for name, tensor in self._on_device(tensors).items()}
        codes, logits = head["bbox_regression"], head["cls_logits"]
        coder = self._model.box_coder
        if self._fcos:
            boxes = coder.decode(codes, self._anchors)
            scores = torch.sigmoid(logits)
            if "bbox_ctrness" in head:
                scores = torch.sqrt(scores * torch.sigmoid(head["bbox_ctrness"]))
        else:
            boxes = coder.decode_single(codes, self._anchors)
            scores = torch.softmax(logits, dim=-1)[:, 1:] if self._background else torch.sigmoid(logits)
        return clip_boxes_to_image(boxes, self._detector.size_hw).cpu().numpy(), scores.cpu().numpy()

    def _candidates(self, tensors: Tensors, margin: Margin) -> Candidates:
        """What may enter suppression."""
        boxes, scores = self._positions(tensors)
        threshold, top_k = self._model.score_thresh, self._model.topk_candidates
        positions, labels, sure = [], [], []
        ends = np.cumsum(self._levels).tolist()
        groups = (
            [(slice(None), slice(label, label + 1)) for label in range(scores.shape[1])]
            if self._background
            else [(slice(end - size, end), slice(None)) for size, end in zip(self._levels, ends, strict=True)]
        )
        for rows, columns in groups:
            own = scores[rows, columns]
            row, column = np.nonzero(own > threshold - 2 * margin.score)
            values = own[row, column]
            surely, possibly = within_top(values, top_k, margin)
            surely &= values > threshold + 2 * margin.score
            positions.append(row[possibly] + (rows.start or 0))
            labels.append(column[possibly] + (columns.start or 0))
            sure.append(surely[possibly])
        position, label = np.concatenate(positions), np.concatenate(labels)
        return Candidates(boxes[position], scores[position, label], label.astype(np.int64), np.concatenate(sure))
