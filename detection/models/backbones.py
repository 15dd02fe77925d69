"""Backbones by name, from timm or torchvision: classifiers without their head, as feature extractors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from detection.models.pruning import PRUNED, halve_channels, unpruned_name
from detection.runtime.errors import reason

TORCHVISION = "torchvision:"
"""A backbone's name that starts with this is torchvision's; all others are timm's."""

_WANTED = [8, 16, 32]
_PROBE_HW = (224, 448)  # not square, and a multiple of every usual patch and window

# Options by which a net accepts images of any size: none, those of timm's ViTs, those of its Swins.
_ANY_SIZE: tuple[dict[str, Any], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})


@dataclass(frozen=True)
class Body:
    """A backbone and the feature maps that a neck takes from it.

    Attributes:
        module: normalised images float (N, 3, H, W) -> a list or dict of float feature maps.
        channels: of each map.
        strides: of each map: 8, 16 and 32, or the one patch of a plain vision transformer.
        channels_innermost: whether a map is (N, h, w, C) instead of (N, C, h, w).
        stem: the part that ends at stride 4 (a transformer's patch embedding), which `freeze_stem` freezes;
            None where there is no such part.

    """

    module: nn.Module
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    channels_innermost: tuple[bool, ...]
    stem: str | None


def make_body(backbone: str) -> Body:
    """A backbone with random weights.

    Args:
        backbone: a timm model that offers `features_only`, `torchvision:` and the name of one of torchvision's
            classifiers, or `pruned:` and the name of an EfficientNet-Lite (see `detection.models.pruning`).

    Raises:
        ValueError: no such model, one whose maps are not at strides 8, 16 and 32 (nor all at one
            stride of at most 16), or one that takes images of a single size only.

    """
    if backbone.startswith(TORCHVISION):
        return _torchvision_body(backbone.removeprefix(TORCHVISION))
    if backbone.startswith(PRUNED):
        body = _timm_body(unpruned_name(backbone))
        halve_channels(body.module)
        return body
    return _timm_body(backbone)


