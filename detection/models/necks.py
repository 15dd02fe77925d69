"""Necks: from a backbone's feature maps to levels of equal width for the head."""

from __future__ import annotations

from collections import OrderedDict

from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

Levels = OrderedDict[str, Tensor]
"""Feature maps by name, finest first, each (N, channels, H / stride, W / stride)."""


def make_separable(part: nn.Module) -> None:
    """Replace every dense 3 x 3 convolution in `part`, in place, by a depthwise and a pointwise one.

    F. Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions" (CVPR 2017). Weights are new.
    """
    for name, module in list(part.named_modules()):
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            channels = module.in_channels
            depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
            pointwise = nn.Conv2d(channels, module.out_channels, 1)
            assert pointwise.bias is not None
            for conv in (depthwise, pointwise):
                nn.init.kaiming_uniform_(conv.weight, a=1)  # as torchvision initialises its FPN
            nn.init.zeros_(pointwise.bias)
            parent, _, own = name.rpartition(".")
            setattr(part.get_submodule(parent), own, nn.Sequential(depthwise, pointwise))


class PathAggregation(nn.Module):
    """The second, bottom-up path after an FPN, which shortens the way from fine to coarse levels.

    Liu et al., "Path Aggregation Network for Instance Segmentation" (CVPR 2018), section 3.1: the finest
    level is passed on; each coarser one is a convolution over its FPN map plus the level before, downsampled by a
    convolution of stride 2; a ReLU follows each.

    Args:
        channels: of all levels.
        levels: how many.

    """

    def __init__(self, channels: int, levels: int = 3) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(channels, channels, 3, 2, 1) for _ in range(levels - 1))
        self.merge = nn.ModuleList(nn.Conv2d(channels, channels, 3, 1, 1) for _ in range(levels - 1))
        for conv in [*self.down, *self.merge]:
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.kaiming_uniform_(conv.weight, a=1)  # as torchvision initialises its FPN
            nn.init.zeros_(conv.bias)
        self.extra_blocks = LastLevelP6P7(channels, channels)

    def forward(self, levels: Levels) -> Levels:
        """Feature maps of the FPN, finest first -> as many new ones and two coarser ones."""
        finest, *coarser = levels.values()
        paths = [finest]
        for fpn_map, down, merge in zip(coarser, self.down, self.merge, strict=True):
            paths.append(merge(fpn_map + down(paths[-1]).relu()).relu())
        maps, names = self.extra_blocks(paths, paths, list(levels))
        return OrderedDict(zip(names, maps, strict=True))


class SimplePyramid(nn.Module):
    """Three levels from the one map of a plain vision transformer: at twice, the same and half the resolution.

    Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (ECCV 2022), section 3:
    a transposed convolution, nothing and a max-pooling; then 1 x 1 and 3 x 3 convolutions with layer norms.

    Args:
        in_channels: of the map.
        channels: of every level.
        extra_blocks: adds two coarser levels; None: three levels only.

    """

    def __init__(self, in_channels: int, channels: int, extra_blocks: LastLevelP6P7 | None) -> None:
        super().__init__()
        scales = (nn.ConvTranspose2d(in_channels, in_channels // 2, 2, 2), nn.Identity(), nn.MaxPool2d(2))
        widths = (in_channels // 2, in_channels, in_channels)
        self.levels = nn.ModuleList(
            nn.Sequential(
                scale,
                nn.Conv2d(width, channels, 1, bias=False),
                LayerNorm2d(channels),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                LayerNorm2d(channels),
            )
            for scale, width in zip(scales, widths, strict=True)
        )
        self.extra_blocks = extra_blocks

    def forward(self, maps: Levels) -> Levels:
        """One map -> three levels, or five with `extra_blocks`."""
        (only,) = maps.values()
        levels = [level(only) for level in self.levels]
        names = [str(i) for i in range(len(levels))]
        if self.extra_blocks is not None:
            levels, names = self.extra_blocks(levels, levels, names)
        return OrderedDict(zip(names, levels, strict=True))
