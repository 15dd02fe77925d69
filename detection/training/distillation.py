"""Knowledge distillation: a small detector learns the features of a large one, beside learning from the labels.

At every stride that both have, the student's feature map, through a 1 x 1 convolution (the adapter), learns to match
the teacher's. Where: Wang et al., "Distilling Object Detectors with Fine-grained
Feature Imitation" (CVPR 2019), near the objects. How: Cao et al., "PKD: General Distillation Framework for
Object Detectors via Pearson Correlation Coefficient" (NeurIPS 2022), each channel brought to mean 0 and
variance 1 first, so that a teacher of any architecture will do: half the mean square is then 1 minus the
correlation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from detection.models.build import build_model
from detection.models.checkpoint import load_trained
from detection.models.presets import preset_names
from detection.models.weights import load_weights
from detection.runtime.errors import SwathError

LOSS = "distill"
"""Name of the distillation loss among the student's losses."""


class DistillError(SwathError):
    """A teacher that does not fit the student."""


@dataclass(frozen=True)
class Teacher:
    """A trained detector whose weights are frozen.

    Attributes:
        module: in eval mode, without gradients.
        name: for the log.
        licence: a note on the terms of its weights.

    """

    module: Any
    name: str
    licence: str

    def __deepcopy__(self, memo: object) -> Teacher:
        return self  # a copy of the student, such as the average of its weights, shares the teacher


def load_teacher(teacher: str, class_names: Sequence[str]) -> Teacher:
    """A Swath run, or one of torchvision's detectors with its COCO weights.

    Args:
        teacher: a run folder, its `best.safetensors`, or the name of a preset.
        class_names: of the student. A run must have them all; of COCO's detectors only the features are used.

    Raises:
        DistillError: a run that lacks a class.
        CheckpointError: no such run.
        WeightsError: COCO weights that cannot be had.

    """
    if teacher in preset_names():
        # its head is not used: one class is enough
        module = build_model(teacher, 1)
        report = load_weights(module, teacher, None, "coco")
        name, licence = f"{teacher} (COCO)", report.licence
    else:
        trained = load_trained(Path(teacher))
        unknown = [n for n in class_names if n not in trained.class_names]
        if unknown:
            known = ", ".join(trained.class_names)
            raise DistillError(f"distill.teacher: {teacher} does not know {', '.join(unknown)}, only {known}")
        module, licence = trained.model, trained.weights_licence
        name = f"{trained.config.preset} of {trained.path.parent.name}"
    return Teacher(module.eval().requires_grad_(False), name, licence)


def distill_into(student: nn.Module, teacher: Teacher, *, size_hw: tuple[int, int], weight: float) -> str:
    """Add the loss `distill` to a student: its features in and around labelled boxes learn to match the teacher's.

    The adapters become the student's part `distill`, so that they are trained, saved in `last.ckpt` and
    resumed with it; `save_trained` leaves them out. Evaluation is not changed.

    Args:
        student: a detector as `build_model` gives it.
        teacher: it may be of another preset.
        size_hw: height and width of the images in pixels.
        weight: of the loss, which is 0 for equal features and about 1 for unrelated ones.

    Returns:
        A line for the log.

    Raises:
        DistillError: no two feature maps of the same stride.

    """
    student_maps, teacher_maps = (_probe(net, size_hw) for net in (student, teacher.module))
    places = {tuple(m.shape[2:]): name for name, m in reversed(teacher_maps.items())}
    pairs = {}
    for name, student_map in student_maps.items():
        match = places.pop(tuple(student_map.shape[2:]), None)  # each level of the teacher is matched by one
        if match is not None:
            pairs[name] = (match, student_map.shape[1], teacher_maps[match].shape[1])
    if not pairs:
        raise DistillError(f"distill.teacher: {teacher.name} has no feature map of a stride that the student has")
    imitation = _Imitation(teacher, pairs, weight)
    student.add_module(LOSS, imitation)
    imitation.attach_to(student)
    strides = ", ".join(str(round(size_hw[0] / student_maps[name].shape[2])) for name in pairs)
    return f"distill: learns from {teacher.name} at strides {strides}"


