from __future__ import annotations

import base64
import re
from functools import partial

import cv2
import numpy as np
import pytest

from data import DataError, Dataset, load_dataset
from data.augmentation.effects import KINDS
from data.augmentation.settings import AugmentSettings
from data.loading.preview import html_preview
from detection.cli.app import main
from detection.training.batches import fit_to_input

FIT = partial(fit_to_input, size_hw=(96, 128))


def page(dataset, **changes) -> str:
    asked = {"name": "mine", "size_hw": (96, 128), "settings": AugmentSettings(rain=0.25), "fit": FIT, "images": 3}
    return html_preview(dataset, **{**asked, **changes})


def images(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR) for text in found]


@pytest.fixture(scope="module")
def dataset(rendered) -> Dataset:
    return load_dataset(rendered).subset(range(5))


def test_the_page_shows_every_effect_the_recipe_and_the_networks_view(dataset):
    told = []
    html = page(dataset, progress=lambda done, total: told.append((done, total)))
    shown = images(html)
    assert len(shown) == 4 * (len(KINDS) + 5) + 3 + 3
    assert all(image.shape == (96, 128, 3) for image in shown[-3:])  # the network's inputs
    for effect in (kind.name for kind in KINDS):
        assert f"{effect} off" in html or effect == "rain"
    assert "rain 0.25" in html
    assert told[-1][0] == told[-1][1] and len(told) > len(KINDS)
    assert not re.search(r'(src|href)="(?!data:|#)', html) and "http" not in html
    assert page(dataset).split("Made", 1)[1][30:] == html.split("Made", 1)[1][30:]
    assert page(dataset, seed=1).split("Made", 1)[1][30:] != html.split("Made", 1)[1][30:]


def test_boxes_are_drawn_in_their_class_colour(dataset):
    first = images(page(dataset, settings=AugmentSettings()))[0].astype(int)
    blue = np.abs(first - (0xE9, 0xB4, 0x56)).max(axis=2) < 40
    orange = np.abs(first - (0x00, 0x9F, 0xE6)).max(axis=2) < 40
    assert blue.sum() > 20 or orange.sum() > 20


def test_names_are_escaped_and_an_empty_dataset_is_said(dataset):
    assert "<script>" not in page(dataset, name="<script>alert(1)</script>")
    with pytest.raises(DataError, match="no images to show"):
        page(dataset.subset([]))


def test_images_without_any_box_are_shown_too(dataset):
    empty = [i for i, image in enumerate(load_dataset(dataset.name).images) if not len(image.labels)]
    assert len(empty) >= 1
    assert len(images(page(load_dataset(dataset.name).subset(empty[:1]), images=1))) > 100


def test_the_command(rendered, tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"data: {{train: {rendered}}}\ninput: {{size_hw: [96, 128]}}\naugment: {{strength: light}}\n")
    out = tmp_path / "new" / "p.html"
    main_ok(
        ["data", "preview", str(recipe), str(rendered), "--out", str(out), "--images", "2", "-s", "augment.dust=1"]
    )
    assert "dust 1" in out.read_text() and list(out.parent.iterdir()) == [out]
    assert capsys.readouterr().out.strip() == str(out)
    for arguments, code in ((["--out", "p.pdf"], 2), (["--out", str(out), "-s", "augment.dast=1"], 1)):
        with pytest.raises(SystemExit) as ended:
            main(["data", "preview", str(recipe), str(rendered), *arguments])
        assert ended.value.code == code
    assert "did you mean augment.dust" in capsys.readouterr().err


def main_ok(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code
