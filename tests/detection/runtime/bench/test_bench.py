from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.runtime.bench import bench
from detection.runtime.bench.bench import MeasureOptions, measure
from detection.runtime.bench.cold_start import ColdStart, cold_start
from detection.runtime.bench.contestant import Contestant, contestants, percentile_ms, summary_ms
from detection.runtime.bench.energy import EnergyMeter
from detection.runtime.bench.images import Recording, synthetic_images
from detection.runtime.detector import Detector
from detection.runtime.errors import DeviceError, ModelFileError, SourceError


def test_percentiles_of_known_samples() -> None:
    hundred = [float(value) for value in np.random.default_rng(0).permutation(100) + 1]
    assert summary_ms(hundred) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert summary_ms([3.0]) == {"p50": 3, "p95": 3, "p99": 3, "max": 3}
    assert summary_ms([1.0, math.nan, 2.0]) == {"p50": 1, "p95": 2, "p99": 2, "max": 2}
    assert summary_ms([]) == summary_ms([math.nan]) == {}
    assert math.isnan(percentile_ms([], 50))


@given(st.lists(st.floats(0.001, 1e6), min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_the_smallest_sample_that_so_many_do_not_exceed(samples: list[float], percent: float) -> None:
    value = percentile_ms(samples, percent)
    assert value in samples
    assert sum(s <= value for s in samples) >= len(samples) * percent / 100 - 1e-6
    below = [s for s in samples if s < value]
    assert len(below) < len(samples) * percent / 100 + 1e-6


def known(detector: Detector, call: list[float], bare: list[float]) -> Contestant:
    one = Contestant(Path("m.onnx"), None, None, detector)
    one.samples_ms["call"], one.samples_ms["bare"] = call, bare
    return one


def test_ratios_are_medians_over_turns_not_ratios_of_medians(detector: Detector) -> None:
    # A machine that is ten times slower in one of three turns changes neither ratio.
    first = known(detector, [11.0, 110.0, 11.0], [10.0, 100.0, 10.0])
    second = known(detector, [22.0, 220.0, 22.0], [10.0, 100.0, 10.0])
    assert first.overhead_percent == pytest.approx(10)
    assert second.ratio_to(first) == pytest.approx(2)
    assert first.images_per_s == pytest.approx(3 / 0.132)
    first.batches_ms = {1: [10.0, 30.0, 20.0], 4: [50.0], 8: []}
    assert first.throughput() == {1: pytest.approx(50), 4: pytest.approx(80)}


def test_the_bare_run_gives_what_infer_gives(detector: Detector, make_image: Any) -> None:
    pixels = detector.prepare(make_image(box=(4, 8, 40, 24))).pixels[None]
    boxes, scores, labels = detector.bare_run(pixels)
    raw = detector.infer(pixels)
    for ours, bare in ((raw.boxes, boxes), (raw.scores, scores), (raw.labels, labels)):
        np.testing.assert_array_equal(ours, bare)
    assert raw.labels[0, 0] == 0


def test_every_stage_of_every_contestant_in_every_turn(model_path: Path, tiny: Any, tmp_path: Path) -> None:
    small = tiny.write(tmp_path / "small.onnx", tiny.metadata(input_size_hw=(32, 48), max_batch=2))
    seen: list[tuple[str, int, int]] = []
    entered = contestants([model_path, small], threads=[1, 2])
    assert [(one.model, one.threads, one.provider) for one in entered] == [
        (model_path, 1, None), (model_path, 2, None), (small, 1, None), (small, 2, None),
    ]  # fmt: skip
    measured = measure(
        entered, options=MeasureOptions(runs=13, cold_starts=0), progress=lambda *said: seen.append(said)
    )
    assert measured.ended_by == "runs"
    for one in entered:
        assert one.runs == 13
        for stage in ("letterbox", "infer", "finish", "call", "bare"):
            assert len(one.samples_ms[stage]) == 13 and min(one.samples_ms[stage]) > 0
        assert all(map(math.isnan, one.samples_ms["decode"] + one.samples_ms["age"]))
        assert {size: len(taken) for size, taken in one.batches_ms.items()} == dict.fromkeys(
            (1, 2) if one.model == small else (1, 2, 4, 8), 3
        )
        # a call holds its three stages, and cannot be below the quickest of its bare runs
        assert min(one.samples_ms["call"]) > 0.5 * min(one.samples_ms["bare"])
    assert [said for said in seen if said[0] == "rounds"] == [("rounds", turn, 13) for turn in range(13)]


def test_joules_of_every_call(model_path: Path, tmp_path: Path) -> None:
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    for file, content in (("name", "package-0"), ("energy_uj", "5"), ("max_energy_range_uj", "100")):
        (package / file).write_text(content)
    (one,) = measure(
        contestants([model_path]), options=MeasureOptions(runs=4, cold_starts=0), energy=EnergyMeter(tmp_path)
    ).contestants
    assert one.joules == [0.0] * 4  # a counter that stands still


def test_a_video_is_decoded_in_the_loop_and_begins_again(model_path: Path, tmp_path: Path, make_video: Any) -> None:
    with Recording(str(make_video(tmp_path / "drive.mp4", 5))) as recording:
        (one,) = measure(
            contestants([model_path]), recording=recording, options=MeasureOptions(runs=12, cold_starts=0)
        ).contestants
    assert (recording.name, recording.sizes_hw) == ("drive", {(64, 96)})
    ahead = [turn for turn, value in enumerate(one.samples_ms["decode"]) if math.isnan(value)]
    assert ahead == [0, 5, 10]  # a video's opening decodes its first image
    for decode, call, age in zip(*(one.samples_ms[stage] for stage in ("decode", "call", "age")), strict=True):
        assert math.isnan(decode) == math.isnan(age)
        assert math.isnan(age) or age == pytest.approx(decode + call)


def test_images_of_a_folder(tmp_path: Path) -> None:
    for number, size in enumerate([(20, 30), (40, 30)]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((*size, 3), number, np.uint8))
    with Recording(str(tmp_path)) as recording:
        came = [recording.next() for _ in range(5)]
    assert [int(image[0, 0, 0]) for image, _ in came] == [0, 1, 0, 1, 0]
    assert all(took is not None and took > 0 for _, took in came)
    assert recording.sizes_hw == {(20, 30), (40, 30)}


def test_recordings_that_are_none(tmp_path: Path, camera_server: Any) -> None:
    with pytest.raises(SourceError, match="there is no such video"):
        Recording(str(tmp_path / "none.mp4"))
    with pytest.raises(SourceError, match="a live camera, whose frame rate would limit"):
        Recording(f"http://farm:secret@{camera_server.address}/cam")


def test_time_that_is_up_ends_it_after_one_turn(model_path: Path) -> None:
    measured = measure(contestants([model_path]), options=MeasureOptions(runs=10**6, seconds=0, cold_starts=0))
    assert measured.ended_by == "seconds" and measured.contestants[0].runs == 1
    assert set(measured.contestants[0].throughput()) == {1, 2, 4, 8}


@pytest.mark.parametrize("at", [("rounds", 0), ("rounds", 4), ("batches", 1), ("cold starts", 0), ("warm-up", 0)])
def test_what_was_measured_until_it_was_stopped_stays(model_path: Path, at: tuple[str, int]) -> None:
    stop = threading.Event()

    def told(what: str, done: int, total: int) -> None:
        if (what, done) == at:
            stop.set()

    measured = measure(
        contestants([model_path]), options=MeasureOptions(runs=20, cold_starts=1), stop=stop, progress=told
    )
    (one,) = measured.contestants
    assert measured.ended_by == "user"
    assert one.runs == {"rounds": at[1], "batches": 20}.get(at[0], 0)
    assert len({len(samples) for samples in one.samples_ms.values()}) == 1  # no turn is kept in part
    assert len(one.cold) == (at[0] != "cold starts")


def test_the_synthetic_images_are_always_the_same_and_not_alike() -> None:
    images = synthetic_images((48, 80))
    assert [p.shape for p in images] == [(48, 80, 3)] * 4 and {p.dtype for p in images} == {np.dtype(np.uint8)}
    for one, again in zip(images, synthetic_images((48, 80)), strict=True):
        np.testing.assert_array_equal(one, again)
    spread = [int(p.std()) for p in images]
    assert spread[0] > 60 and spread[1] > 40 and spread[2] > 5 and spread[3] == 0
    assert len(synthetic_images((1, 1))) == 4


def test_a_start_in_a_process_of_its_own(model_path: Path) -> None:
    start = cold_start(model_path, "cpu", 1)
    assert isinstance(start, ColdStart)
    parts = (start.interpreter_s, start.imports_s, start.load_s, start.first_run_s)
    assert all(0 < part < 60 for part in parts)
    assert start.total_s == pytest.approx(sum(parts))
    if Path("/proc/self/status").exists():
        assert start.loaded_mb is not None and start.working_mb is not None and start.peak_mb is not None
        assert 20 < start.loaded_mb <= start.peak_mb < 2000
        assert start.working_mb <= start.peak_mb


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    said = cold_start(tmp_path / "none.onnx")
    assert isinstance(said, str) and "none.onnx: there is no such model file" in said


def test_memory_grows_by_what_is_taken() -> None:
    # In a process of its own: one that has trained before keeps memory, and takes this from it.
    code = """
import json, numpy as np
from detection.runtime.bench.cold_start import memory_mb
before = memory_mb()
taken = np.ones(200_000_000, np.uint8)
print(json.dumps([before, memory_mb()]))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    (before, most_before), (after, most_after) = json.loads(answer)
    if before is not None and after is not None:
        assert 150 < after - before < 250
    assert most_before is None or most_after >= most_before


def test_files_and_providers_that_cannot_be_opened(model_path: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match="broken.onnx: not a readable .onnx"):
        contestants([model_path, broken])
    with pytest.raises(DeviceError, match="provider 'warp' is not in this onnxruntime"):
        contestants([model_path], ["cpu", "warp"])


def test_batches_are_those_of_the_design() -> None:
    assert bench.BATCHES == (1, 2, 4, 8)
