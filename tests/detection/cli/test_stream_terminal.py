from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from detection.cli.stream_terminal import _View, run_in_terminal
from detection.runtime.cameras.sources import camera_name, open_sources
from detection.runtime.errors import DeviceError, ModelFileError, OutputError, SourceError, SwathError
from detection.runtime.events import Event
from detection.runtime.operations.machine import Machine
from detection.runtime.operations.redaction import Redaction

RUN = "from swath.__main__ import main; main()"


def stream(
    model: Path,
    sources: list[str],
    *,
    outputs: dict[str, Any] | None = None,
    max_frames: int | None = None,
    summary: Path | None = None,
    **model_settings: Any,
) -> int:
    machine = Machine.model_validate(
        {
            "model": {"path": model, **model_settings},
            "cameras": [{"name": Path(source).stem, "source": source} for source in sources],
            "outputs": outputs or {},
        }
    )
    return run_in_terminal(machine, max_frames=max_frames, summary=summary)


def _arguments(model: Path, source: str, out: Path) -> list[str]:
    return ["stream", str(model), source, "--jsonl", str(out / "d.jsonl"), "--video", str(out / "d.mp4")]


def _count(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened()
    frames = 0
    while capture.read()[0]:
        frames += 1
    capture.release()
    return frames


def _lines(path: Path) -> list[dict[str, Any]]:
    content = path.read_text()
    assert content.endswith("\n")
    return [json.loads(line) for line in content.splitlines()]


def test_all_outputs(model_path: Path, video_path: Path, tmp_path: Path, capfd: Any) -> None:
    out = tmp_path / "out"
    code = stream(
        model_path,
        [str(video_path)],
        outputs={"jsonl": out / "d.jsonl", "video": out / "d.mp4"},
        summary=out / "s.json",
    )
    assert code == 0
    assert [line["frame"] for line in _lines(out / "d.jsonl")] == list(range(30))
    assert _count(out / "d.mp4") == 30
    summary = json.loads((out / "s.json").read_text())
    assert (summary["frames"], summary["detections"], summary["failures"]) == (30, 30, [])
    assert set(summary["latency_ms"]["infer"]) == {"p50", "p95", "p99", "max"}
    stdout, stderr = capfd.readouterr()
    assert stdout == "" and "p99" in stderr and "30 frames" in stderr
    assert sorted(os.listdir(out)) == ["d.jsonl", "d.mp4", "s.json"]


def test_several_sources_one_video_each(model_path: Path, tmp_path: Path, make_video: Any) -> None:
    left, right = make_video(tmp_path / "left.mp4", 4), make_video(tmp_path / "right.mp4", 7)
    code = stream(
        model_path, [str(left), str(right)], outputs={"jsonl": tmp_path / "d.jsonl", "video": tmp_path / "seen.mp4"}
    )
    assert code == 0 and len(_lines(tmp_path / "d.jsonl")) == 11
    assert (_count(tmp_path / "seen-left.mp4"), _count(tmp_path / "seen-right.mp4")) == (4, 7)
    assert not (tmp_path / "seen.mp4").exists()


def test_score_overrides_the_thresholds(model_path: Path, tmp_path: Path) -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    image[8:16, 8:16, 2] = 160  # a weed at 0.63, below its threshold of 0.7
    cv2.imwrite(str(tmp_path / "a.png"), image)
    for score, count in ((None, 0), (0.5, 1)):
        stream(model_path, [str(tmp_path / "a.png")], outputs={"jsonl": tmp_path / "d.jsonl"}, score=score)
        assert [len(line["detections"]) for line in _lines(tmp_path / "d.jsonl")] == [count]


def test_images_with_a_broken_one(model_path: Path, tmp_path: Path, capfd: Any) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (folder / "b.png").write_bytes(b"broken")
    assert stream(model_path, [str(folder)], max_frames=None, threads=1) == 0
    (warning,) = [line for line in capfd.readouterr().err.splitlines() if "warning" in line]
    assert str(folder / "b.png") in warning


def test_camera_that_is_lost_is_opened_again_and_said(
    model_path: Path, tmp_path: Path, camera_server: Any, capfd: Any
) -> None:
    camera_server.frames = 5  # then it hangs up
    url = f"http://farm:secret@{camera_server.address}/cam"
    outputs = {"jsonl": tmp_path / "d.jsonl", "events": tmp_path / "e.jsonl"}
    assert stream(model_path, [url], outputs=outputs, max_frames=8) == 0
    indices = [line["frame"] for line in _lines(tmp_path / "d.jsonl")]
    assert len(indices) == 8 and indices == sorted(set(indices))
    stderr = capfd.readouterr().err
    assert "warning: camera" in stderr and "lost" in stderr and "secret" not in stderr
    events = (tmp_path / "e.jsonl").read_text()
    assert '"lost"' in events and "secret" not in events + (tmp_path / "d.jsonl").read_text()


@pytest.mark.parametrize(
    "address",
    [
        "http://farm:S3cretFarm@HOST/cam",
        "http://HOST/user=farm_password=S3cretFarm_channel=1_stream=0.sdp",
        "http://HOST/cam?user=farm@field&pwd=S3cretFarm",
        "http://HOST/cam#S3cretFarm",
    ],
)
def test_no_file_and_no_message_holds_a_password(
    model_path: Path, tmp_path: Path, camera_server: Any, address: str
) -> None:
    camera_server.frames = 5  # then it hangs up, and is opened again
    names = {"--jsonl": "d.jsonl", "--events": "e.jsonl", "--csv": "d.csv", "--log-json": "log.jsonl"}
    names |= {"--video": "v.mp4", "--mcap": "m.mcap", "--summary": "s.json", "--black-box": "box"}
    flags = [part for flag, name in names.items() for part in (flag, str(tmp_path / name))]
    flags += ["--mqtt", "mqtt://farm:S3cretFarm@127.0.0.1:9", "--dashboard-token", "S3cretFarm42", "--dashboard", "0"]
    url = address.replace("HOST", camera_server.address)
    command = [sys.executable, "-c", RUN, "stream", str(model_path), url, "--max-frames", "8", *flags]
    ended = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= len(names)
    for content in (ended.stdout, ended.stderr, *(path.read_bytes() for path in written)):
        assert b"S3cret" not in content
    assert b"dashboard: http://127.0.0.1" in ended.stderr  # not a terminal: without the token
    assert b'"lost"' in (tmp_path / "e.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "none.onnx"}, ModelFileError),
        ({"sources": ["VIDEO", "none.mp4"]}, SourceError),
        ({"provider": "warp"}, DeviceError),
        ({"video": "d.avi"}, OutputError),
    ],
)
def test_what_cannot_start_writes_nothing(
    model_path: Path, video_path: Path, tmp_path: Path, change: dict[str, Any], error: type[SwathError]
) -> None:
    out = tmp_path / "out"
    arguments: dict[str, Any] = {"model": model_path, "sources": ["VIDEO"], "video": "d.mp4", **change}
    sources = [str(video_path) if s == "VIDEO" else s for s in arguments.pop("sources")]
    video = out / arguments.pop("video")
    with pytest.raises(error) as raised:
        stream(
            Path(arguments.pop("model")),
            sources,
            outputs={"jsonl": out / "d.jsonl", "video": video},
            summary=out / "s.json",
            **arguments,
        )
    assert "\n" not in str(raised.value)
    assert not out.exists()


