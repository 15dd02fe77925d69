from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.runtime.detections import Detections
from detection.runtime.detector import Detector
from detection.runtime.streaming.slices import WHOLE_FRAME, FrameSlicer, merge_slices, merged_detections, slice_frame


def _found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


LEFT_RIGHT = ((0, 0, 60, 50), (40, 0, 100, 50))


def test_the_whole_image_is_one_window() -> None:
    assert WHOLE_FRAME.windows((480, 640)) == [(0, 0, 640, 480)]


def test_two_tiles_share_a_fifth_of_their_width() -> None:
    # length * (2 - 0.2) = 180: tiles of 100, a step of 80
    assert FrameSlicer(tiles_rc=(1, 2), overlap=0.2).windows((50, 180)) == [(0, 0, 100, 50), (80, 0, 180, 50)]


def test_tiles_of_a_region_go_row_by_row() -> None:
    slicer = FrameSlicer((100, 200, 300, 400), (2, 2), overlap=0)
    assert slicer.windows((1000, 1000)) == [
        (100, 200, 200, 300),
        (200, 200, 300, 300),
        (100, 300, 200, 400),
        (200, 300, 300, 400),
    ]


def test_a_region_is_clipped_to_the_image_and_empty_beyond_it() -> None:
    slicer = FrameSlicer((50, 20, 500, 400))
    assert slicer.windows((100, 90)) == [(50, 20, 90, 100)]
    assert slicer.windows((100, 50)) == []


@given(
    st.integers(1, 2000),
    st.integers(1, 2000),
    st.integers(1, 4),
    st.integers(1, 4),
    st.floats(0, 0.9),
)
def test_tiles_cover_every_pixel_and_stay_inside(h: int, w: int, rows: int, columns: int, overlap: float) -> None:
    windows = FrameSlicer(tiles_rc=(rows, columns), overlap=overlap).windows((h, w))
    assert len(windows) == rows * columns
    seen_x, seen_y = np.zeros(w, bool), np.zeros(h, bool)
    for x1, y1, x2, y2 in windows:
        assert 0 <= x1 <= x2 <= w and 0 <= y1 <= y2 <= h
        seen_x[x1:x2] = True
        seen_y[y1:y2] = True
    assert seen_x.all() and seen_y.all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"roi_xyxy": (5, 0, 5, 9)}, "x1 < x2"),
        ({"roi_xyxy": (-1, 0, 5, 9)}, "region of interest"),
        ({"tiles_rc": (0, 2)}, "at least 1x1"),
        ({"overlap": 1.0}, "below 1"),
    ],
)
def test_a_slicer_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrameSlicer(**arguments)


def test_boxes_of_a_region_are_in_pixels_of_the_image(detector: Detector, make_image: Any) -> None:
    image = make_image(200, 300, (150, 120, 166, 136))
    slices = slice_frame(detector, image, FrameSlicer((100, 80, 196, 144)))  # as large as the network's input
    found = merged_detections(detector, detector.infer_all([p.pixels for p in slices.prepared]), 0, slices)
    np.testing.assert_allclose(found.boxes_xyxy, [[150, 120, 166, 136]])


def test_a_plant_on_a_seam_is_found_once(detector: Detector, make_image: Any) -> None:
    image = make_image(64, 192, (90, 16, 106, 32))
    slices = slice_frame(detector, image, FrameSlicer(tiles_rc=(1, 2), overlap=0.3))
    assert len(slices.prepared) == 2
    found = merged_detections(detector, detector.infer_all([p.pixels for p in slices.prepared]), 0, slices)
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes_xyxy, [[90, 16, 106, 32]], atol=2)


def test_the_rest_of_a_plant_that_a_seam_cut_goes() -> None:
    whole = _found((45, 10, 75, 30, 0.6, 0))  # in the right tile
    rest = _found((45, 10, 60, 30, 0.9, 0))  # the left tile ends at 60: half of it, and surer
    merged = merge_slices([rest, whole], LEFT_RIGHT, 0.6)
    np.testing.assert_allclose(merged.boxes_xyxy, whole.boxes_xyxy)


def test_a_small_plant_on_a_large_one_stays_where_no_seam_cut_it() -> None:
    large, small = _found((42, 0, 98, 50, 0.6, 0)), _found((45, 10, 55, 20, 0.9, 0))
    merged = merge_slices([small, large], LEFT_RIGHT, 0.6)
    np.testing.assert_allclose(merged.scores, [0.9, 0.6])


def test_other_classes_and_boxes_of_one_tile_are_left_alone() -> None:
    crop, weed = _found((45, 10, 55, 30, 0.9, 1)), _found((45, 10, 55, 30, 0.8, 0))
    assert len(merge_slices([crop, weed], LEFT_RIGHT, 0.6)) == 2
    twice = _found((45, 10, 55, 30, 0.9, 0), (46, 10, 56, 30, 0.8, 0))  # the graph let both pass
    assert len(merge_slices([twice, Detections.empty()], LEFT_RIGHT, 0.6)) == 2


def test_the_surer_of_two_whole_boxes_stays() -> None:
    left, right = _found((44, 10, 55, 30, 0.5, 0)), _found((44, 10, 56, 30, 0.7, 0))
    merged = merge_slices([left, right], LEFT_RIGHT, 0.6)
    np.testing.assert_allclose(merged.boxes_xyxy, right.boxes_xyxy)
    assert len(merge_slices([Detections.empty()] * 2, LEFT_RIGHT, 0.6)) == 0
