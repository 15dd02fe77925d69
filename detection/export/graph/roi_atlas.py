"""RoIs of several pyramid levels pooled by one RoIAlign, with no shape that depends on the data."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign, roi_align

_MARGIN = 2
"""Columns and rows that repeat a level's last ones: a RoI thinner than a cell is pooled as one cell, so that its
samples lie up to one cell beyond the edge, between the next two."""


class RoiAtlas(nn.Module):
    """`MultiScaleRoIAlign` for RoIs inside the image, equal to it.

    torchvision sends each RoI to the level of its size (Lin et al., "Feature Pyramid Networks", CVPR 2017, equation
    1) by picking out the RoIs of each level: shapes that depend on the data. Here the levels lie in one map, the
    atlas: the finest left, the others below each other at its right. RoIs move to their level's place, and a
    single RoIAlign reads them all.

    Beyond its right and bottom edge a level repeats itself, which is what RoIAlign reads within one cell of the
    edge of a map. Farther out RoIAlign reads 0: such samples are counted, and the pooled values shrink by their
    share. That is exact, for only RoIs thinner than a cell reach so far, and across them nothing changes.

    Args:
        pool: of the detector; runs once here on `features`, if it has not run before.
        features: the feature maps (1, C, h, w) of an image by name, finest first.
        size_hw: height and width of the input in pixels.

    """

    scales: Tensor
    shifts_xyxy: Tensor
    sizes_wh: Tensor
    steps: Tensor

    def __init__(self, pool: MultiScaleRoIAlign, features: Mapping[str, Tensor], size_hw: tuple[int, int]) -> None:
        super().__init__()
        height, width = size_hw
        pool(dict(features), [torch.tensor([[0.0, 0.0, width, height]])], [size_hw])  # infers scales and levels
        self.names = [name for name in features if name in pool.featmap_names]
        self.output_size: tuple[int, int] = pool.output_size
        self.sampling: int = pool.sampling_ratio
        self.level_of = pool.map_levels
        # Maps that are all as coarse as the first (MobileNet's two) are never used.
        if self.level_of.k_min == self.level_of.k_max:
            del self.names[1:]
        sizes = [(features[name].shape[-2], features[name].shape[-1]) for name in self.names]
        heights, widths = zip(*sizes, strict=True)
        self.cells_hw, places = _plan(sizes)
        self.register_buffer("scales", torch.tensor(pool.scales[: len(sizes)]))
        self.register_buffer("shifts_xyxy", torch.tensor([[x, y, x, y] for x, y in places], dtype=torch.float32))
        self.register_buffer("sizes_wh", torch.tensor([widths, heights], dtype=torch.float32).T.contiguous())
        # Where RoIAlign samples, in bins from the RoI's start: (bins, samples a bin); bins are as many both ways.
        within = (torch.arange(self.sampling) + 0.5) / self.sampling
        self.register_buffer("steps", torch.arange(self.output_size[0]).unsqueeze(1) + within)

    def forward(self, features: Mapping[str, Tensor], boxes_xyxy: Tensor) -> Tensor:
        """Pool.

        Args:
            features: maps (N, C, h, w) by name.
            boxes_xyxy: float32 (N, R, 4), pixels of the input, inside it, not empty.

        Returns:
            float32 (N * R, C, bins, bins).

        """
        images, count = boxes_xyxy.shape[:2]
        row = torch.arange(images, device=boxes_xyxy.device).to(boxes_xyxy.dtype)
        row = row.view(-1, 1, 1).expand(-1, count, 1).reshape(-1, 1)
        boxes = boxes_xyxy.reshape(-1, 4)
        maps = [features[name] for name in self.names]
        if len(maps) == 1:
            rois = torch.cat([row, boxes * self.scales], dim=1)
            single: Tensor = roi_align(maps[0], rois, self.output_size, 1.0, self.sampling)
            return single
        level = self.level_of([boxes])
        own = boxes * self.scales[level].unsqueeze(1)
        rois = torch.cat([row, own + self.shifts_xyxy[level]], dim=1)
        pooled: Tensor = roi_align(self._atlas(maps), rois, self.output_size, 1.0, self.sampling)
        bins = (own[:, 2:] - own[:, :2]).clamp(min=1) / self.output_size[0]
        samples = own[:, :2, None, None] + self.steps * bins[:, :, None, None]  # (N * R, 2, bins, samples)
        inside = (samples <= self.sizes_wh[level][:, :, None, None]).to(pooled.dtype).mean(dim=-1)
        return pooled * (inside[:, 1].unsqueeze(2) * inside[:, 0].unsqueeze(1)).unsqueeze(1)

    def _atlas(self, maps: list[Tensor]) -> Tensor:
        cells = [
            F.pad(one, (0, w - one.shape[-1], 0, h - one.shape[-2]), mode="replicate")
            for one, (h, w) in zip(maps, self.cells_hw, strict=True)
        ]
        return torch.cat([cells[0], torch.cat(cells[1:], dim=2)], dim=3)


def _plan(sizes_hw: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Each level's cell of the atlas: its size (height, width) and its origin (x, y)."""
    (first_h, first_w), *others = ((h + _MARGIN, w + _MARGIN) for h, w in sizes_hw)
    height = max(first_h, sum(h for h, _ in others))
    cells, places, y = [(height, first_w)], [(0, 0)], 0
    for number, (h, _) in enumerate(others):
        last = number == len(others) - 1
        cells.append((height - y if last else h, others[0][1]))
        places.append((first_w, y))
        y += h
    return cells, places
