"""How weights move: groups of parameters, the learning rate over the run, and the average of the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


_BODY = "backbone.body."


def parameter_groups(
    model: nn.Module, *, learning_rate: float, backbone_rate: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Backbone slower than the rest; no weight decay on biases and norms (they are not there to be small).

    Rates that fall from stage to stage: J. Howard and S. Ruder, "Universal Language Model Fine-tuning" (ACL 2018),
    section 3.2; K. Clark et al., "ELECTRA" (ICLR 2020).

    Args:
        model: its frozen parameters are left out.
        learning_rate: peak rate of neck and head.
        backbone_rate: the backbone's, as a share of that.
        weight_decay: of what decays.
        layer_decay: of the backbone's stages, each has this share of the next one's rate; the last has its full one.

    Returns:
        Groups as an optimizer takes them, each with its `peak` rate.

    """
    stages = list(dict.fromkeys(_stage(name) for name, _ in model.named_parameters() if name.startswith(_BODY)))
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            share = 1.0
            if name.startswith(_BODY):
                share = backbone_rate * layer_decay ** (len(stages) - 1 - stages.index(_stage(name)))
            groups.setdefault((share, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "peak": learning_rate * share, "weight_decay": weight_decay if decays else 0.0}
        for (share, decays), parameters in groups.items()
    ]


def body_parameters(model: nn.Module) -> list[nn.Parameter]:
    """What of the backbone itself learns."""
    return [p for name, p in model.named_parameters() if name.startswith(_BODY) and p.requires_grad]


def _stage(name: str) -> str:
    """The part of the backbone that a parameter belongs to: `blocks.3` of backbone.body.blocks.3.0.conv_pw.weight."""
    first, second, *_ = [*name.removeprefix(_BODY).split("."), ""]
    return f"{first}.{second}" if second.isdigit() else first


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
