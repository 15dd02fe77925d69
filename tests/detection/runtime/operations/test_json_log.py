from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from detection.runtime.errors import OutputError, SourceError
from detection.runtime.events import CameraStatus, Event
from detection.runtime.operations import json_log as module
from detection.runtime.operations.json_log import json_log
from detection.runtime.operations.redaction import Redaction


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_messages_and_events_are_json_lines_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "swath.jsonl"
    runtime = logging.getLogger("detection.runtime.cameras.live")
    with json_log(path, Redaction(["hunter2"])) as log:
        runtime.info("ready\nin two lines, ü")
        runtime.debug("not this")
        logging.getLogger("paho.mqtt").warning("rtsp://a:geheim@b/c?token=x with hunter2")
        logging.getLogger("paho.mqtt").info("not this")
        log(Event("camera", "front", CameraStatus.LOST, "rtsp://farm:geheim@cam/x does not answer hunter2"))
        log(Event("model", "weeds.onnx", "swapped"))
    runtime.warning("after the end")
    text = path.read_text(encoding="utf-8")
    assert "geheim" not in text and "hunter2" not in text
    first, foreign, lost, swapped = lines(path)
    assert (first["level"], first["message"]) == ("info", "ready\nin two lines, ü")
    assert first["logger"] == "detection.runtime.cameras.live" and first["time"].endswith("+00:00")
    assert (foreign["level"], foreign["logger"]) == ("warning", "paho.mqtt")
    assert (lost["level"], lost["camera"]) == ("warning", "front")
    assert lost["event"]["status"] == "lost" and "does not answer" in lost["event"]["message"]
    assert (
        swapped["level"] == "info" and swapped["message"] == "model weeds.onnx: swapped" and "camera" not in swapped
    )


def test_each_message_stands_there_once_whoever_else_listens(tmp_path: Path) -> None:
    runtime = logging.getLogger("detection.runtime")
    path = tmp_path / "log.jsonl"
    with json_log(path, Redaction()):
        for propagates in (True, False):  # `swath stream` switches it off while its bar is shown
            runtime.propagate = propagates
            logging.getLogger("detection.runtime.x").warning("once")
        runtime.propagate = True
    assert [line["message"] for line in lines(path)] == ["once", "once"]


def test_what_ends_the_run_is_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with pytest.raises(SourceError), json_log(path, Redaction()):
        raise SourceError("rtsp://a:geheim@cam/front: gone")
    (line,) = lines(path)
    assert line["level"] == "critical" and line["message"] == "rtsp://***@cam/front: gone"
    assert "SourceError" in line["exception"] and "geheim" not in line["exception"]


def test_to_the_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with json_log("-", Redaction()) as log:
        log(Event("machine", "sprayer", "started"))
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["event"]["subject"] == "sprayer"


def test_lines_of_many_threads_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with json_log(path, Redaction()) as log:

        def talk(number: int) -> None:
            for i in range(100):
                log(Event("camera", f"cam{number}", "live", "x" * i))

        threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(lines(path)) == 800


def test_a_file_is_begun_anew_before_it_grows_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FILE_BYTES", 10_000)
    path = tmp_path / "log.jsonl"
    with json_log(path, Redaction()) as log:
        for _ in range(500):
            log(Event("camera", "front", "live", "x" * 100))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 5 and all(file.stat().st_size <= 10_000 for file in files)
    assert all(lines(file) for file in files)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"), json_log(tmp_path / "file" / "log", Redaction()):
        pass


FULL = """
import logging, sys
from detection.runtime.operations.json_log import json_log
from detection.runtime.operations.redaction import Redaction
with json_log("/dev/full", Redaction()):
    for _ in range(20):
        logging.getLogger("detection.runtime").warning("x" * int(sys.argv[1]))
print("went on")
"""


@pytest.mark.skipif(not Path("/dev/full").exists() or shutil.which("env") is None, reason="needs /dev/full")
@pytest.mark.parametrize("length", [9000, 9])  # of a message: more and less than the file's buffer
def test_a_full_disk_loses_lines_and_stops_nothing(length: int) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(length)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "went on\n", done.stderr
    assert done.stderr.count("cannot be written; its lines are lost") == 1 and "Traceback" not in done.stderr
