from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import DataError, Dataset, LabelledImage
from data.loading.negatives import with_negatives
from data.loading.sampling import SampleKey, SamplingOptions, TrainingSampler, image_weights


def keys(weights, steps=6, **changes) -> list[list[SampleKey]]:
    asked = {"batch_size": 3, "seed": 4, "first_step": 0, "steps": steps, "weights": np.asarray(weights, np.float64)}
    return list(TrainingSampler(len(weights), SamplingOptions(**{**asked, **changes})))


def images(*labels_of_each: list[int], crowd: int | None = None) -> Dataset:
    made = []
    for index, labels in enumerate(labels_of_each):
        n = len(labels)
        boxes = np.tile(np.array([[0, 0, 5, 5]], np.float32), (n, 1))
        is_crowd = np.full(n, index == crowd)
        made.append(
            LabelledImage(index, f"{index}.png", (10, 10), boxes, np.array(labels, np.int64), np.ones(n), is_crowd)
        )
    return Dataset("some", ("crop", "weed", "thistle"), (0, 1, 2), tuple(made))


@given(
    st.lists(st.floats(0.01, 50), min_size=1, max_size=12),
    st.integers(0, 5),
    st.integers(1, 5),
)
def test_an_epoch_gives_each_image_its_weight_rounded_up_or_down(weights, seed, batch_size):
    count = len(weights)
    epochs = 3
    steps = -(-epochs * count // batch_size)
    stream = [key for batch in keys(weights, steps, seed=seed, batch_size=batch_size) for key in batch]
    expected = np.array(weights) * count / sum(weights)
    for epoch in range(epochs):
        turns = stream[epoch * count : (epoch + 1) * count]
        assert {key.epoch for key in turns} == {epoch}
        times = Counter(key.image for key in turns)
        for image, share in enumerate(expected):
            assert np.floor(share - 1e-9) <= times[image] <= np.ceil(share + 1e-9)
        assert len(set(turns)) == len(turns)  # a second turn has its own augmentation


def test_over_many_epochs_shares_are_the_weights():
    weights = [1, 0.3, 0.05, 2.4]
    times = Counter(key.image for batch in keys(weights, 4000) for key in batch)
    shares = np.array([times[n] for n in range(4)]) / 12000
    assert shares == pytest.approx(np.array(weights) / sum(weights), abs=0.01)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_together_take_what_one_with_a_bigger_batch_would(world):
    weights = [1, 2, 0.5, 1, 1]
    alone = keys(weights, batch_size=2 * world)
    ranks = [keys(weights, batch_size=2, rank=rank, world=world) for rank in range(world)]
    assert [sum(parts, []) for parts in zip(*ranks, strict=True)] == alone


def test_taken_up_at_any_step_it_is_the_same():
    weights = [1, 2, 0.5, 1, 1]
    whole = keys(weights, 20)
    assert all(keys(weights, 20, first_step=n) == whole[n:] for n in (0, 1, 7, 19, 20))


def test_mixing_is_asked_step_by_step():
    mixed = [{key.mixed for key in batch} for batch in keys([1, 1], 5, mixing=lambda step: step < 3)]
    assert mixed == [{True}] * 3 + [{False}] * 2


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [1, np.nan], [np.inf, 1]])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be finite"):
        keys(weights)


def test_images_with_a_rare_class_come_more_often():
    dataset = images([0, 0], [0], [0, 1], [0], [])  # crop in 4 images, weed in 1, thistle in none
    assert image_weights(dataset).tolist() == [1, 1, 1, 1, 1]
    assert image_weights(dataset, balance=0.5).tolist() == [1, 1, 2, 1, 1]
    assert image_weights(dataset, balance=1).tolist() == [1, 1, 4, 1, 1]
    assert image_weights(images([0], [0], [1], crowd=2), balance=1).tolist() == [1, 1, 1]


def test_negatives_have_their_share():
    dataset = images([0], [0], [0, 1], [], [])
    weights = image_weights(dataset, negatives=2, share=0.25)
    assert Fraction(weights[3:].sum() / weights.sum()).limit_denominator(1000) == Fraction(1, 4)
    assert weights[:3].tolist() == [1, 1, 1]
    balanced = image_weights(dataset, balance=1, negatives=2, share=0.25)
    assert balanced[3:].sum() / balanced.sum() == pytest.approx(0.25)


def test_negatives_are_every_image_of_a_folder(tmp_path, write_image):
    write_image(tmp_path / "n" / "soil.png", (20, 30))
    write_image(tmp_path / "n" / "deeper" / "stone.jpg", (24, 30))
    (tmp_path / "n" / "notes.txt").write_text("soil")
    dataset = images([0], [1])
    both, count = with_negatives(dataset, tmp_path / "n")
    assert count == 2 and len(both) == 4
    assert [(p.path.name, p.size_hw, len(p.labels)) for p in both.images[2:]] == [
        ("stone.jpg", (24, 30), 0),
        ("soil.png", (20, 30), 0),
    ]
    assert len({p.image_id for p in both.images}) == 4


def test_negatives_that_are_none_are_refused(tmp_path, write_image):
    with pytest.raises(DataError, match="no such folder"):
        with_negatives(images([0]), tmp_path / "gone")
    (tmp_path / "n").mkdir()
    with pytest.raises(DataError, match="no images"):
        with_negatives(images([0]), tmp_path / "n")
    write_image(tmp_path / "n" / "a.png", (10, 10))
    labelled = LabelledImage(0, tmp_path / "n" / "a.png", (10, 10), np.array([[0, 0, 5, 5]]), [0], [25], [False])
    with pytest.raises(DataError, match="cannot be labelled and a negative"):
        with_negatives(Dataset("one", ("crop",), (0,), (labelled,)), tmp_path / "n")
