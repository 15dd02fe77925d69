"""Channel pruning: pretrained EfficientNet-Lite backbones at half their hidden width, without any training.

The widest maps of a MobileNet-like net are hidden ones: the expansion (1 x 1) of a block makes its input six times
as wide, a depthwise convolution filters every channel, and the projection (1 x 1) makes it narrow again. Half of
those channels carry nearly what all carried, if the projection is fitted again: one linear system a block, from
images of the kind that the net will see, without labels. Y. He, X. Zhang and J. Sun, "Channel Pruning for
Accelerating Very Deep Neural Networks" (ICCV 2017), choose channels by a lasso; here they are chosen by what their
removal costs, after B. Hassibi and D. Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon"
(NeurIPS 1992).
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

PRUNED = "pruned:"
"""A backbone's name that starts with this is the timm model of the rest, at half its hidden width."""

KEPT = 0.5
"""Share of the hidden channels that stay."""

_FAMILIES = ("tf_efficientnet_lite", "efficientnet_lite")
_MULTIPLE = 16  # of channels: runtimes lay maps out in blocks of 16 and compute whole blocks anyhow
_POSITIONS = 8192  # positions of a map, chosen at random, that go into the linear system, per image and block
_RIDGE = 1e-2  # of the mean diagonal: pulls the fit towards the old projection where the images determine little


def unpruned_name(backbone: str) -> str:
    """The timm model that a backbone `pruned:...` is made from.

    Raises:
        ValueError: not an EfficientNet-Lite; only blocks without squeeze-and-excitation can be pruned so.

    """
    name = backbone.removeprefix(PRUNED)
    if not name.startswith(_FAMILIES) or not timm.is_model(name):
        known = ", ".join(timm.list_models([f"{family}*" for family in _FAMILIES]))
        raise ValueError(f"{PRUNED} is for {known}; not for {name}")
    return name


def halve_channels(body: nn.Module) -> nn.Module:
    """Replace the hidden convolutions of a backbone, in place, by ones of half the width, with random weights.

    Args:
        body: an EfficientNet-Lite as timm makes it with `features_only`.

    Returns:
        The same module.

    """
    for block in _blocks(body):
        hidden = _kept(block.conv_dw.out_channels)
        expansion, depthwise, projection = block.conv_pw, block.conv_dw, block.conv_pwl
        block.conv_pw = nn.Conv2d(expansion.in_channels, hidden, 1, bias=False)
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
        block.conv_pwl = nn.Conv2d(hidden, projection.out_channels, 1, bias=False)
        for name in ("bn1", "bn2"):
            norm = deepcopy(getattr(block, name))
            _take(norm, torch.arange(hidden))
            setattr(block, name, norm)
        for conv in (block.conv_pw, block.conv_dw, block.conv_pwl):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return body


@torch.no_grad()
def prune(body: nn.Module, images: Sequence[Tensor]) -> dict[str, Tensor]:
    """Prune a pretrained backbone so that its feature maps of some images change least.

    Block by block: the pruned net's own features go in, and the full net's features are the target of the fit, so
    that each block compensates for part of the error of those before it.

    Args:
        body: the full backbone, pretrained, as timm makes it with `features_only`; it is not changed.
        images: float (1, 3, H, W) each, normalised as the backbone expects; a dozen varied ones are enough.

    Returns:
        Tensors by name, a state dict for `halve_channels(body)`.

    """
    body = deepcopy(body).eval()
    generator = torch.Generator().manual_seed(0)
    stem: Any = body
    full = [stem.bn1(stem.conv_stem(image)) for image in images]
    pruned = list(full)
    for stage in stem.blocks:
        for place, block in enumerate(stage):
            full = [block(features) for features in full]
            if isinstance(block, InvertedResidual):
                stage[place] = _pruned_block(block, pruned, full, generator)
            pruned = [stage[place](features) for features in pruned]
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


