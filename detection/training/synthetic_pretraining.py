"""Synthetic pre-training: a detector is trained on a rendered field first, so that it needs fewer photos.

J. Tremblay et al., "Training Deep Networks with Synthetic Data" (CVPR 2018 workshops): rendered images first, then
few real ones, beats the real ones alone. Here backbone, neck and the head's convolutions learn to localise plants;
the classes are learned from the photos.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

import detection
from data.synthetic import render_dataset
from detection.models.checkpoint import BEST
from detection.runtime.errors import SwathError
from detection.training.watcher import TrainingError, Watcher

TrainOn = Callable[[Path, Path], Path]
"""Trains on a dataset, in a run folder: the path of its `best.safetensors`."""

_SEED = 77
"""Of the rendered fields: not one of the demo's, so that the demo's figures are those of unseen fields."""


@dataclass(frozen=True)
class SyntheticPretraining:
    """A detector trained on rendered fields: made once, and found again by every later run that needs the same.

    Attributes:
        preset: name of the detector's preset.
        images: number of rendered images, five of each field.
        epochs: passes over them.
        settings: everything else that decides the result, as JSON knows it.

    """

    preset: str
    images: int
    epochs: int
    settings: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where the result is kept, in the user's cache: its name depends on all that decides the result."""
        weights = Path(self.settings["model"]["weights"])
        changed = weights.stat().st_mtime_ns if weights.is_file() else None
        fields = {"images": self.images, "epochs": self.epochs}
        identity = json.dumps([detection.__version__, _SEED, changed, fields, dict(self.settings)], sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
        return user_cache_path("swath", appauthor=False) / "pretrained" / f"{self.preset}-{digest}"

    def find(self) -> Path | None:
        """The result of an earlier run, a `best.safetensors`; None where there is none."""
        best = self.folder / BEST
        return best if best.is_file() else None

    def find_or_make(self, train_on: TrainOn, *, watcher: Watcher, stop: threading.Event | None = None) -> Path:
        """The result of an earlier run, or of one that is made now.

        Args:
            train_on: trains the detector on the rendered field.
            watcher: is notified of what is done.
            stop: when set, the pre-training ends without a result.

        Returns:
            A `best.safetensors` to start from.

        Raises:
            SwathError: it was stopped, or several processes would have to make it at once.

        """
        kept = self.folder
        if (kept / BEST).is_file():
            watcher.note(f"synthetic pre-training: done before, in {kept}")
            return kept / BEST
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise SwathError(
                "pretrain: synthetic pre-training runs in a single process; run `swath train` with this recipe on "
                "one device until it is done (Ctrl-C then), and start the processes again"
            )
        watcher.note(
            f"synthetic pre-training: {self.images} rendered images, {self.epochs} epochs; this is done once, later "
            f"runs find it in {kept}"
        )
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".pretraining-", dir=kept.parent) as name:
            made = self._make(Path(name), train_on, watcher, stop)
            try:
                made.rename(kept)
            except OSError:  # another run has made it meanwhile
                if not (kept / BEST).is_file():
                    raise
        return kept / BEST

    def _make(self, folder: Path, train_on: TrainOn, watcher: Watcher, stop: threading.Event | None) -> Path:
        """Render and train in `folder`; the folder in it that holds the result and its `config.yaml`."""
        field, run, made = (folder / name for name in ("field", "run", "made"))
        render_dataset(
            field,
            images=self.images,
            fields=max(1, self.images // 5),
            seed=_SEED,
            progress=partial(watcher.progress, "rendering"),
        )
        try:
            best = train_on(field, run)
        except TrainingError:
            if stop is None or not stop.is_set():
                raise
            raise TrainingError("stopped during synthetic pre-training, of which nothing is kept") from None
        made.mkdir()
        shutil.move(best, made / BEST)
        shutil.copy(run / "config.yaml", made)
        return made
