"""Readers of images, videos, recordings and archives."""

from __future__ import annotations

import io
import json
import random
import shutil
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np

from tests.malformed.mutations import absurd, damaged_bytes
from tests.malformed.reader import Malform, Read, Reader
from tests.malformed.trial import rewritten


def _images(folder: Path) -> Malform:
    from data.images import image_size_hw, read_image

    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    seeds = {s: cv2.imencode(s, noise)[1].tobytes() for s in (".png", ".jpg", ".bmp", ".tif", ".webp")}

    def malform(chance: random.Random) -> Read:
        suffix = chance.choice(sorted(seeds))
        path = rewritten(folder / f"image{suffix}", damaged_bytes(chance, seeds[suffix]))
        return lambda: (image_size_hw(path), read_image(path))

    return malform


def _recording(folder: Path) -> Malform:
    from detection.runtime.blackbox.recording import read_recording

    about = {
        "schema": 2,
        "class_names": ["weed"],
        "model": "m.onnx",
        "slices": {"front": {"roi_xyxy": None, "tiles_rc": [1, 1], "overlap": 0.2}},
    }
    frame = {
        "image": "pictures/0.jpg",
        "camera": "front",
        "frame": 3,
        "captured_ns": 5,
        "stream_s": None,
        "age_ms": 40.5,
        "model_sha256": "",
        "score_thresholds": [0.3],
        "boxes_xyxy": [[1, 2, 3, 4]],
        "scores": [0.5],
        "labels": [0],
        "track_ids": None,
    }
    rewritten(folder / "recording.json", json.dumps(about).encode())
    rewritten(folder / "frames.jsonl", (json.dumps(frame) + "\n").encode())
    read_recording(folder)

    def malform(chance: random.Random) -> Read:
        changed, line = about, frame
        if chance.random() < 0.5:
            changed = absurd(chance, about)
        else:
            line = absurd(chance, frame)
        raw = (json.dumps(changed).encode(), (json.dumps(line) + "\n").encode())
        if chance.random() < 0.3:
            raw = (damaged_bytes(chance, raw[0]), damaged_bytes(chance, raw[1]))
        rewritten(folder / "recording.json", raw[0])
        rewritten(folder / "frames.jsonl", raw[1])
        return lambda: read_recording(folder)

    return malform


def _archive(folder: Path) -> Malform:
    from data.download.unpack import Limits, unpack

    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("set/a.txt", "set/b/c.txt"):
            archive.writestr(name, "0 0.5 0.5 0.1 0.1\n" * 40)
    with tarfile.open(fileobj=tarred, mode="w:gz") as opened:
        for name in ("set/a.txt", "set/b/c.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 18 * 40
            opened.addfile(entry, io.BytesIO(b"0 0.5 0.5 0.1 0.1\n" * 40))
    seeds = (zipped.getvalue(), tarred.getvalue())

    def malform(chance: random.Random) -> Read:
        path = rewritten(folder / "set.part", damaged_bytes(chance, chance.choice(seeds)))
        target = folder / "out"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        limits = Limits(bytes=1 << 22, floor_bytes=1 << 20)
        return lambda: unpack(path, target, limits=limits)

    return malform


def _containers(folder: Path) -> Malform:
    from data.errors import DataError
    from detection.runtime.cameras.containers import contents_of, lacks_its_index

    seeds: dict[str, bytes] = {}
    for suffix, code in ((".mp4", "mp4v"), (".avi", "MJPG"), (".mkv", "MJPG")):
        path = folder / f"sound{suffix}"
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), 25.0, (96, 64))
        for value in range(6):
            writer.write(np.full((64, 96, 3), 40 * value, np.uint8))
        writer.release()
        seeds[suffix] = path.read_bytes()
        assert contents_of(path) is not None

    def malform(chance: random.Random) -> Read:
        suffix = chance.choice(sorted(seeds))
        path = rewritten(folder / f"video{suffix}", damaged_bytes(chance, seeds[suffix]))

        def read() -> None:
            lacks_its_index(path)
            if contents_of(path) is None:
                raise DataError(f"{suffix}: tables that say nothing: FFmpeg alone decides")

        return read

    return malform


def _jpeg_streams(folder: Path) -> Malform:
    from data.errors import DataError
    from detection.runtime.cameras.web_images import jpeg_end

    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    sound = cv2.imencode(".jpg", noise)[1].tobytes()
    assert jpeg_end(sound + b"--frame") == len(sound)

    def malform(chance: random.Random) -> Read:
        content = damaged_bytes(chance, sound)

        def read() -> None:
            try:
                jpeg_end(content)
            except ValueError as error:  # which its caller counts as an unreadable image
                raise DataError(f"a camera's image: {error}") from None

        return read

    return malform


READERS = (
    Reader("images", _images),
    Reader("recording", _recording),
    Reader("archive", _archive),
    Reader("video container", _containers),
    Reader("JPEG of a camera", _jpeg_streams),
)