def _pruned_block(block: Any, given: list[Tensor], wanted: list[Tensor], generator: torch.Generator) -> Any:
    """The block with its most useful hidden channels, its projection fitted again by ridge regression."""
    gram = cross = torch.zeros(())
    for features, target in zip(given, wanted, strict=True):
        rows = _rows(_hidden(block, features))
        targets = _rows(target - features if block.has_skip else target)
        sampled = torch.randperm(len(rows), generator=generator)[:_POSITIONS]
        rows = torch.cat([rows[sampled], torch.ones(len(sampled), 1)], dim=1).double()  # the last is the bias
        gram = gram + rows.T @ rows / len(rows)
        cross = cross + rows.T @ targets[sampled].double() / len(rows)
    ridge = _RIDGE * gram.diagonal().mean()
    gram, cross = gram + ridge * torch.eye(len(gram), dtype=gram.dtype), cross + ridge * _projection(block)
    chosen = _selected_channels(gram, cross, _kept(block.conv_dw.out_channels))
    with_bias = torch.cat([chosen, torch.tensor([len(gram) - 1])])
    fitted = torch.linalg.solve(gram[with_bias][:, with_bias], cross[with_bias]).float()
    pruned = deepcopy(block)
    pruned.conv_pw.weight = nn.Parameter(block.conv_pw.weight[chosen].clone())
    pruned.conv_dw.weight = nn.Parameter(block.conv_dw.weight[chosen].clone())
    pruned.conv_dw.groups = pruned.conv_dw.in_channels = pruned.conv_dw.out_channels = len(chosen)
    _take(pruned.bn1, chosen)
    _take(pruned.bn2, chosen)
    pruned.conv_pwl.weight = nn.Parameter(fitted[:-1].T[:, :, None, None].contiguous())
    # the norm behind it does nothing but add the bias
    norm = pruned.bn3
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
    norm.weight = nn.Parameter(torch.ones_like(norm.weight))
    norm.bias = nn.Parameter(fitted[-1].clone())
    return pruned


def _rows(maps: Tensor) -> Tensor:
    """(1, C, H, W) -> (H W, C)."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _projection(block: Any) -> Tensor:
    """The block's projection and its norm as one matrix, float64 (C + 1, D), the bias its last row."""
    norm = block.bn3
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weights = block.conv_pwl.weight[:, :, 0, 0].T * scale
    return torch.cat([weights, (norm.bias - norm.running_mean * scale)[None]]).double()


def _selected_channels(gram: Tensor, cross: Tensor, count: int) -> Tensor:
    """Channels that remain when the one that costs least is removed, one after the other; ascending, int64 (count,).

    Args:
        gram: float64 (C + 1, C + 1), mean products of the channels; the last is the bias, which is never removed.
        cross: float64 (C + 1, D), mean products of channels and targets.
        count: how many remain.

    """
    inverse = torch.linalg.inv(gram)
    weights = inverse @ cross
    kept = torch.ones(len(gram) - 1, dtype=torch.bool)
    for _ in range(len(kept) - count):
        cost = weights[:-1].square().sum(1) / inverse.diagonal()[:-1]
        removed = int(torch.where(kept, cost, torch.inf).argmin())
        column, own = inverse[:, removed].clone(), float(inverse[removed, removed])
        weights.addr_(column, weights[removed].clone(), alpha=-1 / own)
        inverse.addr_(column, column, alpha=-1 / own)
        inverse[removed, removed] = 1  # from now on only a divisor
        kept[removed] = False
    return kept.nonzero().flatten()


def _take(norm: Any, channels: Tensor) -> None:
    """Reduce a batch norm, in place, to some channels."""
    norm.weight = nn.Parameter(norm.weight[channels].clone())
    norm.bias = nn.Parameter(norm.bias[channels].clone())
    norm.running_mean = norm.running_mean[channels].clone()
    norm.running_var = norm.running_var[channels].clone()
    norm.num_features = len(channels)
