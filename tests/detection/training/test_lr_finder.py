import csv
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.recipe.reading import load_recipe
from detection.training.lr_finder import HIGHEST, LOWEST, find_learning_rate, rate_curve, rate_plot
from tests.detection.conftest import Quiet, swath, write_recipe

RATES = np.geomspace(LOWEST, HIGHEST, 100)


def valley(at: float = 1e-3, rise: float = 1e-1) -> np.ndarray:
    """3 at small rates, falling to 1 around `at`, rising without end from `rise` on."""
    return 1 + 2 / (1 + (RATES / at) ** 2) + np.maximum(0, np.log(RATES / rise)) * 8


def test_the_suggestion_lies_where_the_loss_falls() -> None:
    curve = rate_curve(RATES, valley())
    assert curve.steepest is not None and curve.lowest is not None and curve.diverged is not None
    assert 1e-3 < curve.steepest < 5e-3  # it falls at 1e-3; smoothing lags
    assert curve.steepest < curve.lowest < curve.diverged
    assert 1e-1 < curve.diverged < 4e-1
    assert curve.suggestion == curve.steepest
    first, second = curve.in_words(1e-3)
    assert f"fastest at {curve.steepest:.1e}" in first and "diverges from" in first
    assert second == f"suggestion: -s train.learning_rate={curve.suggestion:.1e}   (now 1.0e-03)"


def test_it_is_at_most_a_tenth_of_where_it_diverges() -> None:
    curve = rate_curve(RATES, valley(at=1e-2, rise=2e-2))
    assert curve.diverged is not None and curve.steepest is not None
    assert curve.steepest > curve.diverged / 10
    assert curve.suggestion == pytest.approx(curve.diverged / 10)


def test_a_loss_that_ends_in_nothing_has_diverged_there() -> None:
    losses = valley()[:80]
    losses[-1] = math.nan
    curve = rate_curve(RATES[:80], losses)
    assert curve.diverged == RATES[79]
    ElementTree.fromstring(rate_plot(curve, 1e-3))


@pytest.mark.parametrize("losses", [np.full(100, 2.0), np.linspace(2, 9, 100), np.array([2.0, 1.9, 8.0])])
def test_where_it_never_falls_nothing_is_suggested(losses: np.ndarray) -> None:
    curve = rate_curve(RATES[: len(losses)], losses)
    assert curve.suggestion is None
    assert curve.in_words(1e-3) == ["the loss fell at no rate: look at the images and their labels before the rate"]
    assert "no suggestion" in rate_plot(curve, 1e-3)


@settings(deadline=None, max_examples=50)
@given(st.floats(0.01, 1000))
def test_the_scale_of_the_loss_does_not_matter(scale: float) -> None:
    assert rate_curve(RATES, scale * valley()).suggestion == rate_curve(RATES, valley()).suggestion


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=100))
def test_any_losses_can_be_drawn_and_said(losses: list[float]) -> None:
    curve = rate_curve(RATES[: len(losses)], np.array(losses))
    assert curve.in_words(1e-3)
    ElementTree.fromstring(rate_plot(curve, 1e-3))
    if curve.suggestion is not None:
        assert LOWEST / 10 <= curve.suggestion <= HIGHEST


def test_it_writes_its_curve_and_trains_nothing(tmp_path: Path, rendered: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", rendered))
    out = tmp_path / "run"
    out.mkdir()
    (out / "best.safetensors").write_bytes(b"of an earlier run")
    curve = find_learning_rate(recipe, out, watcher=Quiet(), steps=8)
    assert sorted(p.name for p in out.iterdir()) == ["best.safetensors", "lr_finder.csv", "lr_finder.svg"]
    assert (out / "best.safetensors").read_bytes() == b"of an earlier run"
    with (out / "lr_finder.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert 1 <= len(rows) <= 8 and float(rows[0]["learning_rate"]) == pytest.approx(LOWEST)
    assert float(rows[0]["loss"]) == pytest.approx(curve.losses[0], abs=1e-4)
    again = find_learning_rate(recipe, tmp_path / "again", watcher=Quiet(), steps=8)
    assert again.losses.tolist() == curve.losses.tolist()  # the first left nothing behind


def test_one_thing_at_a_time(capsys, tmp_path: Path) -> None:
    code, _, said = swath(capsys, "train", tmp_path / "r.yaml", "--find-lr", "--dry-run")
    assert code == 2 and "one of --resume, --find-lr and --dry-run" in " ".join(said.replace("│", " ").split())
