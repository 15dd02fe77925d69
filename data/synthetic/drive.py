"""Writes a video of a drive along the rows of a rendered field, with ground truth for every frame."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.synthetic.annotations import annotation_entries, image_entry, write_annotations
from data.synthetic.camera import Pose
from data.synthetic.scene import FIELDS_PER_SEED, Field

_START_M = 0.4


class _Shake:
    """Smooth wobble of a camera on a boom: a few slow oscillations on each axis."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rates_hz = rng.uniform(0.4, 2.6, (5, 3))
        self._phases = rng.uniform(0.0, 2.0 * math.pi, (5, 3))

    def pose(self, time_s: float, y_m: float) -> Pose:
        """The camera's pose at a time: within about 2 mm, 0.4 % of its height and 0.2 degrees."""
        swing = np.sin(2.0 * math.pi * self._rates_hz * time_s + self._phases).mean(axis=1)
        side, up, pitch, roll, yaw = (float(v) for v in swing)
        return Pose(0.0, y_m + 0.002 * side, 1.0 + 0.004 * up, 0.002 * pitch, 0.003 * roll, 0.004 * yaw)


def render_drive(
    out_dir: Path,
    *,
    seconds: float = 8,
    fps: float = 15,
    size_hw: tuple[int, int] = (480, 640),
    seed: int,
    speed_m_s: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render a drive: `drive.mp4`, and `annotations.json` in COCO format with one image entry per frame.

    Rows run up the image and the ground moves down it by `speed_m_s / fps` metres per frame. An image
    entry's `file_name` is `drive.mp4#000012` and its `frame` 12; an annotation's `plant_id` names the
    same plant in every frame. `annotations.json` is written last and atomically, and an old one is
    removed first: if it exists, the video is complete.

    Args:
        out_dir: created if missing.
        seconds: length of the video.
        fps: frames per second.
        size_hw: of each frame, pixels.
        seed: of the field, which no rendered dataset of any seed contains, and of the shake.
        speed_m_s: driving speed, 0 or more.
        progress: called with (done, frames) after each frame.

    Returns:
        The path of `annotations.json`.

    Raises:
        ValueError: a length, rate or speed out of range.
        OSError: the video cannot be written.

    """
    frames = round(seconds * fps)
    if frames < 1 or fps <= 0 or speed_m_s < 0:
        raise ValueError(f"nothing to render: {seconds} s at {fps} frames per second and {speed_m_s} m/s")
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    target, video = out_dir / "annotations.json", out_dir / "drive.mp4"
    target.unlink(missing_ok=True)
    # A field of its own: a drive must not cross ground that some dataset trains on.
    own = (seed + 1) * FIELDS_PER_SEED - 1
    field = Field(own, length_m=2.0 * _START_M + frames / fps * speed_m_s)
    shake = _Shake(np.random.default_rng((seed, 8)))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    partial = out_dir / ".drive.partial.mp4"
    height, width = size_hw
    try:
        writer = cv2.VideoWriter(str(partial), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
        if not writer.isOpened():
            raise OSError(f"{video}: OpenCV cannot write an mp4v video here")
        try:
            for frame in range(frames):
                time_s = frame / fps
                view = field.view(
                    _START_M + time_s * speed_m_s,
                    size_hw=size_hw,
                    seed=frame,
                    speed_m_s=speed_m_s,
                    pose=shake.pose(time_s, 0.5 * field.width_m),
                )
                writer.write(view.image)
                name = f"{video.name}#{frame:06d}"
                images.append(image_entry(frame + 1, name, view, field.attributes, frame=frame))
                annotations.extend(annotation_entries(frame + 1, view))
                if progress is not None:
                    progress(frame + 1, frames)
        finally:
            writer.release()
        os.replace(partial, video)
    finally:
        partial.unlink(missing_ok=True)
    about = f"Swath rendered drive: {frames} frames at {fps:g} a second, {speed_m_s:g} m/s, seed {seed}"
    write_annotations(target, images, annotations, about)
    return target
