"""Pretrained backbones at about half their hidden width: cut in closed form on the pictures that are to be learned.

The widest maps of a MobileNet-like net are hidden ones: each block widens its input by six, filters every channel by
itself, and narrows it again. Half of those channels give nearly what all gave, if the narrowing is fitted anew: one
linear system per block, without training or labels, from pictures of the kind that the net will see. So prune Y. He,
X. Zhang and J. Sun, "Channel Pruning for Accelerating Very Deep Neural Networks" (ICCV 2017), who choose channels by
a lasso; here they are chosen by what their loss costs, after B. Hassibi and D. Stork, "Second order derivatives for
network pruning: Optimal Brain Surgeon" (NeurIPS 1992).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.models._efficientnet_blocks import InvertedResidual
from torch import Tensor, nn

SLIM = "slim:"
"""A backbone's name that starts with this is the timm model of the rest, at about half its hidden width."""

KEPT_FINE, KEPT_COARSE = 0.5, 0.7
"""Share of the hidden channels that stay, in maps of stride 2 to 8 and in coarser ones. Fine maps are large: there a
channel costs most, and is missed least (`scripts/bench_slim.py`)."""

_FAMILIES = ("tf_efficientnet_lite", "efficientnet_lite")
_MULTIPLE = 16  # of channels: runtimes lay maps out in blocks of 16 and compute whole blocks anyhow
_POSITIONS = 8192  # of a map, drawn at random, that the systems are set up from, per picture and block
_PULL = 1e-2  # of the mean diagonal: how much the narrowing is held to what it was, where pictures say little

# The layers around hidden maps, in the order they run. The stem and the first block, which does not widen, are one.
_STEM = ("conv_stem", "bn1", "blocks.0.0.conv_dw", "blocks.0.0.bn1", "blocks.0.0.conv_pw", "blocks.0.0.bn2")
_BLOCK = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")


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
    for part in _parts(body):
        widening, norm, depthwise, second_norm, narrowing, _ = part.layers()
        kept = torch.arange(part.kept)
        for conv in (widening, depthwise):
            conv.weight = nn.Parameter(torch.empty_like(conv.weight[kept]))
        narrowing.weight = nn.Parameter(torch.empty_like(narrowing.weight[:, kept]))
        part.resize()
        for one in (norm, second_norm):
            _take(one, kept)
        for conv in (widening, depthwise, narrowing):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return body


@torch.no_grad()
def slimmed(body: nn.Module, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
    """The tensors of the slim backbone that comes closest to a wide one on some pictures.

    Block by block, what the slim net has come to so far goes in, and what the wide net gives there is aimed at: so
    each block makes up for some of what the ones before it lost.

    Args:
        body: the wide backbone, pretrained; stays as it is.
        pictures: float (1, 3, H, W) each, normalised as the backbone wants them; a dozen of different kinds do.

    Returns:
        What `narrow(body)` loads, by name.

    """
    body, whole = deepcopy(body).eval(), deepcopy(body).eval()
    generator = torch.Generator().manual_seed(0)
    wide = slim = list(pictures)
    for part, original in zip(_parts(body), _parts(whole), strict=True):
        wide = [original(features) for features in wide]
        _cut(part, slim, wide, generator)
        slim = [part(features) for features in slim]
    return body.state_dict()


@dataclass(frozen=True)
class _Part:
    """Hidden maps and what is around them.

    Attributes:
        root: the module that the layers are in.
        names: of the layers in it: what widens and filters, each with its norm, and what narrows.
        has_skip: whether what comes in is added to what comes out.
        kept: so many hidden channels stay.

    """

    root: nn.Module
    names: tuple[str, ...]
    has_skip: bool
    kept: int

    def layers(self) -> list[Any]:
        return [self.root.get_submodule(name) for name in self.names]

    def hidden(self, features: Tensor) -> Tensor:
        for layer in self.layers()[:4]:
            features = layer(features)
        return features

    def __call__(self, features: Tensor) -> Tensor:
        narrowing, norm = self.layers()[4:]
        answer: Tensor = norm(narrowing(self.hidden(features)))
        return answer + features if self.has_skip else answer

    def resize(self) -> None:
        """Have the convolutions say what their weights are."""
        widening, _, depthwise, _, narrowing, _ = self.layers()
        widening.out_channels = narrowing.in_channels = self.kept
        depthwise.groups = depthwise.in_channels = depthwise.out_channels = self.kept


def _parts(body: Any) -> Iterator[_Part]:
    """In the order they run."""
    yield _Part(body, _STEM, has_skip=False, kept=_kept(body.conv_stem.out_channels, KEPT_FINE))
    stride = 2
    for block in (block for stage in body.blocks for block in stage if isinstance(block, InvertedResidual)):
        share = KEPT_FINE if stride <= 8 else KEPT_COARSE
        yield _Part(block, _BLOCK, block.has_skip, _kept(block.conv_dw.out_channels, share))
        stride *= block.conv_dw.stride[0]


def _kept(hidden: int, share: float) -> int:
    return min(hidden, math.ceil(hidden * share / _MULTIPLE) * _MULTIPLE)


def _cut(part: _Part, given: list[Tensor], wanted: list[Tensor], generator: torch.Generator) -> None:
    """Leave, in place, the hidden channels that matter most, and fit the narrowing anew by least squares."""
    gram = cross = torch.zeros(())
    for features, target in zip(given, wanted, strict=True):
        rows = _rows(part.hidden(features))
        aims = _rows(target - features if part.has_skip else target)
        drawn = torch.randperm(len(rows), generator=generator)[:_POSITIONS]
        rows = torch.cat([rows[drawn], torch.ones(len(drawn), 1)], dim=1).double()  # the last is the bias
        gram = gram + rows.T @ rows / len(rows)
        cross = cross + rows.T @ aims[drawn].double() / len(rows)
    widening, first_norm, depthwise, second_norm, narrowing, last_norm = part.layers()
    pull = _PULL * gram.diagonal().mean()
    gram = gram + pull * torch.eye(len(gram), dtype=gram.dtype)
    cross = cross + pull * _as_matrix(narrowing, last_norm)
    chosen = _most_useful(gram, cross, part.kept)
    with_bias = torch.cat([chosen, torch.tensor([len(gram) - 1])])
    fitted = torch.linalg.solve(gram[with_bias][:, with_bias], cross[with_bias]).float()
    for conv in (widening, depthwise):
        conv.weight = nn.Parameter(conv.weight[chosen].clone())
    narrowing.weight = nn.Parameter(fitted[:-1].T[:, :, None, None].contiguous())
    part.resize()
    for norm in (first_norm, second_norm):
        _take(norm, chosen)
    # the norm behind it does nothing but add the bias
    last_norm.running_mean.zero_()
    last_norm.running_var.fill_(1 - last_norm.eps)
    last_norm.weight = nn.Parameter(torch.ones_like(last_norm.weight))
    last_norm.bias = nn.Parameter(fitted[-1].clone())


def _rows(maps: Tensor) -> Tensor:
    """(1, C, H, W) -> (H W, C)."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _as_matrix(narrowing: Any, norm: Any) -> Tensor:
    """A pointwise convolution and its norm, float64 (C + 1, D), the bias its last row."""
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weights = narrowing.weight[:, :, 0, 0].T * scale
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
