from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.errors import DataError
from data.images import (
    image_header,
    image_size_hw,
    read_image,
    read_image_at,
    upright_boxes,
    working_hw,
)

# The stored image is 6 x 4 blocks of 16 px; block (row 1, column 4) is red.
BLOCK = 16
STORED_HW = (4 * BLOCK, 6 * BLOCK)
RED_STORED = np.array([[4, 1, 5, 2]], np.float64) * BLOCK
# Where the red block is displayed, worked out on paper from the EXIF standard's table.
RED_DISPLAYED = {
    1: (4, 1, 5, 2),
    2: (1, 1, 2, 2),
    3: (1, 2, 2, 3),
    4: (4, 2, 5, 3),
    5: (1, 4, 2, 5),
    6: (2, 4, 3, 5),
    7: (2, 1, 3, 2),
    8: (1, 1, 2, 2),
}


def red_block() -> np.ndarray:
    image = np.full((*STORED_HW, 3), 128, np.uint8)
    image[BLOCK : 2 * BLOCK, 4 * BLOCK : 5 * BLOCK] = (255, 0, 0)  # RGB
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied_to_pixels_size_and_boxes(orientation, tmp_path, write_oriented):
    path = tmp_path / "a.jpg"
    write_oriented(path, red_block(), orientation)
    image = read_image(path)
    displayed_hw = STORED_HW if orientation < 5 else STORED_HW[::-1]
    assert image.shape == (*displayed_hw, 3) and image.dtype == np.uint8
    assert image_size_hw(path) == displayed_hw
    assert image_header(path) == (STORED_HW, orientation)
    expected = np.array([RED_DISPLAYED[orientation]], np.float64) * BLOCK
    rows, columns = np.nonzero(image[:, :, 2].astype(int) - image[:, :, 0] > 128)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert found == expected[0].tolist()
    assert upright_boxes(RED_STORED, STORED_HW, orientation).tolist() == expected.tolist()


