from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.dataset import Dataset, LabelledImage
from data.errors import DataError
from data.formats import load_dataset, load_parts
from data.splits.groups import group_images
from data.splits.split import save_split, split_folds, split_groups, split_held_out


def dataset(fields: list[str], labels: list[list[int]] | None = None) -> Dataset:
    made = []
    for i, field in enumerate(fields):
        own = [0] if labels is None else labels[i]
        boxes = [[1 + k, 1, 5 + k, 5] for k in range(len(own))]
        arrays = (
            np.array(boxes).reshape(-1, 4),
            np.array(own, np.int64),
            np.ones(len(own)),
            np.zeros(len(own), bool),
        )
        made.append(LabelledImage(i + 1, Path(f"/set/{i}.png"), (20, 90), *arrays, {"field": field}))
    return Dataset("made", ("crop", "weed"), (1, 2), tuple(made))


def sides(split, part: Dataset) -> None:
    """Every image once, every group on one side."""
    assert sorted(i for indices in split.parts.values() for i in indices) == list(range(len(part)))
    seen: dict[str, str] = {}
    for name, indices in split.parts.items():
        assert indices
        for i in indices:
            assert seen.setdefault(part.images[i].attributes["field"], name) == name


@settings(max_examples=15, deadline=None)
@given(
    fields=st.lists(st.integers(0, 9), min_size=12, max_size=60),
    seed=st.integers(0, 99),
    rare=st.integers(0, 3),
)
def test_groups_stay_whole(fields, seed, rare):
    made = dataset([f"f{k}" for k in fields], [[1] if i < rare else [0] * (i % 3) for i in range(len(fields))])
    if len(set(fields)) < 3:
        with pytest.raises(DataError, match="groups by field"):
            split_groups(made, by="field", val=0.2, test=0.2, seed=seed)
        return
    sides(split_groups(made, by="field", val=0.2, test=0.2, seed=seed), made)


def test_shares_and_classes_are_met_where_groups_allow():
    made = dataset([f"f{i}" for i in range(200)], [[i % 10 == 0] * 2 for i in range(200)])
    split = split_groups(made, by="field", val=0.2, test=0.1, seed=3)
    sides(split, made)
    assert {name: len(indices) for name, indices in split.parts.items()} == {"train": 140, "val": 40, "test": 20}
    weeds = {name: counts["classes"]["weed"] for name, counts in split.counts(made).items()}
    assert weeds == {"train": 28, "val": 8, "test": 4}


def test_folds_test_each_image_once():
    made = dataset([f"f{i // 4}" for i in range(40)])
    folds = split_folds(made, folds=5, by="field", seed=1)
    assert Counter(i for fold in folds for i in fold.parts["test"]) == Counter(range(40))
    for fold in folds:
        sides(fold, made)
        assert len(fold.parts["test"]) == 8


def test_the_seed_decides():
    made = dataset([f"f{i // 3}" for i in range(60)])
    one, same, other = (split_groups(made, by="field", seed=seed).parts for seed in (5, 5, 6))
    assert one == same and one != other


def test_images_that_belong_together_join_their_groups():
    made = dataset(["a", "b", "c", "d", "e", "f"])
    for seed in range(8):
        split = split_groups(made, by="field", val=0.3, seed=seed, together=[(0, 1), (1, 2)])
        assert any({0, 1, 2} <= set(indices) for indices in split.parts.values())


def test_images_of_no_group_are_groups_of_their_own():
    made = dataset(["a", "", "", "", ""])
    assert len(set(split_groups(made, by="field", val=0.4).groups)) == 5


def test_named_groups_are_held_out():
    part = dataset([f"f{i // 4}" for i in range(24)])
    split = split_held_out(part, by="field", held_out=["f1", "f4"])
    assert split.parts["test"] == (*range(4, 8), *range(16, 20))
    assert split.parts["train"] == (*range(4), *range(8, 16), *range(20, 24)) and len(split.parts) == 2
    split = split_held_out(part, by="field", held_out=["f1", "f4"], val=0.25)
    sides(split, part)
    assert split.parts["test"] == (*range(4, 8), *range(16, 20)) and len(split.parts["val"]) == 4
    near = split_held_out(part, by="field", held_out=["f1"], val=0.25, together=[(4, 9), (0, 23)])
    assert near.parts["test"] == tuple(range(4, 12))  # a near-duplicate takes its group along
    assert ({0, 23} <= set(near.parts["train"])) or ({0, 23} <= set(near.parts["val"]))
    with pytest.raises(DataError, match="no group f9 by field; there are f0, f1, f2, f3, f4, f5"):
        split_held_out(part, by="field", held_out=["f9"])
    with pytest.raises(DataError, match="all groups by field are held out"):
        split_held_out(part, by="field", held_out=[f"f{i}" for i in range(6)])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"val": 0.7, "test": 0.3}, "leave some for training"),
        ({"val": 0, "test": 0}, "shares"),
        ({"val": -0.1, "test": 0.3}, "shares"),
        ({"by": "plot"}, "no image has 'plot'"),
    ],
)
def test_what_cannot_be_split_is_said(options, said):
    with pytest.raises(DataError, match=said):
        split_groups(dataset(["a", "b", "c"]), **options)
    with pytest.raises(DataError, match="no images"):
        split_groups(dataset([]), val=0.5)
    with pytest.raises(DataError, match="3 groups by field, and 4 parts"):
        split_folds(dataset(["a", "b", "c"]), by="field", folds=4)


def test_written_parts_refer_to_the_originals_and_say_how_they_were_made(rendered, tmp_path):
    whole = load_dataset(rendered)
    split = split_groups(whole, by="photo", val=0.25, test=0.25, seed=2)
    save_split(whole, split, tmp_path / "out", seed=2, options={"val": 0.25, "test": 0.25})
    parts = load_parts(tmp_path / "out")
    assert {name: len(part) for name, part in parts.items()} == {"train": 6, "val": 3, "test": 3}
    originals = {image.path.resolve() for image in whole.images}
    assert {image.path.resolve() for part in parts.values() for image in part.images} == originals
    assert sum(part.box_count for part in parts.values()) == whole.box_count
    rule = json.loads((tmp_path / "out" / "split.json").read_text())
    assert (rule["by"], rule["seed"], rule["asked"]) == ("photo", 2, {"val": 0.25, "test": 0.25})
    assert rule["source_fingerprint"] == whole.fingerprint()
    assert [len(groups) for groups in rule["groups"].values()] == [6, 3, 3]
    with pytest.raises(DataError, match="left from another split"):
        save_split(whole, split_groups(whole, val=0.3), tmp_path / "out", seed=0, options={})


def test_blocks_of_apples_stay_whole(real_dataset):
    whole = load_parts(real_dataset("apple_bbch81"))["train"]
    split = split_groups(whole, by=r"re:_(17kv\d+)r", val=0.2, test=0.2, seed=0)
    blocks = group_images(whole.images, r"re:_(17kv\d+)r")
    found = {name: {blocks[i] for i in indices} for name, indices in split.parts.items()}
    assert sum(map(len, found.values())) == 5 and all(found.values())
