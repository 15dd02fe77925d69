"""What a file says of itself: read before its pixels, refused by name, within limits."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.decoding.header import MAP, MASK, read_header
from data.decoding.pixels import decode, decode_file
from data.decoding.refusal import ImageRefused
from data.errors import DataError
from data.files import read_text
from data.images import image_size_hw, maps_allowed, read_image, read_mask
from tests.data.decoding.files import exif, png, sparse_png, tiff

GREY = np.full((3, 4, 1), 200, np.uint8)
RGB = np.full((3, 4, 3), 200, np.uint8)


def box(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand + bytes(20)


def jpeg(marker: int = 0xC0, precision: int = 8, components: int = 3) -> bytes:
    frame = struct.pack(">HBHHB", 8 + 3 * components, precision, 4, 6, components) + bytes(3 * components)
    return b"\xff\xd8" + bytes([0xFF, marker]) + frame + b"\xff\xda\0\x02" + b"\xff\xd9"


NAMED = {
    "heic": (box(b"heic"), "a HEIC, as iPhones write them: convert it to JPEG"),
    "heif": (box(b"mif1"), "a HEIC"),
    "avif": (box(b"avif"), "an AVIF, which is not read: convert it to PNG or JPEG"),
    "raw in a box": (box(b"crx "), r"raw file \(Canon CR3\): develop it"),
    "video": (box(b"isom").replace(b"mif1", b"mp42"), "a video, no image"),
    "gif": (b"GIF89a" + bytes(20), "a GIF"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20), "a JPEG 2000"),
    "jpeg xl": (b"\xff\x0a" + bytes(20), "a JPEG XL"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer.* `git lfs pull`"),
    "page": (b"<!DOCTYPE html><title>Sign in</title>", "a web page that was saved in place of an image"),
    "dng": (tiff(RGB, tags={50706: [1, 4]}), r"raw file \(DNG\)"),
    "jpeg of 12 bits": (jpeg(0xC1, 12), "a 12-bit JPEG of 3 bands, which is not read"),
    "jpeg without loss": (jpeg(0xC3), "a lossless JPEG"),
    "jpeg of 2 bands": (jpeg(components=2), "JPEG of 2 bands"),
    "tiff without a known compression": (tiff(RGB, tags={259: [34712]}), "compression JPEG 2000, which is not read"),
    "tiff of 12 bits": (tiff(GREY, tags={258: [12]}), "1 band of 12-bit numbers"),
    "tiff, signed": (tiff(GREY.astype(np.int16)), "1 band of 16-bit signed numbers"),
    "tiff, double": (tiff(RGB.astype(np.float64)), "3 bands of 64-bit floating-point numbers"),
    "tiff, 0 is white, 16 bits": (tiff(GREY.astype(np.uint16), tags={262: [0]}), "colours: grey, 0 is white"),
    "tiff, Lab": (tiff(RGB, tags={262: [8]}), "colours: Lab"),
    "tiff, 3 bands of grey": (tiff(RGB, tags={262: [1]}), r"3 bands of 8-bit numbers \(colours: grey\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_what_is_not_read_is_named_from_its_header(name: str, tmp_path: Path) -> None:
    content, said = NAMED[name]
    path = tmp_path / "a.jpg"  # as upload forms name it
    path.write_bytes(content)
    for read in (read_image, image_size_hw):
        with pytest.raises(DataError, match=said) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_an_animation_is_named_or_its_still_image_read() -> None:
    frames = [Image.fromarray(np.full((8, 9, 3), value, np.uint8)) for value in (10, 200)]
    for kind in ("WEBP", "PNG", "TIFF"):
        out = io.BytesIO()
        frames[0].save(out, kind, save_all=True, append_images=frames[1:])
        if kind == "WEBP":
            with pytest.raises(ImageRefused, match="an animated WebP"):
                decode(out.getvalue())
            continue
        decoded = decode(out.getvalue())
        assert (decoded.image == 10).all()
        (note,) = decoded.notes
        assert note[0] == "image-partly-read" and ("animation" in note[1] or "several images" in note[1])


def test_bands_that_are_left_out_are_said_and_transparency_is_not() -> None:
    stored = np.random.default_rng(0).integers(0, 256, (6, 7, 4), np.uint8)
    (note,) = decode(tiff(stored)).notes
    assert note == ("image-partly-read", "4 bands: the first three are read, as red, green and blue")
    for content in (tiff(stored, extra=(1,)), tiff(stored, extra=(2,)), png(stored)):
        assert not decode(content).notes


def test_the_brightest_of_16_bits_decides_nothing_but_what_is_said() -> None:
    for brightest, said in ((4095, "refused"), (4096, "image-dark"), (16383, "image-dark"), (16384, "")):
        stored = np.array([[[0], [brightest]]], np.uint16)
        if said == "refused":
            with pytest.raises(ImageRefused, match="4095 of 65535: nearly black"):
                decode(png(stored))
            continue
        decoded = decode(png(stored))
        assert decoded.image[0, 1, 0] == brightest // 256
        assert [kind for kind, _ in decoded.notes] == [said] * bool(said)


@pytest.mark.parametrize("code", ["B", "H", "I"])
def test_an_orientation_of_any_whole_type(code: str) -> None:
    kind = {"B": 1, "H": 3, "I": 4}[code]
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        entry = struct.pack(order + "HHI", 274, kind, 1) + struct.pack(order + code, 6).ljust(4, b"\0")
        content = mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)
        stored = Image.fromarray(RGB)
        out = io.BytesIO()
        stored.save(out, "JPEG", exif=b"Exif\0\0" + content)
        assert read_header(out).displayed_hw == (4, 3)


@pytest.mark.parametrize("damage", [b"", b"MM", exif(6)[:12], exif(6)[:8] + b"\xff\xff" + exif(6)[10:], b"\xff" * 40])
def test_damaged_exif_is_upright(damage: bytes) -> None:
    out = io.BytesIO()
    Image.fromarray(RGB).save(out, "JPEG", exif=b"Exif\0\0" + damage)
    assert read_header(out).orientation == 1


def test_a_wrong_checksum_in_a_png_is_damage(capfd: pytest.CaptureFixture[str]) -> None:
    content = bytearray(png(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)))
    content[content.index(b"IDAT") + 20] ^= 1
    with pytest.raises(ImageRefused, match="a checksum in it is wrong"):
        decode(bytes(content))
    assert capfd.readouterr().err == ""


# --- limits before memory ---


def test_what_is_too_large_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    monkeypatch.setattr("cv2.imdecode", lambda *_: decoded.append(1))
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 32000, 32000, 8, 0, 0, 0, 0))
    for read in (read_image, image_size_hw, read_mask):
        with pytest.raises(DataError, match=r"32000 x 32000 pixels, more than the 180 megapixels.*swath data tile"):
            read(path)
    with maps_allowed():
        assert image_size_hw(path) == (32000, 32000)
        path.write_bytes(path.read_bytes().replace(struct.pack(">I", 32000), struct.pack(">I", 50000)))
        with pytest.raises(DataError, match=r"more than the 1073 megapixels.*GDAL") as caught:
            image_size_hw(path)
    assert "swath data tile" not in str(caught.value)  # which is what reads it so
    assert not decoded


def test_a_huge_image_of_one_colour_is_no_photo_but_may_be_a_mask_or_a_map(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(sparse_png(7100))
    with pytest.raises(DataError, match="no photo.*swath data tile"):
        image_size_hw(path)
    with path.open("rb") as file:
        assert read_header(file, MASK).stored_hw == read_header(file, MAP).stored_hw == (7100, 7100)
    mask = read_mask(path)
    assert mask.shape == (7100, 7100) and mask.itemsize == 1  # not eight bytes a pixel


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    image, text = tmp_path / "a.png", tmp_path / "a.json"
    image.write_bytes(png(RGB))
    text.write_text("{}")
    tracemalloc.start()
    try:
        decode_file(image)
        read_text(text, kind="a COCO JSON", limit_bytes=4 << 30)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
