from __future__ import annotations

import gc
import multiprocessing
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from data import DataError, Dataset, LabelledImage, load_dataset
from data.augmentation.augment import Augment
from data.augmentation.effects import KINDS
from data.augmentation.settings import AugmentSettings
from data.images import read_image, read_image_at
from data.loading.cache import CacheOptions
from data.loading.loader import Batch, LoadingOptions, training_batches
from data.loading.sampling import SamplingOptions

INPUT_HW = (32, 48)
# torch advises against more workers than cores; here they are wanted, whatever the machine
more_workers_than_cores = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


def fit(image, boxes):
    """A stretch to the input: enough to see that boxes and colours go through it."""
    height, width = image.shape[:2]
    scale = np.array([INPUT_HW[1] / width, INPUT_HW[0] / height] * 2, np.float32)
    return cv2.cvtColor(cv2.resize(image, INPUT_HW[::-1]), cv2.COLOR_BGR2RGB), boxes * scale


@pytest.fixture
def dataset(tmp_path, write_image) -> Dataset:
    """Five images of several sizes; the third has no boxes, the fourth a crowd."""
    images = []
    for index, n in enumerate((1, 2, 0, 2, 1)):
        size_hw = (32 + 8 * index, 48)
        write_image(tmp_path / f"{index}.png", size_hw, seed=index)
        boxes = np.array([[4, 4, 20, 16], [24, 8, 48, 32]], np.float32)[:n]
        crowd = np.array([False, index == 3])[:n]
        labels = np.arange(n) % 2
        images.append(LabelledImage(index, tmp_path / f"{index}.png", size_hw, boxes, labels, np.ones(n), crowd))
    return Dataset("five", ("crop", "weed"), (0, 1), tuple(images))


def batches(dataset, *, workers=0, cache="ram", cache_mb=1024, **changes) -> list[Batch]:
    asked = {
        "augment": Augment(AugmentSettings(blur=0.5), size_hw=INPUT_HW),
        "batch_size": 3,
        "seed": 4,
        "steps": 7,
        "fit": fit,
    }
    asked |= changes
    sampling = {key: asked.pop(key) for key in ("batch_size", "seed", "steps", "first_step") if key in asked}
    loading = LoadingOptions(workers=workers, cache=CacheOptions(cache, cache_mb))
    return list(training_batches(dataset, SamplingOptions(**sampling), loading=loading, **asked))


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
    assert np.array_equal(first, read_image(dataset.images[0].path)[..., ::-1])  # RGB


