from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from detection.runtime.operations.machine import Machine
from detection.runtime.operations.machine_file import MachineError, example_machine, load_machine

SECRETS = {
    "SWATH_RTSP_PASSWORD": "p@ss/w0rd",
    "SWATH_MQTT_PASSWORD": "hunter22",
    "SWATH_DASHBOARD_TOKEN": "t0ken-abc",
}


def machine(folder: Path, old: str = "", new: str = "") -> Any:
    text = example_machine()
    assert old in text
    path = folder / "machine.yaml"
    path.write_text(text.replace(old, new, 1) if old else text, encoding="utf-8")
    return load_machine(path, SECRETS)


def test_the_example_is_a_machine_and_opens_with_its_command(tmp_path: Path) -> None:
    loaded = machine(tmp_path)
    told = loaded.machine
    assert [camera.name for camera in told.cameras] == ["left", "right"]
    assert told.cameras[0].source == "rtsp://farm:p@ss/w0rd@10.0.0.11:554/stream1"
    assert told.cameras[1].roi_xyxy == (0, 200, 1280, 720)
    assert told.model.path == tmp_path / "crop_weed.onnx"  # from the YAML's folder
    assert told.outputs.jsonl == tmp_path / "season" / "detections.jsonl"
    assert told.outputs.dashboard is not None and told.outputs.dashboard.record_into == tmp_path / "recordings"
    assert told.outputs.black_box is not None and told.outputs.black_box.quota_mb == 20000
    assert str(told.log) == "-" and told.limits.max_age_ms == 150
    assert example_machine().startswith("# swath machine check machine.yaml")


@pytest.mark.parametrize("names", [("left row", "left_row"), ("a/b", "a_b"), ("cam#1", "cam/1")])
def test_names_that_would_be_one_topic_are_refused(names: tuple[str, str]) -> None:
    cameras = [{"name": name, "source": str(place)} for place, name in enumerate(names)]
    with pytest.raises(ValueError, match="would be one in names of files and topics"):
        Machine.model_validate({"model": {"path": "x.onnx"}, "cameras": cameras})


