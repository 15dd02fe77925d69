"""Swath's detectors through Torch Hub: `torch.hub.load("owner/swath", "fcos_lite", num_classes=3)`.

Each entry gives a detector in training mode that takes what torchvision's detectors take: a list of float
(3, H, W) RGB images in 0..1, here of one size, and targets. `trained` gives one that `swath train` made.
"""

from __future__ import annotations

# Torch Hub offers every public callable of this module as an entry, hence the underscores.
from functools import partial as _partial
from pathlib import Path as _Path
from typing import Any as _Any

from torch import nn as _nn

from detection.models.build import build_model as _build_model
from detection.models.checkpoint import load_trained as _load_trained
from detection.models.presets import KINDS as _KINDS
from detection.models.weights import default_weights as _default_weights
from detection.models.weights import load_weights as _load_weights

dependencies = ["torch", "torchvision", "timm", "safetensors", "pydantic", "yaml", "numpy", "cv2"]


def _detector(preset: str, num_classes: int, weights: str | None = None, **options: _Any) -> _nn.Module:
    """A detector of this preset, pretrained.

    Args:
        preset: given by the entry's name.
        num_classes: classes without a background.
        weights: as `model.weights` in a recipe: `coco`, `imagenet`, `imagenet-offline`, `none`, a run or
            a file. None: the offline ones where they fit, else the backbone's own from the network. `fcos_lite_n`,
            whose backbone is pruned on photos, needs a run of it or `none`.
        options: the preset's own, such as `backbone` and `channels`, and `size_hw`, `nms_iou`, `max_detections`, ...
            as `detection.models.build.build_model` takes them.

    Raises:
        SwathError: no such backbone, or weights that are not available.

    """
    model = _build_model(preset, num_classes, **options)
    backbone = options.get("backbone")
    _load_weights(model, preset, backbone, weights or _default_weights(preset, backbone))
    return model


def trained(run: str) -> _nn.Module:
    """The detector of a run folder or its `best.safetensors`, in eval mode.

    Raises:
        CheckpointError: missing, damaged, or not written by Swath.

    """
    return _load_trained(_Path(run)).model


for _kind in _KINDS:
    globals()[_kind.name] = _partial(_detector, _kind.name)
    globals()[_kind.name].__doc__ = f"{_kind.title}: {_detector.__doc__}"
del _kind
