"""Kinds of cameras: all that lists them is derived from `KINDS`, and one more is one file and one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from detection.runtime.cameras import KINDS, kind_of, source_forms
from detection.runtime.cameras.sources import camera_settings, is_recording, open_source
from detection.runtime.errors import SourceError
from detection.runtime.operations.machine import Machine

HERE = Path(__file__).parent
PASSED = {"precision": "fp32", "images": 4, "unmatched_boxes": 0, "wrong_form": 0, "delta_ap_points": 0.0}
PASSED = {**PASSED, "small_ap_fall_points": None}

WITH_THE_NEW_KIND = """
import json, sys
sys.path.insert(0, sys.argv[1])
import mosaic_camera
from detection.runtime import cameras
cameras.KINDS = (mosaic_camera.KIND, *cameras.KINDS)  # the one line
from typer.testing import CliRunner
from detection.cli.app import app
from detection.runtime.cameras.sources import open_source
with open_source(f"mosaic:{sys.argv[2]}/grey.txt", side_px=32) as source:
    seen = [(frame.camera, frame.index, frame.image.shape[0], int(frame.image.max())) for frame in source]
run = lambda *arguments: (lambda done: [done.exit_code, done.output])(CliRunner().invoke(app, list(arguments)))
machine = f"{sys.argv[2]}/machine.yaml"
print(json.dumps({
    "seen": seen,
    "help": run("stream", "--help"),
    "check": run("machine", "check", machine, "--cameras"),
    "wrong": run("stream", "--machine", f"{sys.argv[2]}/wrong.yaml"),

}))
"""


def test_a_kind_is_added_by_one_file_and_one_line(tmp_path: Path, tiny: ModuleType) -> None:
    assert len((HERE / "mosaic_camera.py").read_text().splitlines()) <= 60
    tiny.write(tmp_path / "weeds.onnx", tiny.metadata(parity=PASSED))
    (tmp_path / "grey.txt").write_text("10 20 30")
    machine = {"model": {"path": "weeds.onnx"}}
    camera = {"name": "left", "source": f"mosaic:{tmp_path}/grey.txt", "side_px": 48, "roi_xyxy": [0, 0, 40, 40]}
    (tmp_path / "machine.yaml").write_text(yaml.safe_dump({**machine, "cameras": [camera]}))
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump({**machine, "cameras": [{**camera, "side_px": 3}]}))
    command = [sys.executable, "-c", WITH_THE_NEW_KIND, str(HERE), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["seen"] == [["grey", i, 32, level] for i, level in enumerate((10, 20, 30))]
    status, text = told["help"]
    assert status == 0 and "mosaic:FILE" in text and "rtsp://HOST/PATH" in text
    status, text = told["check"]
    assert status == 0 and "48 x 48" in text and "camera left" in text
    assert told["wrong"][0] == 1


def test_every_kind_says_how_its_sources_are_written() -> None:
    assert len({kind.name for kind in KINDS}) == len({kind.form for kind in KINDS}) == len(KINDS) >= 11
    assert all(kind.form in source_forms() for kind in KINDS)


@pytest.mark.parametrize(
    ("source", "name", "recording"),
    [
        ("0", "usb", False),
        ("/dev/video2", "usb", False),
        ("gst:videotestsrc ! appsink", "gstreamer", False),
        ("rtspsrc location=rtsp://h/x ! appsink", "gstreamer", False),
        ("/dev/video0 ! appsink", "gstreamer", False),
        ("genicam:/opt/maker.cti#4711", "genicam", False),
        ("raw:4x3", "raw", False),  # a pipe: a camera may be behind it
        ("rtsp://h/x", "rtsp", False),
        ("RTSPS://h/x", "rtsp", False),
        ("http://h/cam", "http", False),
        ("udp://h:1", "http", False),
        ("https://u:p@h/drive.mp4?a=1", "web video", True),
        ("rtsp://h/drive.mp4", "rtsp", False),
        ("drive.mp4", "video", True),
        ("nowhere/drive.mcap", "video", True),  # nothing there: its error says so
        ("{folder}/a.mcap", "mcap", True),
        ("{folder}/a.mcap#/left", "mcap", True),
        ("{folder}/b.bag", "ROS bag", True),
        ("{folder}/ros2", "ROS bag", True),
        ("{folder}/ros2#/left", "ROS bag", True),
        ("{folder}", "image folder", True),
        ("{folder}/c.JPG", "image folder", True),
        ("{folder}/d.mp4", "video", True),
    ],
)
def test_the_kind_of_a_source(source: str, name: str, recording: bool, tmp_path: Path) -> None:
    for file in ("a.mcap", "b.bag", "c.JPG", "d.mp4"):
        (tmp_path / file).touch()
    (tmp_path / "ros2").mkdir()
    (tmp_path / "ros2" / "metadata.yaml").touch()
    source = source.format(folder=tmp_path)
    assert kind_of(source).name == name and is_recording(source) is recording


def test_a_setting_that_the_kind_does_not_have_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^camera-0 \(usb\): transport: unknown key$"):
        camera_settings("0", transport="udp")
    with pytest.raises(SourceError, match="max_fps: unknown key"):
        open_source(tmp_path, max_fps=3)
    with pytest.raises(SourceError, match="max_fps: belongs into the camera_settings"):
        open_source(camera_settings("0"), max_fps=3)


def test_a_machine_has_the_settings_of_each_cameras_kind(caplog: pytest.LogCaptureFixture) -> None:
    listed = [
        {"name": "a", "source": "rtsp://h/a", "transport": "udp", "read_timeout_s": 7},
        {"name": "b", "source": 0, "transport": "tcp", "open_timeout_s": 4},  # what every camera was given before
        {"name": "c", "source": "drive.mp4", "transport": "udp", "max_fps": 5},
    ]
    machine = Machine.model_validate({"model": {"path": "m.onnx"}, "cameras": listed})
    assert machine.cameras[0].transport == "udp" and machine.cameras[0].read_timeout_s == 7
    assert machine.cameras[1].open_timeout_s == 4 and not hasattr(machine.cameras[1], "transport")
    assert machine.cameras[2].max_fps == 5
    assert [r.message for r in caplog.records] == ["camera c: transport has no effect on a source of kind video"]
    with pytest.raises(ValueError, match="transport: Input should be 'tcp' or 'udp', got 'pigeon'"):
        Machine.model_validate({"model": {"path": "m.onnx"}, "cameras": [{**listed[2], "transport": "pigeon"}]})
    assert isinstance(machine.cameras[0], kind_of("rtsp://h/a").settings)
    assert Machine.model_validate(machine.model_dump()) == machine