def test_never_overwrites_what_it_reads(model_path: Path, video_path: Path, tmp_path: Path) -> None:
    before = video_path.read_bytes()
    with pytest.raises(OutputError, match="would overwrite"):
        stream(model_path, [str(video_path)], outputs={"video": tmp_path / "." / "field.mp4"})
    with pytest.raises(OutputError, match="would overwrite"):
        stream(model_path, [str(video_path)], outputs={"jsonl": tmp_path / "x"}, summary=tmp_path / "x")
    assert video_path.read_bytes() == before
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(os.name == "nt", reason="file names of POSIX")
def test_names_of_files_do_not_reach_the_terminal_as_they_are(model_path: Path, tmp_path: Path, capfd: Any) -> None:
    folder = tmp_path / "a\x1b[2Jb\nc"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (folder / "\x1b]0;x\x07.png").write_bytes(b"broken")
    sources = [str(folder), str(tmp_path / "none\x1b[1m.mp4")]
    with pytest.raises(SourceError) as error:
        open_sources(sources)
    assert "\\x1b[1m" in str(error.value) and str(error.value).isprintable()
    name = camera_name(sources[0])
    machine = {"model": {"path": model_path}, "cameras": [{"name": name, "source": sources[0]}]}
    assert run_in_terminal(Machine.model_validate(machine)) == 0
    shown = capfd.readouterr().err
    assert "\\x1b]0;x" in shown and not {"\x1b", "\x07"} & set(shown)
    with pytest.raises(ValueError, match="no control characters"):
        Machine.model_validate({**machine, "cameras": [{"name": "a\x1bb", "source": "0"}]})
    assert Event("output", "webhook", "refused", "HTTP 500 \x1b[31m\r\nforged").message.isprintable()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_whole_files(
    model_path: Path, tmp_path: Path, camera_server: Any, number: signal.Signals
) -> None:
    url = f"http://{camera_server.address}/cam"
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *_arguments(model_path, url, tmp_path)], stderr=subprocess.PIPE, text=True
    )
    jsonl = tmp_path / "d.jsonl"
    deadline = time.monotonic() + 30
    while not (jsonl.exists() and jsonl.read_bytes().count(b"\n") >= 10) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    stderr = process.communicate(timeout=20)[1]
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr and "p99" in stderr
    lines = _lines(jsonl)
    # What waited for the video's encoder when the second was over is not in it, and said.
    missing = len(lines) - _count(tmp_path / "d.mp4")
    assert len(lines) >= 10 and 0 <= missing <= 8
    assert missing == 0 or f"{missing} by video" in stderr
    assert sorted(os.listdir(tmp_path)) == ["d.jsonl", "d.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_kill_leaves_whole_lines(model_path: Path, tmp_path: Path, camera_server: Any) -> None:
    camera_server.interval_s = 0.001
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *_arguments(model_path, f"http://{camera_server.address}/cam", tmp_path)],
        stderr=subprocess.DEVNULL,
    )
    jsonl = tmp_path / "d.jsonl"
    deadline = time.monotonic() + 30
    while not (jsonl.exists() and jsonl.read_bytes().count(b"\n") >= 50) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait(10)
    assert len(_lines(jsonl)) >= 50
    if (tmp_path / "d.mp4").exists():  # it had come to a first fragment
        assert _count(tmp_path / "d.mp4") >= 12


