from __future__ import annotations

import numpy as np

from detection.runtime.dashboard.counts import BUCKET_S, BUCKETS, Counts

NAMES = ("weed", "crop")


def _labels(*labels: int) -> np.ndarray:
    return np.array(labels, np.int64)


def test_boxes_per_image_where_nothing_is_tracked():
    counts = Counts(NAMES)
    counts.add(1000.0, "left", _labels(0, 0, 1), None)
    counts.add(1001.0, "right", _labels(), None)
    counts.add(1012.0, "left", _labels(1), None)
    found = counts.to_json(1012.0)
    assert found["unit"] == "boxes per image" and counts.plants() is None
    weed, crop = found["series"]
    assert len(weed) == len(crop) == BUCKETS
    assert weed[-3:] == [1.0, None, 0.0] and crop[-3:] == [0.5, None, 1.0]  # no image is not nothing found
    assert set(weed[:-3]) == {None}


def test_plants_where_they_are_counted():
    counts = Counts(NAMES)
    counts.add(1000.0, "left", _labels(0), {"weed": 1})
    counts.add(1001.0, "left", _labels(0, 0), {"weed": 3, "crop": 1})
    counts.add(1002.0, "right", _labels(), {"weed": 5})
    counts.add(1006.0, "left", _labels(), {"weed": 3, "crop": 2})
    assert counts.plants() == {"weed": 8, "crop": 2}
    found = counts.to_json(1006.0)
    assert found["unit"] == "plants"
    assert [series[-1] for series in found["series"]] == [8, 1]  # the bucket that is not over is left out
    assert [series[-1] for series in counts.to_json(1010.0)["series"]] == [0, 1]


def test_a_tracking_that_begins_anew_takes_nothing_away():
    counts = Counts(NAMES)
    counts.add(1000.0, "left", _labels(), {"weed": 9})
    counts.add(1001.0, "left", _labels(), {"weed": 1})
    assert counts.to_json(1005.0)["series"][0][-1] == 9


def test_old_buckets_make_room():
    counts = Counts(NAMES)
    turn_s = BUCKET_S * BUCKETS
    counts.add(1000.0, "left", _labels(0, 0), None)
    assert counts.to_json(1000.0 + turn_s - BUCKET_S)["series"][0][0] == 2.0
    assert set(counts.to_json(1000.0 + turn_s)["series"][0]) == {None}
    counts.add(1000.0 + turn_s, "left", _labels(0), None)  # the same row again
    assert counts.to_json(1000.0 + turn_s)["series"][0][-1] == 1.0
