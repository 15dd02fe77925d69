"""One training sample: an image decoded or taken from the cache, augmented, and fitted to the network's input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from data.dataset import Dataset
from data.errors import DataError
from data.images import read_image_at
from data.loading.cache import PixelCache
from data.loading.sampling import SampleKey
from data.window import Window

if TYPE_CHECKING:
    from data.augmentation.augment import Augment  # imports albumentations: seconds that only its users spend

FitToInput = Callable[
    [NDArray[np.uint8], NDArray[np.float32]],
    tuple[NDArray[np.uint8], NDArray[np.float32]],
]
"""(image (H, W, 3) BGR, its boxes (N, 4)) -> (the network's input (h, w, 3) RGB, the boxes in it).

The size h x w is always the same. It is an argument because `data` must not import the detector's letterbox.
"""

Sample = tuple[int, NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]
"""(index, the network's input (h, w, 3) RGB, boxes (n, 4) in it, labels (n,))"""

_AUGMENTATION = 2  # apart from the uses that `data.loading.sampling` makes of the same seed


class Samples(torch.utils.data.Dataset[Sample | DataError]):
    """A map from `SampleKey` to the prepared sample, for torch's `DataLoader`.

    Args:
        dataset: the images. Crowd boxes are left out.
        sizes_hw: (N, 2), height and width at which each image is worked on.
        cache: where decoded images are kept, or None.
        fit: brings an image and its boxes to the network's input.
        augment: applied before `fit`, or None.
        seed: of the augmentation.

    """

    def __init__(
        self,
        dataset: Dataset,
        sizes_hw: Sequence[tuple[int, int]],
        *,
        cache: PixelCache | None,
        fit: FitToInput,
        augment: Augment | None,
        seed: int,
    ) -> None:
        self.dataset, self.sizes_hw, self.cache = dataset, sizes_hw, cache
        self.fit, self.augment, self.seed = fit, augment, seed
        self.windows_of: dict[Path, list[int]] = {}
        for index, image in enumerate(dataset.images):
            if image.window is not None:
                self.windows_of.setdefault(image.path, []).append(index)

    def __getitem__(self, key: SampleKey) -> Sample | DataError:
        index = key.image
        try:
            pixels, boxes, labels = self._labelled(index)
            if self.augment is not None:
                again = [key.copy] if key.copy else []
                sequence = np.random.SeedSequence([self.seed, _AUGMENTATION, key.epoch, index, *again])
                seed = int(sequence.generate_state(1)[0])
                image = self.dataset.images[index]
                photo_px = image.size_hw[1] / pixels.shape[1]
                if image.window is not None:
                    photo_px /= float(image.window.scale_xyxy[0])
                pixels, boxes, labels = self.augment(
                    pixels, boxes, labels, seed=seed, other=self._any, photo_px=photo_px, mixed=key.mixed
                )
        except DataError as error:
            # Returned, not raised: torch would wrap it into a page of traceback on its way here.
            return error
        fitted, boxes = self.fit(pixels, boxes)
        # Copies: what comes back may be a view, or read-only, which torch takes with a warning.
        return index, fitted, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64)

    def _labelled(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        return self._image(index), *self._boxes(index)

    def _any(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
        """The source of mosaic, mixup and copy-paste: any image, chosen by the caller's generator."""
        return self._labelled(int(rng.integers(len(self.dataset))))

    def _image(self, index: int) -> NDArray[np.uint8]:
        """An image at its working size, uint8 (h, w, 3) BGR, read-only."""
        pixels = None if self.cache is None else self.cache.get(index)
        if pixels is None:
            image = self.dataset.images[index]
            if image.window is not None:
                return self._windowed(index, image.path, image.window)
            pixels = read_image_at(image.path, image.size_hw, self.sizes_hw[index])
            pixels.setflags(write=False)
            if self.cache is not None:
                self.cache.put(index, pixels)
        return pixels

    def _windowed(self, index: int, path: Path, window: Window) -> NDArray[np.uint8]:
        """A window of a photo. Decoding the photo is what takes time, so its other windows are cached too."""
        photo = read_image_at(path, window.photo_hw, window.photo_hw)
        image = window.cut(photo, self.sizes_hw[index])
        image.setflags(write=False)
        if self.cache is not None and index < self.cache.kept:
            for other in self.windows_of[path]:
                beside = self.dataset.images[other].window
                if beside is not None and other < self.cache.kept:
                    self.cache.put(other, beside.cut(photo, self.sizes_hw[other]))
        return image

    def _boxes(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The targets of an image: boxes (n, 4) xyxy at its working size, and their labels (n,)."""
        image = self.dataset.images[index]
        wanted = ~image.iscrowd
        (height, width), (working_h, working_w) = image.size_hw, self.sizes_hw[index]
        scale_xyxy = np.array([working_w / width, working_h / height] * 2)
        return (image.boxes_xyxy[wanted] * scale_xyxy).astype(np.float32), image.labels[wanted]