def normalisation(backbone: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per RGB channel (images scaled to 0..1) that the backbone was trained with.

    Raises:
        ValueError: no such model.

    """
    if backbone.startswith(TORCHVISION):
        name = _torchvision_classifier(backbone.removeprefix(TORCHVISION))
        preparing = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        return list(preparing.mean), list(preparing.std)
    config = timm.get_pretrained_cfg(backbone.removeprefix(PRUNED))
    if config is None:
        raise ValueError(f"timm has no backbone named {backbone}")
    return list(config.mean), list(config.std)


@dataclass(frozen=True)
class _Plan:
    """How to build a backbone, and the attributes of its `Body`."""

    options: dict[str, Any]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    channels_innermost: tuple[bool, ...]
    stem: str | None


def _timm_body(name: str) -> Body:
    if not timm.is_model(name):
        raise ValueError(f"timm has no backbone named {name}")
    plan = _timm_plan(name)
    module = timm.create_model(name, features_only=True, pretrained=False, **plan.options)
    return _body(module, plan)


@cache
def _timm_plan(name: str) -> _Plan:
    options, probe, maps = _options_for_any_size(name)
    measured = [_stride(m) for m in maps]
    strides = [stride for stride, _ in measured]
    stem: str | None
    if len(set(strides)) == 1 and 0 < strides[0] <= 16:  # a plain transformer: all its maps are of one size
        chosen = [len(strides) - 1]
        options = {**options, "out_indices": 1}  # the last block
        stem = next((n for n, _ in probe.named_modules() if n.split(".")[-1] == "patch_embed"), None)
    else:
        chosen = _last_of_each(name, strides)
        options = {**options, "out_indices": tuple(probe.feature_info.out_indices[i] for i in chosen)}
        stem = next((i["module"] for i in reversed(probe.feature_info.get_dicts()) if i["reduction"] <= 4), None)
    return _Plan(
        options,
        tuple(_channels(maps[i], measured[i][1]) for i in chosen),
        tuple(strides[i] for i in chosen),
        tuple(measured[i][1] for i in chosen),
        stem,
    )


def _body(module: nn.Module, plan: _Plan) -> Body:
    """Without a stem where half of the net or more comes before its end: not all nets list their parts in order."""
    stem = plan.stem
    if stem is not None:
        sizes = [p.numel() for p in module.parameters()]
        end = end_of_stem(module, stem)
        stem = stem if 0 < end and sum(sizes[:end]) < 0.5 * sum(sizes) else None
    return Body(module, plan.channels, plan.strides, plan.channels_innermost, stem)


def _options_for_any_size(name: str) -> tuple[dict[str, Any], Any, list[Tensor]]:
    """The first options with which the net accepts images that are not square, a probe, and its feature maps."""
    first_error: Exception | None = None
    for options in _ANY_SIZE:
        try:
            with torch.device("meta"), torch.no_grad():  # shapes only: costs no time and no memory
                probe = timm.create_model(name, features_only=True, pretrained=False, **options).eval()
                return options, probe, list(probe(torch.zeros(1, 3, *_PROBE_HW)))
        except Exception as error:  # each net raises another type
            first_error = first_error or error
    why = reason(first_error)
    raise ValueError(f"backbone {name} does not give feature maps of images of any size ({why})") from first_error


def _torchvision_classifier(name: str) -> str:
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(f"torchvision has no classifier named {name}")
    return name


def _torchvision_body(name: str) -> Body:
    plan = _torchvision_plan(_torchvision_classifier(name))
    whole = torchvision.models.get_model(name, weights=None)
    # Dropout and the like make the graphs of training and evaluation differ; both are kept.
    return _body(create_feature_extractor(whole, suppress_diff_warning=True, **plan.options), plan)


@cache
def _torchvision_plan(name: str) -> _Plan:
    try:
        with torch.device("meta"):
            probe = torchvision.models.get_model(name, weights=None)
    except NotImplementedError:  # a few compute their widths with tensors
        probe = torchvision.models.get_model(name, weights=None).to("meta")
    with torch.device("meta"), torch.no_grad():
        found = _maps_inside(probe.eval())
    strides = [stride for _, stride, _, _ in found]
    chosen = [found[i] for i in _last_of_each(TORCHVISION + name, strides)]
    return _Plan(
        {"return_nodes": {node: str(i) for i, (node, _, _, _) in enumerate(chosen)}},
        tuple(channels for _, _, channels, _ in chosen),
        tuple(stride for _, stride, _, _ in chosen),
        tuple(innermost for _, _, _, innermost in chosen),
        next((node for node, stride, _, _ in reversed(found) if 0 < stride <= 4), None),
    )


def _maps_inside(net: nn.Module) -> list[tuple[str, int, int, bool]]:
    """Stages of a net and their parts, as (name, stride, channels, channels innermost), in the order they run."""
    found: list[tuple[str, int, int, bool]] = []
    latest: list[Tensor] = []

    def note(name: str, answer: Any) -> None:
        if not isinstance(answer, Tensor) or answer.ndim != 4 or any(answer is seen for seen in latest):
            return  # a sequence returns its last part's output
        latest[:] = [answer]
        stride, innermost = _stride(answer)
        found.append((name, stride, _channels(answer, innermost), innermost))

    def hook(name: str) -> Callable[..., None]:
        return lambda module, given, answer: note(name, answer)

    for name, module in net.named_modules():
        if name and name.count(".") <= 1:
            module.register_forward_hook(hook(name))
    try:
        net(torch.zeros(1, 3, *_PROBE_HW))
    except Exception as error:  # nets of a fixed input size raise various types
        why = reason(error)
        raise ValueError(f"this backbone of torchvision accepts one image size only ({why})") from error
    return found


def _stride(feature_map: Tensor) -> tuple[int, bool]:
    """Stride of a feature map of the probe, 0 if it is not one, and whether its channels are last."""
    height, width = _PROBE_HW
    if feature_map.ndim == 4:
        for innermost, (h, w) in ((False, feature_map.shape[2:]), (True, feature_map.shape[1:3])):
            if height % h == 0 and height // h * w == width:
                return height // h, innermost
    return 0, False


def _channels(feature_map: Tensor, innermost: bool) -> int:
    return feature_map.shape[3 if innermost else 1]


def _last_of_each(name: str, strides: list[int]) -> list[int]:
    if not set(_WANTED) <= set(strides):
        has = ", ".join(str(s) for s in sorted(set(strides)) if s) or "none"
        raise ValueError(f"backbone {name} has feature maps at strides {has}; 8, 16 and 32 are needed")
    return [max(i for i, s in enumerate(strides) if s == wanted) for wanted in _WANTED]


def end_of_stem(body: nn.Module, stem: str) -> int:
    """How many of the body's parameters come before the end of its part `stem`; 0 if it has no such part."""
    # parameters come in the order in which the parts run; some backbones write a dot as an underscore
    names = [name.replace(".", "_") for name, _ in body.named_parameters()]
    inside = [i for i, name in enumerate(names) if name.startswith(stem.replace(".", "_") + "_")]
    return max(inside, default=-1) + 1
