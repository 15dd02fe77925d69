"""What a person sees of tracks and counts."""

from __future__ import annotations

import numpy as np
import pytest

from detection.runtime.detections import Detections
from detection.runtime.draw import annotate, class_colour

NAMES = ("crop", "weed")


def drawn(track_id: int | None) -> np.ndarray:
    ids = None if track_id is None else np.int64([track_id])
    found = Detections(np.float32([[100, 150, 300, 350]]), np.float32([0.9]), np.int64([1]), ids)
    return annotate(np.zeros((400, 400, 3), np.uint8), found, NAMES)


def test_a_row_without_a_track_is_drawn_like_one_of_a_stream_without_tracks() -> None:
    np.testing.assert_array_equal(drawn(-1), drawn(None))
    assert (drawn(7) != drawn(None)).any()


def test_counts_stand_under_the_text_with_their_colours() -> None:
    image = np.full((480, 640, 3), 100, np.uint8)
    counted = {"crop": 12, "weed": 1234}
    plain = annotate(image, Detections.empty(), NAMES, "left")
    shown = annotate(image, Detections.empty(), NAMES, "left", counted=counted)
    for label in (0, 1):
        assert (shown == class_colour(label)).all(axis=2).sum() > 50
        assert not (plain == class_colour(label)).all(axis=2).any()
    assert (shown[:20, :20] == plain[:20, :20]).all()
    assert (shown[:, 320:] == image[:, 320:]).all() and (shown[240:] == image[240:]).all()
    without = annotate(image, Detections.empty(), NAMES, "left", counted={"crop": 0, "weed": 0})
    np.testing.assert_array_equal(without, plain)


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 400), (64, 96), (180, 240), (3000, 4000)])
def test_counts_fit_on_every_size(size_hw: tuple[int, int]) -> None:
    names = [f"weed_{i}" for i in range(12)]
    image = np.full((*size_hw, 3), 100, np.uint8)
    shown = annotate(image, Detections.empty(), names, "left", counted=dict.fromkeys(names, 100_000))
    assert shown.shape == image.shape
    if size_hw[0] > 100:
        assert (shown[size_hw[0] * 2 // 3 :] == 100).all()
