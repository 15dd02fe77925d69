"""Transfer learning from a recipe: the training loop, on Lightning Fabric."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from detection.models.checkpoint import BEST, LAST
from detection.recipe.schema import Recipe
from detection.training.prepare import prepare
from detection.training.pretraining_recipe import pretraining_of, pretraining_recipe
from detection.training.run_loggers import check_loggers
from detection.training.saved_state import resumable
from detection.training.throughput import ThroughputMeter
from detection.training.training_data import require_datasets
from detection.training.training_run import TrainingRun
from detection.training.watcher import NullWatcher, TrainingError, Watcher


def train(
    recipe: Recipe,
    out: Path,
    *,
    watcher: Watcher | None = None,
    resume: bool = False,
    stop: threading.Event | None = None,
) -> Path:
    """Fine-tune a detector.

    Example:
        >>> recipe = load_recipe(Path("configs/demo.yaml"), ["train.epochs=4"])
        >>> best = train(recipe, Path("runs/demo"))

    Args:
        recipe: what to train, on what, how long.
        out: the run folder: `config.yaml`, `metrics.csv`, TensorBoard events, `best.safetensors`, `last.ckpt`.
        watcher: receives every step and validation; None: nothing does.
        resume: continue from `last.ckpt` in `out`.
        stop: when set, the run is saved after the current step and ended.

    Returns:
        The path of `best.safetensors`: the weights with the best AP on the validation images, or the last ones
        where there are none, or no box in them.

    Raises:
        SwathError: a recipe, weights or checkpoint that cannot be used; a loss that is not finite; a run that was
            stopped, whose `last.ckpt` can be resumed.
        DataError: a dataset that cannot be used.

    """
    watcher = watcher or NullWatcher()
    started_s = time.monotonic()
    if not resume and (out / LAST).exists():
        raise TrainingError(f"{out}: contains a run already; give another --out, or continue it with --resume")
    require_datasets(recipe.data.train, recipe.data.val, how_to_get=recipe.data.how_to_get)
    check_loggers(recipe.train.loggers)
    saved = resumable(out / LAST) if resume else None
    start = None
    if recipe.pretrain is not None and saved is None:
        start = pretrain(recipe, watcher=watcher, stop=stop)
        started_s = time.monotonic()  # the budget is for the photos
    prepared = prepare(recipe, watcher, saved=saved, start=start)
    run = TrainingRun(
        prepared.trainer,
        prepared.source,
        prepared.validator,
        out,
        options=prepared.fit,
        provenance=prepared.provenance,
        watcher=prepared.watcher,
        saved=saved,
        stop=stop,
        started_s=started_s,
    )
    meter = ThroughputMeter(prepared.trainer.fabric.device)
    try:
        for batch in meter.batches(run.batches()):
            if run.is_over():
                break
            run.step(batch, meter)
            if run.validation_due:
                run.validate()
                if run.out_of_patience():
                    break
            if run.checkpoint_due:
                run.save_last()
        run.finish()
    finally:
        run.close()
    return out / BEST


def pretrain(recipe: Recipe, *, watcher: Watcher | None = None, stop: threading.Event | None = None) -> Path | None:
    """Make, or find, the synthetic pre-training that a recipe starts with.

    Args:
        recipe: of the training that follows.
        watcher: receives every step; None: nothing does.
        stop: when set, the pre-training ends without a result.

    Returns:
        A `best.safetensors` to start from; None where the recipe has no `pretrain` section.

    Raises:
        SwathError: it was stopped, or several processes would have to make it at once.

    """
    pretraining = pretraining_of(recipe)
    if pretraining is None:
        return None
    watching = watcher or NullWatcher()

    def train_on(field: Path, run: Path) -> Path:
        return train(pretraining_recipe(recipe, field), run, watcher=watching, stop=stop)

    return pretraining.find_or_make(train_on, watcher=watching, stop=stop)
