import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data.augmentation.effects import KINDS
from data.augmentation.settings import AugmentSettings
from data.augmentation.strengths import STRENGTHS
from data.check.check import known_kinds
from data.check.findings import KINDS as FINDINGS
from detection.recipe.compatibility import RENAMED_FINDINGS
from detection.recipe.reading import RecipeError, config_folder, load_recipe


def recipe(tmp_path: Path, text: str, *overrides: str):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return load_recipe(path, overrides)


def test_defaults_yaml_override_in_that_order(tmp_path: Path) -> None:
    text = "data: {train: photos}\ntrain: {epochs: 5, seed: 1}"
    assert recipe(tmp_path, "data: {train: photos}").train.epochs == 30
    assert recipe(tmp_path, text).train.epochs == 5
    resolved = recipe(tmp_path, text, "train.epochs=7", "input.size_hw=[64, 96]", "model.backbone=resnet18")
    assert (resolved.train.epochs, resolved.train.seed) == (7, 1)
    assert resolved.input.size_hw == (64, 96)
    assert resolved.model.backbone == "resnet18"


def test_old_kinds_of_findings_in_data_allow_are_read(tmp_path: Path, capsys) -> None:
    read = recipe(tmp_path, "data: {train: photos, allow: [picture-unreadable, overlap-across]}")
    assert read.data.allow == ("image-unreadable", "overlap-across")
    known_kinds(read.data.allow)  # a kind that there is
    assert set(RENAMED_FINDINGS.values()) <= set(FINDINGS) and not set(RENAMED_FINDINGS) & set(FINDINGS)


def test_paths_start_at_the_recipe_and_overrides_at_the_current_folder(tmp_path, monkeypatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    resolved = recipe(tmp_path, "data: {train: photos, val: ../v}\nmodel: {weights: coco}", "data.val=mine")
    assert resolved.data.train == str(tmp_path / "photos")
    assert resolved.data.val == str(elsewhere / "mine")
    assert resolved.model.weights == "coco"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: {train: x}\ntrain: {epoch: 3}", "train.epoch: unknown key; did you mean train.epochs?"),
        ("data: {train: x}\ntrian: {epochs: 3}", "trian: unknown key; did you mean train?"),
        ("data: {train: x}\nepochs: 3", "epochs: unknown key; did you mean train.epochs?"),
        ("data: {train: x}\ntrain: {epochs: many}", "train.epochs: Input should be a valid integer"),
        ("data: {train: x}\ntrain: {epochs: 0}", "train.epochs: Input should be greater than or equal to 1"),
        ("data: {train: x}\ninput: {size_hw: [500, 512]}", "multiples of 32"),
        (
            "data: {train: x}\nmodel: {preset: fcos_lit}",
            "model.preset: no preset 'fcos_lit'; did you mean fcos_lite?",
        ),
        (
            "data: {train: x}\nmodel: {channels: 32}\ninput: {size_hw: [96, 128]}",
            "r.yaml: with model.channels 32, input.size_hw needs a side above 128",
        ),
        (
            "data: {train: x}\nmodel: {preset: ssdlite320_mobilenet_v3_large, channels: 96, assign: atss}",
            "model.channels: ssdlite320_mobilenet_v3_large does not use it; fcos_lite, fcos_lite_n, fcos_lite_s, "
            "fcos_lite_m do; model.assign: ssdlite320_mobilenet_v3_large does not use it; fcos_lite, ",
        ),
        ("data: {train: x}\nmodel: {chanels: 96}", "model.chanels: unknown key; did you mean model.channels?"),
        ("data: {train: x}\nmodel: {channels: 40}", "model.channels: Input should be a multiple of 32, got 40"),
        ("data: {train: x}\nmodel: {assign: all}", "model.assign: Input should be 'center_sampling', 'atss' or"),
        ("data: {train: x}\nmodel: {quality: vfl}", "model.quality: vfl is gone; leave the key out: qfl is always"),
        ("data: {train: x}\nmodel: {box_loss: ciou}", "model.box_loss: ciou is gone; leave the key out: giou is"),
        ("data: {train: x}\nmodel: {options: {channels: 32}}", "model.options: unknown key"),
        ("train: {epochs: 3}", "data: missing"),
        ("data: {val: x}", "data.train: missing"),
        ("- a list", "a recipe is a mapping"),
        ("data: {train: [", "not YAML"),
        ("", "a recipe is a mapping"),
    ],
)
def test_a_bad_recipe_is_one_line_that_names_the_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(tmp_path, text)
    assert said in str(caught.value)
    assert str(tmp_path / "r.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", ["train.epochs", "=3", "train.=3", "train.epochs=[", "data.train.deep=1"])
def test_a_bad_override_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(RecipeError, match="-s"):
        recipe(tmp_path, "data: {train: x}", override)


def test_a_missing_recipe_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")


def test_the_resolved_recipe_reads_back_the_same(tmp_path: Path) -> None:
    first = recipe(tmp_path, "data: {train: photos}", "train.max_minutes=2.5")
    again = tmp_path / "again.yaml"
    again.write_text(first.to_yaml())
    assert load_recipe(again) == first


