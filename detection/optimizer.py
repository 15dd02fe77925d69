"""How weights move: groups of parameters, the learning rate over the run, and the average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


def parameter_groups(
    model: nn.Module, *, learning_rate: float, backbone_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Backbone slower than the rest; no weight decay on biases and norms (they are not there to be small).

    Args:
        model: its frozen parameters are left out.
        learning_rate: peak rate of neck and head.
        backbone_rate: the backbone's, as a share of that.
        weight_decay: of what decays.

    Returns:
        Groups as an optimizer takes them, each with its `peak` rate.

    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone.body."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "peak": learning_rate * (backbone_rate if is_backbone else 1.0),
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (is_backbone, decays), parameters in groups.items()
    ]


def set_rate(optimizer: torch.optim.Optimizer, share: float, warmup: float) -> float:
    """Linear warm-up, then half a cosine to a hundredth, over the share of the run rather than over steps.

    So a run that its wall-clock budget ends has cooled down just as one that its epochs end.
    Loshchilov and Hutter, "SGDR" (ICLR 2017), without restarts.
    """
    if share < warmup:
        factor = max(share / warmup, 0.01)
    else:
        factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    return max(float(group["lr"]) for group in optimizer.param_groups)


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """A copy that follows the weights: their exponential moving average, after each `update_parameters(model)`.

    B. T. Polyak and A. B. Juditsky, "Acceleration of Stochastic Approximation by Averaging" (1992). Young averages
    forget faster, (1 + n) / (10 + n) after n steps, so that the start weighs nothing in a run of some hundred steps.

    Args:
        model: what is trained.
        decay: share of the average that stays at each step, 0 to 1.

    """

    def average(old: Tensors, new: Tensors, count: Tensor | int) -> None:
        n = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(old, new, count)

    return AveragedModel(model, multi_avg_fn=average)
