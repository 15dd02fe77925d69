"""`ImageRefused`, and the names of what is no image that is read."""

from __future__ import annotations


class ImageRefused(Exception):
    """An image that is not read: in one line, without the file's name, why and what to do."""


IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""The suffixes of images that are read, lower case."""

FOREIGN_SUFFIXES = frozenset(
    ".arw .avif .cr2 .cr3 .dng .gif .heic .heif .jp2 .jxl .nef .orf .raf .rw2".split(),
)
"""The suffixes of images that are not read: in a folder of photos such a file is named, not passed over."""

_HEIC = "a HEIC, as iPhones write them: convert it to JPEG (heif-convert A.heic A.jpg; in the phone: Most Compatible)"
_RAW = "a camera's raw file ({}): develop it to JPEG or to TIFF of 8 or 16 bits"
_CONVERT = "{}, which is not read: convert it to PNG or JPEG"

_BRANDS = {  # of ISO media files: the four letters after "ftyp"
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), _HEIC),
    **dict.fromkeys((b"avif", b"avis"), _CONVERT.format("an AVIF")),
    b"crx ": _RAW.format("Canon CR3"),
}
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", _CONVERT.format("a GIF")),
    (b"\0\0\0\x0cjP  ", _CONVERT.format("a JPEG 2000")),
    (b"\xff\x4f\xff\x51", _CONVERT.format("a JPEG 2000")),
    (b"\0\0\0\x0cJXL ", _CONVERT.format("a JPEG XL")),
    (b"\xff\x0a", _CONVERT.format("a JPEG XL")),
    (b"8BPS", _CONVERT.format("a Photoshop file")),
    (b"FUJIFILMCCD-RAW", _RAW.format("Fujifilm RAF")),
    (b"IIRO", _RAW.format("Olympus ORF")),
    (b"IIU\0", _RAW.format("Panasonic RW2")),
    (b"v/1\x01", _CONVERT.format("an OpenEXR")),
    (b"#?RADIANCE", _CONVERT.format("a Radiance HDR")),
    (b"\x89HDF", "an HDF5 file, no image: write its bands as PNG or TIFF"),
    (b"CDF", "a NetCDF file, no image: write its bands as PNG or TIFF"),
    (b"%PDF", "a PDF, no image"),
    (b"PK\x03\x04", "a ZIP archive, no image: unpack it"),
    (b"\x1f\x8b", "a gzip archive, no image: unpack it"),
    (b"version https://git-lfs", "a Git LFS pointer, not the image itself: fetch it with `git lfs pull`"),
    (b"<!DOCTYPE", "a web page that was saved in place of an image: download it again"),
    (b"<!doctype", "a web page that was saved in place of an image: download it again"),
    (b"<html", "a web page that was saved in place of an image: download it again"),
    (b"<svg", _CONVERT.format("an SVG")),
    (b"<?xml", "XML, no image"),
)


def named(beginning: bytes) -> str | None:
    """What a file that begins so is, and what to do; None where it is not known.

    Args:
        beginning: the first 32 bytes or more.

    """
    if beginning[4:8] == b"ftyp":
        brands = [beginning[8:12], *(beginning[at : at + 4] for at in range(16, len(beginning) - 3, 4))]
        return next((_BRANDS[b] for b in brands if b in _BRANDS), "a video, no image")
    return next((words for start, words in _BEGINNINGS if beginning.startswith(start)), None)