def test_names_of_before_are_read_and_each_is_answered_by_a_line(tmp_path: Path, caplog) -> None:
    text = (
        "data: {train: photos}\n"
        "model: {preset: fcos_lite_n, backbone: 'slim:tf_efficientnet_lite0', assign: centre, quality: qfl}\n"
        "postprocess: {score_floor: 0.1, candidates: 50}"
    )
    old = recipe(tmp_path, text, "model.box_loss=giou")
    assert [record.message.removeprefix(f"{tmp_path / 'r.yaml'}: ") for record in caplog.records] == [
        "model.quality is gone: qfl is always used",
        "model.assign: centre is now center_sampling",
        "model.backbone: slim: is now pruned:",
        "postprocess.score_floor is now postprocess.pre_nms_score_threshold",
        "postprocess.candidates is now postprocess.pre_nms_top_k",
        "model.box_loss is gone: giou is always used",  # of the override
    ]
    caplog.clear()
    text = (
        "data: {train: photos}\nmodel: {preset: fcos_lite_n}\n"
        "postprocess: {pre_nms_score_threshold: 0.1, pre_nms_top_k: 50}"
    )
    assert recipe(tmp_path, text) == old
    assert not caplog.records


def test_a_preset_fills_in_its_own_options(tmp_path: Path) -> None:
    resolved = recipe(tmp_path, "data: {train: x}\nmodel: {preset: fcos_lite_s, head_convs: null}")
    written = yaml.safe_load(resolved.to_yaml())["model"]
    assert (written["channels"], written["head_convs"], written["neck"]) == (96, 3, "pan")
    # null is the preset's own default, also where it has no such option
    plain = recipe(tmp_path, "data: {train: x}\nmodel: {preset: ssdlite320_mobilenet_v3_large, backbone: null}")
    assert set(yaml.safe_load(plain.to_yaml())["model"]) == {"preset", "weights", "trust_hub"}
    assert plain.model.backbone == "mobilenet_v3_large"


def test_every_recipe_in_configs_is_valid_and_opens_with_its_command() -> None:
    paths = sorted(config_folder().rglob("*.yaml"))
    assert {"crop_weed.yaml", "demo.yaml", "fruit.yaml"} <= {path.name for path in paths}
    for path in paths:
        load_recipe(path)
        assert path.read_text().startswith("# swath "), path
        assert yaml.safe_load(path.read_text())["data"]["train"]


def test_reading_a_recipe_imports_no_torch() -> None:
    code = (
        "import sys; from detection.recipe.reading import *; load_recipe(config_folder() / 'demo.yaml'); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_strength_fills_in_what_the_recipe_leaves_out(tmp_path: Path) -> None:
    plain = recipe(tmp_path, "data: {train: photos}").augment
    assert (plain.strength, plain.hflip, plain.scale_crop, plain.blur) == ("basic", 0.5, 0.7, 0.1)
    assert all(getattr(plain, name) == 0 for name in (kind.name for kind in KINDS))
    for name, fragment in STRENGTHS.items():
        filled = recipe(tmp_path, "data: {train: photos}", f"augment.strength={name}").augment
        assert {key: getattr(filled, key) for key in fragment} == fragment
    mine = recipe(tmp_path, "data: {train: photos}\naugment: {strength: season, rain: 0.5, mosaic: 0}").augment
    assert (mine.rain, mine.mosaic, mine.noise) == (0.5, 0, STRENGTHS["season"]["noise"])
    nothing = recipe(tmp_path, "data: {train: photos}\naugment: {strength: none}").augment
    assert nothing.hflip == nothing.scale_crop == nothing.brightness == nothing.hue == 0


def test_a_resolved_recipe_reads_back_as_itself(tmp_path: Path) -> None:
    for text in ("{strength: field, noise: 0.0}", "{view: oblique}", "{strength: none, view: oblique, hflip: 0.5}"):
        first = recipe(tmp_path, f"data: {{train: /photos}}\naugment: {text}")
        assert recipe(tmp_path, first.to_yaml()) == first


def test_an_oblique_view_is_not_turned(tmp_path: Path) -> None:
    oblique = recipe(tmp_path, "data: {train: x}\naugment: {view: oblique, strength: season}").augment
    assert (oblique.hflip, oblique.vflip, oblique.rotate90) == (0.5, 0, 0)
    with pytest.raises(RecipeError, match="augment: view oblique has an up and a down: vflip and rotate90 must be 0"):
        recipe(tmp_path, "data: {train: x}\naugment: {view: oblique, rotate90: 0.5}")
    with pytest.raises(RecipeError, match=r"augment.height_range: must include 1, within .*, got \[1.2, 1.4\]"):
        recipe(tmp_path, "data: {train: x}\naugment: {height_range: [1.2, 1.4]}")
    with pytest.raises(RecipeError, match="augment.strength"):
        recipe(tmp_path, "data: {train: x}\naugment: {strength: strong}")


def test_the_recipe_knows_every_setting_of_the_augmentation_and_its_default(tmp_path: Path) -> None:
    plain = recipe(tmp_path, "data: {train: x}").augment
    assert type(plain) is AugmentSettings and plain == AugmentSettings()
    for kind in KINDS:
        assert AugmentSettings.model_fields[kind.name].description == f"probability of {kind.description}"
        assert set(kind.settings.model_fields) <= set(AugmentSettings.model_fields)
    for wrong, said in (
        ("rian: 0.1", r"augment.rian: unknown key; did you mean augment.rain\?"),
        ("speed: [1, 2]", r"augment.speed: unknown key; did you mean augment.speed_kmh\?"),
        ("rain: 1.5", "augment.rain: Input should be less than or equal to 1, got 1.5"),
        ("amount: [0.8, 0.2]", r"augment.amount: must be 0 <= least <= most <= 1, got \[0.8, 0.2\]"),
    ):
        with pytest.raises(RecipeError, match=said):
            recipe(tmp_path, f"data: {{train: x}}\naugment: {{{wrong}}}")
