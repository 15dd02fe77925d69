from __future__ import annotations

import numpy as np
import pytest

from detection.runtime.detections import Detections
from detection.runtime.draw import annotate, class_colour

NAMES = ("weed", "crop")


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 400), (64, 96), (480, 640), (3000, 4000)])
def test_drawing_on_every_size(size_hw: tuple[int, int]) -> None:
    image = np.zeros((*size_hw, 3), np.uint8)
    height, width = size_hw
    boxes = np.float32([[0, 0, width, height], [width - 0.5, height - 0.5, width, height], [0, 0, 0.5, 0.5]])
    found = Detections(boxes, np.float32([0.9, 0.8, 0.7]), np.int64([0, 1, 1]))
    drawn = annotate(image, found, NAMES, "left  frame 1  10 ms")
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert not image.any()  # the image itself stays as it was


def test_box_is_drawn_in_its_class_colour_where_it_is() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    found = Detections(np.float32([[100, 150, 300, 350]]), np.float32([0.9]), np.int64([1]))
    drawn = annotate(image, found, NAMES)
    for y, x in [(250, 100), (250, 299), (349, 200)]:
        np.testing.assert_allclose(drawn[y - 1 : y + 2, x - 1 : x + 2].max((0, 1)), class_colour(1), atol=8)
    assert not drawn[180:320, 130:270].any()  # nothing inside
    assert not drawn[:100].any()


def test_nothing_found_nothing_drawn() -> None:
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(annotate(image, Detections.empty(), NAMES), image)


def test_colours_repeat_and_differ() -> None:
    assert class_colour(0) == (0xE9, 0xB4, 0x56)  # Okabe and Ito's sky blue, as BGR
    assert len({class_colour(i) for i in range(7)}) == 7
    assert class_colour(7) == class_colour(0)
