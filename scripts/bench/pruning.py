"""How much of a pretrained backbone's features is left after channel pruning to half its width, before any training.

    python scripts/bench/pruning.py photos                      # pruned on every third photo, compared on the others
    python scripts/bench/pruning.py photos --prune-on rendered  # pruned on other images

Prints, for strides 8, 16 and 32, the share of the variance of the full backbone's features that the pruned one's
explain.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray

from data import Dataset, LabelledImage, load_dataset
from detection.models.backbones import make_body
from detection.models.build import build_model
from detection.models.pruning import halve_channels, prune
from detection.models.weights import OFFLINE_BACKBONE, load_weights
from detection.runtime.letterbox import letterbox


def main() -> None:
    """Parse the command line, prune, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="DATASET: compared on its images")
    parser.add_argument("--prune-on", help="DATASET: pruned on a dozen of its images instead")
    parser.add_argument("--size", type=int, nargs=2, default=[480, 640], metavar=("H", "W"))
    args = parser.parse_args()
    model = build_model("fcos_lite", 1)
    load_weights(model, "fcos_lite", None, "imagenet-offline")
    full = model.backbone.body.eval()
    photos = load_dataset(args.dataset, split="train")
    every_third = np.arange(len(photos)) % 3 == 0
    shown = load_dataset(args.prune_on, split="train") if args.prune_on else _subset(photos, every_third)
    pruned = halve_channels(make_body(OFFLINE_BACKBONE).module).eval()
    pruned.load_state_dict(prune(full, [_input(model, one, args.size) for one in shown.spread(12).images]))
    rest = _subset(photos, ~every_third)
    shares = []
    with torch.no_grad():
        for one in rest.spread(8).images:
            image = _input(model, one, args.size)
            pairs = zip(pruned(image), full(image), strict=True)
            shares.append(
                [float(1 - (p - f).square().mean((0, 2, 3)).sum() / f.var((0, 2, 3)).sum()) for p, f in pairs]
            )
    for stride, share in zip((8, 16, 32), np.mean(shares, axis=0), strict=True):
        print(f"stride {stride}: {100 * share:.0f} % of the variance")


def _subset(dataset: Dataset, mask: NDArray[np.bool_]) -> Dataset:
    return dataset.subset(np.flatnonzero(mask).tolist())


def _input(model: torch.nn.Module, image: LabelledImage, size: list[int]) -> torch.Tensor:
    pixels = letterbox(image.read(), (size[0], size[1]))[0]
    return model.transform.normalize(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)[None]


if __name__ == "__main__":
    main()
