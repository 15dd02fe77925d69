"""Which learning rate? A ramp over mini-batches, the loss at each rate, and a suggestion.

Smith, "Cyclical Learning Rates for Training Neural Networks" (WACV 2017), section 3.3: the rate grows while the
loss is watched. The ramp is exponential here, and the loss smoothed, as others do it since.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray

from detection.models.checkpoint import write_whole
from detection.recipe.schema import Recipe
from detection.training.setup import set_up
from detection.training.synthetic_pretraining import practised_before
from detection.training.watcher import NotFinite, TrainingError, Watcher

STEPS = 100
LOWEST, HIGHEST = 1e-6, 1.0
"""The rates that the ramp goes through, in so many steps."""

_KEPT = 0.9  # of the smoothed loss at each step
_DIVERGED = 4.0  # the ramp ends where the smoothed loss is so many times its lowest
_SETTLING = 10  # steps until the smoothed loss means something
_FALL = 0.02  # a loss that falls by less than this share of its start has not fallen


@dataclass(frozen=True, eq=False)
class RateCurve:
    """The loss over the learning rate.

    Attributes:
        rates: float64 (N,), rising; of neck and head, the backbone's go along at their share.
        losses: float64 (N,), of each batch; the last may not be finite.
        smoothed: float64 (N,), an exponential mean, corrected for its start; it lags about ten steps behind.
        steepest: the rate at which the smoothed loss falls fastest; None where it does not fall.
        lowest: the rate at which it is lowest; None likewise.
        diverged: the rate past the lowest from which it is above where it started; None if it stays below.

    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]
    steepest: float | None
    lowest: float | None
    diverged: float | None

    @property
    def suggestion(self) -> float | None:
        """The steepest fall's rate, but at most a tenth of where the loss diverges; None where it never fell."""
        if self.steepest is None or self.diverged is None:
            return self.steepest
        return min(self.steepest, self.diverged / 10)

    def in_words(self, now: float) -> list[str]:
        """The outcome, a line each; `now` is the recipe's rate."""
        if self.suggestion is None or self.steepest is None:
            return ["the loss fell at no rate: look at the images and their labels before the rate"]
        diverged = "it did not diverge" if self.diverged is None else f"it diverges from {self.diverged:.1e} on"
        return [
            f"the loss falls fastest at {self.steepest:.1e} and is lowest at {self.lowest:.1e}; {diverged}",
            f"suggestion: -s train.learning_rate={self.suggestion:.1e}   (now {now:.1e})",
        ]


def rate_curve(rates: NDArray[np.float64], losses: NDArray[np.float64]) -> RateCurve:
    """Read a ramp: rates (N,) rising, and the loss of the batch learned with each, (N,); a last one may be NaN."""
    smoothed = _smoothed(losses)
    usable = np.isfinite(smoothed)
    known = smoothed[usable]
    if len(known) <= _SETTLING + 2:
        return RateCurve(rates, losses, smoothed, None, None, float(rates[-1]) if not usable.all() else None)
    start = float(known[_SETTLING])
    bottom = _SETTLING + int(np.argmin(known[_SETTLING:]))
    above = np.flatnonzero(~usable | (smoothed > start))
    above = above[above > bottom]
    diverged = float(rates[above[0]]) if len(above) else None
    if known[bottom] > (1 - _FALL) * start:
        return RateCurve(rates, losses, smoothed, None, None, diverged)
    slope = np.gradient(known, np.log10(rates[usable]))
    steepest = _SETTLING + int(np.argmin(slope[_SETTLING : bottom + 1]))
    return RateCurve(rates, losses, smoothed, float(rates[steepest]), float(rates[bottom]), diverged)


