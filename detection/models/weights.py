"""Load the first weights into a detector, and report what became of every tensor.

There is never a silent random start: weights that are not available stop the command.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from torch import Tensor, nn

from detection.models.backbones import make_body
from detection.models.class_rows import rows_by_name
from detection.models.presets import preset_named, preset_options
from detection.models.pruning import PRUNED, prune
from detection.models.weight_sources import (
    BODY,
    OFFLINE_BACKBONE,
    FoundWeights,
    WeightsError,
    class_head_rows,
    find_weights,
)

# Prefixes that trainers put before a net's tensor names, and the parts of the model that may be meant.
_SOURCE_PREFIXES = ("", "module.", "model.", "backbone.", "encoder.")
_MODEL_PREFIXES = ("", BODY, BODY + "model.")


@dataclass(frozen=True)
class WeightsReport:
    """What became of every tensor, for the log and the run's `weights.json`.

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
        """For the log: one line for everything, then one for each part of the model that has tensors."""
        lines = [str(self)]
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
                lines.append(f"weights: {part}: " + ", ".join(f"{count} {what}" for count, what in counts if count))
        return lines

    def to_json(self) -> str:
        """All of it, tensor by tensor."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


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
        preset: its preset's name.
        backbone: its backbone; None is the preset's own.
        source: `coco`, `imagenet`, `imagenet-offline`, `none`, `hub:owner/repo[:ref]:entry`,
            `hub:folder:entry`, a run, or the path of a .safetensors or .pth file: a detector, or a
            backbone alone.
        class_names: of the model. Rows of the class head that the source has for the same names are
            kept, and only these; empty: a class head of the same shape is taken as it is.
        trust_hub: whether code of a Torch Hub repository may run.
        images: gives a dozen images of what the detector is to find, float (1, 3, H, W) each, normalised: full
            weights for a `pruned:` backbone are pruned on them. None: such weights are refused.

    Returns:
        What became of every tensor.

    Raises:
        WeightsError: the weights are not available (the message says which file to put where) or do not
            fit the model at all.

    """
    chosen = preset_named(preset)
    backbone = backbone or chosen.backbone_of(preset_options(chosen, {}))
    if source == "none":
        return WeightsReport("none (random start)", "none", missing=_not_in((), model.state_dict()))
    found = find_weights(source, chosen, backbone.removeprefix(PRUNED), trust_hub=trust_hub)
    if backbone.startswith(PRUNED):
        found = _pruned(model, backbone, found, images)
    return _fit(model, found, class_head_rows(preset, class_names) if class_names else ())


def default_weights(preset: str, backbone: str | None = None) -> str:
    """The pretrained weights to start a preset from where nothing is said: offline ones where there are any.

    Args:
        preset: its name.
        backbone: its backbone; None is the preset's own.

    Returns:
        `imagenet-offline`, `imagenet` or `coco`, as `load_weights` takes them.

    Raises:
        SwathError: no such preset.

    """
    chosen = preset_named(preset)
    backbone = backbone or chosen.backbone_of(preset_options(chosen, {}))
    if backbone.removeprefix(PRUNED) == OFFLINE_BACKBONE:
        return "imagenet-offline"
    return "imagenet" if chosen.chooses_backbone else "coco"


def _pruned(
    model: nn.Module, backbone: str, found: FoundWeights, images: Callable[[], Sequence[Tensor]] | None
) -> FoundWeights:
    """The same weights with the backbone pruned, where it is a full one."""
    full = make_body(backbone.removeprefix(PRUNED)).module
    ours, theirs = model.state_dict(), {BODY + name: tensor for name, tensor in full.state_dict().items()}
    state, _ = _under_our_names(found.state, ours)
    body = {name: tensor for name, tensor in state.items() if name in theirs and tensor.ndim}
    if not body or any(theirs[name].shape != tensor.shape for name, tensor in body.items()):
        return found  # it has no backbone, or a pruned one already
    if images is None:
        raise WeightsError(
            f"model.weights: {found.source} has the full backbone, and {backbone} is pruned on images of what is to "
            "be found: train it with swath train, or start from a run of this preset"
        )
    full.load_state_dict({name.removeprefix(BODY): tensor for name, tensor in body.items()}, strict=False)
    pruned = {BODY + name: tensor for name, tensor in prune(full, images()).items()}
    rest = {name: tensor for name, tensor in state.items() if name not in theirs}
    source = f"{found.source}, backbone pruned to half its hidden channels"
    return replace(found, state={**rest, **pruned}, source=source)


def _fit(model: nn.Module, found: FoundWeights, rows: Sequence[str]) -> WeightsReport:
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
    if not any(ours[name].ndim for name in taken):  # counters of batch norms do not count
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
    """The model's tensors that are not in `state`, without batch norms' counters, which no result depends on."""
    return tuple(sorted(name for name in ours.keys() - set(state) if ours[name].ndim))


def _under_our_names(state: dict[str, Tensor], ours: dict[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
    """Tensors by the model's names, under the prefixes that match most shapes; and the names that are left over.

    A file of a backbone alone lacks the model's prefix, a trainer may add one, and timm writes `stages.0` as
    `stages_0` where it gives feature maps.
    """
    written = {name.replace(".", "_"): name for name in ours}
    best: dict[str, str] = {}  # ours -> theirs
    most = -1
    for their_prefix in _SOURCE_PREFIXES:
        for our_prefix in _MODEL_PREFIXES:
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
