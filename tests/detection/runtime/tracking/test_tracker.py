"""Each plant one number, one class, one count."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from detection.runtime.detections import Detections, Frame
from detection.runtime.tracking.motion import OdometryMotion
from detection.runtime.tracking.tracker import PlantTracker

NAMES = ("crop", "weed")
IMAGE = np.zeros((100, 200, 3), np.uint8)
CROP, WEED = (50, 0.8, 0), (120, 0.7, 1)  # x of the left side, score, label


def tracker(step_px: float = 10.0, **more: float) -> PlantTracker:
    """Of a camera whose ground moves down by `step_px` a frame, ten frames a second."""
    return PlantTracker(NAMES, **more, motion=OdometryMotion(step_px / 10, 100))


def frame(index: int) -> Frame:
    return Frame(IMAGE, "left", index, index * 100_000_000, index / 10)


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    """Rows of xyxy, score, label; clipped to the image as a detector's are."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    boxes = np.clip(table[:, :4], 0, (200, 100, 200, 100))
    return Detections(boxes.astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


def plant(y: float, x: float, score: float, label: int) -> tuple[float, float, float, float, float, int]:
    """A plant of 30 x 30 px whose top is at y."""
    return (x, y, x + 30, y + 30, score, label)


def ids(detections: Detections) -> list[int]:
    assert detections.track_ids is not None
    return detections.track_ids.tolist()


def test_a_plant_keeps_its_number_and_is_counted_once_from_edge_to_edge() -> None:
    track, seen = tracker(), []
    for i in range(16):
        y = -25 + 10 * i
        rows = [plant(y, *CROP), plant(y - 7, *WEED)]
        rows = [row for row in rows if min(row[3], 100) - max(row[1], 0) > 8]
        seen.append(ids(track.update(frame(i), found(*rows))))
    assert seen[0] == [] and seen[3:11] == [[1, 2]] * 8
    assert {number for numbers in seen for number in numbers} == {1, 2}
    assert track.counted == {"crop": 1, "weed": 1}


def test_no_detections_and_no_plants() -> None:
    track = tracker()
    for i in range(3):
        out = track.update(frame(i), Detections.empty())
        assert len(out) == 0 and out.track_ids is not None and out.track_ids.shape == (0,)
    assert track.counted == {"crop": 0, "weed": 0}


def test_rows_boxes_and_scores_stay() -> None:
    track = tracker()
    given = found(plant(10, *CROP), plant(40, *WEED), (150, 10, 180, 90, 0.31, 1))
    out = track.update(frame(0), given)
    assert (out.boxes_xyxy == given.boxes_xyxy).all() and (out.scores == given.scores).all()
    assert given.track_ids is None


def test_missed_for_many_frames_it_is_the_same_plant() -> None:
    track = tracker(2)
    assert ids(track.update(frame(0), found(plant(0, *CROP)))) == [1]
    for i in range(1, 30):
        track.update(frame(i), Detections.empty())
    assert ids(track.update(frame(30), found(plant(60, *CROP)))) == [1]


def test_dropped_frames_do_not_matter() -> None:
    track = tracker(12)
    assert ids(track.update(frame(0), found(plant(0, *CROP)))) == [1]
    assert ids(track.update(frame(5), found(plant(60, *CROP)))) == [1]
    assert track.counted["crop"] == 1


def test_faster_than_a_plant_is_long_two_plants_in_line_are_two() -> None:
    track = tracker(45)  # the second stands where the first stood a frame ago
    first = ids(track.update(frame(0), found(plant(5, *CROP))))
    both = ids(track.update(frame(1), found(plant(5, *CROP), plant(50, *CROP))))
    assert (first, both) == ([1], [2, 1])


def test_one_that_enters_with_a_tip_is_the_same_when_it_is_whole() -> None:
    track = tracker(20)
    assert ids(track.update(frame(0), found((50, 0, 80, 6, 0.8, 0)))) == [1]
    assert ids(track.update(frame(1), found((50, 0, 80, 26, 0.8, 0)))) == [1]
    assert ids(track.update(frame(2), found((50, 16, 80, 46, 0.8, 0)))) == [1]


def test_its_class_is_what_most_of_its_sightings_say() -> None:
    track = tracker(8)
    labels = [1, 0, 0, 1, 0, 0]
    out = [track.update(frame(i), found(plant(8 * i, 50, 0.7, label))) for i, label in enumerate(labels)]
    assert [int(o.labels[0]) for o in out] == [1, 0, 0, 0, 0, 0]  # after one each the lower label
    assert track.counted == {"crop": 1, "weed": 0}
    for i in range(6, 40):  # it leaves, and is settled
        track.update(frame(i), Detections.empty())
    assert track.counted == {"crop": 1, "weed": 0}


def test_two_boxes_of_one_plant_are_one_plant() -> None:
    track = tracker()
    for i in range(6):
        out = track.update(frame(i), found(plant(10 * i, 50, 0.5, 1), plant(10 * i + 2, 52, 0.8, 0)))
        assert ids(out).count(1) == 1 and set(ids(out)) == {1, -1}
    assert track.counted == {"crop": 1, "weed": 0}


def test_tracks_that_turn_out_to_be_one_plant_are_one() -> None:
    track = tracker()
    # A tip seen as two, which share too little to be taken for one at first.
    out = track.update(frame(0), found((50, 0, 62, 10, 0.8, 0), (56, 0, 80, 10, 0.8, 0)))
    assert ids(out) == [1, 2]
    for i in range(1, 5):
        out = track.update(frame(i), found(plant(10 * i - 20, *CROP), plant(10 * i - 20, 51, 0.7, 0)))
    assert track.counted == {"crop": 1, "weed": 0}
    assert sorted(ids(out)) == [-1, 1]


def test_a_glimpse_is_not_counted_and_an_unsure_plant_seen_often_is() -> None:
    track = tracker(5, thresholds=0.3)
    assert ids(track.update(frame(0), found(plant(0, 50, 0.32, 0), plant(0, 120, 0.32, 1)))) == [-1, -1]
    for i in range(1, 30):
        rows = [plant(5 * i, 50, 0.32, 0)] if i < 14 else []
        track.update(frame(i), found(*rows))
    assert track.counted == {"crop": 1, "weed": 0}


def test_what_earlier_images_should_have_shown_is_doubted() -> None:
    sure_at_once, doubted = tracker(10), tracker(10)
    for i in range(5):
        doubted.update(frame(i), Detections.empty())
    assert ids(sure_at_once.update(frame(5), found(plant(60, 50, 0.5, 0)))) == [1]
    assert ids(doubted.update(frame(5), found(plant(60, 50, 0.5, 0)))) == [-1]


def test_seen_once_because_the_machine_is_fast_it_counts_when_it_leaves() -> None:
    track = tracker(90, thresholds=0.3)
    assert ids(track.update(frame(0), found(plant(60, 50, 0.33, 0)))) == [-1]
    track.update(frame(1), Detections.empty())
    assert track.counted == {"crop": 1, "weed": 0}


def test_each_class_has_its_own_threshold() -> None:
    track = tracker(thresholds=[0.6, 0.3])
    assert ids(track.update(frame(0), found(plant(0, 50, 0.5, 0), plant(0, 120, 0.5, 1)))) == [-1, 1]
    with pytest.raises(ValueError):
        PlantTracker(NAMES, [0.1, 0.2, 0.3])


def test_low_score_detections_make_a_plant_that_no_single_one_would() -> None:
    track = tracker(thresholds=0.5)
    np.testing.assert_allclose(track.low_score_thresholds, [0.35, 0.35])
    for i in range(6):
        low_score = found(plant(10 * i, 50, 0.45, 0), plant(10 * i, 120, 0.34, 1))
        assert len(track.update(frame(i), Detections.empty(), low_score)) == 0
    assert track.counted == {"crop": 1, "weed": 0}
    assert ids(track.update(frame(6), found(plant(60, 50, 0.6, 0)))) == [1]


def test_what_is_reported_below_its_floor_gets_no_number() -> None:
    track = tracker(thresholds=0.5)
    for i in range(6):
        out = track.update(frame(i), found(plant(10 * i, 50, 0.7, 0), plant(10 * i, 120, 0.3, 1)))
        assert ids(out) == [1, -1]
    assert track.counted == {"crop": 1, "weed": 0}


def test_a_machine_that_rolls_back_counts_nothing_twice() -> None:
    speeds = iter([0.0] + [2.0] * 6 + [-2.0] * 6 + [2.0] * 6)
    track = PlantTracker(NAMES, motion=OdometryMotion(lambda: next(speeds), 100))
    way_px = 0
    for i, step in enumerate([0] + [20] * 6 + [-20] * 6 + [20] * 6):
        way_px += step
        rows = [plant(way_px, *CROP)] if way_px < 90 else []
        out = track.update(frame(i), found(*rows))
        assert ids(out) == [1] * len(rows)
    assert track.counted["crop"] == 1


def test_other_ground_after_a_loss_has_new_numbers_and_settled_counts() -> None:
    speeds = iter([1.0, 1.0, float("nan"), 1.0])
    track = PlantTracker(NAMES, motion=OdometryMotion(lambda: next(speeds), 100))
    numbers = [ids(track.update(frame(i), found(plant(10 * (i % 2), *CROP)))) for i in range(4)]
    assert numbers == [[1], [1], [2], [2]]
    assert track.counted["crop"] == 2


def test_standing_still_for_a_day_counts_nothing_twice_and_needs_no_memory() -> None:
    track, rng, sizes = tracker(0), np.random.default_rng(0), []
    for i in range(3000):
        noise = plant(*rng.uniform(0, (70, 170)), 0.31, 1)
        rows = [plant(30 + rng.normal(), *CROP)] if rng.random() < 0.9 else []
        track.update(frame(i), found(*rows, noise))
        if i % 1000 == 999:
            sizes.append(len(pickle.dumps([track._tracks, track._boxes, track._views, track._past])))
    assert track.counted["crop"] == 1
    assert max(sizes) < 20_000


def test_driving_for_long_needs_no_memory_and_numbers_count_on() -> None:
    track, sizes = tracker(10), []
    for i in range(3000):
        # A plant each 50 px of ground.
        tops = [(10 * i) % 50 + 50 * k - 30 for k in range(3)]
        out = track.update(frame(i), found(*[plant(y, *CROP) for y in tops if -20 < y < 90]))
        if i % 1000 == 999:
            sizes.append(len(pickle.dumps([track._tracks, track._boxes, track._views, track._past])))
    assert track.counted["crop"] == pytest.approx(3000 * 10 / 50, abs=3)
    assert max(ids(out)) == track.counted["crop"]
    assert max(sizes) < 5000
