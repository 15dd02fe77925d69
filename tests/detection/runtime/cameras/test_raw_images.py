from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from detection.runtime.cameras.raw_images import RawImages
from detection.runtime.cameras.sources import camera_name
from detection.runtime.errors import SourceError


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass  # closed by the test


def _image() -> np.ndarray:
    image = np.full((32, 48, 3), (40, 90, 160), np.uint8)
    image[:16, :24] = (200, 60, 30)
    return image


_BACK = {
    "bgr24": lambda i: i,
    "rgb24": lambda i: i[..., ::-1],
    "gray": lambda i: cv2.cvtColor(i, cv2.COLOR_BGR2GRAY),
    "yuv420p": lambda i: cv2.cvtColor(i, cv2.COLOR_BGR2YUV_I420),
}


@pytest.mark.parametrize("kind", list(_BACK))
def test_every_image_comes_in_order(pipe: tuple[int, int], kind: str) -> None:
    read, write = pipe
    images = [np.roll(_image(), 2 * i, axis=1) for i in range(5)]

    def feed() -> None:
        content = b"".join(np.ascontiguousarray(_BACK[kind](p)).tobytes() for p in images)
        for at in range(0, len(content), 1000):  # in pieces that end in mid-image
            os.write(write, content[at : at + 1000])
        os.close(write)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with RawImages(f"raw:48x32@30:{kind}", "stdin", read) as source:
        assert source.fps == 30 and not source.live and source.length is None
        frames = list(source)
    feeder.join(10)
    assert [f.index for f in frames] == [0, 1, 2, 3, 4] and source.ended
    for frame, image in zip(frames, images, strict=True):
        wanted = image if kind != "gray" else cv2.cvtColor(_BACK["gray"](image), cv2.COLOR_GRAY2BGR)
        assert np.abs(frame.image.astype(int) - wanted).mean() < (0.1 if kind != "yuv420p" else 6)


@pytest.mark.parametrize("kind", ["nv12", "yuyv422", "bayer_rggb8"])
def test_camera_formats_have_their_size(pipe: tuple[int, int], kind: str) -> None:
    """Uniform grey, 16 bytes of luma and what belongs to it, in each of the layouts."""
    read, write = pipe
    size = {"nv12": 24, "yuyv422": 32, "bayer_rggb8": 16}[kind]
    os.write(write, b"\x80" * size * 2)
    os.close(write)
    with RawImages(f"raw:4x4:{kind}", "stdin", read) as source:
        frames = list(source)
    assert len(frames) == 2 and all(f.image.shape == (4, 4, 3) for f in frames)
    assert np.ptp(frames[0].image) <= 2


def test_waits_for_the_writer_and_no_longer_than_asked(pipe: tuple[int, int]) -> None:
    read, write = pipe
    with RawImages("raw:2x2", "stdin", read) as source:
        os.write(write, b"\1" * 11)
        started = time.monotonic()
        assert source.poll(0.05) is None and not source.ended
        assert 0.04 < time.monotonic() - started < 5
        os.write(write, b"\1")
        frame = source.poll(5)
        assert frame is not None and frame.image.tolist() == np.ones((2, 2, 3), int).tolist()
        assert 0 <= time.monotonic_ns() - frame.captured_ns < 2e9


def test_end_in_mid_image_is_an_error(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.write(write, b"\1" * 20)
    os.close(write)
    with (
        RawImages("raw:2x2", "stdin", read) as source,
        pytest.raises(SourceError, match="in the middle of image 1; are size and format those of the writer"),
    ):
        list(source)
    assert source.ended


@pytest.mark.parametrize(
    "spec",
    [
        "raw:",
        "raw:640",
        "raw:640x480:mp4",
        "raw:0x480",
        "raw:640x480@fast",
        "raw:5x4:yuv420p",
        "raw:99999x99999",
        "raw:-1x2",
    ],
)
def test_specs_that_cannot_be(spec: str) -> None:
    with pytest.raises(SourceError, match=spec) as error:
        RawImages(spec, "stdin", 0)
    assert "\n" not in str(error.value)


def test_standard_input_of_a_process() -> None:
    code = (
        "from detection.runtime.cameras.sources import open_source\n"
        "with open_source('raw:4x3@10:gray') as source: print(source.camera, [f.index for f in source])"
    )
    result: Any = subprocess.run(
        [sys.executable, "-c", code], input=b"\7" * 36, capture_output=True, timeout=120, check=True
    )
    assert result.stdout.decode().strip() == "stdin [0, 1, 2]"
    assert camera_name("raw:4x3") == "stdin"
