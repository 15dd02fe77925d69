"""The batches of a training: images sampled, augmented and letterboxed to the network's input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray

from data.augmentation.augment import Augment
from data.loading.loader import Batch, LoadingOptions, training_batches
from data.loading.sampling import SamplingOptions, image_weights
from detection.runtime.letterbox import letterbox
from detection.training.training_data import TrainingData


@dataclass(frozen=True, eq=False)
class BatchSource:
    """From what the batches of a training are made.

    Attributes:
        data: the images.
        size_hw: height and width of the network's input in pixels.
        augment: applied to each image before the letterbox.
        seed: of order and augmentation.
        balance: how much more often images with rare classes come, 0 to 1.
        negative_share: of images without objects among all images that are learned from, 0 to below 1.
        loading: workers, cache and memory.
        note: is called with a line where the cache cannot hold all images.

    """

    data: TrainingData
    size_hw: tuple[int, int]
    augment: Augment
    seed: int = 0
    balance: float = 0.0
    negative_share: float = 0.0
    loading: LoadingOptions = LoadingOptions()
    note: Callable[[str], None] | None = None

    def batches(
        self,
        fabric: Fabric,
        batch_size: int,
        steps: int,
        *,
        first_step: int = 0,
        mixing: Callable[[int], bool] | None = None,
    ) -> Iterator[Batch]:
        """The images of this process for every step from `first_step` on.

        Args:
            fabric: says which of how many processes this is.
            batch_size: images of each process in one step.
            steps: number of steps of the whole run.
            first_step: number of the first step wanted.
            mixing: by step, whether its images may be mixed with others; see `SamplingOptions`.

        """
        weights = image_weights(
            self.data.train, balance=self.balance, negatives=self.data.negatives, share=self.negative_share
        )
        return training_batches(
            self.data.train,
            SamplingOptions(
                batch_size=batch_size,
                seed=self.seed,
                steps=steps,
                first_step=first_step,
                weights=weights,
                rank=fabric.global_rank,
                world=fabric.world_size,
                mixing=mixing,
            ),
            fit=partial(fit_to_input, size_hw=self.size_hw),
            augment=self.augment,
            scale_range=self.augment.scale_range,
            loading=self.loading,
            note=self.note,
        )


def fit_to_input(
    image_bgr: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32], size_hw: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The letterbox as the loader takes it: an image BGR and its boxes -> the input RGB and the boxes in it."""
    canvas, place = letterbox(image_bgr, size_hw)
    return canvas, place.to_input(boxes_xyxy)
