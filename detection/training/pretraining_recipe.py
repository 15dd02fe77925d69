"""The recipe of a synthetic pre-training, from the recipe of the training that it precedes."""

from __future__ import annotations

from pathlib import Path

from detection.models.pruning import PRUNED
from detection.recipe.schema import Data, Model, Recipe, Train
from detection.training.synthetic_pretraining import SyntheticPretraining


def pretraining_recipe(recipe: Recipe, field: Path | None = None) -> Recipe:
    """What to train on the rendered `field`. Only what shapes the detector is taken from the recipe itself.

    Args:
        recipe: with a `pretrain` section.
        field: the rendered dataset; None: not rendered yet.

    """
    assert recipe.pretrain is not None
    settings = recipe.train
    model = recipe.model.model_dump()
    if recipe.model.backbone.startswith(PRUNED):
        # pre-trained at full width: it is pruned on the photos, which rendered images cannot stand for
        model["backbone"] = recipe.model.backbone.removeprefix(PRUNED)
    return Recipe(
        data=Data(train="" if field is None else str(field), licence="rendered by Swath, Apache-2.0"),
        model=Model.model_validate(model),
        input=recipe.pretrain.input,
        train=Train(
            epochs=recipe.pretrain.epochs,
            seed=settings.seed,
            workers=settings.workers,
            accelerator=settings.accelerator,
            precision=settings.precision,
            loggers=(),
        ),
    )


def pretraining_of(recipe: Recipe) -> SyntheticPretraining | None:
    """The synthetic pre-training that a recipe starts with; None where it has none."""
    if recipe.pretrain is None:
        return None
    settings = pretraining_recipe(recipe).model_dump(mode="json")
    del settings["train"]["workers"]  # changes nothing
    return SyntheticPretraining(recipe.model.preset, recipe.pretrain.images, recipe.pretrain.epochs, settings)
