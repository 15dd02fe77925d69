from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from detection.runtime.detector import Detector
from detection.runtime.events import Event
from detection.runtime.operations.machine import MachineModel
from detection.runtime.operations.model_watcher import ModelWatcher, reloads_on_hangup
from detection.runtime.signing import sign
from detection.runtime.streaming.controls import Controls
from tests.detection.runtime import tiny_model

PASSED = {**tiny_model.PASSED, "schema": 1}  # of an early export


def eventually(true: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Bench:
    """A model at a path, a running detector of it, and what the watcher said."""

    def __init__(self, tiny: Any, folder: Path) -> None:
        self.tiny = tiny
        self.path = folder / "weeds.onnx"
        self.put()
        self.old = Detector(self.path, threads=1)
        self.controls = Controls(self.old)
        self.events: list[Event] = []

    def put(self, text: str | None = None, **changes: Any) -> None:
        """Put a model there as a careful program does: written beside, then renamed."""
        draft = self.path.with_suffix(".draft")
        self.tiny.write(draft, self.tiny.metadata(**{"parity": PASSED, **changes}), text=text)
        draft.replace(self.path)

    def watch(self, **settings: Any) -> ModelWatcher:
        model = MachineModel.model_validate({"path": self.path, "threads": 1, **settings})
        return ModelWatcher(self.controls, model, self.events.append)

    def last(self, number: int) -> Event:
        eventually(lambda: len(self.events) >= number)
        return self.events[number - 1]


@pytest.fixture
def bench(tiny: Any, tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tiny, tmp_path)


def test_a_new_file_is_taken_and_its_thresholds_with_it(bench: Bench) -> None:
    with bench.watch() as watcher:
        time.sleep(2.5)
        assert bench.events == []  # nothing changed: nothing is loaded
        bench.put(score_thresholds=(0.3, 0.4), preset="newer")
        event = bench.last(1)
        assert (event.kind, event.status, event.subject) == ("model", "swapped", str(bench.path))
        assert "newer" in event.message and "weed 0.30, crop 0.40" in event.message
        assert bench.controls.detector is not bench.old
        assert bench.controls.score_thresholds == pytest.approx((0.3, 0.4))
        bench.put(score_thresholds=(0.5, 0.5))
        assert bench.last(2).status == "swapped" and watcher.swaps == 2
    assert not [e for e in bench.events if e.status != "swapped"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"parity": {}}, "carries no parity report"),
        ({"parity": {**PASSED, "unmatched_boxes": 3}}, "3 boxes differ from PyTorch's"),
        ({"parity": {**PASSED, "malformed_outputs": 1}}, "malformed"),
        ({"parity": {**PASSED, "delta_ap_points": 0.3}}, "AP is off by 0.30 points"),
        ({"parity": {**PASSED, "precision": "int8"}}, "parity report is of int8, the file of fp32"),
        ({"parity": {**PASSED, "images": 0}}, "compared on no image"),
        ({"parity": {"precision": "fp32"}}, "not one of swath export"),
        ({"parity": {**PASSED, "precision": "int8", "agreement": 0.5}, "precision": "int8"}, "50.0% of the boxes"),
        ({"class_names": ("thistle", "crop")}, "detects thistle, crop; the running model detects weed, crop"),
        ({"class_names": ("crop", "weed")}, "detects crop, weed"),  # the same ones, swapped: spray would hit the crop
        ({"text": "{}"}, "metadata is damaged"),
        ({"schema_version": 99}, "newer"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_the_old_one_goes_on(
    bench: Bench, changes: dict[str, Any], why: str
) -> None:
    with bench.watch(watch=False) as watcher:
        bench.put(**changes)
        watcher.reload()
        event = bench.last(1)
        assert event.status == "refused" and why in event.message and "\n" not in event.message
        assert bench.controls.detector is bench.old and watcher.refusals == 1


def test_a_broken_or_missing_file_is_refused(bench: Bench) -> None:
    with bench.watch(watch=False) as watcher:
        whole = bench.path.read_bytes()
        for number, content in enumerate((b"", b"not a model", whole[: len(whole) // 2], None), start=1):
            if content is None:
                bench.path.unlink()
            else:
                bench.path.write_bytes(content)
            watcher.reload()
            assert bench.last(number).status == "refused"
        assert bench.controls.detector is bench.old
        bench.put(preset="mended")
        watcher.reload()
        assert bench.last(5).status == "swapped"


def test_the_report_beside_the_file_must_be_its_own(bench: Bench) -> None:
    beside = bench.path.with_suffix(".parity.json")
    with bench.watch(watch=False) as watcher:
        beside.write_text(json.dumps({**PASSED, "images": 41}))
        watcher.reload()
        assert "of another model" in bench.last(1).message
        beside.write_text("{")
        watcher.reload()
        assert "cannot be read" in bench.last(2).message
        beside.write_text(json.dumps(PASSED, indent=2))
        watcher.reload()
        assert bench.last(3).status == "swapped"


def test_a_damaged_file_or_one_without_answers_is_refused(bench: Bench) -> None:
    with bench.watch(watch=False, unverified=True) as watcher:
        content = bytearray(bench.path.read_bytes())
        place = content.index(b"[0.7,0.9]")
        content[place + 3 : place + 4] = b"1"
        bench.path.write_bytes(content)
        watcher.reload()
        assert "damaged or changed" in bench.last(1).message
        bench.tiny.write(
            bench.path, bench.tiny.metadata(parity=PASSED, score_thresholds=(0.7, 0.8)), faulty=float("nan")
        )
        watcher.reload()
        assert "its outputs are malformed here" in bench.last(2).message and "not finite" in bench.last(2).message
        assert bench.controls.detector is bench.old and watcher.refusals == 2


def test_an_unsigned_file_is_refused_where_a_signature_is_required(bench: Bench, tmp_path: Path) -> None:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    from tests.detection.runtime.test_signing import write_keys

    private, public = write_keys(tmp_path, "ours", ed25519.Ed25519PrivateKey.generate())
    with bench.watch(watch=False, require_signed=public) as watcher:
        watcher.reload()
        assert "is not signed" in bench.last(1).message
        sign(bench.path, private)
        watcher.reload()
        assert bench.last(2).status == "swapped"


def test_what_is_allowed_is_allowed(bench: Bench) -> None:
    with bench.watch(watch=False, other_classes=True, unverified=True) as watcher:
        bench.put(parity={}, class_names=("thistle", "crop"))
        watcher.reload()
        assert bench.last(1).status == "swapped"
        assert bench.controls.detector.class_names == ("thistle", "crop")


def test_a_machines_own_thresholds_are_kept_or_the_file_refused(bench: Bench) -> None:
    given = {"weed": 0.2, "crop": 0.3}
    with bench.watch(watch=False, other_classes=True, score_thresholds=given) as watcher:
        watcher.reload()
        assert bench.last(1).status == "swapped"
        assert bench.controls.score_thresholds == pytest.approx((0.2, 0.3))
        bench.put(class_names=("a", "b"))
        watcher.reload()
        assert "does not detect crop, weed" in bench.last(2).message


def test_a_slow_copy_is_not_read_half_way(bench: Bench) -> None:
    whole = bench.path.read_bytes()
    with bench.watch():
        with bench.path.open("wb") as file:
            for start in range(0, len(whole), len(whole) // 12):
                file.write(whole[start : start + len(whole) // 12])
                file.flush()
                time.sleep(0.2)
        assert bench.last(1).status == "swapped"
    assert [event.status for event in bench.events] == ["swapped"]


def test_the_report_copied_after_the_model_heals_a_refusal(bench: Bench) -> None:
    beside = bench.path.with_suffix(".parity.json")
    beside.write_text(json.dumps({**PASSED, "boxes": 1}))
    with bench.watch():
        bench.put(preset="newer")
        assert bench.last(1).status == "refused"
        beside.write_text(json.dumps(PASSED))
        assert bench.last(2).status == "swapped"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="POSIX signals")
def test_sighup_asks(bench: Bench) -> None:
    before = signal.getsignal(signal.SIGHUP)
    with bench.watch(watch=False) as watcher:
        with reloads_on_hangup(watcher):
            os.kill(os.getpid(), signal.SIGHUP)
            assert bench.last(1).status == "swapped"
    assert signal.getsignal(signal.SIGHUP) == before


SWAPS = """
import gc, json, os, sys, time, threading
from pathlib import Path
import numpy as np
from detection.runtime.detector import Detector
from detection.runtime.operations.machine import MachineModel
from detection.runtime.operations.model_watcher import ModelWatcher
from detection.runtime.streaming.controls import Controls
from tests.detection.runtime import tiny_model

def level():
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["Threads"]), len(os.listdir("/proc/self/fd")), int(status["VmRSS"].split()[0])

path = Path(sys.argv[1])
controls = Controls(Detector(path, threads=2))
image = np.zeros((64, 96, 3), np.uint8)
image[8:20, 10:30, 2] = 255
levels, answers = [], 0
with ModelWatcher(controls, MachineModel(path=path, watch=False, threads=2)) as watcher:
    for swap in range(1, 26):
        watcher.reload()
        while watcher.swaps < swap:  # the stream goes on meanwhile, and is right all the time
            found = controls.detector(image)
            assert found.boxes_xyxy.tolist() == [[10, 8, 30, 20]] and found.labels.tolist() == [0]
            answers += 1
            time.sleep(0.001)
            assert not watcher.refusals
        levels.append(level())
print(json.dumps({"levels": levels, "answers": answers}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_twenty_swaps_leave_nothing_behind(bench: Bench) -> None:
    command = [sys.executable, "-c", SWAPS, str(bench.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["answers"] > 25
    warm, last = told["levels"][4], told["levels"][-1]  # 20 swaps between them
    assert last[0] <= warm[0] and last[1] <= warm[1]  # threads, descriptors
    assert last[2] - warm[2] < 4096  # kB


def test_copying_over_a_running_model_does_not_hurt_it(bench: Bench, make_image: Any) -> None:
    """The running graph is in memory: what happens to its file does not matter."""
    image = make_image(box=(10, 10, 30, 30))
    before = bench.old(image)
    shutil.copyfile(os.devnull, bench.path)
    assert bench.old(image).boxes_xyxy.tolist() == before.boxes_xyxy.tolist() and len(before) == 1
