import numpy as np
import pytest

from data import Dataset
from data.dataset import LabelledImage
from detection.evaluation.dataset_statistics import ClassStatistics, dataset_statistics

CROP, WEED = 0, 1


def image(number, size_hw, attributes, *rows):
    """Rows x1, y1, x2, y2, label, crowd."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    labels, crowd = table[:, 4].astype(int), table[:, 5] > 0
    return LabelledImage(
        number, f"/{number}.png", size_hw, table[:, :4], labels, np.ones(len(table)), crowd, attributes
    )


def test_a_dataset_counted_by_hand():
    field = Dataset(
        "made",
        ("crop", "weed"),
        (1, 2),
        (
            image(1, (100, 200), {"soil": "wet", "day": "1"}, (0, 0, 10, 10, WEED, 0), (0, 0, 20, 20, WEED, 0)),
            image(2, (100, 200), {"soil": "dry", "day": "2"}, (0, 0, 40, 10, WEED, 0), (0, 0, 99, 99, WEED, 1)),
            image(3, (50, 60), {"soil": "wet"}, (0, 0, 9, 9, WEED, 1)),
        ),
    )
    statistics = dataset_statistics(field)
    assert (statistics.images, statistics.empty) == (3, 1)
    assert statistics.sizes == ((100, 200, 2), (50, 60, 1))
    assert statistics.classes["crop"] == ClassStatistics(0, 0, 0, None)
    weed = statistics.classes["weed"]
    assert (weed.boxes, weed.images, weed.crowds) == (3, 2, 2)
    assert weed.side_px == pytest.approx((11, 20, 20))  # sides 10, 20, 20
    assert statistics.attributes == {"day": {"1": 1, "2": 1}, "soil": {"wet": 2, "dry": 1}}


def test_attributes_of_many_values_are_numbered():
    images = [image(n, (9, 9), {"time": str(n)}) for n in range(1, 31)]
    assert dataset_statistics(Dataset("made", ("crop",), (1,), tuple(images))).attributes == {"time": 30}
    nothing = dataset_statistics(Dataset("made", ("crop",), (1,), ()))
    assert (nothing.images, nothing.sizes, nothing.classes["crop"].boxes) == (0, (), 0)