def test_no_secret_is_shown(tmp_path: Path) -> None:
    loaded = machine(tmp_path)
    assert set(loaded.secrets) == set(SECRETS.values())
    shown = f"{loaded} {loaded.machine!r}"
    clean = loaded.redaction(" ".join(SECRETS.values()) + str(loaded.machine.model_dump()))
    for secret in SECRETS.values():
        assert secret not in shown and secret not in clean
    with pytest.raises(MachineError) as raised:
        machine(tmp_path, "port: 9464", 'port: "${SWATH_MQTT_PASSWORD}"')
    assert "hunter22" not in str(raised.value) and "outputs.metrics.port" in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cameras:", "camers:", "camers: unknown key; did you mean cameras?"),
        ("outputs:", "output:", "output: unknown key; did you mean outputs?"),
        ("max_fps: 20", "maxfps: 20", "cameras[0].maxfps: unknown key; did you mean cameras.max_fps?"),
        ("quota_mb", "quota", "outputs.black_box.quota: unknown key; did you mean outputs.black_box.quota_mb?"),
        ("max_age_ms", "max_age", "limits.max_age: unknown key; did you mean limits.max_age_ms?"),
        ("max_fps: 20", "max_fps: fast", "cameras[0].max_fps: Input should be a valid number"),
        ("max_fps: 20", "max_fps: 0", "cameras[0].max_fps: Input should be greater than 0"),
        ("transport: tcp", "transport: tpc", "cameras[0].transport: Input should be 'tcp' or 'udp', got 'tpc'"),
        ("name: right", "name: left", "cameras: two are called 'left'"),
        ("[0, 200, 1280, 720]", "[0, 200]", "cameras[1].roi_xyxy: too few values"),
        ("[0, 200, 1280, 720]", "[5, 0, 5, 9]", "cameras[1].roi_xyxy: a region of interest is x1,y1,x2,y2"),
        ("port: 9464", "port: 0", "outputs.metrics.port: Input should be greater than or equal to 1"),
        ("provider: cpu", "score: 0.5", "model: score and score_thresholds exclude each other"),
        ("weed: 0.35", "weed: 3", "model.score_thresholds.weed: Input should be less than or equal to 1"),
        ('log: "-"', "log: {a: 1}", "log: Input is not a valid path"),
        ("path: crop_weed.onnx", "pth: crop_weed.onnx", "model.path: missing; model.pth: unknown key"),
        ("${SWATH_MQTT_PASSWORD}", "${NO_SUCH}", "outputs.mqtt: the environment variable NO_SUCH is not set"),
        ("duty_cycle: 0.8", "duty_cycle: 1.2", "limits.duty_cycle: Input should be less than or equal to 1"),
        ("cameras:", "cameras: []\nx:", "cameras: Tuple should have at least 1 item"),
        ("name: sprayer-7", "name: [", ": not YAML (expected"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_the_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(MachineError) as raised:
        machine(tmp_path, old, new)
    assert message in str(raised.value) and "\n" not in str(raised.value), raised.value


def test_no_file_and_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no such file; `swath machine example` prints one"):
        load_machine(tmp_path / "none.yaml", {})
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(MachineError, match="a machine is a mapping with the keys name, model, cameras"):
        load_machine(tmp_path / "list.yaml", {})


def test_variables_in_any_value_and_escaped_ones(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "name: $${ROBOT}\nmodel: {path: '${PLACE}/weeds.onnx'}\ncameras: [{name: '${A}${A}', source: '0'}]\n"
        "outputs: {mqtt: 'mqtt://x:${B}@h'}\n"
    )
    environment = {"PLACE": "/opt", "A": "cam", "B": "no: yaml # here ${A}"}
    told = load_machine(path, environment).machine
    assert told.name == "${ROBOT}" and told.model.path == Path("/opt/weeds.onnx") and told.cameras[0].name == "camcam"
    assert told.outputs.mqtt == "mqtt://x:no: yaml # here ${A}@h"  # taken as it is, not once more
    assert load_machine(path, {}, fill_in=False).machine.cameras[0].name == "${A}${A}"


def test_a_source_beside_the_yaml_and_a_camera_index(tmp_path: Path) -> None:
    (tmp_path / "drive.mp4").touch()
    path = tmp_path / "m.yaml"
    sources = ["drive.mp4", 0, "rtsp://cam/front", "/dev/video3", "gst:v4l2src ! appsink"]
    cameras = [{"name": f"c{i}", "source": source} for i, source in enumerate(sources)]
    path.write_text(yaml.safe_dump({"model": {"path": "m.onnx"}, "cameras": cameras}))
    given = [camera.source for camera in load_machine(path, {}).machine.cameras]
    assert given == [str(tmp_path / "drive.mp4"), "0", "rtsp://cam/front", "/dev/video3", "gst:v4l2src ! appsink"]


def test_thresholds_by_class() -> None:
    def thresholds(**model: Any) -> Any:
        cameras = [{"name": "a", "source": "0"}]
        told = Machine.model_validate({"model": {"path": "m.onnx", **model}, "cameras": cameras})
        return told.model.thresholds(("weed", "crop"), (0.4, 0.5))

    assert thresholds() is None
    assert thresholds(score=0.3) == 0.3
    assert thresholds(score_thresholds={"crop": 0.9}) == (0.4, 0.9)
    with pytest.raises(ValueError, match="does not detect thistle, but weed, crop"):
        thresholds(score_thresholds={"thistle": 0.9})


def test_every_key_says_what_it_is() -> None:
    seen = set()

    def look(model: Any) -> None:
        for name, info in model.model_fields.items():
            assert info.description, f"{model.__name__}.{name}"
            seen.add((model.__name__, name))
            inside(info.annotation)

    def inside(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            look(annotation)
        for part in get_args(annotation):
            inside(part)

    look(Machine)
    assert len(seen) > 70 and {("BlackBoxSettings", "quota_mb"), ("Limits", "duty_cycle")} <= seen


def test_a_key_of_the_version_before_is_read_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "m.yaml"
    content = {"model": {"path": "m.onnx", "unproved": True}, "cameras": [{"name": "a", "source": "0"}]}
    path.write_text(yaml.safe_dump(content))
    assert load_machine(path, {}).machine.model.unverified
    (line,) = caplog.messages
    assert line.startswith(str(path)) and line.endswith("unproved is now unverified")
