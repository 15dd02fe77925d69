import numpy as np
import pytest

from data import load_dataset
from detection.export.precision.calibration import choose, spread
from detection.export.precision.lowering import summary_lines
from detection.export.precision.search import fewest_in_float


def test_the_images_chosen_leave_none_far_from_all():
    # mean 3.25: nearest is 2; farthest from it 10; then 0
    points = np.float32([0, 1, 2, 10]).reshape(-1, 1)
    assert spread(points, 3) == [2, 3, 0]
    assert sorted(spread(points, 9)) == [0, 1, 2, 3]
    assert spread(points[:1], 1) == [0]


def test_a_night_among_days_is_chosen(tmp_path):
    import cv2

    from data.dataset import Dataset, LabelledImage

    def image(index, level):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), np.full((40, 60, 3), level, np.uint8))
        none = np.zeros((0, 4), np.float32)
        return LabelledImage(index, path, (40, 60), none, np.zeros(0, np.int64), none[:, 0], np.zeros(0, np.bool_))

    images = tuple(image(i, 20 if i == 7 else 150 + i % 3) for i in range(12))
    found = choose(Dataset("days", ("weed",), (1,), images), 2)
    assert 7 in [p.image_id for p in found.images] and len(found) == 2


def test_few_images_are_all_taken_and_the_choice_is_always_the_same(rendered):
    images = load_dataset(rendered)
    assert [p.image_id for p in choose(images, 64).images] == [p.image_id for p in images.images]
    some = [p.image_id for p in choose(images, 5).images]
    assert len(set(some)) == 5 and some == [p.image_id for p in choose(images, 5).images]


@pytest.mark.parametrize("needed", range(9))
def test_as_few_layers_as_possible_stay_in_float(needed):
    count, trials = fewest_in_float(20, 8, lambda left: (left >= needed, f"{left}"))
    assert count == needed
    assert len(trials) == len({t.layers_in_float for t in trials}) <= 8
    assert [t.passed for t in trials] == [t.layers_in_float >= needed for t in trials]


def test_where_even_most_do_not_help_there_is_none():
    count, trials = fewest_in_float(20, 8, lambda left: (False, "off"))
    assert count is None
    assert [t.layers_in_float for t in trials] == [0, 1, 2, 4, 8]


def test_the_summary_says_where_only_sampling_error_excuses_a_difference() -> None:
    gain = {"bytes": 2.2e6, "fp32_bytes": 6.8e6, "cpu_ms": 20.0, "fp32_cpu_ms": 40.0, "cpu_speed_up": 2.0}
    report = {"precision": "fp16", "size_and_speed": gain, "delta_ap_points": 0.2, "delta_ap_chance_points": 0.1}
    (size,) = summary_lines(report)
    assert size.startswith("fp16: 2.2 MB (fp32 6.8 MB), 20.0 ms") and "2.00 x)" in size
    _, ap = summary_lines({**report, "delta_ap_points": 0.25})
    assert ap.startswith("AP is off by 0.25 points, more than fp16's 0.2; 0.10 of them may be chance")
    assert list(summary_lines({"precision": "fp32"})) == []
