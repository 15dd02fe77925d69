"""Splits that keep groups whole and classes in proportion, written as datasets that refer to the originals.

Based on scikit-learn's StratifiedGroupKFold, seeded.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.dataset import Dataset
from data.errors import DataError
from data.files import json_text, write_whole
from data.formats.coco import save_coco
from data.splits.groups import best_key, group_images

RULE = "split.json"
"""The file beside the parts that records how they were made."""

_FINEST = 20  # parts of which val and test are put together: shares are met to about a fortieth


@dataclass(frozen=True)
class Split:
    """Which images are in which part.

    Attributes:
        parts: name of the part -> indices of its images, ascending.
        groups: the group of each image.
        key: what they were grouped by.

    """

    parts: dict[str, tuple[int, ...]]
    groups: tuple[str, ...]
    key: str

    def counts(self, dataset: Dataset) -> dict[str, dict[str, Any]]:
        """For each part the number of images, of groups, and of boxes of each class."""
        counted: dict[str, dict[str, Any]] = {}
        for name, indices in self.parts.items():
            boxes = Counter(int(label) for i in indices for label in dataset.images[i].labels)
            counted[name] = {
                "images": len(indices),
                "groups": len({self.groups[i] for i in indices}),
                "classes": {class_name: boxes[label] for label, class_name in enumerate(dataset.class_names)},
            }
        return counted


def split_groups(
    dataset: Dataset,
    *,
    by: str | None = None,
    val: float = 0.2,
    test: float = 0.0,
    seed: int = 0,
    together: Iterable[tuple[int, int]] = (),
) -> Split:
    """Split into train, val and test.

    Args:
        dataset: what to split.
        by: a group key (see `data.splits.groups`); None takes the best that there is.
        val: share of the images for validation, 0 to below 1; 0 for none.
        test: the same for testing.
        seed: another one gives another split; the same one always the same.
        together: pairs of images that belong on one side whatever their groups, such as near-duplicates.

    Raises:
        DataError: shares that leave nothing for training, or too few groups.

    """
    if not (0 <= val < 1 and 0 <= test < 1 and 0 < val + test < 1):
        raise DataError(f"val {val:g} and test {test:g}: give shares from 0 to 1 that leave some for training")
    wanted = {name: share for name, share in (("val", val), ("test", test)) if share}
    key, names, groups = _groups(dataset, by, together, needed=len(wanted) + 1)
    every = np.arange(len(dataset))
    grains = _grains(dataset, groups, seed, at_least=len(wanted) + 1)
    parts: dict[str, tuple[int, ...]] = {}
    for number, (name, share) in enumerate(wanted.items()):
        spare = len(wanted) - number  # one grain at least is left for each part to come
        taken = [grains.pop(0)]
        while len(grains) > spare and _off(taken + grains[:1], share * len(dataset)) < _off(
            taken, share * len(dataset)
        ):
            taken.append(grains.pop(0))
        parts[name] = tuple(sorted(np.concatenate(taken).tolist()))
    parts["train"] = tuple(np.setdiff1d(every, np.concatenate(list(parts.values()))).tolist())
    return Split({name: parts[name] for name in ("train", "val", "test") if name in parts}, names, key)


def split_held_out(
    dataset: Dataset,
    *,
    by: str,
    held_out: Sequence[str],
    val: float = 0.0,
    seed: int = 0,
    together: Iterable[tuple[int, int]] = (),
) -> Split:
    """Groups named by the caller for testing, such as two blocks of an orchard; the rest for train and val.

    Args:
        dataset: what to split.
        by: a group key (see `data.splits.groups`).
        held_out: names of groups, as the key finds them.
        val: share of the rest for validation, 0 to below 1.
        seed: another one gives another validation part.
        together: as in `split_groups`; what belongs to a group held out is held out.

    Raises:
        DataError: no such group, nothing left for training, or too few groups for a validation part.

    """
    key, names, groups = _groups(dataset, by, together, needed=2)
    unknown = [name for name in held_out if name not in names]
    if unknown:
        there = sorted(set(names))
        known = ", ".join(there[:10]) + (", ..." if len(there) > 10 else "")
        raise DataError(f"{dataset.name}: no group {', '.join(unknown)} by {key}; there are {known}")
    tested = np.isin(groups, groups[np.isin(names, held_out)])
    test, rest = np.flatnonzero(tested), np.flatnonzero(~tested)
    if not len(rest):
        raise DataError(f"{dataset.name}: all groups by {key} are held out: nothing is left for training")
    parts = {"train": tuple(rest.tolist())}
    if val:
        place = {int(i): k for k, i in enumerate(rest)}
        pairs = [(place[one], place[other]) for one, other in together if one in place and other in place]
        inner = split_groups(dataset.subset(rest.tolist()), by=by, val=val, seed=seed, together=pairs)
        parts = {name: tuple(rest[list(indices)].tolist()) for name, indices in inner.parts.items()}
    return Split(parts | {"test": tuple(test.tolist())}, names, key)


def split_folds(
    dataset: Dataset, *, folds: int, by: str | None = None, seed: int = 0, together: Iterable[tuple[int, int]] = ()
) -> list[Split]:
    """K splits into train and test, so that each image is tested once; the arguments are as in `split_groups`.

    Raises:
        DataError: fewer than two folds, or fewer groups than folds.

    """
    if folds < 2:
        raise DataError(f"{folds} folds: at least 2 are needed")
    key, names, groups = _groups(dataset, by, together, needed=folds)
    every = np.arange(len(dataset))
    tests = _deal(dataset, groups, every, folds, seed)
    if not all(map(len, tests)):
        raise DataError(f"{dataset.name}: the groups are too unequal for {folds} folds: make fewer")
    return [
        Split({"train": tuple(np.setdiff1d(every, test).tolist()), "test": tuple(test.tolist())}, names, key)
        for test in tests
    ]


def save_split(
    dataset: Dataset, split: Split, folder: Path, *, seed: int, options: Mapping[str, float | bool | list[str]]
) -> None:
    """Write `train.json`, `val.json`, ... (COCO, referring to the original images) and `split.json`.

    Args:
        dataset: what was split.
        split: the parts.
        folder: made where it is missing.
        seed: of the random split.
        options: the shares, folds or groups held out, recorded for the reader.

    Raises:
        DataError: a file cannot be written, or a part of another split lies there.

    """
    stale = [
        f for name in ("train", "val", "test") if name not in split.parts and (f := folder / f"{name}.json").exists()
    ]
    if stale:
        raise DataError(f"{stale[0]}: left from another split: remove it, or give another --out")
    for name, indices in split.parts.items():
        save_coco(dataset.subset(indices), folder / f"{name}.json")
    rule = {
        "source": dataset.name,
        "source_fingerprint": dataset.fingerprint(),
        "by": split.key,
        "seed": seed,
        "asked": dict(options),
        "counts": split.counts(dataset),
        "groups": {name: sorted({split.groups[i] for i in indices}) for name, indices in split.parts.items()},
    }
    write_whole(folder / RULE, json_text(rule))


def _groups(
    dataset: Dataset, by: str | None, together: Iterable[tuple[int, int]], needed: int
) -> tuple[str, tuple[str, ...], NDArray[np.int64]]:
    """The key, each image's group by name, and the number of the group after joining."""
    if not len(dataset):
        raise DataError(f"{dataset.name}: no images to split")
    key = by or best_key(dataset.images, groups_wanted=needed)
    names = group_images(dataset.images, key)
    # An image to which the key does not apply is a group of its own.
    names = [name or f"?{image.path.name}" for name, image in zip(names, dataset.images, strict=True)]
    groups = _joined(names, together)
    there = len(np.unique(groups))
    if there < needed:
        raise DataError(
            f"{dataset.name}: {there} groups by {key}, and {needed} parts wanted: group by something finer (--by), "
            "or make fewer parts"
        )
    return key, tuple(names), groups


