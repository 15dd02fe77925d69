"""Weights from Torch Hub. The repository's own code builds the net, so that it must be trusted first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detection.runtime.errors import SwathError, reason

HUB = "hub:"
"""A source of weights that starts with this is `hub:owner/repo[:ref]:entry` or `hub:folder:entry`."""


class HubError(SwathError):
    """An entry of Torch Hub that cannot be used."""


def tensors_from_hub(source: str, *, trusted: bool) -> dict[str, Tensor]:
    """The pretrained tensors of a net that a repository's `hubconf.py` builds.

    The entry is called twice with different seeds: tensors that differ are randomly initialised, and left out.

    Args:
        source: `hub:owner/repo[:ref]:entry` (GitHub, kept in Torch Hub's folder), or `hub:folder:entry`
            for a clone: a folder that starts with `/`, `.` or `~`.
        trusted: whether the repository's code may run here.

    Raises:
        HubError: not trusted, no such repository or entry, or an entry that returns no module or an untrained one.

    """
    repository, colon, entry = source.removeprefix(HUB).rpartition(":")
    if not colon or not repository or not entry:
        raise HubError(f"model.weights: {source}: write hub:owner/repo:entry or hub:folder:entry")
    if not trusted:
        raise HubError(
            f"model.weights: {source} runs code of {repository} on this machine; "
            "if you trust it, set model.trust_hub=true"
        )
    first, second = (_build(source, repository, entry, seed) for seed in (0, 1))
    fixed = {
        name: tensor
        for name, tensor in first.items()
        if name in second and torch.equal(tensor, second[name])  # constants, such as zeros, count as pretrained
    }
    if not any(tensor.ndim > 1 for tensor in fixed.values()):
        raise HubError(f"model.weights: {source} has random weights only, no pretrained ones")
    return fixed


def _build(source: str, repository: str, entry: str, seed: int) -> dict[str, Tensor]:
    is_folder = repository.startswith(("/", ".", "~"))
    where: dict[str, Any] = {"source": "local"} if is_folder else {"trust_repo": True, "verbose": False}
    folder = str(Path(repository).expanduser()) if is_folder else repository
    if is_folder and not Path(folder, "hubconf.py").is_file():
        raise HubError(f"model.weights: {source}: {folder} has no hubconf.py")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                net = torch.hub.load(folder, entry, pretrained=True, **where)
            except TypeError as error:
                if "pretrained" not in str(error):
                    raise
                net = torch.hub.load(folder, entry, **where)
    except Exception as error:  # a repository's code can raise anything
        why = reason(error)
        raise HubError(
            f"model.weights: {source} cannot be loaded ({why}); without a network give a clone: hub:folder:entry"
        ) from error
    if not isinstance(net, nn.Module):
        raise HubError(f"model.weights: {source} returns no module but {type(net).__name__}")
    return {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}
