from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from detection.runtime.outputs.mp4 import TICKS, FragmentedMp4, Samples, read_samples


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    """30 images of 64 x 48, as OpenCV encodes them."""
    path = tmp_path / "small.mp4"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (64, 48))
    field = np.random.default_rng(0).integers(90, 110, (48, 64, 3), dtype=np.uint8)
    for i in range(30):
        image = field.copy()
        image[8:16, i : i + 8] = 200
        writer.write(image)
    writer.release()
    return read_samples(path.read_bytes())


def images_of(path: Path) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    images = []
    while (read := capture.read())[0]:
        images.append(read[1])
    return images


def test_samples_are_those_that_were_encoded(samples: Samples) -> None:
    assert len(samples.sizes) == len(samples.keys) == 30 and sum(samples.sizes) == len(samples.data)
    assert [i for i, key in enumerate(samples.keys) if key] == [0, 12, 24]
    assert samples.description[4:8] == b"stsd" and b"mp4v" in samples.description


@pytest.mark.parametrize("content", [b"", b"no video at all", struct.pack(">I4s", 0, b"moov"), bytes(64)])
def test_what_is_no_video(content: bytes) -> None:
    with pytest.raises(ValueError, match="MP4"):
        read_samples(content)


def test_a_cut_video_is_none(tmp_path: Path, samples: Samples) -> None:
    content = (tmp_path / "small.mp4").read_bytes()
    for end in range(0, len(content), 97):
        with pytest.raises(ValueError, match="MP4"):
            read_samples(content[:end])


def test_every_cut_plays_up_to_its_last_whole_fragment(tmp_path: Path, samples: Samples) -> None:
    path = tmp_path / "x.mp4"
    file = FragmentedMp4(path, (64, 48), samples.description)
    ends = []
    for _ in range(3):
        file.add(samples, [TICKS // 25] * 30)
        ends.append(path.stat().st_size)
    whole = path.read_bytes()
    file.close()
    finished = path.read_bytes()
    once, cut = images_of(tmp_path / "small.mp4"), tmp_path / "cut.mp4"
    # Also within the table that an ordinary video has at its end: it only counts once it is whole.
    open_end = finished[: ends[-1] + 100].replace(finished[:64], whole[:64])
    for content in (whole, whole[: ends[1]], whole[: ends[1] + 11], open_end):
        cut.write_bytes(content)
        fragments = sum(len(content) >= end for end in ends)
        images = images_of(cut)
        assert len(images) >= 30 * fragments >= 60
        np.testing.assert_array_equal(images, (once * 3)[: len(images)])
    cut.write_bytes(finished)
    np.testing.assert_array_equal(images_of(cut), once * 3)


def test_without_a_image_it_is_still_a_file_that_can_be_closed(tmp_path: Path, samples: Samples) -> None:
    file = FragmentedMp4(tmp_path / "x.mp4", (64, 48), samples.description)
    file.close()
    file.close()
    assert (tmp_path / "x.mp4").read_bytes()[4:8] == b"ftyp"
