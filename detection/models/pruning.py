"""Pretrained backbones at half their hidden width: cut down in closed form on the images that are to be learned.

The widest maps of a MobileNet-like net are hidden ones: each block widens its input by six, filters every channel by
itself, and narrows it again. Half of those channels give nearly what all gave, if the narrowing is fitted anew: one
linear system per block, without training or labels, from images of the kind that the net will see. So prune Y. He,
X. Zhang and J. Sun, "Channel Pruning for Accelerating Very Deep Neural Networks" (ICCV 2017), who choose channels by
a lasso; here they are chosen by what their loss costs, after B. Hassibi and D. Stork, "Second order derivatives for
network pruning: Optimal Brain Surgeon" (NeurIPS 1992).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import timm
import torch
from timm.models._efficientnet_blocks import InvertedResidual
from torch import Tensor, nn

SLIM = "slim:"
"""A backbone's name that starts with this is the timm model of the rest, at half its hidden width."""

KEPT = 0.5
"""Share of the hidden channels that stay."""

_FAMILIES = ("tf_efficientnet_lite", "efficientnet_lite")
_MULTIPLE = 16  # of channels: runtimes lay maps out in blocks of 16 and compute whole blocks anyhow
_POSITIONS = 8192  # of a map, drawn at random, that the systems are set up from, per image and block
_PULL = 1e-2  # of the mean diagonal: how much the narrowing is held to what it was, where images say little


def wide_name(backbone: str) -> str:
    """The timm model that `slim:...` is cut from.

    Raises:
        ValueError: not one of the nets that this is for: plain blocks, without squeeze-and-excitation.

    """
    name = backbone.removeprefix(SLIM)
    if not name.startswith(_FAMILIES) or not timm.is_model(name):
        known = ", ".join(timm.list_models([f"{family}*" for family in _FAMILIES]))
        raise ValueError(f"{SLIM} is for {known}; not for {name}")
    return name


def narrow(body: nn.Module) -> nn.Module:
    """Give a wide backbone, in place, the shape of a slim one, with random weights; and give it back."""
    for block in _blocks(body):
        hidden = _kept(block.conv_dw.out_channels)
        widening, depthwise, narrowing = block.conv_pw, block.conv_dw, block.conv_pwl
        block.conv_pw = nn.Conv2d(widening.in_channels, hidden, 1, bias=False)
        # timm's own class where it pads as TensorFlow does
        block.conv_dw = type(depthwise)(
            hidden,
            hidden,
            depthwise.kernel_size,
            depthwise.stride,
            depthwise.padding,
            groups=hidden,
            bias=False,
        )
        block.conv_pwl = nn.Conv2d(hidden, narrowing.out_channels, 1, bias=False)
        for name in ("bn1", "bn2"):
            norm = deepcopy(getattr(block, name))
            _take(norm, torch.arange(hidden))
            setattr(block, name, norm)
        for conv in (block.conv_pw, block.conv_dw, block.conv_pwl):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return body


@torch.no_grad()
def slimmed(body: nn.Module, images: Sequence[Tensor]) -> dict[str, Tensor]:
    """The tensors of the slim backbone that comes closest to a wide one on some images.

    Block by block, what the slim net has come to so far goes in, and what the wide net gives there is aimed at: so
    each block makes up for some of what the ones before it lost.

    Args:
        body: the wide backbone, pretrained; stays as it is.
        images: float (1, 3, H, W) each, normalised as the backbone wants them; a dozen of different kinds do.

    Returns:
        What `narrow(body)` loads, by name.

    """
    body = deepcopy(body).eval()
    generator = torch.Generator().manual_seed(0)
    stem: Any = body
    wide = [stem.bn1(stem.conv_stem(image)) for image in images]
    slim = list(wide)
    for stage in stem.blocks:
        for place, block in enumerate(stage):
            wide = [block(features) for features in wide]
            if isinstance(block, InvertedResidual):
                stage[place] = _cut(block, slim, wide, generator)
            slim = [stage[place](features) for features in slim]
    return body.state_dict()


def _blocks(body: nn.Module) -> Iterator[Any]:
    for module in list(body.modules()):
        if isinstance(module, InvertedResidual):
            yield module