def test_import_is_quick_and_pulls_no_training_library() -> None:
    code = """
import sys, time
started = time.perf_counter()
import detection.runtime
quick_s = time.perf_counter() - started
import detection.cli.stream_terminal, detection.runtime.cameras.live
training = {"torch", "torchvision", "albumentations", "pycocotools", "onnx", "data", "timm"}
print(quick_s, sorted(training & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    quick, bad = answer.split(maxsplit=1)
    assert bad.strip() == "[]"
    assert float(quick) < 0.5


def test_public_names_resolve() -> None:
    import detection.runtime as runtime

    assert len(runtime.__all__) == 18
    for name in runtime.__all__:
        assert getattr(runtime, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = runtime.Nonsense


def test_a_token_that_was_made_up_is_for_this_user_alone_and_in_no_log(tmp_path: Path) -> None:
    videos, shown = tmp_path / "videos", io.StringIO()
    kept = videos / "dashboard-address.txt"

    def opened(**own: Any) -> _View:
        content = {"model": {"path": "m.onnx"}, "cameras": [{"name": "left", "source": "0"}]}
        dashboard = {"address": "0.0.0.0:0", "record_into": videos, **own}
        machine = Machine.model_validate({**content, "outputs": {"dashboard": dashboard}})
        view = _View(Console(file=shown, width=500), Redaction(), None, machine.outputs)
        view.opened([], {"dashboard": "http://robot:8080/?token=made-up-one"})
        return view

    with opened():
        assert kept.read_text() == "http://robot:8080/?token=made-up-one\n"
        assert kept.stat().st_mode & 0o777 == 0o600
    assert not kept.exists()
    with opened(token="chosen-by-hand"):
        assert not kept.exists()
    videos.rmdir()
    videos.touch()  # no folder can be made
    with opened():
        pass
    first, second, third = shown.getvalue().splitlines()
    assert f"http://robot:8080/ (the address with its token is in {kept}" in first
    assert "with its token, which is not written into logs" in second
    assert "its token is shown nowhere" in third and "set outputs.dashboard.token" in third
    assert "made-up-one" not in shown.getvalue()
