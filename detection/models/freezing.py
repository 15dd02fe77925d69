"""Parts of a pretrained detector that stay as they are while the rest learns."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn

from detection.models.backbones import end_of_stem
from detection.models.presets import preset_named


def freeze_stem(model: nn.Module, preset: str) -> None:
    """Freeze the backbone up to stride 4 (a transformer: its patch embedding), in place.

    Edges and textures transfer as they are, and the largest feature maps then need no backward pass: on
    CPU a step of `fcos_lite` takes two thirds of the time. Where a backbone has no such part, nothing happens.

    Args:
        model: as `build_model` gives it.
        preset: its preset's name.

    """
    stem = preset_named(preset).stem or getattr(model.backbone, "stem", None)
    if stem is None:
        return
    backbone: Any = model.backbone
    for parameter in list(backbone.body.parameters())[: end_of_stem(backbone.body, stem)]:
        parameter.requires_grad_(False)


def freeze_batchnorm_statistics(model: nn.Module) -> None:
    """Put every batch norm in eval mode: batches of a few images would spoil pretrained statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def batchnorm_as_arithmetic(model: nn.Module) -> None:
    """Let batch norms with frozen statistics compute with plain sums and products, as XLA needs them, in place.

    The numbers are the same; XLA has no backward pass of `batch_norm` that does not use the batch's own statistics.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = MethodType(_scaled_and_shifted, module)  # type: ignore[method-assign]


def _scaled_and_shifted(norm: Any, x: torch.Tensor) -> torch.Tensor:
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    y: torch.Tensor = x * scale[:, None, None] + shift[:, None, None]
    for after in ("drop", "act"):  # of timm's BatchNormAct2d
        y = getattr(norm, after, nn.Identity())(y)
    return y
