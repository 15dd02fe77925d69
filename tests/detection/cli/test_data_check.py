"""`swath data check` and `swath data split` as a user meets them, and a training that their findings stop."""

import json

import pytest

from data.check import read_parts
from data.errors import DataError
from detection.recipe.reading import load_recipe
from detection.training.train import train
from tests.detection.conftest import Quiet, swath, write_recipe


def test_split_then_check(capsys, rendered, tmp_path):
    out = tmp_path / "parts"
    code, said, _ = swath(
        capsys, "data", "split", rendered, "--by", "photo", "--val", 0.25, "--test", 0.25, "--out", out
    )
    assert code == 0 and "by photo" in said and "train" in said and "groups" in said
    assert json.loads((out / "split.json").read_text())["counts"]["val"]["images"] == 3
    code, said, _ = swath(capsys, "data", "check", out, "--by", "photo", "--json", tmp_path / "f.json")
    assert code == 0 and "0 kinds of errors" in said
    assert set(json.loads((tmp_path / "f.json").read_text())["parts"]) == {"train", "val", "test"}


def test_split_says_which_key_it_took_and_writes_folds(capsys, rendered, tmp_path):
    code, said, _ = swath(capsys, "data", "split", rendered, "--folds", 3, "--out", tmp_path, "--near")
    assert code == 0 and said.count("chosen automatically") == 3
    for fold in range(3):
        held = {name: len(read_parts(tmp_path / f"fold{fold}", split=name)[0].dataset) for name in ("train", "test")}
        assert sum(held.values()) == 12 and held["test"] >= 2


def test_split_holds_out_the_groups_that_were_named(capsys, rendered, tmp_path):
    pattern = ["--by", r"re:(\d)\.\w+$"]
    asked = ["data", "split", rendered, *pattern, "--hold-out", 3, "--hold-out", 7]
    code, said, _ = swath(capsys, *asked, "--val", 0, "--out", tmp_path)
    assert code == 0 and "test" in said
    rule = json.loads((tmp_path / "split.json").read_text())
    assert rule["groups"]["test"] == ["3", "7"] and rule["asked"]["hold_out"] == ["3", "7"]
    assert rule["counts"]["train"]["images"] == 10 and not (tmp_path / "val.json").exists()
    code, _, said = swath(capsys, *asked, "--folds", 3, "--out", tmp_path)
    assert code == 2 and "not with --test or --folds" in said
    code, _, said = swath(capsys, "data", "split", rendered, "--hold-out", 3, "--out", tmp_path)
    assert code == 2 and "goes with --by" in said


def test_a_leak_is_shown_and_exits_with_1(capsys, rendered, tmp_path):
    page, findings = tmp_path / "page.html", tmp_path / "findings.json"
    arguments = ("data", "check", rendered, "--against", rendered, "--json", findings, "--html", page)
    code, said, _ = swath(capsys, *arguments, "--no-overlap")
    assert code == 1 and "splits-identical" in said
    assert json.loads(findings.read_text())["findings"][0]["kind"] == "splits-identical"
    text = page.read_text()
    assert (
        text.startswith("<!doctype html>") and "splits-identical" in text and "http" not in text.split("</style>")[1]
    )


def test_the_first_file_of_a_finding_is_named(capsys, rendered, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "images").mkdir()
    photo = next(rendered.rglob("*.jpg"))
    for name in ("a.jpg", "IMG_1.HEIC"):
        (tmp_path / "images" / name).write_bytes(photo.read_bytes())
        (tmp_path / "labels" / name).with_suffix(".txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [weed]\n")
    code, said, _ = swath(capsys, "data", "check", tmp_path)
    assert code == 1 and "IMG_1.HEIC" in said and "IMG_1.txt" in said


def test_wrong_usage_and_what_is_not_there(capsys, rendered, tmp_path):
    assert swath(capsys, "data", "check", rendered, "--split", "trian")[0] == 2
    code, _, err = swath(capsys, "data", "check", rendered, "--by", "row")
    assert code == 1 and "to group by" in err
    code, said, _ = swath(capsys, "data", "check", tmp_path / "none")
    assert code == 1 and "dataset-unreadable" in said
    code, _, err = swath(capsys, "data", "split", rendered, "--by", "row", "--out", tmp_path / "o")
    assert code == 1 and "to group by" in err and not (tmp_path / "o").exists()


def test_training_stops_on_a_leak_unless_it_is_allowed(rendered, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    write_recipe(recipe, rendered, data={"val": str(rendered)})
    with pytest.raises(DataError, match=r"splits-identical: train / val: .*data.allow=\[splits-identical\]"):
        train(load_recipe(recipe), tmp_path / "run", watcher=Quiet())
    assert not (tmp_path / "run").exists()
    watcher = Quiet()
    allowing = load_recipe(recipe, ["data.allow=[splits-identical]"])
    assert train(allowing, tmp_path / "run", watcher=watcher).is_file()
    assert any(line.startswith("allowed: splits-identical") for line in watcher.notes)
