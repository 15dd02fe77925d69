"""The atlas beside torchvision's MultiScaleRoIAlign."""

from functools import cache

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchvision.ops import MultiScaleRoIAlign

from detection.export.graph.roi_atlas import RoiAtlas

SIZES_HW = ((512, 640), (96, 128))
Atlas = tuple[MultiScaleRoIAlign, RoiAtlas, dict[str, torch.Tensor]]


@cache
def made(size_hw: tuple[int, int], strides: tuple[int, ...] = (4, 8, 16, 32)) -> Atlas:
    generator = torch.Generator().manual_seed(0)
    height, width = size_hw
    features = {
        str(k): torch.randn(2, 3, height // stride, width // stride, generator=generator)
        for k, stride in enumerate(strides)
    }
    features["pool"] = torch.full((2, 3, 1, 1), 1e6)  # only the first stage looks at it
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2)
    return pool, RoiAtlas(pool, {name: one[:1] for name, one in features.items()}, size_hw), features


def compare(atlas: Atlas, boxes_xyxy: torch.Tensor, size_hw: tuple[int, int]) -> None:
    """`boxes_xyxy` (2, R, 4)."""
    pool, ours, features = atlas
    expected = pool(dict(features), list(boxes_xyxy), [size_hw] * 2)
    torch.testing.assert_close(ours(features, boxes_xyxy), expected, atol=2e-4, rtol=0)


@st.composite
def boxes_inside(draw: st.DrawFn) -> tuple[tuple[int, int], list[list[float]]]:
    """Two boxes within an image: tiny, thin, large, and often at the right or bottom edge."""
    size_hw = draw(st.sampled_from(SIZES_HW))
    boxes = []
    for _ in range(2):
        low, high = [], []
        for end in reversed(size_hw):  # x, then y
            length = draw(st.one_of(st.floats(2**-10, 3.0, width=32), st.floats(1.0, float(end), width=32)))
            start = draw(st.one_of(st.floats(0.0, end - length), st.just(end - length), st.just(0.0)))
            low.append(start)
            high.append(min(start + length, float(end)))
        boxes.append([*low, *high])
    return size_hw, boxes


@settings(max_examples=300, deadline=None)
@given(boxes_inside())
@example(((512, 640), [[0.0, 0.0, 640.0, 512.0], [639.9, 511.9, 640.0, 512.0]]))  # all of it; the last corner
@example(((512, 640), [[639.0, 0.0, 640.0, 512.0], [0.0, 511.99, 640.0, 512.0]]))  # thin ones along both edges
@example(((96, 128), [[0.0, 0.0, 1e-3, 1e-3], [127.9, 0.0, 128.0, 1e-3]]))  # tiny, in the upper corners
def test_equal_to_torchvision_wherever_a_box_lies(drawn: tuple[tuple[int, int], list[list[float]]]) -> None:
    size_hw, boxes = drawn
    compare(made(size_hw), torch.tensor(boxes).unsqueeze(1), size_hw)


def test_every_level_and_every_edge_took_part() -> None:
    pool, atlas, _ = made((512, 640))
    side = torch.tensor([20.0, 111.9, 112.0, 200.0, 224.0, 447.0, 448.0, 500.0])
    boxes = torch.stack([640 - side, 512 - side, torch.full_like(side, 640), torch.full_like(side, 512)], dim=1)
    assert pool.map_levels([boxes]).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    compare(made((512, 640)), torch.stack([boxes, boxes.flip(0)]), (512, 640))
    assert [tuple(scale.tolist()) for scale in atlas.scales.split(1)] == [(0.25,), (0.125,), (0.0625,), (0.03125,)]
    assert atlas.cells_hw == [(130, 162), (66, 82), (34, 82), (30, 82)]  # 30: all that is left beside the finest


def test_samples_beyond_the_edge_count_as_nothing() -> None:
    # A cell is 4 pixels. The box begins 1 pixel (a quarter of a cell) before the right edge and is read as one
    # cell wide: of the 14 samples across, at (k + 1/2) / 14 of a cell, only k = 0, 1, 2, 3 lie at or before 1/4,
    # and of the 7 bins so the first two are whole and the others empty. The map is 1 everywhere.
    pool, atlas, features = made((96, 128))
    ones = {name: torch.ones_like(one) for name, one in features.items()}
    boxes = torch.tensor([[127.0, 40.0, 128.0, 60.0]]).expand(2, 1, 4)
    expected = torch.tensor([1.0, 1.0, 0, 0, 0, 0, 0]).expand(2, 3, 7, 7)
    # k = 3 lies exactly on the edge, and both count it in
    torch.testing.assert_close(atlas(ones, boxes), expected)
    torch.testing.assert_close(pool(dict(ones), list(boxes), [(96, 128)] * 2), expected)


def test_where_all_maps_are_equally_coarse_only_the_first_is_read() -> None:
    atlas = made((96, 128), (32, 32))
    assert atlas[1].names == ["0"]
    boxes = torch.tensor([[0.0, 0.0, 128.0, 96.0], [120.0, 90.0, 128.0, 96.0], [3.0, 4.0, 50.0, 20.0]])
    compare(atlas, torch.stack([boxes, boxes.flip(0)]), (96, 128))


@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_the_places_of_the_levels_do_not_overlap(size_hw: tuple[int, int]) -> None:
    atlas = made(size_hw)[1]
    taken = torch.zeros(1000, 1000)
    for (h, w), (x, y, _, _) in zip(atlas.cells_hw, atlas.shifts_xyxy.int().tolist(), strict=True):
        taken[y : y + h, x : x + w] += 1
    assert taken.max() == 1
    assert taken.sum() == atlas.cells_hw[0][0] * (atlas.cells_hw[0][1] + atlas.cells_hw[1][1])
