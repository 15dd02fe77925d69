"""Which position learns which box, on cases small enough to be worked out on paper."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from detection.models.assignment import Assignment, GroundTruth, atss_assignment, task_aligned_assignment

# Two levels: 4 x 4 positions of stride 8 and 2 x 2 of stride 16, on an input of 32 x 32 pixels.
LEVELS = [16, 4]


def squares(stride: int, count: int) -> torch.Tensor:
    centre = torch.arange(count) * stride + stride / 2
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    middle = torch.stack([x, y], dim=-1).reshape(-1, 2)
    return torch.cat([middle - stride / 2, middle + stride / 2], dim=1)


ANCHORS = torch.cat([squares(8, 4), squares(16, 2)])


def truth(*images: list[tuple[list[float], int]]) -> GroundTruth:
    return GroundTruth.of(
        [
            {
                "boxes": torch.tensor([box for box, _ in boxes], dtype=torch.float32).reshape(-1, 4),
                "labels": torch.tensor([label for _, label in boxes], dtype=torch.int64),
            }
            for boxes in images
        ]
    )


def of(positive: torch.Tensor) -> list[int]:
    return positive.nonzero().flatten().tolist()


def test_truth_is_padded_to_a_power_of_two():
    padded = truth([([0, 0, 4, 4], 1)] * 17, [])
    assert padded.boxes.shape == (2, 32, 4) and padded.real.sum(dim=1).tolist() == [17, 0]
    assert truth([]).real.shape == (1, 16)


def test_the_positions_that_place_and_name_a_box_best_learn_it():
    # one box over the upper left 16 x 16: positions 0, 1, 4, 5 of stride 8 and 16 (the first of stride 16) lie in it
    one = truth([([0, 0, 16, 16], 1)])
    predicted = torch.zeros(1, 20, 4)
    predicted[0, 0] = torch.tensor([0, 0, 16, 16])  # IoU 1
    predicted[0, 5] = torch.tensor([0, 0, 16, 8])  # IoU 0.5
    predicted[0, 10] = torch.tensor([0, 0, 16, 16])  # as good, but outside
    scores = torch.full((1, 20, 2), 0.25)
    scores[0, 5, 1] = 1.0
    found = task_aligned_assignment(one, ANCHORS, predicted, scores, best=2, alpha=0.5, beta=1.0)
    # t = 0.25^0.5 * 1 = 0.5 at position 0 and 1 * 0.5 at position 5: both the best, so both get the best IoU, 1
    assert of(found.positive[0]) == [0, 5]
    assert found.quality[0, [0, 5, 10]].tolist() == pytest.approx([1.0, 1.0, 0.0])
    assert found.labels[0, 0] == 1 and found.boxes[0, 5].tolist() == [0, 0, 16, 16]
    only = task_aligned_assignment(one, ANCHORS, predicted, scores, best=2, alpha=0.5, beta=2.0)
    assert only.quality[0, 5] == pytest.approx(0.5)  # t = 0.25 of 0.5, times the best IoU


def test_a_position_that_two_boxes_want_learns_the_one_it_covers_best():
    both = truth([([0, 0, 16, 16], 0), ([0, 0, 12, 12], 1)])
    predicted = torch.tensor([0.0, 0, 12, 12]).expand(1, 20, 4)
    found = task_aligned_assignment(both, ANCHORS, predicted, torch.full((1, 20, 2), 0.5))
    # the smaller one holds positions 0 and 16, the larger one 0, 1, 4, 5 and 16
    assert {i: int(found.labels[0, i]) for i in of(found.positive[0])} == {0: 1, 1: 0, 4: 0, 5: 0, 16: 1}


def test_squares_that_overlap_unusually_well_learn_a_box():
    # With anchors of 8 strides, a box of 64 x 64 around position 5's centre is that anchor itself.
    box = [12 - 32.0, 12 - 32.0, 12 + 32.0, 12 + 32.0]
    found = atss_assignment(truth([(box, 1)]), ANCHORS, LEVELS, torch.tensor(box).expand(1, 20, 4), nearest=1)
    # competing: position 5 with IoU 1, and one of stride 16 with IoU 64^2 / 128^2 = 0.25; mean 0.625, spread 0.53:
    # neither is good enough, so the nearest position has it
    assert of(found.positive[0]) == [5]
    found = atss_assignment(truth([(box, 1)]), ANCHORS, LEVELS, torch.tensor(box).expand(1, 20, 4), nearest=4)
    assert of(found.positive[0]) == [5]
    assert found.quality[0].sum() == pytest.approx(1.0) and found.quality[0, 5] == pytest.approx(1.0)


def test_a_image_without_boxes_learns_background_only():
    empty = truth([])
    predicted, scores = torch.rand(1, 20, 4), torch.rand(1, 20, 3)
    for found in (
        task_aligned_assignment(empty, ANCHORS, predicted, scores),
        atss_assignment(empty, ANCHORS, LEVELS, predicted),
    ):
        assert not found.positive.any() and not found.quality.any()


def test_a_box_between_all_positions_is_learned_by_the_nearest():
    tiny = truth([([7.0, 7.0, 9.0, 9.5], 0)])
    found = task_aligned_assignment(tiny, ANCHORS, torch.zeros(1, 20, 4), torch.zeros(1, 20, 1))
    assert len(of(found.positive[0])) == 1 and found.quality.sum() == 0


boxes = st.lists(
    st.tuples(st.floats(0, 28), st.floats(0, 28), st.floats(1, 32), st.floats(1, 32), st.integers(0, 2)), max_size=20
)


@settings(max_examples=40)
@given(st.lists(boxes, min_size=1, max_size=3), st.integers(0, 9))
def test_what_holds_for_all(images, seed):
    generator = torch.Generator().manual_seed(seed)
    batch = truth(*([([x, y, min(32, x + w), min(32, y + h)], c) for x, y, w, h, c in some] for some in images))
    middle = (ANCHORS[:, :2] + ANCHORS[:, 2:]) / 2
    reach = 20 * torch.rand(len(images), 20, 4, generator=generator)
    predicted = torch.cat([middle - reach[..., :2], middle + reach[..., 2:]], dim=-1)
    scores = torch.rand(len(images), 20, 3, generator=generator)
    for found in (
        task_aligned_assignment(batch, ANCHORS, predicted, scores, best=3),
        atss_assignment(batch, ANCHORS, LEVELS, predicted),
    ):
        check(found, batch, predicted)


def check(found: Assignment, batch: GroundTruth, predicted: torch.Tensor) -> None:
    assert ((found.quality >= 0) & (found.quality <= 1 + 1e-6)).all()
    assert not (found.quality[~found.positive]).any()
    for row in range(len(batch.real)):
        real = batch.boxes[row][batch.real[row]]
        assert found.positive[row].any() == (len(real) > 0)
        for anchor in of(found.positive[row]):
            # every target is a box of this very image, under its own class
            same = (real == found.boxes[row, anchor]).all(dim=1)
            assert (batch.labels[row][batch.real[row]][same] == found.labels[row, anchor]).any()
            iou = box_iou(found.boxes[row, anchor][None], predicted[row])
            assert found.quality[row, anchor] <= iou.max() + 1e-5


def test_every_box_is_learned_where_there_is_room():
    apart = truth([([0, 0, 15, 15], 0), ([17, 0, 31, 15], 1), ([0, 17, 15, 31], 2), ([17, 17, 31, 31], 0)])
    found = task_aligned_assignment(apart, ANCHORS, torch.zeros(1, 20, 4), torch.full((1, 20, 3), 0.01), best=2)
    learned = {tuple(box.tolist()) for box in found.boxes[0][found.positive[0]]}
    assert len(learned) == 4
