import threading

import pytest
import torch
from safetensors.torch import load_file

from detection.models.checkpoint import load_trained
from detection.recipe.reading import load_recipe
from detection.runtime.errors import SwathError
from detection.training.pretraining_recipe import pretraining_of
from detection.training.synthetic_pretraining import SyntheticPretraining
from detection.training.train import train
from tests.detection.conftest import Quiet, write_recipe


def pretraining(recipe) -> SyntheticPretraining:
    found = pretraining_of(recipe)
    assert found is not None
    return found


@pytest.fixture
def recipe(tmp_path, rendered, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    section = {"images": 4, "epochs": 1, "input": {"size_hw": [128, 160]}}
    return load_recipe(write_recipe(tmp_path / "r.yaml", rendered, pretrain=section))


def test_pretraining_is_done_once_and_found_again(recipe, tmp_path):
    assert pretraining(recipe).find() is None
    first = Quiet()
    train(recipe, tmp_path / "first", watcher=first)
    assert len(first.losses) == 1 + 6  # 4 rendered images, 4 a step; 12 of the field, 2 a step
    kept = pretraining(recipe).find()
    assert kept is not None and kept.is_relative_to(tmp_path / "cache")
    assert {path.name for path in kept.parent.parent.iterdir()} == {kept.parent.name}  # nothing half-made
    assert [n for n in first.notes if "head:" in n] == ["weights: head: 14 new", "weights: head: 14 taken"]
    second = Quiet()
    train(recipe, tmp_path / "second", watcher=second)
    assert len(second.losses) == 6 and second.losses == first.losses[1:]
    one, two = (load_file(tmp_path / run / "best.safetensors") for run in ("first", "second"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert "rendered" in load_trained(tmp_path / "second").weights_licence


@pytest.mark.parametrize("change", ["model.channels=64", "pretrain.epochs=2", "train.seed=1", "model.assign=atss"])
def test_a_detector_of_another_shape_or_pretraining_is_another(change, recipe, tmp_path):
    other = load_recipe(tmp_path / "r.yaml", [change])
    same = load_recipe(tmp_path / "r.yaml", ["train.learning_rate=2e-3", "data.val=elsewhere", "train.workers=1"])
    assert pretraining(other).folder != pretraining(recipe).folder
    assert pretraining(same).folder == pretraining(recipe).folder


def test_nothing_is_kept_of_a_pretraining_that_is_stopped(recipe, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(SwathError, match="stopped during synthetic pre-training"):
        train(recipe, tmp_path / "run", watcher=Quiet(), stop=stop)
    assert pretraining(recipe).find() is None
    assert not list((tmp_path / "cache" / "swath" / "pretrained").iterdir())


def test_several_processes_do_not_pretrain_at_once(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SwathError, match="runs in a single process"):
        train(recipe, tmp_path / "run", watcher=Quiet())
