"""The captions of the report's pictures."""

from __future__ import annotations

import numpy as np

from detection.report_pictures import _write_captions

GREEN, ORANGE, BLUE = (115, 158, 0), (0, 94, 213), (233, 180, 86)


def _area(image: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Smallest rectangle x1, y1, x2, y2 around a colour."""
    y, x = np.nonzero((image == colour).all(axis=2))
    return int(x.min()), int(y.min()), int(x.max()), int(y.max())


def test_captions_of_boxes_on_one_plant_are_all_readable() -> None:
    image = np.zeros((120, 200, 3), np.uint8)
    box = np.array([60.0, 40.0, 100.0, 80.0])
    _write_captions(image, [(box, BLUE, "missed thistle"), (box, ORANGE, "fat_hen 0.62"), (box, GREEN, "beet")])
    areas = [_area(image, colour) for colour in (BLUE, ORANGE, GREEN)]
    for number, (x1, y1, x2, y2) in enumerate(areas):
        for other_x1, other_y1, other_x2, other_y2 in areas[number + 1 :]:
            assert x2 < other_x1 or other_x2 < x1 or y2 < other_y1 or other_y2 < y1


def test_a_caption_stays_inside_the_picture() -> None:
    alone = np.zeros((120, 200, 3), np.uint8)
    _write_captions(alone, [(np.array([60.0, 40.0, 100.0, 80.0]), ORANGE, "chamomile 0.62")])
    at_the_edge = np.zeros((120, 200, 3), np.uint8)
    _write_captions(at_the_edge, [(np.array([180.0, -3.0, 215.0, 20.0]), ORANGE, "chamomile 0.62")])
    x1, y1, x2, y2 = _area(at_the_edge, ORANGE)
    usual = _area(alone, ORANGE)
    assert (x2 - x1, y2 - y1) == (usual[2] - usual[0], usual[3] - usual[1])  # whole, not cut off
