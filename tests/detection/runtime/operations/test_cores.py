"""Who gets the cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detection.runtime.operations.cores import share_cores
from detection.runtime.operations.machine import Machine


def machine(*sources: str, **model: Any) -> Machine:
    limits = model.pop("limits", {})
    cameras = [{"name": f"camera-{number}", "source": source} for number, source in enumerate(sources)]
    return Machine.model_validate({"model": {"path": Path("m.onnx"), **model}, "cameras": cameras, "limits": limits})


@pytest.mark.parametrize(
    ("told", "threads", "workers"),
    [
        (machine("drive.mp4"), 1, 4),
        (machine("drive.mp4", "photos", "bag.mcap#/front", "https://field/drive.mp4"), 1, 4),
        (machine("drive.mp4", provider="cpu"), 1, 4),
        (machine("drive.mp4", threads=2), 2, 2),
        (machine("drive.mp4", threads=3), 3, 1),
        (machine("drive.mp4", threads=9), 9, 1),
        (machine("rtsp://field/1"), None, 1),
        (machine("0", threads=2), 2, 1),
        (machine("drive.mp4", "/dev/video0"), None, 1),
        (machine("raw:640x480@30:bgr24"), None, 1),
        (machine("http://field/mjpeg"), None, 1),
        (machine("genicam:producer.cti#1"), None, 1),
        (machine("gst:v4l2src ! appsink"), None, 1),
        (machine("drive.mp4", provider="cuda"), None, 1),
        (machine("drive.mp4", provider="openvino", threads=2), 2, 1),
        (machine("drive.mp4", limits={"duty_cycle": 0.5}), None, 1),
        (machine("drive.mp4", limits={"cool_below_c": 70}), None, 1),
    ],
)
def test_cores_go_to_one_live_image_or_to_many_recorded_ones(
    told: Machine, threads: int | None, workers: int
) -> None:
    assert share_cores(told, cores=4) == (threads, workers)


def test_there_is_an_end_to_images_at_once() -> None:
    assert share_cores(machine("drive.mp4"), cores=64) == (1, 8)
    assert share_cores(machine("drive.mp4"))[1] >= 1
