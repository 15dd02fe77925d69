from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import LabelledImage
from data.errors import DataError
from data.formats import load_parts
from data.splits.groups import best_key, folders, group_images, photos, videos


def of(*names: str) -> list[Path]:
    return [Path("/set") / name for name in names]


def images(*names: str, **attributes: str) -> list[LabelledImage]:
    empty = (np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool))
    return [LabelledImage(i, path, (9, 9), *empty, attributes) for i, path in enumerate(of(*names))]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["000001.jpg", "000002.jpg"], ["000001", "000002"]),
        (["001_image.png", "002_image.png"], ["001_image", "002_image"]),
        (["DSC_1140.jpg", "DSC_1141.jpg"], ["DSC_1140", "DSC_1141"]),
        (["agri_0_1009.jpg", "agri_0_11.jpg", "agri_0_999.jpg"], ["agri_0_1009", "agri_0_11", "agri_0_999"]),
        (["DSC_1140_17kv7r4k_11.jpg", "DSC_1140_17kv7r4k_2.jpg"], ["DSC_1140_17kv7r4k"] * 2),
        (["a_jpg.rf.0123456789abcdef.jpg", "a_jpeg.rf.fedcba98.jpg"], ["a", "a"]),
        (["IMG_0007_JPG.rf.Xy12Zw34Ab.jpg", "IMG_0008_JPG.rf.Xy12Zw34Ab.jpg"], ["IMG_0007", "IMG_0008"]),
        (["a_tile_3.png", "a_tile_4.png", "b-crop12.png"], ["a", "a", "b"]),
        (["a_r1c2.png", "a_x0_y512.png", "a_0_0_640_640.png"], ["a", "a", "a"]),
        (["2024-05-31_1.jpg", "2024-05-31_2.jpg"], ["2024-05-31_1", "2024-05-31_2"]),
        (["field1_001.jpg", "field1_002.jpg", "field2_001.jpg"], ["field1_001", "field1_002", "field2_001"]),
        ([f"p{k}_{t}.jpg" for k in range(4) for t in (0, 1)], [f"p{k}" for k in range(4) for _ in (0, 1)]),
        (["tile_3.png"], ["tile_3"]),
        ([], []),
    ],
)
def test_photos(names, expected):
    assert photos(of(*names)) == expected


def test_parts_of_one_name_are_of_one_photo_only_where_their_folders_are_splits():
    assert photos(of("train/images/1_r0c0.jpg", "valid/images/1_r0c1.jpg")) == ["1", "1"]
    assert photos(of("train/1_jpg.rf.0123456789.jpg", "valid/1_jpg.rf.9876543210.jpg")) == ["1", "1"]
    assert photos(of("train/images/1_r0c0.jpg", "valid/images/1.jpg")) == ["1", "1"]
    assert photos(of("north/1_r0c0.jpg", "south/1_r0c1.jpg")) == ["north/1", "south/1"]


def test_whole_photos_of_one_name_are_different_ones():
    one, other, third = photos(of("train/images/000001.jpg", "valid/images/000001.jpg", "train/images/000002.jpg"))
    assert one != other and third == "000002"
    assert photos(of("north/1.jpg", "south/1.jpg")) == ["north/1", "south/1"]
    assert folders(of("mine_train/a/1.jpg", "mine_val/2.jpg", "fold3/x.jpg")) == ["mine/a", "mine", ""]


def test_videos():
    names = of("drive_a_000001.jpg", "drive_a_000002.jpg", "b_frame7.jpg", "DSC_0001.jpg", "DSC_0002.jpg", "003.jpg")
    assert videos(names) == ["drive_a", "drive_a", "b", "", "", ""]
    assert videos(of("agri_0_1009.jpg", "agri_0_11.jpg")) == ["", ""]  # a counter has one width
    assert videos(of("plot_0001.jpg")) == [""]  # one frame is no recording


def test_date_comes_from_exif_before_the_path(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2023:07:14 10:00:00"
    (tmp_path / "2024-05-31").mkdir()
    taken, plain = tmp_path / "2024-05-31" / "a.jpg", tmp_path / "2024-05-31" / "b.jpg"
    Image.new("RGB", (9, 9)).save(taken, exif=exif)
    Image.new("RGB", (9, 9)).save(plain)
    made = images(str(taken), str(plain), "IMG_20240601_101112.jpg", "x12024060199.jpg")
    assert group_images(made, "date") == ["2023-07-14", "2024-05-31", "2024-06-01", ""]


def test_keys_that_are_not_there_are_answered_with_those_that_are():
    with pytest.raises(DataError, match="no image has 'fild' .* attributes field; .*photo, video, folder, date"):
        group_images(images("a.jpg", field="north"), "fild")
    with pytest.raises(DataError, match="not a regular expression"):
        group_images(images("a.jpg"), "re:(")
    with pytest.raises(DataError, match="one group in round brackets"):
        group_images(images("a.jpg"), "re:a")
    with pytest.raises(DataError, match="found in no path"):
        group_images(images("a.jpg"), "re:(b)")


def test_best_key_prefers_attributes_and_wants_enough_groups():
    made = images("a.jpg", field="n") + images("b.jpg", "c.jpg", field="s")
    assert best_key(made) == "field"
    assert best_key(made, groups_wanted=3) == "photo"
    assert best_key(images("a.jpg", "b.jpg")) == "photo"
    assert best_key([]) == "photo"


@pytest.mark.parametrize(
    ("name", "count", "sizes"),
    [
        pytest.param("apple_bbch81", 78, set(range(5, 16)), marks=pytest.mark.slow),  # 858 images
        ("cwfid", 39, {1}),
        ("sesame_weed", 442, {1, 2}),
    ],
)
def test_photos_of_real_datasets(real_dataset, name, count, sizes):
    parts = load_parts(real_dataset(name))
    files = list(dict.fromkeys(image.path for part in parts.values() for image in part.images))
    groups = photos(files)
    assert len(set(groups)) == count
    assert {groups.count(group) for group in set(groups)} <= sizes


def test_blocks_of_apples_by_pattern(real_dataset):
    made = load_parts(real_dataset("apple_bbch81"))["train"].images
    assert set(group_images(made, r"re:_(17kv\d+)r")) == {"17kv4", "17kv7", "17kv8", "17kv13", "17kv36"}