def _joined(names: Sequence[str], together: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Numbers of groups, where groups with a pair in common are one."""
    home = {name: name for name in names}

    def root(name: str) -> str:
        while home[name] != name:
            name = home[name]
        return name

    for one, other in together:
        home[root(names[one])] = root(names[other])
    _, joined = np.unique(np.array([root(name) for name in names]), return_inverse=True)
    return np.asarray(joined, np.int64)


def _deal(
    dataset: Dataset, groups: NDArray[np.int64], chosen: NDArray[np.int64], folds: int, seed: int
) -> list[NDArray[np.int64]]:
    """Deal `chosen` images, groups whole, out to `folds` parts with like shares of each class."""
    from sklearn.model_selection import StratifiedGroupKFold

    # Its unit is one sample of one class: an image is one for each of its boxes, and one of background, so
    # that images without boxes are shared out too.
    rows = [(i, 0) for i in chosen] + [(i, label + 1) for i in chosen for label in dataset.images[i].labels]
    index, label = np.array(rows, np.int64).T
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # a rare class cannot be in every fold
        dealer = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        return [np.unique(index[test]) for _, test in dealer.split(index, label, groups[index])]


def _grains(dataset: Dataset, groups: NDArray[np.int64], seed: int, at_least: int) -> list[NDArray[np.int64]]:
    """All images, groups whole, in as many like parts as go: up to `_FINEST`."""
    every = np.arange(len(dataset))
    count = len(np.unique(groups))
    for grains in range(min(_FINEST, count), at_least - 1, -1):
        dealt = _deal(dataset, groups, every, grains, seed)
        if all(len(part) for part in dealt):
            return dealt
    raise DataError(f"{dataset.name}: {count} groups are too unequal for {at_least} parts: make fewer")


def _off(parts: Sequence[NDArray[np.int64]], wanted: float) -> float:
    return abs(sum(map(len, parts)) - wanted)
