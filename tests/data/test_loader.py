from __future__ import annotations

import gc
import multiprocessing
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data import DataError, Dataset, Picture, load_dataset
from data.augment import Augment
from data.augment_settings import EFFECTS
from data.loader import Batch, training_batches
from data.pictures import read_picture

INPUT_HW = (32, 48)


def fit(image, boxes):
    """A stretch to the input: enough to see that boxes and colours go through it."""
    height, width = image.shape[:2]
    scale = np.array([INPUT_HW[1] / width, INPUT_HW[0] / height] * 2, np.float32)
    return cv2.cvtColor(cv2.resize(image, INPUT_HW[::-1]), cv2.COLOR_BGR2RGB), boxes * scale


@pytest.fixture
def dataset(tmp_path, write_picture) -> Dataset:
    """Five pictures of several sizes; the third has no boxes, the fourth a crowd."""
    pictures = []
    for index, n in enumerate((1, 2, 0, 2, 1)):
        size_hw = (32 + 8 * index, 48)
        write_picture(tmp_path / f"{index}.png", size_hw, seed=index)
        boxes = np.array([[4, 4, 20, 16], [24, 8, 48, 32]], np.float32)[:n]
        crowd = np.array([False, index == 3])[:n]
        labels = np.arange(n) % 2
        pictures.append(Picture(index, tmp_path / f"{index}.png", size_hw, boxes, labels, np.ones(n), crowd))
    return Dataset("five", ("crop", "weed"), (0, 1), tuple(pictures))


def batches(dataset, **changes) -> list[Batch]:
    asked = {"augment": Augment(size_hw=INPUT_HW, blur=0.5), "batch_size": 3, "seed": 4, "steps": 7}
    return list(training_batches(dataset, fit=fit, **{**asked, **changes}))


def same(one: list[Batch], other: list[Batch]) -> bool:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.indices == b.indices
        assert torch.equal(a.images, b.images)
        for target_a, target_b in zip(a.targets, b.targets, strict=True):
            assert all(torch.equal(target_a[key], target_b[key]) for key in ("boxes", "labels"))
    return True


def test_what_a_batch_holds(dataset):
    (batch,) = batches(dataset, augment=None, batch_size=5, steps=1)
    assert batch.images.shape == (5, 3, *INPUT_HW) and batch.images.dtype == torch.uint8
    assert sorted(batch.indices) == [0, 1, 2, 3, 4]
    boxes = {index: target["boxes"] for index, target in zip(batch.indices, batch.targets, strict=True)}
    labels = {index: target["labels"] for index, target in zip(batch.indices, batch.targets, strict=True)}
    assert boxes[1].tolist() == pytest.approx(np.array([[4, 3.2, 20, 12.8], [24, 6.4, 48, 25.6]]))
    assert labels[1].tolist() == [0, 1]
    assert boxes[2].shape == (0, 4) and labels[2].shape == (0,)  # background stays
    assert len(boxes[3]) == 1 and labels[3].tolist() == [0]  # the crowd does not
    for target in batch.targets:
        assert target["boxes"].dtype == torch.float32 and target["labels"].dtype == torch.int64
    first = batch.images[batch.indices.index(0)].permute(1, 2, 0).numpy()
    assert np.array_equal(first, read_picture(dataset.pictures[0].path)[..., ::-1])  # RGB


