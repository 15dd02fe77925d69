"""The checkpoints of a run: `best.safetensors`, a detector with its description, and `last.ckpt`, to resume from."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import detection
from data.files import whole_file
from detection.models.build import build_model
from detection.models.detector_config import DetectorConfig
from detection.runtime.errors import SwathError
from detection.runtime.settings import explain

BEST = "best.safetensors"
LAST = "last.ckpt"
BROKEN_BATCH = "broken_batch.safetensors"
"""The batch at which a loss was not finite, for inspection."""
HEADER_KEY = "swath"
"""Key of the JSON in the header of a .safetensors that describes the detector."""


TRAINING_ONLY = "distill."
"""Prefix of tensors that only training needs: the adapters to a teacher's features."""


class CheckpointError(SwathError):
    """A run or checkpoint that is missing, damaged or not Swath's."""


@dataclass(frozen=True)
class Trained:
    """A trained detector and its description.

    Attributes:
        model: in eval mode, on the CPU.
        config: what it was built from.
        class_names: label 0, 1, ... by name.
        dataset_fingerprint: of what it was trained on.
        weights_licence: of the weights it started from.
        metrics: of its last validation; empty without one.
        path: the file it was read from.
        recipe: that trained it, as plain data; `detection.recipe.reading.written_recipe` reads it.

    """

    model: nn.Module
    config: DetectorConfig
    class_names: tuple[str, ...]
    dataset_fingerprint: str
    weights_licence: str
    metrics: dict[str, float]
    path: Path
    recipe: Mapping[str, Any] = field(default_factory=dict)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a path beside `path`, then rename it: see `data.files.whole_file`.

    Raises:
        CheckpointError: the disk is full, or the file cannot be written; what was there is as it was.

    """
    try:
        with whole_file(path) as partial:
            write(partial)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        was = "the one from before is intact" if path.exists() else "nothing was written"
        raise CheckpointError(f"{path}: cannot be written ({reason}); {was}") from None


def save_trained(
    path: Path,
    state: dict[str, Tensor],
    *,
    config: DetectorConfig,
    recipe: Mapping[str, Any],
    class_names: tuple[str, ...],
    dataset_fingerprint: str,
    weights_licence: str,
    metrics: dict[str, float],
) -> None:
    """Write a detector's tensors and, in the file's header, everything else that `load_trained` returns.

    Args:
        path: the .safetensors to write.
        state: tensors by name, those of the model that `config` describes.
        config: what the model was built from.
        recipe: that trained it, as JSON knows it.
        class_names: label 0, 1, ... by name.
        dataset_fingerprint: of what it was trained on.
        weights_licence: of the weights it started from.
        metrics: of its last validation; empty without one.

    Raises:
        CheckpointError: it cannot be written.

    """
    header = {
        "swath_version": detection.__version__,
        "detector": config.model_dump(mode="json"),
        "recipe": recipe,
        "class_names": class_names,
        "dataset_fingerprint": dataset_fingerprint,
        "weights_licence": weights_licence,
        "metrics": metrics,
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in state.items() if not k.startswith(TRAINING_ONLY)}
    write_whole(path, lambda partial: save_file(tensors, partial, {HEADER_KEY: json.dumps(header)}))


def save_batch(path: Path, images: Tensor, targets: Sequence[Mapping[str, Tensor]]) -> None:
    """Keep a batch: `images` uint8 (B, 3, H, W) RGB, and `boxes_0`, `labels_0`, `boxes_1`, ... of its images.

    Raises:
        CheckpointError: it cannot be written.

    """
    tensors = {"images": images.contiguous()}
    for number, target in enumerate(targets):
        tensors |= {f"{key}_{number}": value.contiguous() for key, value in target.items()}
    write_whole(path, lambda partial: save_file(tensors, partial))


def find_checkpoint(path: Path) -> Path:
    """The .safetensors of a run folder, or the file itself.

    Raises:
        CheckpointError: there is none.

    """
    if path.is_dir():
        best = path / BEST
        if not best.is_file():
            raise CheckpointError(f"{path}: no {BEST} in it; is it a run, and was it validated or finished?")
        return best
    if not path.is_file():
        raise CheckpointError(f"{path}: no such run, checkpoint or .onnx")
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: give a run folder, its {BEST} or an .onnx")
    return path


def load_trained(path: Path) -> Trained:
    """Read a detector from a run folder or its `best.safetensors`.

    Raises:
        CheckpointError: missing, damaged, or not written by Swath.

    """
    path = find_checkpoint(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER_KEY, "null"))
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged or no safetensors file ({error})") from None
    if header is None:
        raise CheckpointError(f"{path}: not trained by Swath; give it as model.weights instead")
    config, about = _described(path, header)
    try:
        model = build_model(num_classes=len(about.class_names), **config.build_arguments()).eval()
        model.load_state_dict(state)
    except SwathError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (RuntimeError, ValueError, TypeError, AssertionError):
        raise CheckpointError(f"{path}: its tensors do not fit its own header; the file is damaged") from None
    return Trained(
        model,
        config,
        about.class_names,
        about.dataset_fingerprint,
        about.weights_licence,
        about.metrics,
        path,
        about.recipe,
    )


class _Header(BaseModel):
    """What a header says beside the detector."""

    class_names: tuple[str, ...] = Field(min_length=1)
    dataset_fingerprint: str
    weights_licence: str
    metrics: dict[str, float]
    recipe: dict[str, Any]


def _described(path: Path, header: Any) -> tuple[DetectorConfig, _Header]:
    try:
        return DetectorConfig.of_header(header), _Header.model_validate(header)
    except ValidationError as error:
        why = explain(error.errors()[0], _Header)
    except SwathError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # of a header of another version, key by key
        why = f"{type(error).__name__}: {error}"
    raise CheckpointError(f"{path}: its header is damaged ({why}); train again, or copy the file again")


def save_training_state(path: Path, content: Mapping[str, Any], *, step: int = 0, keep: int = 1) -> None:
    """Write a `last.ckpt`.

    Args:
        path: of it.
        content: tensors and plain values by name.
        step: that it was reached at.
        keep: how many checkpoints stay: with more than one, this one has a second name, `last-00000123.ckpt` for
            step 123, and of such only the latest `keep` are left. To go on from one, copy it over `last.ckpt`.

    Raises:
        CheckpointError: it cannot be written.

    """
    buffer = io.BytesIO()  # torch's own writer of files raises the same error for a full disk as for anything else
    torch.save(dict(content), buffer)
    write_whole(path, lambda partial: partial.write_bytes(buffer.getbuffer()))
    if keep > 1:
        by_step = path.with_name(f"{path.stem}-{step:08}{path.suffix}")
        write_whole(by_step, lambda partial: _second_name(path, partial))
        kept = sorted(path.parent.glob(f"{path.stem}-{'[0-9]' * 8}{path.suffix}"))
        for old in kept[:-keep]:
            old.unlink(missing_ok=True)


def _second_name(path: Path, other: Path) -> None:
    """One file with two names takes no space; a copy where the file system has no hard links."""
    other.unlink(missing_ok=True)
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def load_training_state(path: Path) -> dict[str, Any]:
    """Everything in a `last.ckpt`.

    Raises:
        CheckpointError: missing or damaged.

    """
    if not path.is_file():
        raise CheckpointError(f"{path}: nothing to resume; start without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise a dozen types
        raise CheckpointError(f"{path}: damaged ({type(error).__name__}); start without --resume") from error
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise CheckpointError(f"{path}: not the last.ckpt of a training; start without --resume")
    return state
