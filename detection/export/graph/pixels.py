"""The first step of every end-to-end graph: normalisation of a camera's pixels as in training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform


class Normalisation(nn.Module):
    """torchvision's normalisation, for uint8 images with channels last.

    Args:
        transform: of the detector.

    """

    mean_255: Tensor
    inverse_std_255: Tensor

    def __init__(self, transform: GeneralizedRCNNTransform) -> None:
        super().__init__()
        mean, std = torch.tensor(transform.image_mean), torch.tensor(transform.image_std)
        self.register_buffer("mean_255", mean.view(1, 3, 1, 1) * 255)
        self.register_buffer("inverse_std_255", 1 / (std.view(1, 3, 1, 1) * 255))

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 (N, H, W, 3) RGB -> float32 (N, 3, H, W)."""
        return (images.permute(0, 3, 1, 2).float() - self.mean_255) * self.inverse_std_255