def test_every_image_comes_once_an_epoch_in_changing_order(dataset):
    stream = [index for batch in batches(dataset, batch_size=3, steps=10) for index in batch.indices]
    epochs = [stream[start : start + 5] for start in range(0, 30, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 3
    assert Counter(stream) == dict.fromkeys(range(5), 6)


def test_one_image_and_a_batch_larger_than_the_dataset(dataset):
    one = dataset.subset([1])
    assert [batch.indices for batch in batches(one, batch_size=4, steps=2)] == [[0] * 4] * 2
    (batch,) = batches(one, batch_size=4, steps=1)
    assert len({image.numpy().tobytes() for image in batch.images}) == 4  # each epoch its own augmentation


@more_workers_than_cores
@pytest.mark.parametrize("workers", [1, 4])
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


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Dataset:
    """Seven JPEGs of several sizes, all larger than the input, one lying on its side; caches go with them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(5)
    images = []
    for index in range(7):
        height, width = size_hw = (100 + 9 * index, 150 - 7 * index)
        path = tmp_path / "photos" / f"{index}.jpg"
        path.parent.mkdir(exist_ok=True)
        texture = cv2.GaussianBlur(rng.integers(0, 256, (*size_hw, 3), np.uint8), (0, 0), 1.5)
        stored = texture if index != 3 else np.rot90(texture)
        exif = Image.Exif()
        exif[0x0112] = 6 if index == 3 else 1
        Image.fromarray(stored).save(path, exif=exif, quality=95)
        n = index % 4
        corner = rng.random((n, 2)) * [width / 2, height / 2]
        boxes = np.concatenate([corner, corner + 20 + rng.random((n, 2)) * 30], axis=1).astype(np.float32)
        images.append(LabelledImage(index, path, size_hw, boxes, np.arange(n) % 2, np.ones(n), np.zeros(n, bool)))
    return Dataset("seven", ("crop", "weed"), (0, 1), tuple(images))


PLAIN = {"vflip": 0, "rotate90": 0, "scale_crop": 0}


@more_workers_than_cores
@pytest.mark.parametrize("recipe", [{}, PLAIN])
@pytest.mark.parametrize("cache", ["none", "ram", "disk"])
def test_workers_caches_and_resuming_change_no_bit(cache, recipe, photos):
    augment = Augment(AugmentSettings(blur=0.3, **recipe), size_hw=INPUT_HW)
    asked = {"augment": augment, "scale_range": augment.scale_range, "batch_size": 3, "steps": 9, "fit": letterboxed}
    whole = batches(photos, **asked, cache="none")
    assert same(whole, batches(photos, **asked, cache=cache))
    assert same(whole[5:], batches(photos, **asked, cache=cache, first_step=5))
    for workers, first_step in ((1, 3), (4, 0), (4, 5)):
        assert same(whole[first_step:], batches(photos, **asked, cache=cache, workers=workers, first_step=first_step))


def test_images_are_worked_on_at_the_size_that_they_need(photos):
    augment = Augment(
        AugmentSettings(hflip=0, brightness=0, contrast=0, hue=0, saturation=0, blur=0, **PLAIN), size_hw=INPUT_HW
    )
    asked = {"augment": augment, "batch_size": 7, "steps": 1, "fit": letterboxed}
    (small,) = batches(photos, **asked, scale_range=augment.scale_range)
    (whole,) = batches(photos, **asked)
    assert small.indices == whole.indices
    boxes = 0
    for place, index in enumerate(small.indices):
        drawn, expected = small.targets[place]["boxes"].numpy(), whole.targets[place]["boxes"].numpy()
        boxes += len(drawn)
        assert np.abs(drawn - expected).max(initial=0) < 1e-4
        # by hand: the letterbox of an image of this size, and nothing else
        height, width = photos.images[index].size_hw
        scale = min(INPUT_HW[0] / height, INPUT_HW[1] / width)
        fitted_wh = np.array([round(width * scale), round(height * scale)])
        by_hand = photos.images[index].boxes_xyxy * np.tile(fitted_wh / [width, height], 2)
        assert np.abs(drawn - by_hand).max(initial=0) < 1e-4
        assert np.abs(small.images[place].numpy().astype(int) - whole.images[place].numpy()).mean() < 3
    assert boxes == 9


def letterboxed(image, boxes):
    """As the network's letterbox: one scale, top left, the rest grey."""
    height, width = image.shape[:2]
    scale = min(INPUT_HW[0] / height, INPUT_HW[1] / width)
    fitted_h, fitted_w = round(height * scale), round(width * scale)
    canvas = np.full((*INPUT_HW, 3), 114, np.uint8)
    small = cv2.resize(image, (fitted_w, fitted_h), interpolation=cv2.INTER_AREA)
    canvas[:fitted_h, :fitted_w] = small[..., ::-1]
    return canvas, (boxes * np.tile([fitted_w / width, fitted_h / height], 2)).astype(np.float32)


def counted_reads(monkeypatch) -> Counter[Path]:
    reads: Counter[Path] = Counter()

    def counted(path, size_hw, wanted_hw):
        reads[path] += 1
        return read_image_at(path, size_hw, wanted_hw)

    monkeypatch.setattr("data.loading.samples.read_image_at", counted)
    return reads


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_a_cached_image_is_decoded_once(cache, photos, monkeypatch):
    reads = counted_reads(monkeypatch)
    asked = {"batch_size": 7, "steps": 4, "cache": cache}
    batches(photos, **asked)
    assert len(reads) == 7 and set(reads.values()) == {1}
    batches(photos, **asked)
    assert set(reads.values()) == ({1} if cache == "disk" else {2})  # files serve the next run
    reads.clear()
    batches(photos, **{**asked, "cache": "none"})
    assert set(reads.values()) == {4}


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_a_cache_that_is_too_small_says_so_and_keeps_what_it_can(cache, photos, monkeypatch):
    whole = 200  # MiB would hold 7 images of 30 MB: pretend that they are so large
    monkeypatch.setattr(
        "data.loading.cache._MIB", sum(p.size_hw[0] * p.size_hw[1] * 3 for p in photos.images) // whole
    )
    reads, notes = counted_reads(monkeypatch), []
    kept = batches(photos, batch_size=7, steps=4, cache=cache, cache_mb=100, note=notes.append)
    assert sorted(reads.values()) == [1, 1, 1, 4, 4, 4, 4]
    assert notes == [
        f"the {cache} cache holds 3 of 7 images; the others are decoded every time "
        "(train.cache_mb is 100; all of them need 201)"
    ]
    notes.clear()
    assert same(kept, batches(photos, batch_size=7, steps=4, cache=cache, cache_mb=201, note=notes.append))
    assert same(kept, batches(photos, batch_size=7, steps=4, cache=cache, cache_mb=0, note=notes.append))
    assert notes == []


def test_seeds_matter_and_global_generators_do_not(dataset):
    first = batches(dataset)
    torch.manual_seed(1)
    np.random.seed(1)
    state = torch.get_rng_state()
    assert same(first, batches(dataset))
    assert torch.equal(torch.get_rng_state(), state)  # the trainer's own generator is not drawn from
    assert [batch.indices for batch in batches(dataset, seed=5)] != [batch.indices for batch in first]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_image_broken_since_is_one_clear_line(workers, dataset):
    path = dataset.images[2].path
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="2.png: the image is cut short") as caught:
        batches(dataset, workers=workers)
    assert "\n" not in str(caught.value)


def test_a_image_replaced_by_one_of_another_size_is_refused(dataset, write_image):
    write_image(dataset.images[2].path, (9, 9))
    with pytest.raises(DataError, match="2.png: changed its size"):
        batches(dataset)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_can_be_left_early(workers, dataset):
    sampling = SamplingOptions(batch_size=2, seed=0, steps=10**6)
    stream = training_batches(dataset, sampling, fit=fit, loading=LoadingOptions(workers=workers))
    assert len(next(stream).indices) == 2
    stream.close()
    gc.collect()
    assert not multiprocessing.active_children()


def test_wrong_numbers_are_refused_before_the_first_batch(dataset):
    for changes in ({"batch_size": 0}, {"seed": -1}, {"first_step": -1}, {"workers": -1}, {"cache_mb": -1}):
        with pytest.raises(ValueError):
            batches(dataset, **changes)
    with pytest.raises(DataError, match="five: no images"):
        batches(dataset.subset([]))


def test_real_photos(real_dataset):
    photos = load_dataset(real_dataset("cwfid"))
    asked = {"augment": Augment(AugmentSettings(), size_hw=INPUT_HW), "batch_size": 8, "steps": 5}
    plain = batches(photos, **asked)
    assert len(plain) == 5 and sum(len(t["boxes"]) for batch in plain for t in batch.targets) > 150
    assert same(plain, batches(photos, **asked, workers=2))
    (first,) = batches(photos, **{**asked, "steps": 1}, workers=1)
    assert first.images.is_contiguous(memory_format=torch.channels_last)


def test_mixes_take_other_images_and_are_the_same_whatever_the_workers(dataset):
    mixed = {
        "augment": Augment(AugmentSettings(**{kind.name: 0.5 for kind in KINDS}), size_hw=INPUT_HW),
        "batch_size": 2,
    }
    one = batches(dataset, **mixed, steps=6)
    assert same(one, batches(dataset, **mixed, steps=6, workers=2))
    assert same(one[3:], batches(dataset, **mixed, first_step=3, steps=6))
    # LabelledImage 2 is empty: boxes in it came from others.
    assert any(
        len(target["boxes"])
        for batch in one
        for index, target in zip(batch.indices, batch.targets, strict=True)
        if index == 2
    )


def test_an_unreadable_other_image_is_one_clear_error(dataset):
    dataset.images[1].path.write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.png"):
        batches(dataset, augment=Augment(AugmentSettings(mosaic=1), size_hw=INPUT_HW), steps=1, batch_size=1, seed=1)