def _kept(hidden: int) -> int:
    return min(hidden, math.ceil(hidden * KEPT / _MULTIPLE) * _MULTIPLE)


def _hidden(block: Any, features: Tensor) -> Tensor:
    maps: Tensor = block.bn2(block.conv_dw(block.bn1(block.conv_pw(features))))
    return maps


def _cut(block: Any, given: list[Tensor], wanted: list[Tensor], generator: torch.Generator) -> Any:
    """The block with the hidden channels that matter most, its narrowing fitted anew by least squares."""
    gram = cross = torch.zeros(())
    for features, target in zip(given, wanted, strict=True):
        rows = _rows(_hidden(block, features))
        aims = _rows(target - features if block.has_skip else target)
        drawn = torch.randperm(len(rows), generator=generator)[:_POSITIONS]
        rows = torch.cat([rows[drawn], torch.ones(len(drawn), 1)], dim=1).double()  # the last is the bias
        gram = gram + rows.T @ rows / len(rows)
        cross = cross + rows.T @ aims[drawn].double() / len(rows)
    pull = _PULL * gram.diagonal().mean()
    gram, cross = gram + pull * torch.eye(len(gram), dtype=gram.dtype), cross + pull * _narrowing(block)
    chosen = _most_useful(gram, cross, _kept(block.conv_dw.out_channels))
    with_bias = torch.cat([chosen, torch.tensor([len(gram) - 1])])
    fitted = torch.linalg.solve(gram[with_bias][:, with_bias], cross[with_bias]).float()
    slim = deepcopy(block)
    slim.conv_pw.weight = nn.Parameter(block.conv_pw.weight[chosen].clone())
    slim.conv_dw.weight = nn.Parameter(block.conv_dw.weight[chosen].clone())
    slim.conv_dw.groups = slim.conv_dw.in_channels = slim.conv_dw.out_channels = len(chosen)
    _take(slim.bn1, chosen)
    _take(slim.bn2, chosen)
    slim.conv_pwl.weight = nn.Parameter(fitted[:-1].T[:, :, None, None].contiguous())
    # the norm behind it does nothing but add the bias
    norm = slim.bn3
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
    norm.weight = nn.Parameter(torch.ones_like(norm.weight))
    norm.bias = nn.Parameter(fitted[-1].clone())
    return slim


def _rows(maps: Tensor) -> Tensor:
    """(1, C, H, W) -> (H W, C)."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _narrowing(block: Any) -> Tensor:
    """The block's last convolution and norm as one matrix, float64 (C + 1, D), the bias its last row."""
    norm = block.bn3
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weights = block.conv_pwl.weight[:, :, 0, 0].T * scale
    return torch.cat([weights, (norm.bias - norm.running_mean * scale)[None]]).double()


def _most_useful(gram: Tensor, cross: Tensor, count: int) -> Tensor:
    """Channels that stay when the one whose loss costs least goes, again and again; ascending, int64 (count,).

    Args:
        gram: float64 (C + 1, C + 1), mean products of the channels; the last is the bias, which always stays.
        cross: float64 (C + 1, D), mean products of channels and aims.
        count: how many stay.

    """
    inverse = torch.linalg.inv(gram)
    weights = inverse @ cross
    alive = torch.ones(len(gram) - 1, dtype=torch.bool)
    for _ in range(len(alive) - count):
        cost = weights[:-1].square().sum(1) / inverse.diagonal()[:-1]
        gone = int(torch.where(alive, cost, torch.inf).argmin())
        column, own = inverse[:, gone].clone(), float(inverse[gone, gone])
        weights.addr_(column, weights[gone].clone(), alpha=-1 / own)
        inverse.addr_(column, column, alpha=-1 / own)
        inverse[gone, gone] = 1  # no more than a divisor from now on
        alive[gone] = False
    return alive.nonzero().flatten()


def _take(norm: Any, channels: Tensor) -> None:
    """Reduce a batch norm, in place, to some channels."""
    norm.weight = nn.Parameter(norm.weight[channels].clone())
    norm.bias = nn.Parameter(norm.bias[channels].clone())
    norm.running_mean = norm.running_mean[channels].clone()
    norm.running_var = norm.running_var[channels].clone()
    norm.num_features = len(channels)
