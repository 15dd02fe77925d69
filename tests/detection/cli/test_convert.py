from __future__ import annotations

from pathlib import Path

import pytest

from data import DataError, load_dataset
from detection.cli.app import main
from detection.recipe.reading import RecipeError, load_recipe
from detection.training.train import train
from tests.detection.conftest import Quiet, write_recipe


def swath(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_there_and_back_through_every_format(rendered, tmp_path, capsys):
    source = load_dataset(rendered)
    last: Path = rendered
    for to in ("yolo", "voc", "csv", "coco"):
        assert swath("data", "convert", last, tmp_path / to, "--to", to, "--from", "auto") == 0
        out = capsys.readouterr()
        assert out.out == f"{tmp_path / to}: 12 images, {source.box_count} boxes (train)\n"
        last = tmp_path / to
    assert load_dataset(last).fingerprint() == source.fingerprint()


def test_what_is_lost_is_said_on_stderr(coco_file, tmp_path, capsys):
    path = coco_file([[(3, (10, 10, 40, 40)), (7, (90, 10, 60, 40))], []])
    assert swath("data", "convert", path, tmp_path / "out", "--to", "yolo", "--copy") == 0
    out = capsys.readouterr()
    assert "1 dataset whose class ids YOLO cannot represent: renumbered" in out.err
    assert "Traceback" not in out.err and len(load_dataset(tmp_path / "out")) == 2
    assert swath("data", "convert", path, tmp_path / "out", "--to", "yolo") == 1
    assert capsys.readouterr().err.count("is there already") == 1


@pytest.mark.parametrize(
    "wrong", [("--to", "tfrecord"), ("--to", "yolo", "--from", "x"), ("--to", "yolo", "--split", "dev"), ()]
)
def test_wrong_usage_is_2(wrong, coco_file, tmp_path):
    assert swath("data", "convert", coco_file([[]]), tmp_path / "out", *wrong) == 2
    assert not (tmp_path / "out").exists()


def test_the_recipe_says_what_a_image_without_labels_is(rendered, tmp_path):
    assert swath("data", "convert", rendered, tmp_path / "set", "--to", "yolo", "--copy") == 0
    for label in (tmp_path / "set" / "labels").rglob("*.txt"):
        label.unlink()
    recipe = write_recipe(tmp_path / "r.yaml", tmp_path / "set", data={"unlabelled": "skip"})
    with pytest.raises(DataError, match="no image has a label file, and such are left out"):
        train(load_recipe(recipe), tmp_path / "run", watcher=Quiet())
    with pytest.raises(RecipeError, match="data.unlabelled"):
        load_recipe(recipe, ["data.unlabelled=maybe"])


def test_the_recipe_may_name_the_folder_of_images(rendered, tmp_path):
    text = (rendered / "annotations.json").read_text()
    (tmp_path / "annotations.json").write_text(text)
    recipe = write_recipe(tmp_path / "r.yaml", tmp_path / "annotations.json", data={"images_dir": "nowhere"})
    with pytest.raises(DataError, match=f"{tmp_path / 'nowhere'}: no such folder of images"):
        train(load_recipe(recipe), tmp_path / "run", watcher=Quiet())
    assert load_recipe(recipe, [f"data.images_dir={rendered}"]).data.images_dir == str(rendered)
    assert load_dataset(tmp_path / "annotations.json", images_dir=rendered / "images").box_count > 0


def test_a_wrong_guess_is_overridden_wherever_a_dataset_is_read(rendered, tmp_path, capsys):
    assert swath("data", "convert", rendered, tmp_path / "set", "--to", "yolo", "--copy") == 0
    assert swath("data", "convert", rendered, tmp_path / "more", "--to", "voc", "--copy") == 0
    for part in (tmp_path / "more").iterdir():
        part.rename(tmp_path / "set" / f"voc_{part.name}")
    both = tmp_path / "set"
    (both / "annotations.json").write_text('{"images": [], "annotations": [], "categories": []}')
    capsys.readouterr()
    for arguments in (
        ("check", both),
        ("split", both, "--out", tmp_path / "parts"),
        ("tile", both, "--out", tmp_path / "t"),
    ):
        assert swath("data", *arguments) == 1
        assert "several" in " ".join(capsys.readouterr())
        assert swath("data", *arguments, "--format", "yolo") == 0
        capsys.readouterr()
    recipe = load_recipe(write_recipe(tmp_path / "r.yaml", both))
    with pytest.raises(DataError, match="several"):
        train(recipe, tmp_path / "run", watcher=Quiet())
    assert load_recipe(tmp_path / "r.yaml", ["data.format=yolo"]).data.reading["format"] == "yolo"
