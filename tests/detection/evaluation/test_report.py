"""The captions of the report's images."""

from __future__ import annotations

import numpy as np

from data import load_dataset
from detection.evaluation.confusion import pairs
from detection.evaluation.report_images import shown, write_captions
from detection.runtime.detections import Detections

GREEN, ORANGE, BLUE = (115, 158, 0), (0, 94, 213), (233, 180, 86)


def _area(image: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Smallest rectangle x1, y1, x2, y2 around a colour."""
    y, x = np.nonzero((image == colour).all(axis=2))
    return int(x.min()), int(y.min()), int(x.max()), int(y.max())


def test_captions_of_boxes_on_one_plant_are_all_readable() -> None:
    image = np.zeros((120, 200, 3), np.uint8)
    box = np.array([60.0, 40.0, 100.0, 80.0])
    write_captions(image, [(box, BLUE, "missed thistle"), (box, ORANGE, "fat_hen 0.62"), (box, GREEN, "beet")])
    areas = [_area(image, colour) for colour in (BLUE, ORANGE, GREEN)]
    for number, (x1, y1, x2, y2) in enumerate(areas):
        for other_x1, other_y1, other_x2, other_y2 in areas[number + 1 :]:
            assert x2 < other_x1 or other_x2 < x1 or y2 < other_y1 or other_y2 < y1


def test_a_caption_stays_inside_the_image() -> None:
    alone = np.zeros((120, 200, 3), np.uint8)
    write_captions(alone, [(np.array([60.0, 40.0, 100.0, 80.0]), ORANGE, "chamomile 0.62")])
    at_the_edge = np.zeros((120, 200, 3), np.uint8)
    write_captions(at_the_edge, [(np.array([180.0, -3.0, 215.0, 20.0]), ORANGE, "chamomile 0.62")])
    x1, y1, x2, y2 = _area(at_the_edge, ORANGE)
    usual = _area(alone, ORANGE)
    assert (x2 - x1, y2 - y1) == (usual[2] - usual[0], usual[3] - usual[1])  # whole, not cut off


def test_each_error_has_a_caption(coco_file) -> None:
    # crop at 10..50, weed at 100..140
    dataset = load_dataset(coco_file([[(3, (10, 10, 40, 40)), (7, (100, 10, 40, 40))]]))
    boxes = np.array(
        [
            (10, 10, 50, 50),  # the crop
            (10, 10, 50, 45),  # the crop again
            (30, 10, 70, 50),  # a third of it: 20 / 60
            (60, 60, 90, 90),
            (100, 10, 140, 50),  # the weed, as a crop
        ],
        np.float32,
    )
    found = Detections(boxes, np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32), np.zeros(5, np.int64))
    captions = [crop.caption for crop in shown(dataset, list(pairs(dataset, [found], 0.0)))[1]]
    assert captions == [
        "crop 0.80: second box on a crop",
        "crop 0.70 poorly located: IoU 0.33 with a crop",
        "crop 0.60 on background",
        "weed detected as crop 0.50",
    ]
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    missed = shown(dataset, list(pairs(dataset, [nothing], 0.0)))[1]
    assert [crop.caption for crop in missed] == ["crop missed", "weed missed"]
