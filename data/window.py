"""`Window`: a part of a photo treated as an image of its own, and the mapping between the two."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels in a photo, and the size in pixels that it is resized to.

    Boxes in the window are absolute pixels of the resized window, (0, 0) its top left; `to_photo` maps them, labels
    and detections alike, back to pixels of the photo. A plant where windows overlap is detected once in each:
    detections of several windows need NMS after that.

    Example:
        >>> window = Window((3000, 4000), (0, 0, 1280, 1280), (640, 640))
        >>> window.to_photo(boxes_xyxy)

    Attributes:
        photo_hw: height and width of the whole photo as displayed.
        corners_xyxy: left, top, right, bottom in pixels of the photo, inside it.
        size_hw: height and width after resizing; those of the rectangle where it is not resized.

    Raises:
        ValueError: the corners are not inside the photo, or a side is empty.

    """

    photo_hw: tuple[int, int]
    corners_xyxy: tuple[int, int, int, int]
    size_hw: tuple[int, int]

    def __post_init__(self) -> None:
        x1, y1, x2, y2 = self.corners_xyxy
        if not (0 <= x1 < x2 <= self.photo_hw[1] and 0 <= y1 < y2 <= self.photo_hw[0]):
            raise ValueError(f"window {self.corners_xyxy} is not inside a photo of (height, width) {self.photo_hw}")
        if min(self.size_hw) < 1:
            raise ValueError(f"size_hw must be positive, got {self.size_hw}")

    @property
    def scale_xyxy(self) -> NDArray[np.float64]:
        """float64 (4,): pixels of the resized window per pixel of the photo, along x, y, x, y."""
        x1, y1, x2, y2 = self.corners_xyxy
        return np.array([self.size_hw[1] / (x2 - x1), self.size_hw[0] / (y2 - y1)] * 2)

    def to_window(self, boxes_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Boxes (N, 4) in pixels of the photo -> in pixels of the resized window; they may reach outside of it."""
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        return np.asarray((boxes - np.array(self.corners_xyxy[:2] * 2)) * self.scale_xyxy)

    def to_photo(self, boxes_xyxy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Boxes (N, 4) in pixels of the resized window -> in pixels of the photo: the inverse of `to_window`."""
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        return np.asarray(boxes / self.scale_xyxy + np.array(self.corners_xyxy[:2] * 2))

    def cut(self, photo_bgr: NDArray[np.uint8], wanted_hw: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """The window's pixels, at `size_hw` or `wanted_hw`, as a copy: a view would keep the photo in memory.

        Args:
            photo_bgr: uint8 (H, W, 3), the whole photo, of `photo_hw`.
            wanted_hw: height and width to return where that is not `size_hw`.

        Returns:
            uint8 (h, w, 3).

        Raises:
            ValueError: the photo has another size.

        """
        if photo_bgr.shape[:2] != self.photo_hw:
            raise ValueError(f"a window of a photo of {self.photo_hw} cannot be cut from {photo_bgr.shape[:2]}")
        x1, y1, x2, y2 = self.corners_xyxy
        part = photo_bgr[y1:y2, x1:x2]
        height, width = wanted_hw or self.size_hw
        if part.shape[:2] == (height, width):
            return part.copy()
        # averaging areas when shrinking, as the letterbox does
        how = cv2.INTER_AREA if width < x2 - x1 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(part, (width, height), interpolation=how), np.uint8)
