"""How weights are updated: groups of parameters, the learning rate over the run, and the weights' moving average."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]

_BODY = "backbone.body."


@dataclass(frozen=True)
class OptimizerOptions:
    """AdamW's settings.

    Attributes:
        learning_rate: peak learning rate of neck and head.
        backbone_lr_multiplier: the backbone's peak learning rate as a multiple of that.
        weight_decay: of all weights but biases and norms.
        layer_decay: each stage of the backbone has this multiple of the next one's rate; the last has the full one.
        clip_norm: gradients are scaled down to this norm.

    """

    learning_rate: float = 1e-3
    backbone_lr_multiplier: float = 0.3
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    clip_norm: float = 10.0


def parameter_groups(model: nn.Module, options: OptimizerOptions) -> list[dict[str, Any]]:
    """Parameters grouped by learning rate and weight decay; biases and norms are not decayed.

    Rates that fall from stage to stage: J. Howard and S. Ruder, "Universal Language Model Fine-tuning" (ACL 2018),
    section 3.2; K. Clark et al., "ELECTRA" (ICLR 2020).

    Args:
        model: its frozen parameters are left out.
        options: learning rates and weight decay.

    Returns:
        Groups as an optimizer takes them, each with its `peak` learning rate.

    """
    stages = list(dict.fromkeys(_stage(name) for name, _ in model.named_parameters() if name.startswith(_BODY)))
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            share = 1.0
            if name.startswith(_BODY):
                depth = len(stages) - 1 - stages.index(_stage(name))
                share = options.backbone_lr_multiplier * options.layer_decay**depth
            groups.setdefault((share, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak": options.learning_rate * share,
            "weight_decay": options.weight_decay if decays else 0.0,
        }
        for (share, decays), parameters in groups.items()
    ]


def body_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of the backbone itself, without the neck, that are trained."""
    return [p for name, p in model.named_parameters() if name.startswith(_BODY) and p.requires_grad]


def _stage(name: str) -> str:
    """The part of the backbone that a parameter belongs to: `blocks.3` of backbone.body.blocks.3.0.conv_pw.weight."""
    first, second, *_ = [*name.removeprefix(_BODY).split("."), ""]
    return f"{first}.{second}" if second.isdigit() else first


def set_learning_rate(optimizer: torch.optim.Optimizer, progress: float, warmup: float) -> float:
    """Set each group's learning rate: linear warm-up, then half a cosine down to a hundredth of the peak.

    It follows the run's progress rather than its steps, so that a run which its wall-clock budget ends has decayed
    just as one which its epochs end. Loshchilov and Hutter, "SGDR" (ICLR 2017), without restarts.

    Args:
        optimizer: with groups that have a `peak`.
        progress: of the run, 0 to 1.
        warmup: the part of the run in which the rate rises, 0 to below 1.

    Returns:
        The highest learning rate of all groups.

    """
    if progress < warmup:
        factor = max(progress / warmup, 0.01)
    else:
        factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return max(float(group["lr"]) for group in optimizer.param_groups)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of a model that holds the exponential moving average (EMA) of its weights.

    It is updated by `update_parameters(model)`.

    B. T. Polyak and A. B. Juditsky, "Acceleration of Stochastic Approximation by Averaging" (1992). The decay
    is (1 + n) / (10 + n) after n steps where that is less, so that the first weights count for nothing in a run of
    some hundred steps.

    Args:
        model: what is trained.
        decay: part of the average that is kept at each step, 0 to 1.

    """

    def average(old: Tensors, new: Tensors, count: Tensor | int) -> None:
        n = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(old, new, count)

    return AveragedModel(model, multi_avg_fn=average)