class _Imitation(nn.Module):
    """The adapters and the loss, attached to the student by forward hooks: the trainer needs no change.

    Args:
        teacher: kept as a plain object: not in the student's state, copies or optimizer.
        pairs: for each of the student's levels the teacher's, and the channels of both.
        weight: of the loss.

    """

    def __init__(self, teacher: Teacher, pairs: Mapping[str, tuple[str, int, int]], weight: float) -> None:
        super().__init__()
        self._teacher = teacher
        self._levels = {name: match for name, (match, _, _) in pairs.items()}
        self._weight = weight
        self.adapters = nn.ModuleDict({name: nn.Conv2d(own, theirs, 1) for name, (_, own, theirs) in pairs.items()})
        self._seen: dict[str, Tensor] = {}

    def attach_to(self, student: Any) -> None:
        """Read the feature maps of the student's backbone, and add to its losses."""
        student.backbone.register_forward_hook(self._after_backbone)
        student.register_forward_hook(self._after_student)

    def _after_backbone(self, backbone: nn.Module, given: Any, answer: Any) -> None:
        if self.training:
            self._seen = _named(answer)

    def _after_student(self, student: nn.Module, given: tuple[Any, ...], answer: Any) -> Any:
        if not student.training:
            return answer
        images, targets = given
        seen, self._seen = self._seen, {}
        return {**answer, LOSS: self._weight * self(seen, images, [target["boxes"] for target in targets])}

    def forward(self, student_maps: Mapping[str, Tensor], images: list[Tensor], boxes: list[Tensor]) -> Tensor:
        """The distance of the student's features from the teacher's.

        Args:
            student_maps: its levels (N, C, h, w), by name.
            images: N images float (3, H, W) RGB in 0..1.
            boxes: for each image float (n, 4) xyxy pixels.

        Returns:
            A scalar: 1 minus the correlation, mean over positions and levels.

        """
        module = self._teacher.module.to(images[0].device)
        with torch.no_grad():
            teacher_maps = _named(module.backbone(module.transform(images)[0].tensors))
        height, width = images[0].shape[-2:]
        losses = []
        for name, match in self._levels.items():
            wanted = _standardised(teacher_maps[match])
            found = _standardised(self.adapters[name](student_maps[name]))
            apart = functional.mse_loss(found, wanted, reduction="none").mean(dim=1) / 2  # (N, h, w)
            near = torch.stack([near_boxes(b, (height, width), apart.shape[-2:]) for b in boxes])
            # the sum, so that a batch without boxes gives 0, with gradients of 0
            losses.append((apart * near).sum() / near.sum().clamp(min=1))
        return torch.stack(losses).mean()


def near_boxes(boxes_xyxy: Tensor, size_hw: tuple[int, int], map_hw: Sequence[int]) -> Tensor:
    """Which positions of a feature map lie in a box, or within half a stride of one.

    So every box has a position at every level, however small it is.

    Args:
        boxes_xyxy: float (n, 4), pixels of the image.
        size_hw: the image's height and width.
        map_hw: the feature map's.

    Returns:
        bool (h, w).

    """
    rows, columns = map_hw
    stride_y, stride_x = size_hw[0] / rows, size_hw[1] / columns
    device = boxes_xyxy.device
    y = (torch.arange(rows, device=device) + 0.5).view(1, rows, 1) * stride_y
    x = (torch.arange(columns, device=device) + 0.5).view(1, 1, columns) * stride_x
    left, top, right, bottom = boxes_xyxy.view(-1, 4, 1, 1).unbind(1)
    inside_y = (y >= top - stride_y / 2) & (y <= bottom + stride_y / 2)
    inside_x = (x >= left - stride_x / 2) & (x <= right + stride_x / 2)
    return (inside_y & inside_x).any(dim=0)


def _standardised(feature_map: Tensor) -> Tensor:
    """Each channel to mean 0 and variance 1 over images and positions."""
    values = feature_map.float()
    mean = values.mean(dim=(0, 2, 3), keepdim=True)
    deviation = values.std(dim=(0, 2, 3), keepdim=True, correction=0)
    return (values - mean) / (deviation + 1e-6)


def _named(features: Any) -> dict[str, Tensor]:
    """Feature maps by name, finest first, whatever form the backbone returns."""
    if isinstance(features, Tensor):
        features = [features]
    return dict(features) if isinstance(features, dict) else {str(i): f for i, f in enumerate(features)}


@torch.no_grad()
def _probe(net: Any, size_hw: tuple[int, int]) -> dict[str, Tensor]:
    was_training = net.training
    maps = _named(net.eval().backbone(torch.zeros(1, 3, *size_hw)))  # in eval mode: batch norms keep their statistics
    net.train(was_training)
    return maps