def test_every_picture_comes_once_an_epoch_in_changing_order(dataset):
    stream = [index for batch in batches(dataset, batch_size=3, steps=10) for index in batch.indices]
    epochs = [stream[start : start + 5] for start in range(0, 30, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 3
    assert Counter(stream) == dict.fromkeys(range(5), 6)


def test_one_picture_and_a_batch_larger_than_the_dataset(dataset):
    one = dataset.subset([1])
    assert [batch.indices for batch in batches(one, batch_size=4, steps=2)] == [[0] * 4] * 2
    (batch,) = batches(one, batch_size=4, steps=1)
    assert len({image.numpy().tobytes() for image in batch.images}) == 4  # each epoch its own augmentation


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_batches_for_any_number_of_workers(workers, dataset):
    assert same(batches(dataset), batches(dataset, workers=workers))
    gc.collect()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_taken_up_again_it_goes_on_as_if_never_stopped(workers, dataset):
    whole = batches(dataset, steps=9)
    for first_step in (0, 1, 4, 8, 9, 12):
        resumed = batches(dataset, steps=9, first_step=first_step, workers=workers if first_step == 4 else 0)
        assert same(whole[first_step:], resumed)


def test_the_cache_changes_nothing_and_is_bounded(dataset, monkeypatch):
    reads: Counter[Path] = Counter()

    def counted(path):
        reads[path] += 1
        return read_picture(path)

    monkeypatch.setattr("data.loader.read_picture", counted)
    cached = batches(dataset, batch_size=5, steps=4)
    assert set(reads.values()) == {1} and len(reads) == 5
    reads.clear()
    assert same(cached, batches(dataset, batch_size=5, steps=4, cache_mb=0))
    assert set(reads.values()) == {4}


def test_seeds_matter_and_global_generators_do_not(dataset):
    first = batches(dataset)
    torch.manual_seed(1)
    np.random.seed(1)
    state = torch.get_rng_state()
    assert same(first, batches(dataset))
    assert torch.equal(torch.get_rng_state(), state)  # the trainer's own generator is not drawn from
    assert [batch.indices for batch in batches(dataset, seed=5)] != [batch.indices for batch in first]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_broken_since_is_one_clear_line(workers, dataset):
    path = dataset.pictures[2].path
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="2.png: the picture is cut short") as caught:
        batches(dataset, workers=workers)
    assert "\n" not in str(caught.value)


def test_a_picture_replaced_by_one_of_another_size_is_refused(dataset, write_picture):
    write_picture(dataset.pictures[2].path, (9, 9))
    with pytest.raises(DataError, match="2.png: changed its size"):
        batches(dataset)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_can_be_left_early(workers, dataset):
    stream = training_batches(dataset, fit=fit, augment=None, batch_size=2, seed=0, steps=10**6, workers=workers)
    assert len(next(stream).indices) == 2
    stream.close()
    gc.collect()
    assert not multiprocessing.active_children()


def test_wrong_numbers_are_refused_before_the_first_batch(dataset):
    for changes in ({"batch_size": 0}, {"seed": -1}, {"first_step": -1}, {"workers": -1}, {"cache_mb": -1}):
        with pytest.raises(ValueError):
            batches(dataset, **changes)
    with pytest.raises(DataError, match="five: no pictures"):
        batches(dataset.subset([]))


def test_real_photos(real_dataset):
    photos = load_dataset(real_dataset("cwfid"))
    asked = {"augment": Augment(size_hw=INPUT_HW), "batch_size": 8, "steps": 5}
    plain = batches(photos, **asked)
    assert len(plain) == 5 and sum(len(t["boxes"]) for batch in plain for t in batch.targets) > 150
    assert same(plain, batches(photos, **asked, workers=2))


def test_mixes_take_other_pictures_and_are_the_same_whatever_the_workers(dataset):
    mixed = {"augment": Augment(size_hw=INPUT_HW, **dict.fromkeys(EFFECTS, 0.5)), "batch_size": 2}
    one = batches(dataset, **mixed, steps=6)
    assert same(one, batches(dataset, **mixed, steps=6, workers=2))
    assert same(one[3:], batches(dataset, **mixed, first_step=3, steps=6))
    # Picture 2 is empty: boxes in it came from others.
    assert any(
        len(target["boxes"])
        for batch in one
        for index, target in zip(batch.indices, batch.targets, strict=True)
        if index == 2
    )


def test_an_unreadable_other_picture_is_one_clear_error(dataset):
    dataset.pictures[1].path.write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.png"):
        batches(dataset, augment=Augment(size_hw=INPUT_HW, mosaic=1), steps=1, batch_size=1, seed=1)
