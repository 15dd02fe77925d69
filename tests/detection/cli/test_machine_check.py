from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from detection.runtime.errors import SwathError
from detection.runtime.operations.machine_file import load_machine
from detection.runtime.operations.systemd_unit import systemd_unit
from tests.detection.conftest import swath

PASSED = {"precision": "fp32", "images": 4, "unmatched_boxes": 0, "malformed_outputs": 0, "delta_ap_points": 0.0}
PASSED = {**PASSED, "small_ap_fall_points": None}


@pytest.fixture
def write(tiny: Any, tmp_path: Path, video_path: Path) -> Any:
    def give(parity: dict[str, Any] = PASSED, source: str = "", **changes: Any) -> Path:
        tiny.write(tmp_path / "weeds.onnx", tiny.metadata(parity=parity))
        content = {
            "name": "sprayer",
            "model": {"path": "weeds.onnx"},
            "cameras": [{"name": "left", "source": source or video_path.name}],
            "outputs": {"jsonl": "out/d.jsonl", "black_box": {"folder": "out/box"}},
            **changes,
        }
        path = tmp_path / "machine.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return give


def check(capsys: pytest.CaptureFixture[str], path: Path, *, cameras: bool = False) -> tuple[int, str]:
    """Exit code, and what was printed without the table's line breaks."""
    code, printed, _ = swath(capsys, "machine", "check", path, *(["--cameras"] if cameras else []))
    return code, " ".join(printed.split())


def test_a_machine_that_can_be_started(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, shown = check(capsys, write(), cameras=True)
    assert code == 0
    assert "nothing is wrong" in shown and "96 x 64" in shown and "weed, crop" in shown
    code, shown = check(capsys, write())
    assert code == 0 and "cameras were not opened" in shown


@pytest.mark.parametrize(
    ("changes", "cameras", "why"),
    [
        ({"model": {"path": "none.onnx"}}, False, "there is no such model file"),
        ({"model": {"path": "weeds.onnx", "score_thresholds": {"thistle": 0.4}}}, False, "does not detect thistle"),
        ({"parity": {}}, False, "no parity report"),
        ({"source": "/nowhere/drive.mp4"}, False, "there is no such file"),
        ({"source": "/nowhere/drive.mp4"}, True, "there is no such video"),
        ({"outputs": {"jsonl": "weeds.onnx/d.jsonl"}}, False, "weeds.onnx is no folder"),
    ],
)
def test_what_is_wrong_is_said(
    write: Any, changes: dict[str, Any], cameras: bool, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = check(capsys, write(**changes), cameras=cameras)
    assert code == 1
    assert why in shown and "need attention" in shown


def test_a_model_file_that_was_damaged_or_gives_no_answers(
    write: Any, tiny: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = write()
    model = machine.with_name("weeds.onnx")
    model.write_bytes(model.read_bytes().replace(b"[0.7,0.9]", b"[0.7,0.8]"))
    code, shown = check(capsys, machine)
    assert code == 1 and "damaged or changed" in shown
    tiny.write(model, tiny.metadata(parity=PASSED), faulty=float("nan"))
    code, shown = check(capsys, machine)
    assert code == 1 and "its outputs are malformed here" in shown


def test_a_region_that_leaves_the_image(write: Any, video_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cameras = [{"name": "left", "source": video_path.name, "roi_xyxy": [0, 0, 97, 64]}]
    code, shown = check(capsys, write(cameras=cameras), cameras=True)
    assert code == 1 and "reaches beyond the frame of 96 x 64" in shown


@pytest.fixture
def relay() -> Iterator[Any]:
    """Forwards one connection after another to a port, and remembers what the client said."""
    server = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []
    held: list[socket.socket] = [server]

    def copy(source: socket.socket, sink: socket.socket, log: list[bytes] | None) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if log is not None:
                    log.append(piece)
                sink.sendall(piece)
        sink.close()

    def forward(port: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = server.accept()[0]
                camera = socket.create_connection(("127.0.0.1", port))
                held.extend((client, camera))
                for ends in ((client, camera, asked), (camera, client, None)):
                    threading.Thread(target=copy, args=ends, daemon=True).start()

    def start(port: int) -> tuple[str, list[bytes]]:
        threading.Thread(target=forward, args=(port,), daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}", asked

    yield start
    for one in held:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@pytest.mark.parametrize(("transport", "other"), [("tcp", "udp"), ("udp", "tcp")])
def test_a_camera_is_opened_with_its_transport(
    write: Any, rtsp_camera: Any, relay: Any, transport: str, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the camera was asked for in SETUP (RFC 2326, 12.39): interleaved in the connection, or by UDP."""
    address, asked = relay(rtsp_camera().port)
    camera = {"name": "left", "source": f"rtsp://{address}/cam", "transport": transport, "open_timeout_s": 20}
    code, shown = check(capsys, write(cameras=[camera]), cameras=True)
    assert code == 0 and "nothing is wrong" in shown, shown
    lines = [line for line in b"".join(asked).decode("latin-1").splitlines() if line.startswith("Transport:")]
    assert lines and all(("RTP/AVP/TCP" in line) == (transport == "tcp") for line in lines), lines


def test_a_camera_is_opened_with_its_timeouts(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that takes connections and is silent; by default it would be waited for for 3 s and more."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/cam"
        camera = {"name": "left", "source": source, "open_timeout_s": 0.6, "read_timeout_s": 0.6}
        code, shown = check(capsys, write(cameras=[camera]), cameras=True)
    assert code == 1 and "no video from there within 0.6 s" in shown


def test_a_port_that_is_taken(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        path = write(outputs={"metrics": {"port": port}, "dashboard": {"address": f"127.0.0.1:{port}"}})
        code, shown = check(capsys, path)
    assert code == 1
    assert shown.count(f"port {port} cannot be listened on") == 2


def test_the_unit_passes_systemds_own_check(write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = swath(capsys, "machine", "unit", write(), "--user", "root", "--watchdog-s", 7)
    assert code == 0
    for line in ("Type=notify", "WatchdogSec=7", "Restart=always", "NoNewPrivileges=yes", "User=root"):
        assert line in text.splitlines()
    assert f"stream --machine {tmp_path / 'machine.yaml'}" in text
    assert f"ReadWritePaths=-{tmp_path / 'out'} -{tmp_path / 'out' / 'box'}" in text
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    path = tmp_path / "swath-sprayer.service"
    path.write_text(text)
    done = subprocess.run([analyze, "verify", "--man=no", str(path)], capture_output=True, text=True, timeout=120)
    complaints = [line for line in done.stderr.splitlines() if "swath-sprayer" in line]
    assert done.returncode == 0 and complaints == [], done.stderr
    path.write_text(text.replace("WatchdogSec", "WatchdogSecs"))  # it does look
    done = subprocess.run([analyze, "verify", "--man=no", str(path)], capture_output=True, text=True, timeout=120)
    assert "WatchdogSecs" in done.stderr


def test_the_unit_needs_no_secrets_and_refuses_odd_paths(write: Any, tmp_path: Path) -> None:
    path = write(source="rtsp://a:${NO_SUCH_PASSWORD}@cam/x")
    text = systemd_unit(load_machine(path, fill_in=False), command=[sys.executable, "-m", "detection.cli"])
    assert "EnvironmentFile=-/etc/swath/swath-sprayer.env" in text and "NO_SUCH" not in text
    with pytest.raises(SwathError, match="without spaces"):
        systemd_unit(load_machine(path, fill_in=False), command=["/opt/my robot/swath"])
