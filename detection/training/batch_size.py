"""The largest batch that fits into a GPU's memory, found by trying."""

from __future__ import annotations

import numpy as np
import torch

from data.loading.loader import Batch
from detection.training.engine import is_out_of_memory
from detection.training.trainer import Trainer
from detection.training.watcher import Watcher


def fitting_batch_size(
    trainer: Trainer, size_hw: tuple[int, int], watcher: Watcher, *, most: int = 64, fill: float = 0.85
) -> int:
    """How many images fit into the GPU's memory at once; 4 on other devices, whose memory cannot be asked for.

    Powers of two are tried, forward and backward, until one does not fit or the next one would not.

    Args:
        trainer: before its first step; it is unchanged afterwards.
        size_hw: height and width of the network's input in pixels.
        watcher: is notified of the result.
        most: largest number tried.
        fill: part of the memory that may be taken, 0 to 1.

    Returns:
        The number of images, the same in all processes.

    """
    device = trainer.fabric.device
    if device.type != "cuda":
        watcher.note(f"train.batch_size auto: 4 (only the memory of CUDA devices can be tried, not of {device.type})")
        return 4
    total = torch.cuda.get_device_properties(device).total_memory
    generator = np.random.default_rng(0)
    height, width = size_hw
    fits = 1
    for count in (2**power for power in range(most.bit_length())):
        images = torch.from_numpy(generator.integers(0, 256, (count, 3, height, width), np.uint8))
        boxes = torch.tensor([[0.0, 0.0, width / (1 + n % 8), height / (1 + n % 8)] for n in range(32)])
        targets = [{"boxes": boxes.clone(), "labels": torch.zeros(32, dtype=torch.int64)} for _ in range(count)]
        torch.cuda.reset_peak_memory_stats(device)
        try:
            losses = trainer.losses(Batch(images, targets, list(range(count))))
            trainer.fabric.backward(torch.stack(list(losses.values())).sum())
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            break
        finally:
            trainer.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
        fits = count
        if 2 * torch.cuda.max_memory_reserved(device) > fill * total:
            break
    fits = int(trainer.fabric.broadcast(fits))
    watcher.note(f"train.batch_size auto: {fits}")
    return fits
