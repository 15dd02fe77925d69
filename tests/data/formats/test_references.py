"""What a dataset may refer to: its own images, those the user names, those whose digest it holds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from data import DataError, load_dataset
from data.formats.coco import read_coco, save_coco
from data.formats.convert import convert
from data.formats.references import REFERENCES, content_sha256

IMAGE = {"id": 7, "width": 60, "height": 40}
OUT = "leads out of the dataset's folder, to .*: refused"


@pytest.fixture
def secret(tmp_path, write_image):
    """A private image beside the folder `ds` of the dataset."""
    write_image(tmp_path / "private" / "secret.png", (40, 60), seed=9)
    (tmp_path / "ds").mkdir()
    return tmp_path / "private" / "secret.png"


def coco(home: Path, file_name: str, **more: object) -> Path:
    content = {
        "images": [{**IMAGE, "file_name": file_name, **more}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 9, 9]}],
        "categories": [{"id": 1, "name": "weed"}],
    }
    (home / "annotations.json").write_text(json.dumps(content))
    return home / "annotations.json"


@pytest.mark.parametrize(
    "file_name",
    [
        "../private/secret.png",
        "images/../../private/secret.png",
        "..\\private\\secret.png",
        "%2e%2e/private/secret.png",
        "ABSOLUTE",
        "file://ABSOLUTE",
        "/data/local-files/?d=../private/secret.png",
    ],
)
def test_a_file_name_that_leads_out_is_refused(file_name, secret, tmp_path):
    path = coco(tmp_path / "ds", file_name.replace("ABSOLUTE", str(secret)))
    with pytest.raises(DataError, match=f"{OUT}|missing") as caught:
        load_dataset(path)
    if "private" in file_name and "://" not in file_name and "?d=" not in file_name:
        assert str(secret) in str(caught.value) and "--images-dir" in str(caught.value)


def test_a_guessed_digest_is_no_proof_and_a_right_one_is(secret, tmp_path):
    path = coco(tmp_path / "ds", "../private/secret.png", content_sha256="0" * 64)
    with pytest.raises(DataError, match="is not the image that was meant"):
        load_dataset(path)
    path = coco(tmp_path / "ds", "../private/secret.png", content_sha256=content_sha256(secret))
    assert load_dataset(path).images[0].path == secret
    assert "content_sha256" not in load_dataset(path).images[0].attributes
    path = coco(tmp_path / "ds", "../private/secret.png", content_sha256=7)
    with pytest.raises(DataError, match=OUT):
        load_dataset(path)


def test_what_save_coco_writes_refers_to_its_originals(secret, tmp_path):
    first = read_coco(coco(tmp_path / "ds", "secret.png"), secret.parent)
    save_coco(first, tmp_path / "folds" / "fold0.json")
    image = json.loads((tmp_path / "folds" / "fold0.json").read_text())["images"][0]
    assert image["file_name"] == "../private/secret.png" and image["content_sha256"] == content_sha256(secret)
    assert load_dataset(tmp_path / "folds" / "fold0.json").fingerprint() == first.fingerprint()
    save_coco(first, secret.parent / "own.json")  # beside its images: nothing to prove
    assert "content_sha256" not in json.loads((secret.parent / "own.json").read_text())["images"][0]


def test_the_user_may_name_the_folder(secret, tmp_path):
    path = coco(tmp_path / "ds", "secret.png")
    assert load_dataset(path, images_dir=secret.parent).images[0].path == secret
    assert load_dataset(coco(tmp_path / "ds", str(secret)), images_dir=secret.parent).box_count == 1
    with pytest.raises(DataError, match="nowhere: no such folder"):
        load_dataset(path, images_dir=tmp_path / "nowhere")


def test_a_folder_of_labels_belongs_to_the_dataset_above_it(tmp_path, write_image):
    write_image(tmp_path / "ds" / "photos" / "a.png")
    for folder in ("annotations", "labels"):
        (tmp_path / "ds" / folder).mkdir()
        assert read_coco(coco(tmp_path / "ds" / folder, "../photos/a.png")).box_count == 1
    (tmp_path / "ds" / "other").mkdir()
    with pytest.raises(DataError, match=OUT):
        read_coco(coco(tmp_path / "ds" / "other", "../photos/a.png"))


def dataset_of(kind: str, home: Path) -> Path:
    """A dataset without its image; returns where the image is to be."""
    folder = {"coco": ".", "yolo": "images", "voc": "JPEGImages", "csv": ".", "masks": "images"}[kind]
    (home / folder).mkdir(parents=True, exist_ok=True)
    if kind == "coco":
        coco(home, "a.png")
    files = {
        "yolo": {"data.yaml": "train: images\nnames: [weed]\n", "labels/a.txt": "0 .5 .5 .5 .5\n"},
        "voc": {"Annotations/a.xml": "<annotation></annotation>", "classes.txt": "weed\n"},
        "csv": {"train.csv": "a.png,1,2,13,14,weed\n"},
        "masks": {"classes.json": '["weed"]', "masks/.keep": ""},
    }
    for name, text in files.get(kind, {}).items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    return home / folder / "a.png"


@pytest.mark.parametrize("kind", ["coco", "yolo", "voc", "csv", "masks"])
def test_links_out_of_the_dataset_are_refused_in_every_format(kind, secret, tmp_path):
    place = dataset_of(kind, tmp_path / "ds")
    place.symlink_to(secret)
    with pytest.raises(DataError, match=f"a.png {OUT}"):
        load_dataset(tmp_path / "ds")
    assert len(load_dataset(tmp_path / "ds", images_dir=secret.parent)) == 1
    place.unlink()
    place.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=OUT):
        load_dataset(tmp_path / "ds")
    place.unlink()
    place.symlink_to(place)  # a link to itself
    with pytest.raises(DataError, match="no such image|missing|cannot be read|leads out"):
        load_dataset(tmp_path / "ds")


@pytest.mark.parametrize("kind", ["yolo", "voc", "masks"])
def test_linked_folders_and_loops(kind, tmp_path, write_image):
    place = dataset_of(kind, tmp_path / "ds")
    write_image(place)
    loop = place.parent / "again"
    loop.symlink_to(place.parent)
    with pytest.raises(DataError, match="again: a link to a folder that is read already"):
        load_dataset(tmp_path / "ds")
    loop.unlink()
    write_image(tmp_path / "private" / "b.png")
    loop.symlink_to(tmp_path / "private")
    with pytest.raises(DataError, match=OUT):
        load_dataset(tmp_path / "ds")


def test_a_dataset_reached_through_a_link_is_whole(tmp_path, write_image):
    write_image(dataset_of("yolo", tmp_path / "disk" / "ds"))
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "ds")
    assert load_dataset(tmp_path / "link").box_count == 1


def test_label_files_may_not_lead_out_either(tmp_path, write_image):
    write_image(dataset_of("yolo", tmp_path / "ds"))
    (tmp_path / "private.txt").write_text("the password\n")
    (tmp_path / "ds" / "labels" / "a.txt").unlink()
    (tmp_path / "ds" / "labels" / "a.txt").symlink_to(tmp_path / "private.txt")
    with pytest.raises(DataError, match=OUT) as caught:
        load_dataset(tmp_path / "ds")
    assert "password" not in str(caught.value)


def test_yolos_path_may_lead_elsewhere_and_is_said_its_lists_may_not(secret, tmp_path, write_image):
    write_image(dataset_of("yolo", tmp_path / "ds"))
    (tmp_path / "recipes").mkdir()
    yaml = tmp_path / "recipes" / "data.yaml"
    yaml.write_text(f"path: {tmp_path / 'ds'}\ntrain: images\nnames: [weed]\n")
    assert load_dataset(yaml).notices == (
        f"images and labels are read from {tmp_path / 'ds'}, as path in data.yaml states",
    )
    (tmp_path / "ds" / "data.yaml").write_text("train: train.txt\nnames: [weed]\n")
    for entry in ("../private/secret.png", str(secret), "./../private/secret.png"):
        (tmp_path / "ds" / "train.txt").write_text(f"images/a.png\n{entry}\n")
        with pytest.raises(DataError, match=OUT):
            load_dataset(tmp_path / "ds")


def test_references_are_checked_like_everything_else(tmp_path, write_image):
    write_image(tmp_path / "photos" / "a.png")
    source = load_dataset(coco(tmp_path / "photos", "a.png"))
    convert({"train": source}, tmp_path / "out", to="yolo")
    assert load_dataset(tmp_path / "out").box_count == 1
    link = next((tmp_path / "out" / "images").rglob("a.png"))
    assert os.path.islink(link)
    for text in ("", "[]", '{"references": 7}', '{"references": {"a": 1}}', "{" * 9_999):
        (tmp_path / "out" / REFERENCES).write_text(text)
        with pytest.raises(DataError, match="not Swath's list of references"):
            load_dataset(tmp_path / "out")
    (tmp_path / "out" / REFERENCES).unlink()
    with pytest.raises(DataError, match=OUT):
        load_dataset(tmp_path / "out")
