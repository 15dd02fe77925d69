"""The error of a network in shares of what is allowed, by hand: a thousandth of a channel's spread, and rounding."""

import numpy as np
import pytest

from detection.export.parity.errors import NetworkError


def tensor(*channels):
    """(1, positions, channels)."""
    return np.array(channels, np.float32).T[None]


def test_the_largest_differences_of_scores_and_corners_stay() -> None:
    error, boxes = NetworkError(), np.zeros((2, 4), np.float32)
    moved = boxes.copy()
    moved[1, 2] = -2
    error.widen(tensor([0.5, 0.25]), tensor([0.5, 0.75]), boxes, moved)
    assert (error.max_score, error.max_box_px, error.images) == (0.5, 2.0, 0)
    error.widen(tensor([0.5, 0.25]), tensor([0.25, 0.25]), boxes, boxes)
    error.widen(tensor(), tensor(), boxes[:0], boxes[:0])
    assert (error.max_score, error.max_box_px) == (0.5, 2.0)
    moved[0, 0] = np.nan
    error.widen(tensor([0.5]), tensor([np.inf]), boxes, moved)
    assert (error.max_score, error.max_box_px) == (np.inf, np.inf)


def test_an_error_is_measured_by_the_spread_of_its_channel() -> None:
    error = NetworkError()
    assert error.noise() == (0.0, "")
    error.add("none", np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32))
    assert error.noise() == (0.0, "")
    # the first channel: 0 and 2 have a spread of 1; the second has a larger one, and the largest value below 0
    error.add("a", tensor([0, 2], [0, -8]), tensor([0.5, 2.5], [0.5, -7.5]))
    assert error.noise() == (pytest.approx(0.5 / (1e-3 + 4e-6 * 2), rel=1e-6), "a")
    # with another image: 0, 2, 4, 6 have a spread of sqrt(5), 0, -8, 0, -8 still one of 4
    error.add("a", tensor([4, 6], [0, -8]), tensor([4, 6], [0, -8]))
    assert error.noise() == (pytest.approx(0.125**0.5 / (1e-3 * 5**0.5 + 4e-6 * 6), rel=1e-6), "a")
    error.add("same everywhere", tensor([-2, -2]), tensor([-2, -1.5]))
    assert error.noise() == (pytest.approx(0.125**0.5 / (4e-6 * 2), rel=1e-6), "same everywhere")
    error.add("not a number", tensor([0, 2]), tensor([0, np.nan]))
    assert error.noise() == (np.inf, "not a number")


@pytest.mark.parametrize("with_noise", [True, False])
def test_images_are_added_up_with_or_without_their_noise(with_noise: bool) -> None:
    whole = NetworkError()
    for first, moved, px in ((0, 0.5, 2.0), (4, 0.0, 1.0)):
        one = NetworkError(max_score=moved, max_box_px=px)
        one.add("a", tensor([first, first + 2]), tensor([first + moved, first + 2 + moved]))
        whole.include(one, with_noise=with_noise)
    assert (whole.images, whole.max_score, whole.max_box_px) == (2, 0.5, 2.0)
    noise = pytest.approx(0.125**0.5 / (1e-3 * 5**0.5 + 4e-6 * 6), rel=1e-6)
    assert whole.noise() == ((noise, "a") if with_noise else (0.0, ""))