def test_upright_boxes_of_none():
    assert upright_boxes(np.zeros((0, 4)), (3, 5), 6).shape == (0, 4)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_nonsense_orientation_is_ignored(orientation, tmp_path, write_oriented):
    write_oriented(tmp_path / "a.jpg", red_block(), orientation)
    assert read_image(tmp_path / "a.jpg").shape[:2] == STORED_HW


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp", ".jpg"])
def test_kinds_of_file_come_as_bgr(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.new("RGB", (5, 3), (200, 100, 10)).save(path, **options)
    image = read_image(path)
    assert image.shape == (3, 5, 3)
    assert np.abs(image.astype(int) - [10, 100, 200]).max() <= (6 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_grey_palette_transparent_and_cmyk_get_three_channels(mode, tmp_path):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (7, 4), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (4, 7, 3) and image.min() > 250


def test_one_pixel_and_very_wide(tmp_path, write_image):
    assert (read_image(p(tmp_path, write_image, (1, 1))) == write_image(tmp_path / "a.png", (1, 1))).all()
    assert read_image(p(tmp_path, write_image, (1, 30000))).shape == (1, 30000, 3)


def p(tmp_path, write_image, size_hw):
    write_image(tmp_path / "a.png", size_hw)
    return tmp_path / "a.png"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow's own word on a cut TIFF; ours follows it
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_cut_image_is_refused(suffix, part, tmp_path, write_image, capfd):
    path = tmp_path / f"a{suffix}"
    write_image(path, (64, 96))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_jpeg_cut_after_a_thumbnail_with_an_end_of_its_own_is_refused(tmp_path):
    path = tmp_path / "a.jpg"
    _, thumbnail = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(noise).save(path, exif=b"Exif\0\0" + thumbnail.tobytes())
    content = path.read_bytes()
    assert content.count(b"\xff\xd9") == 2
    assert read_image(path).shape == (64, 96, 3)
    path.write_bytes(content[:-500])
    with pytest.raises(DataError, match="cut short"):
        read_image(path)
    path.write_bytes(content[:-500] + bytes(500))  # the length is right, the tail was never written
    with pytest.raises(DataError, match="cut short"):
        read_image(path)


def test_bytes_after_the_end_and_progressive_jpegs_are_fine(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(red_block()).save(path, progressive=True)
    path.write_bytes(path.read_bytes() + b"maker's trailer" * 500)
    assert read_image(path).shape[:2] == STORED_HW


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "0 bytes"),
        (b"\xff\xd8", "image"),
        (b"no image at all", "not an image"),
        (bytes(999), "not a"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(content, said, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for read in (read_image, image_size_hw):
        with pytest.raises(DataError, match=said) as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    for read in (read_image, image_size_hw):
        with pytest.raises(DataError, match="no such image"):
            read(tmp_path / "a.jpg")
        with pytest.raises(DataError, match="cannot be read"):
            read(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_16_bit_tiff_says_what_to_do(tmp_path):
    path: Path = tmp_path / "a.tiff"
    Image.fromarray(np.zeros((3, 4), np.uint16)).save(path)
    with pytest.raises(DataError, match="8 bits"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("wanted_hw", [(64, 96), (60, 90), (32, 48), (30, 45), (8, 12), (4, 6), (2, 3), (1, 1)])
def test_a_smaller_image_shows_the_same_as_the_whole_one_shrunk(orientation, wanted_hw, tmp_path, write_oriented):
    # smooth enough for blocks of eight: what is compared is place and colour, not texture
    rows, columns = np.mgrid[:64, :96]
    stored = np.stack([rows * 4, columns * 2, 255 - rows - columns], axis=2).clip(0, 255).astype(np.uint8)
    path = tmp_path / "a.jpg"
    write_oriented(path, stored, orientation)
    size_hw = (64, 96) if orientation < 5 else (96, 64)
    wanted_hw = wanted_hw if orientation < 5 else wanted_hw[::-1]
    found = read_image_at(path, size_hw, wanted_hw)
    assert found.shape == (*wanted_hw, 3) and found.dtype == np.uint8
    expected = cv2.resize(read_image(path), wanted_hw[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(found.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("size_hw", [(97, 131), (96, 130)])
def test_every_kind_and_odd_sides(suffix, size_hw, tmp_path, write_image):
    path = tmp_path / f"a{suffix}"
    write_image(path, size_hw)
    whole = read_image(path)
    assert np.array_equal(read_image_at(path, size_hw, size_hw), whole)
    for wanted_hw in ((49, 66), (48, 65), (25, 33), (12, 16), (6, 8)):
        found = read_image_at(path, size_hw, wanted_hw)
        assert found.shape == (*wanted_hw, 3)
        if suffix in (".png", ".bmp"):  # decoded whole, then the same areas as the letterbox averages
            assert np.array_equal(found, cv2.resize(whole, wanted_hw[::-1], interpolation=cv2.INTER_AREA))


def test_a_large_jpeg_is_not_decoded_whole(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (480, 640, 3), np.uint8), (0, 0), 2)
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), texture)
    flags = []
    decode = cv2.imdecode

    def spied(content, flag):
        flags.append(flag & ~cv2.IMREAD_IGNORE_ORIENTATION)
        return decode(content, flag)

    monkeypatch.setattr("cv2.imdecode", spied)
    whole = read_image(path)
    # half where that is enough; a quarter and an eighth only where twice of what is wanted is left
    for wanted_hw in ((241, 320), (240, 320), (61, 80), (60, 80), (31, 40), (30, 40)):
        shrunk = cv2.resize(whole, wanted_hw[::-1], interpolation=cv2.INTER_AREA).astype(float)
        error = np.mean((read_image_at(path, (480, 640), wanted_hw) - shrunk) ** 2)
        assert error < 255**2 / 10**3.5  # 35 dB
    assert flags == [
        cv2.IMREAD_COLOR,
        cv2.IMREAD_COLOR,
        cv2.IMREAD_REDUCED_COLOR_2,
        cv2.IMREAD_REDUCED_COLOR_2,
        cv2.IMREAD_REDUCED_COLOR_4,
        cv2.IMREAD_REDUCED_COLOR_4,
        cv2.IMREAD_REDUCED_COLOR_8,
    ]


def test_a_smaller_image_is_checked_like_a_whole_one(tmp_path, write_image):
    path = tmp_path / "a.jpg"
    write_image(path, (64, 96))
    with pytest.raises(DataError, match="changed its size since its labels were read"):
        read_image_at(path, (96, 64), (12, 8))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cut short"):
        read_image_at(path, (64, 96), (8, 12))


@pytest.mark.parametrize(
    ("size_hw", "scale_range", "expected"),
    [
        ((966, 1296), (512 / 1296, 512 / 1296), (382, 512)),  # always the letterbox alone: its own size
        ((640, 640), (0.8, 0.8), (512, 512)),
        ((640, 640), (1.0, 1.0), (640, 640)),
        ((640, 640), (2.0, 3.0), (640, 640)),  # never enlarged
        ((966, 1296), (0.4, 0.72), (966, 1296)),  # a crop may need more than half
        ((3000, 4000), (0.128, 0.234), (1500, 2000)),
        ((3001, 4001), (0.128, 0.5), (1501, 2001)),  # libjpeg rounds up
        ((3000, 4000), (0.1, 0.125), (750, 1000)),  # twice 0.125
        ((3000, 4000), (0.05, 0.0624), (375, 500)),
        ((1, 4000), (0.001, 0.001), (1, 4)),
    ],
)
def test_the_working_size_by_hand(size_hw, scale_range, expected):
    assert working_hw(size_hw, scale_range) == expected
