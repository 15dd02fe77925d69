"""PyTorch's side of the parity check of Faster R-CNN: two networks, each with its suppression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import clip_boxes_to_image

from detection.export.parity.errors import NetworkError
from detection.export.parity.graph_part import Part, Tensors
from detection.export.parity.outcome import Candidates, Margin, outcome, within_top
from detection.export.parity.replaced import answers_of, replaced
from detection.export.parity.side import DECODING, OUTPUTS, PIXELS, Suppression, TorchOutput, expected_of
from detection.models.torch_detector import TorchDetector
from detection.runtime.detections import Detections
from detection.runtime.parity.expected import Expected

_SECOND = ("network.class_logits", "network.box_codes")
_PROPOSALS = ("proposals.boxes", "proposals.alive")
_SMALLEST_BOX_PX = 1e-2  # torchvision's RoIHeads drops narrower and lower boxes
_PAIRED_PX = 0.05  # two proposals nearer than this are one
_MOST_FOLLOWED = 2  # times as many proposals as the second stage takes are followed at most


class TwoStageSide:
    """See `detection.export.parity.side.Side`.

    Args:
        detector: Faster R-CNN in PyTorch.

    """

    def __init__(self, detector: TorchDetector) -> None:
        self._detector = detector
        self._model: Any = detector.model
        self._rpn: Any = self._model.rpn
        self._heads: Any = self._model.roi_heads
        self._nothing = np.zeros((1, *detector.size_hw, 3), np.uint8)
        with answers_of(anchors=self._rpn.anchor_generator) as seen:
            tensors = self.run(self._nothing).tensors
        self._anchors: Tensor = seen["anchors"][0]
        self._first = tuple(name for name in tensors if name not in (PIXELS, *_SECOND, *_PROPOSALS))
        self._shape = {name: tensors[name].shape for name in self._first}
        self._levels = [tensors[name].size for name in self._first if "objectness" in name]
        self._level_most = max(min(self._rpn.pre_nms_top_n(), places) for places in self._levels)
        self._most = min(self._rpn.post_nms_top_n(), len(self._levels) * self._level_most)
        self._codes = int(tensors[_SECOND[1]].shape[-1])
        self.parts: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
            "first network": (("images",), (PIXELS, *self._first)),
            "proposals": (self._first, _PROPOSALS),
            "first suppression": (("levels.boxes", "levels.scores"), _PROPOSALS),
            "second network": (("images", _PROPOSALS[0]), _SECOND),
            "postprocessing": ((*_PROPOSALS, *_SECOND), OUTPUTS),
            "suppression": (("candidates.boxes", "candidates.scores"), OUTPUTS),
        }

    @torch.inference_mode()
    def run(self, input_rgb: NDArray[np.uint8]) -> TorchOutput:
        """See `Side`."""
        modules = {
            "pixels": self._model.transform,
            "first": self._rpn.head,
            "proposals": self._rpn,
            "second": self._heads.box_predictor,
        }
        with answers_of(**modules, features=self._model.backbone) as seen:
            found = self._detector.on_inputs(input_rgb)[0]
        logits, codes = seen["first"]
        tensors = {PIXELS: _array(seen["pixels"][0].tensors)}
        tensors |= {f"network.objectness.{level}": _array(one) for level, one in enumerate(logits)}
        tensors |= {f"network.anchor_codes.{level}": _array(one) for level, one in enumerate(codes)}
        tensors[_PROPOSALS[0]] = _array(seen["proposals"][0][0])
        tensors |= {name: _array(one) for name, one in zip(_SECOND, seen["second"], strict=True)}
        return TorchOutput(tensors, found, seen["features"])

    def compare(
        self, parts: Mapping[str, Part], input_rgb: NDArray[np.uint8], output: TorchOutput, error: NetworkError
    ) -> None:
        """See `Side`."""
        right, images = output.tensors, {"images": input_rgb}
        found = parts["first network"](images)
        (boxes, scores), (own_boxes, own_scores) = self._anchored(right), self._anchored(found)
        chosen = np.concatenate([rows[possibly] for rows, _, possibly in self._top(scores, DECODING)])
        error.widen(scores, own_scores, boxes[chosen], own_boxes[chosen])
        for name in (PIXELS, *self._first):
            error.add(name, np.moveaxis(right[name], 1, -1), np.moveaxis(found[name], 1, -1))
        proposals = right[_PROPOSALS[0]]
        second = parts["second network"]({**images, **self._padded(proposals)})
        second = {name: one[: len(proposals)] for name, one in second.items()}
        self._widen(error, proposals, right, proposals, second)
        for name in _SECOND:
            error.add(name, right[name], second[name])
        # a proposal that is off by a little is pooled from there
        own = parts["proposals"](found)
        own_proposals = own[_PROPOSALS[0]][0][own[_PROPOSALS[1]][0]]
        mine, theirs = _pairs(proposals, own_proposals)
        again = parts["second network"]({**images, **own})
        self._widen(
            error,
            proposals[mine],
            {name: right[name][mine] for name in _SECOND},
            own_proposals[theirs],
            {name: again[name][theirs] for name in _SECOND},
        )

    def expected(self, output: TorchOutput, margin: Margin) -> Expected:
        """See `Side`."""
        candidates, sure, possible = self._first_outcome(output.tensors, margin)
        order = np.flatnonzero(possible)
        order = order[np.argsort(-candidates.scores[order], kind="stable")][: _MOST_FOLLOWED * self._most]
        proposals = candidates.boxes_xyxy[order]
        second = self._second_network(output.features, proposals)
        return self._second_expected(proposals, sure[order], second, output.found, margin)

    @torch.inference_mode()
    def postprocessed(
        self, parts: Mapping[str, Part], tensors: Tensors
    ) -> list[tuple[Expected, tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]]:
        """See `Side`."""
        maps = [
            [torch.from_numpy(tensors[name]).to(self._anchors.device) for name in self._first if kind in name]
            for kind in ("objectness", "anchor_codes")
        ]
        with replaced((self._rpn.head, tuple(maps))), answers_of(proposals=self._rpn) as seen:
            self._detector.on_inputs(self._nothing)
        first = _array(seen["proposals"][0][0])
        own = parts["proposals"](tensors)
        alive = own[_PROPOSALS[1]]
        candidates, sure, possible = self._first_outcome(tensors, DECODING)
        # proposals leave without their scores and levels
        bare = Candidates(candidates.boxes_xyxy, *_of_no_class(len(sure)), candidates.sure)
        expected = expected_of(Detections(first, *_of_no_class(len(first))), bare, sure, possible, DECODING)
        alone = own[_PROPOSALS[0]] * alive[..., None]
        steps = [(expected, (alone, np.where(alive, np.float32(0.5), np.float32(0)), np.where(alive, 0, -1)))]

        proposals = tensors.get(_PROPOSALS[0], first)[: self._most]
        given = self._padded(proposals)
        second = {name: tensors[name][: len(proposals)] for name in _SECOND}
        rows = self._most
        given |= {name: np.pad(one, ((0, rows - len(one)), (0, 0))) for name, one in second.items()}
        device = self._anchors.device
        answers = tuple(torch.from_numpy(second[name]).to(device) for name in _SECOND)
        there: tuple[list[Tensor], dict[str, Tensor]] = ([torch.from_numpy(proposals).to(device)], {})
        with replaced((self._rpn, there), (self._heads.box_predictor, answers)):
            found = self._detector.on_inputs(self._nothing)[0]
        own = parts["postprocessing"](given)
        sure = np.ones(len(proposals), bool)
        # padded places are no boxes: the file must say so
        final = self._second_expected(proposals, sure, second, found, DECODING)
        return [*steps, (final, (own["boxes"], own["scores"], own["labels"]))]

    def designed(self) -> list[Tensors]:
        """See `Side`."""
        random = np.random.default_rng(0)
        height, width = self._detector.size_hw
        corners = random.uniform(0, 0.8, (self._most, 2))
        sides = random.uniform(0.05, 0.4, (self._most, 2))
        boxes = np.concatenate([corners, np.minimum(corners + sides, 1)], axis=1) * [width, height, width, height]
        full = {
            name: random.normal(0, 2.0 if "objectness" in name else 0.4, shape).astype(np.float32)
            for name, shape in self._shape.items()
        }
        full[_PROPOSALS[0]] = boxes.astype(np.float32)
        full[_SECOND[0]] = random.normal(0, 2, (self._most, self._codes // 4)).astype(np.float32)
        full[_SECOND[1]] = random.normal(0, 1, (self._most, self._codes)).astype(np.float32)
        few = {name: tensor.copy() for name, tensor in full.items()}
        few[_PROPOSALS[0]] = few[_PROPOSALS[0]][:7]
        empty = {name: tensor.copy() for name, tensor in full.items()}
        empty[_PROPOSALS[0]] = empty[_PROPOSALS[0]][:0]
        return [full, empty, few]

    def suppressions(self) -> list[Suppression]:
        """See `Side`."""
        heads, size_hw = self._heads, self._detector.size_hw
        places = (len(self._levels), self._level_most)
        classes = self._codes // 4 - 1
        most = heads.detections_per_img
        return [
            Suppression(
                "first suppression",
                places,
                places[0],
                self._rpn.nms_thresh,
                -0.5,
                self._most,
                size_hw,
            ),
            Suppression(
                "suppression", (classes, self._most), classes, heads.nms_thresh, heads.score_thresh, most, size_hw
            ),
        ]

    def _padded(self, proposals: NDArray[np.float32]) -> Tensors:
        missing = self._most - len(proposals)
        nowhere = np.tile(np.array([0, 0, 1, 1], np.float32), (missing, 1))
        alive = np.arange(self._most) < len(proposals)
        return {_PROPOSALS[0]: np.concatenate([proposals, nowhere])[None], _PROPOSALS[1]: alive[None]}

    @torch.inference_mode()
    def _anchored(self, tensors: Tensors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes (A, 4) and scores (A,) of every anchor of one image."""
        device = self._anchors.device
        logits, codes = (
            [torch.from_numpy(tensors[name]).to(device) for name in self._first if kind in name]
            for kind in ("objectness", "anchor_codes")
        )
        flat_logits, flat_codes = concat_box_prediction_layers(logits, codes)
        boxes = self._rpn.box_coder.decode_single(flat_codes, self._anchors)
        boxes = clip_boxes_to_image(boxes, self._detector.size_hw)
        return _array(boxes), _array(torch.sigmoid(flat_logits.flatten()))

    def _top(
        self, scores: NDArray[np.float32], margin: Margin
    ) -> list[tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]]:
        """Of each level: its rows, which of them are sure to be among its best, and which may be."""
        ends = np.cumsum(self._levels)
        most = self._rpn.pre_nms_top_n()
        return [
            (np.arange(end - size, end), *within_top(scores[end - size : end], most, margin))
            for size, end in zip(self._levels, ends, strict=True)
        ]

    def _first_outcome(
        self, tensors: Tensors, margin: Margin
    ) -> tuple[Candidates, NDArray[np.bool_], NDArray[np.bool_]]:
        """The candidates of the first stage, and which are sure to become proposals, and which may."""
        boxes, scores = self._anchored(tensors)
        least = self._rpn.score_thresh
        smallest, slack = self._rpn.min_size, 2 * margin.box_px
        # a threshold of 0 is none: no score is below it
        surely_least = least + margin.score if least > 0 else 0
        rows, levels, sure = [], [], []
        for level, (own, surely, possibly) in enumerate(self._top(scores, margin)):
            sides = (boxes[own, 2:] - boxes[own, :2]).min(axis=1)
            possibly &= (sides >= smallest - slack) & (scores[own] >= least - margin.score)
            surely &= (sides >= smallest + slack) & (scores[own] >= surely_least)
            rows.append(own[possibly])
            levels.append(np.full(int(possibly.sum()), level))
            sure.append(surely[possibly])
        row = np.concatenate(rows)
        candidates = Candidates(boxes[row], scores[row], np.concatenate(levels), np.concatenate(sure))
        return candidates, *outcome(candidates, iou=self._rpn.nms_thresh, most=self._most, margin=margin)

    @torch.inference_mode()
    def _second_network(self, features: Any, proposals: NDArray[np.float32]) -> Tensors:
        boxes = [torch.from_numpy(proposals).to(self._anchors.device)]
        pooled = self._heads.box_roi_pool(features, boxes, [self._detector.size_hw])
        return dict(zip(_SECOND, map(_array, self._heads.box_predictor(self._heads.box_head(pooled))), strict=True))

    @torch.inference_mode()
    def _classified(
        self, proposals: NDArray[np.float32], second: Tensors
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes (R, C, 4) and scores (R, C) of proposals, without the background."""
        logits, codes = (torch.from_numpy(second[name]) for name in _SECOND)
        boxes = self._heads.box_coder.decode(codes, [torch.from_numpy(proposals)])
        boxes = clip_boxes_to_image(boxes, self._detector.size_hw)
        return _array(boxes.view(len(proposals), -1, 4)[:, 1:]), _array(torch.softmax(logits, dim=-1)[:, 1:])

    def _widen(
        self,
        error: NetworkError,
        proposals: NDArray[np.float32],
        second: Tensors,
        own_proposals: NDArray[np.float32],
        own_second: Tensors,
    ) -> None:
        if not len(proposals):
            return
        boxes, scores = self._classified(proposals, second)
        own_boxes, own_scores = self._classified(own_proposals, own_second)
        taking_part = scores > self._heads.score_thresh - 1e-3
        error.widen(scores, own_scores, boxes[taking_part], own_boxes[taking_part])

    def _second_expected(
        self,
        proposals: NDArray[np.float32],
        sure: NDArray[np.bool_],
        second: Tensors,
        found: Detections,
        margin: Margin,
    ) -> Expected:
        heads = self._heads
        if not len(proposals):
            return Expected(found, np.zeros(len(found), bool))
        boxes, scores = self._classified(proposals, second)
        sides = (boxes[..., 2:] - boxes[..., :2]).min(axis=-1)
        possibly = (scores > heads.score_thresh - 2 * margin.score) & (sides >= _SMALLEST_BOX_PX - 2 * margin.box_px)
        surely = (scores > heads.score_thresh + 2 * margin.score) & (sides >= _SMALLEST_BOX_PX + 2 * margin.box_px)
        row, label = np.nonzero(possibly)
        candidates = Candidates(
            boxes[row, label], scores[row, label], label.astype(np.int64), (surely & sure[:, None])[row, label]
        )
        certain, possible = outcome(candidates, iou=heads.nms_thresh, most=heads.detections_per_img, margin=margin)
        return expected_of(found, candidates, certain, possible, margin)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.float().cpu().numpy()


def _of_no_class(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return np.full(count, 0.5, np.float32), np.zeros(count, np.int64)


def _pairs(a_xyxy: NDArray[np.float32], b_xyxy: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of boxes that are the same on both sides."""
    if not len(a_xyxy) or not len(b_xyxy):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    distance = np.abs(a_xyxy[:, None] - b_xyxy[None]).max(axis=2)
    nearest = distance.argmin(axis=1)
    mine = np.flatnonzero(distance[np.arange(len(a_xyxy)), nearest] <= _PAIRED_PX)
    return mine, nearest[mine]
