from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from detection.cli.bench import bench
from detection.runtime.bench.safe_speed import Sprayer, highest_safe_speed
from detection.runtime.errors import ModelFileError, OutputError, SourceError, SwathError

RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from detection.cli.app import main
main(["bench", *sys.argv[1:]])
"""
STAGES = {"decode", "letterbox", "infer", "finish", "call", "bare", "age"}


def run(*models: Path, **changes: Any) -> None:
    bench(list(models), **{"runs": 8, "cold_starts": 1, **changes})


def test_one_model(model_path: Path, video_path: Path, tmp_path: Path, capfd: Any) -> None:
    out = tmp_path / "new" / "b.json"
    sprayer = Sprayer(ahead_m=0.5, pulse_m=0.2, valve_ms=20)
    run(model_path, source=str(video_path), json_=out, camera_ahead_m=0.5, pulse_m=0.2, valve_ms=20)
    shown, said = capfd.readouterr()
    assert said == ""
    for wanted in ("decode", "letterbox", "whole call", "bare run (the limit)", "p99", "km/h", "MB loaded", "8 runs"):
        assert wanted in shown
    assert os.listdir(out.parent) == ["b.json"]
    told = json.loads(out.read_text())
    assert set(told) == {"schema", "swath", "machine", "images", "ended_by", "sprayer", "contestants"}
    assert (told["schema"], told["ended_by"]) == (1, "runs")
    assert told["images"] == {"source": "field", "sizes_hw": [[64, 96]]}
    assert told["sprayer"]["ahead_m"] == 0.5
    (one,) = told["contestants"]
    assert set(one) == {
        "model", "preset", "precision", "input_size_hw", "provider", "threads", "runs_on", "runs", "latency_ms",
        "overhead_percent", "ratio_to_first", "images_per_s", "images_per_s_by_batch", "cold_start", "energy",
        "safe_speed",
    }  # fmt: skip
    assert set(one["latency_ms"]) == STAGES
    for stage in STAGES:
        values = one["latency_ms"][stage]
        assert 0 < values["p50"] <= values["p95"] <= values["p99"] <= values["max"]
    assert (one["model"], one["precision"], one["provider"], one["runs"]) == (str(model_path), "fp32", "cpu", 8)
    assert set(one["images_per_s_by_batch"]) == {"1", "2", "4", "8"}
    assert one["ratio_to_first"] == 1
    start = one["cold_start"]["median"]
    assert start["total_s"] == pytest.approx(
        start["interpreter_s"] + start["imports_s"] + start["load_s"] + start["first_run_s"], abs=1e-3
    )
    assert len(one["cold_start"]["totals_s"]) == 1
    # by the p99 of decoding and call together
    speed = highest_safe_speed(one["latency_ms"]["age"]["p99"], sprayer)
    assert one["safe_speed"]["kmh"] == pytest.approx(speed.kmh, rel=1e-3)
    assert f"{speed.kmh:.1f} km/h" in shown


def test_several_side_by_side(model_path: Path, tiny: Any, tmp_path: Path, capfd: Any) -> None:
    other = tiny.write(tmp_path / "other.onnx", tiny.metadata(precision="int8", input_size_hw=(32, 48), max_batch=2))
    out = tmp_path / "b.json"
    run(model_path, other, provider=["cpu"], threads=[1, 2], json_=out)
    shown = capfd.readouterr().out
    assert "1 tiny" in shown and "4 other" in shown and "int8, 48 x 32" in shown and "cpu, 2 threads" in shown
    assert "synthetic, the same each time (48 x 32, 96 x 64)" in shown.replace("\n", " ")
    told = json.loads(out.read_text())["contestants"]
    assert [(one["precision"], one["threads"]) for one in told] == [
        ("fp32", 1),
        ("fp32", 2),
        ("int8", 1),
        ("int8", 2),
    ]
    assert told[0]["ratio_to_first"] == 1 and told[2]["ratio_to_first"] > 0
    assert told[0]["latency_ms"]["decode"] is None


def test_without_cold_starts_memory_is_said_to_be_unknown(model_path: Path, tmp_path: Path, capfd: Any) -> None:
    run(model_path, cold_starts=0, json_=tmp_path / "b.json")
    assert "not measured" in capfd.readouterr().out
    (one,) = json.loads((tmp_path / "b.json").read_text())["contestants"]
    assert one["cold_start"] == {"median": None, "totals_s": [], "reason": None}


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_the_terminal(model_path: Path, columns: int, capfd: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    run(model_path, cold_starts=0)
    run(model_path, threads=[1, 2], cold_starts=0)
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) > 30 and max(map(len, lines)) <= columns
    assert "…" not in "".join(lines)  # nothing was cut off


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"model": "none.onnx"}, ModelFileError, "none.onnx: there is no such model file"),
        ({"model": "BROKEN"}, ModelFileError, "broken.onnx: not a readable .onnx model"),
        ({"source": "none.mp4"}, SourceError, "none.mp4: there is no such video"),
        ({"json_": "MODEL"}, OutputError, "is read too, and would be replaced"),
        ({"json_": "FOLDER"}, OutputError, "is a folder; name a file in it"),
        ({"json_": "BROKEN/b.json"}, OutputError, "cannot be written"),
    ],
)
def test_what_cannot_start_is_one_line_and_writes_nothing(
    model_path: Path, tmp_path: Path, change: dict[str, str], error: type[SwathError], said: str
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    names = {"BROKEN": broken, "MODEL": model_path, "FOLDER": tmp_path, "BROKEN/b.json": broken / "b.json"}
    given: dict[str, Any] = {"json_": tmp_path / "b.json", **{k: names.get(v, v) for k, v in change.items()}}
    given["json_"] = Path(given["json_"])
    model = Path(given.pop("model", model_path))
    before = model_path.read_bytes()
    with pytest.raises(error, match=said) as raised:
        run(model, **given)
    assert "\n" not in str(raised.value)
    assert os.listdir(tmp_path) == ["broken.onnx"] and model_path.read_bytes() == before


def interrupted_when(shown: str, *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and the last line on a terminal, of Ctrl-C once `shown`, a pattern, stands there."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    said = ""
    with contextlib.suppress(OSError):  # the terminal ends with its process
        while not re.search(shown, said):
            said += os.read(ours, 4096).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        while chunk := os.read(ours, 4096):
            said += chunk.decode(errors="replace")
    os.close(ours)
    table = process.communicate(timeout=60)[0]
    return process.returncode, table, said.splitlines()[-1]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals and terminals")
def test_ctrl_c_shows_what_was_measured_so_far(model_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.json"
    arguments = (model_path, "--runs", 10**6, "--cold-starts", 0, "--json", out)
    code, table, _ = interrupted_when(r"[1-9][0-9]*/1000000", *arguments)
    assert code == 0
    told = json.loads(out.read_text())
    assert told["ended_by"] == "user"
    runs = told["contestants"][0]["runs"]
    assert 1 <= runs < 10**6 and f"{runs:,} run" in table and ", then stopped" in table


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals and terminals")
def test_ctrl_c_before_anything_was_measured(model_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.json"
    code, table, last = interrupted_when("cold starts", model_path, "--cold-starts", 100, "--json", out)
    assert (code, table) == (130, "") and last.endswith("swath: interrupted")
    assert not list(tmp_path.iterdir())
