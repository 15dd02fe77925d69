"""Practice on a rendered field before the real one: a head that has seen plants needs fewer photos of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from platformdirs import user_cache_path

import detection
from data.synthetic import render_dataset
from detection.models.checkpoint import BEST
from detection.models.pruning import PRUNED
from detection.recipe.schema import Data, Model, Pretrain, Recipe, Train
from detection.runtime.errors import SwathError
from detection.training.watcher import TrainingError, Watcher

TrainFunction = Callable[..., Path]

_SEED = 77
"""Of the rendered fields: none of the demo's, so that its figures stay those of fields nobody has seen."""


def pretrained(
    recipe: Recipe, train: TrainFunction, *, watcher: Watcher, stop: threading.Event | None = None
) -> Path:
    """The recipe's detector after its practice; made once, and found again by every later run that fits.

    J. Tremblay et al., "Training Deep Networks with Synthetic Data" (CVPR 2018 workshops): rendered images first,
    then few real ones, beats the real ones alone. Here backbone, neck and the head's convolutions learn what lies
    where; the classes are learned from the photos.

    Args:
        recipe: with a `pretrain` section.
        train: `detection.training.train.train`, which this is a part of.
        watcher: told of what is done.
        stop: when set, the practice ends without a result.

    Returns:
        A `best.safetensors`, to start from.

    Raises:
        SwathError: it was stopped, or several processes were to make it at once.

    """
    assert recipe.pretrain is not None
    practice = _practice(recipe, recipe.pretrain)
    kept = _kept(recipe, recipe.pretrain)
    if (kept / BEST).is_file():
        watcher.note(f"practised on a rendered field before: {kept}")
        return kept / BEST
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise SwathError(
            "pretrain: the practice on a rendered field is one process's work; run `swath train` with this recipe on "
            "one device until it is done (Ctrl-C then), and start the processes again"
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".practice-", dir=kept.parent) as name:
        field, run = Path(name, "field"), Path(name, "run")
        watcher.note(
            f"first, once, practice on a rendered field: {recipe.pretrain.images} images, "
            f"{recipe.pretrain.epochs} epochs; later runs find it in {kept}"
        )
        render_dataset(
            field,
            images=recipe.pretrain.images,
            fields=max(1, recipe.pretrain.images // 5),
            seed=_SEED,
            progress=partial(watcher.progress, "rendering"),
        )
        on_field = practice.model_copy(update={"data": practice.data.model_copy(update={"train": str(field)})})
        try:
            best = train(on_field, run, watcher=watcher, stop=stop)
        except TrainingError:
            if stop is None or not stop.is_set():
                raise
            raise TrainingError("stopped while practising on the rendered field; nothing is kept of that") from None
        made = Path(name, "made")
        made.mkdir()
        shutil.move(best, made / BEST)
        shutil.copy(run / "config.yaml", made)
        try:
            made.rename(kept)
        except OSError:  # another run has made it meanwhile
            if not (kept / BEST).is_file():
                raise
    return kept / BEST


def practised_before(recipe: Recipe) -> Path | None:
    """What an earlier run's practice has left, where the recipe asks for one and there was one."""
    if recipe.pretrain is None:
        return None
    best = _kept(recipe, recipe.pretrain) / BEST
    return best if best.is_file() else None


def _practice(recipe: Recipe, pretrain: Pretrain) -> Recipe:
    """The recipe of the practice. Only what shapes the detector comes from the recipe itself."""
    settings = recipe.train
    model = recipe.model.model_dump()
    if recipe.model.backbone.startswith(PRUNED):
        # trained at full width: it is pruned on the photos, which rendered images cannot stand for
        model["backbone"] = recipe.model.backbone.removeprefix(PRUNED)
    return Recipe(
        data=Data(train="", licence="rendered by Swath, Apache-2.0"),
        model=Model.model_validate(model),
        input=pretrain.input,
        train=Train(
            epochs=pretrain.epochs,
            seed=settings.seed,
            workers=settings.workers,
            accelerator=settings.accelerator,
            precision=settings.precision,
            loggers=(),
        ),
    )


def _kept(recipe: Recipe, pretrain: Pretrain) -> Path:
    """The folder for what comes out, named after all that decides it, so that nothing else is taken for it."""
    content = _practice(recipe, pretrain).model_dump(mode="json") | {"pretrain": pretrain.model_dump(mode="json")}
    del content["train"]["workers"]
    weights = Path(recipe.model.weights)
    changed = weights.stat().st_mtime_ns if weights.is_file() else None
    identity = json.dumps([detection.__version__, _SEED, changed, content], sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return user_cache_path("swath", appauthor=False) / "pretrained" / f"{recipe.model.preset}-{digest}"