def find_learning_rate(recipe: Recipe, out: Path, *, watcher: Watcher, steps: int = STEPS) -> RateCurve:
    """Run the ramp on a detector of its own, and write `lr_finder.svg` and `lr_finder.csv` into `out`.

    Every batch, weight and setting is the recipe's; only the rate is not. The detector is thrown away.

    Args:
        recipe: whose rate is looked for.
        out: the run folder; a run in it stays as it is.
        watcher: told of the ramp's progress.
        steps: length of the ramp, mini-batches.

    Raises:
        SwathError: a recipe or weights that cannot be used, or a loss that is not finite from the start.
        DataError: a dataset that cannot be used.

    """
    ready = set_up(recipe, watcher, start=practised_before(recipe))
    rates = np.geomspace(LOWEST, HIGHEST, steps)
    losses: list[float] = []
    batches = ready.batches(steps, workers=recipe.train.workers, cache=recipe.train.cache)
    for rate, batch in zip(rates, batches, strict=True):
        for group in ready.optimizer.param_groups:
            group["lr"] = rate * group["peak"] / recipe.train.learning_rate
        try:
            losses.append(sum(ready.learn(batch).values()))
        except NotFinite:
            losses.append(math.inf)
        watcher.progress("learning rates", len(losses), steps)
        smoothed = _smoothed(np.array(losses))
        if not math.isfinite(losses[-1]) or smoothed[-1] > _DIVERGED * smoothed.min():
            watcher.progress("learning rates", steps, steps)
            break
    if not math.isfinite(losses[0]):
        raise TrainingError("the loss is not finite before the first step; the weights are broken")
    curve = rate_curve(rates[: len(losses)], np.array(losses))
    out.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("learning_rate", "loss", "smoothed_loss"))
    for rate, value, smooth in zip(curve.rates, curve.losses, curve.smoothed, strict=True):
        rows.writerow((f"{rate:.4e}", f"{value:.5f}", f"{smooth:.5f}"))
    texts = {"lr_finder.csv": table.getvalue(), "lr_finder.svg": rate_plot(curve, recipe.train.learning_rate)}
    for name, text in texts.items():
        write_whole(out / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]
    return curve


def rate_plot(curve: RateCurve, now: float) -> str:
    """The curve as an SVG, with the suggestion and the recipe's rate `now` marked."""
    wide, high = 600.0, 300.0
    # what counts is the valley: a last loss of thousands would press it flat
    columns = zip(curve.rates.tolist(), curve.losses.tolist(), curve.smoothed.tolist(), strict=True)
    seen: list[tuple[float, float, float]] = [row for row in columns if math.isfinite(row[2])]
    bottom = min(min(value, smooth) for _, value, smooth in seen)
    top = max(1.15 * max(smooth for _, _, smooth in seen[: len(seen) // 2 + 1]), bottom + 1e-6)
    low, high_rate = math.log10(LOWEST), math.log10(HIGHEST)
    floor = max(0.0, bottom - 0.1 * (top - bottom))
    out = next((n for n, (_, _, smooth) in enumerate(seen) if smooth > top), len(seen))

    def x(rate: float) -> float:
        return wide * (math.log10(rate) - low) / (high_rate - low)

    def y(loss: float) -> float:
        return high * (1 - (min(max(loss, floor), top) - floor) / (top - floor))

    step = _round_step((top - floor) / 5)
    ticks = np.arange(math.ceil(floor / step), math.floor(top / step) + 1) * step
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return pages.get_template("lr_finder.svg.j2").render(
        wide=wide,
        high=high,
        decades=[(x(10.0**p), p) for p in range(round(low), round(high_rate) + 1)],
        ticks=[(y(float(t)), f"{t:.4g}") for t in ticks],
        dots=[(x(r), y(v)) for r, v, _ in seen if v <= top],
        line=[(x(r), y(s)) for r, _, s in seen[: out + 1]],
        suggestion=None if curve.suggestion is None else (x(curve.suggestion), f"{curve.suggestion:.1e}"),
        now=(x(min(max(now, LOWEST), HIGHEST)), f"{now:.1e}"),
        diverged=None if curve.diverged is None else (x(curve.diverged), f"{curve.diverged:.1e}"),
    )


def _smoothed(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    means = np.empty(len(losses))
    mean = weight = 0.0
    for index, loss in enumerate(losses):
        mean = _KEPT * mean + (1 - _KEPT) * float(loss)
        weight = _KEPT * weight + 1 - _KEPT
        means[index] = mean / weight
    return means


def _round_step(about: float) -> float:
    """1, 2 or 5 times a power of ten, not below `about`."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= about)
