"""Pixels of messages, laid out by hand from the definitions of their encodings."""

from __future__ import annotations

import numpy as np
import pytest

from detection.runtime.cameras.encodings import ENCODINGS, from_pixels
from detection.runtime.decoding.refusal import ImageRefused

HEIGHT, WIDTH = 6, 8
RED, WHITE = (81, 90, 240), (235, 128, 128)  # Y, U, V of ITU-R BT.601
Y, U, V = (np.where(np.arange(WIDTH) < 4, red, white).astype(np.uint8) for red, white in zip(RED, WHITE, strict=True))
ROWS = np.ones((HEIGHT, 1), np.uint8)
QUARTER = np.ones((HEIGHT // 2, 1), np.uint8)


def packed(*order: np.ndarray) -> np.ndarray:
    """Two pixels in four bytes, in every row."""
    return ROWS * np.stack([values[at::2] for at, values in enumerate_pairs(order)], axis=1).reshape(1, -1)


def enumerate_pairs(order: tuple[np.ndarray, ...]) -> list[tuple[int, np.ndarray]]:
    luma = iter((0, 1))  # the first Y of a pair is of its left pixel
    return [(next(luma) if values is Y else 0, values) for values in order]


def planar(*chroma: np.ndarray) -> np.ndarray:
    return np.concatenate([(ROWS * Y).ravel(), *(c.ravel() for c in chroma)])


def mosaic(pattern: str) -> np.ndarray:
    """A Bayer mosaic of one colour, R 192, G 96, B 48, of 16 bits."""
    values = {"r": 0xC0FF, "g": 0x6000, "b": 0x3001}
    return np.tile(np.array([values[c] for c in pattern], "<u2").reshape(2, 2), (HEIGHT // 2, WIDTH // 2))


def colours(bands: str, dtype: str) -> np.ndarray:
    """Red at the left, white at the right."""
    top = np.iinfo(dtype).max
    of = {"r": np.full(WIDTH, top), "g": np.where(np.arange(WIDTH) < 4, 0, top), "a": np.full(WIDTH, top // 2)}
    of["b"] = of["g"]
    return (ROWS[..., None].astype(dtype) * np.stack([of[b] for b in bands], axis=1).astype(dtype)).astype(dtype)


U2, V2 = QUARTER * U[::2], QUARTER * V[::2]
LEFT_RED: dict[str, np.ndarray] = {
    **dict.fromkeys(("uyvy", "yuv422", "yuv422_uyvy", "UYVY"), packed(U, Y, V, Y)),
    **dict.fromkeys(("yuyv", "yuv422_yuy2", "yuy2"), packed(Y, U, Y, V)),
    "yvyu": packed(Y, V, Y, U),
    "nv12": planar(np.stack([U2, V2], axis=2)),
    "nv21": planar(np.stack([V2, U2], axis=2)),
    "i420": planar(U2, V2),
    "yv12": planar(V2, U2),
    **{
        f"{bands}{bits}": colours(bands[:4], f"<u{bits // 8}")
        for bands in ("rgb", "bgr", "rgba", "bgra")
        for bits in (8, 16)
    },
    **{f"{bits}UC{len(bands)}": colours(bands, f"<u{bits // 8}") for bands in ("bgr", "bgra") for bits in (8, 16)},
}
MOSAICS = [f"bayer_{pattern}{bits}" for pattern in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)]
GREY = ["mono8", "mono16", "8UC1"]


def test_every_encoding_is_tried() -> None:
    assert set(ENCODINGS) == set(LEFT_RED) - {"UYVY"} | set(MOSAICS) | set(GREY)


@pytest.mark.parametrize("encoding", LEFT_RED)
@pytest.mark.parametrize("padding", [0, 6])
def test_colours(encoding: str, padding: int) -> None:
    rows = LEFT_RED[encoding].reshape(-1, WIDTH) if LEFT_RED[encoding].ndim == 1 else LEFT_RED[encoding]
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    content = np.pad(raw, ((0, 0), (0, padding))).tobytes()[: -padding or None]
    image, notes = from_pixels(content, HEIGHT, WIDTH, raw.shape[1] + padding, encoding)
    assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8 and image.flags.writeable and not notes
    assert np.abs(image[:, :4].astype(int) - (0, 0, 255)).max() <= 2, encoding
    assert np.abs(image[:, 4:].astype(int) - 255).max() <= 2, encoding


@pytest.mark.parametrize("encoding", MOSAICS)
def test_mosaics(encoding: str) -> None:
    values = mosaic(encoding[6:10])
    content = values.tobytes() if encoding.endswith("16") else (values >> 8).astype(np.uint8).tobytes()
    image, _ = from_pixels(content, HEIGHT, WIDTH, 0, encoding)
    assert (image[1:-1, 1:-1] == (0x30, 0x60, 0xC0)).all()


def test_the_order_of_bytes() -> None:
    grey = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 1300
    for order, big_endian in (("<u2", False), (">u2", True)):
        image, _ = from_pixels(
            grey.astype(order).tobytes(), HEIGHT, WIDTH, 2 * WIDTH, "mono16", big_endian=big_endian
        )
        assert (image == (grey >> 8)[..., None]).all()


def test_twelve_bits_in_sixteen_are_named_and_fourteen_noted() -> None:
    grey = np.full((HEIGHT, WIDTH), 4095, "<u2")
    with pytest.raises(ImageRefused, match="16 bits a channel of which the brightest is 4095 of 65535: nearly black"):
        from_pixels(grey.tobytes(), HEIGHT, WIDTH, 0, "mono16")
    image, ((kind, words),) = from_pixels((grey * 4).tobytes(), HEIGHT, WIDTH, 0, "mono16")
    assert kind == "image-dark" and "16380 of 65535" in words and (image == 63).all()


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("nv24", "'nv24': not read; read are .*nv12"),
        ("16UC1", "'16UC1': numbers without a colour, such as depth"),
        ("32FC1", "such as depth"),
        ("", "encoding ''"),
    ],
)
def test_what_is_not_read_is_named(encoding: str, said: str) -> None:
    with pytest.raises(ImageRefused, match=said):
        from_pixels(bytes(1000), HEIGHT, WIDTH, 0, encoding)


@pytest.mark.parametrize(
    ("height", "width", "step", "encoding"),
    [
        (6, 8, 7, "mono8"),
        (5, 8, 0, "nv12"),
        (6, 7, 0, "uyvy"),
        (0, 8, 0, "mono8"),
        (1 << 16, 1 << 16, 0, "mono8"),
        (6, 8, 0, "rgba16"),
    ],
)
def test_fields_that_do_not_fit(height: int, width: int, step: int, encoding: str) -> None:
    with pytest.raises(ImageRefused, match=f"{width} x {height} pixels of {encoding}"):
        from_pixels(bytes(300), height, width, step, encoding)
