"""What one image must give: PyTorch's detections, and which of them the last bits of scores and corners decide."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detection.runtime.detections import Detections


@dataclass(frozen=True, eq=False)
class Expected:
    """PyTorch's answer for one image, in pixels of the network's input.

    Attributes:
        detections: everything above the pre-NMS score threshold.
        borderline: bool (N,), which of them rounding may take away; None: not known, as in references of schema 1.
        alternates: what rounding may give in their place.

    """

    detections: Detections
    borderline: NDArray[np.bool_] | None = None
    alternates: Detections = field(default_factory=Detections.empty)
