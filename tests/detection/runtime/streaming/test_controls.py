"""What is changed while a stream runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detection.runtime.cameras.sources import open_source
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.outputs.contract import Record
from detection.runtime.streaming.controls import Controls
from detection.runtime.streaming.pipeline import run_stream
from tests.detection.runtime.streaming.scripted import Kept, Scripted


def test_the_model_is_changed_between_two_images(tiny: Any, tmp_path: Path) -> None:
    """Images that were prepared for the old one still go to the old one: the sizes differ."""
    small = Detector(tiny.write(tmp_path / "a.onnx"), threads=1)
    large = Detector(tiny.write(tmp_path / "b.onnx", tiny.metadata(input_size_hw=(128, 192))), threads=1)
    controls, kept = Controls(small), Kept()

    class Changing(Scripted):
        live = False

        def poll(self, timeout_s: float) -> Frame | None:
            if len(self.script) == 5:
                controls.replace(large)
            return super().poll(timeout_s)

    summary = run_stream(controls, [Changing("a", list(range(10)))], [kept])
    assert summary.frames == 10 and controls.detector is large


def test_thresholds_are_changed_while_it_runs(detector: Detector, video_path: Path, model_path: Path) -> None:
    controls, kept = Controls(Detector(model_path, threads=1)), Kept()

    def on_progress(frame: Frame, detections: Detections, record: Record) -> None:
        if frame.index == 10:
            controls.set_score_thresholds(1.0)

    with open_source(video_path) as source:
        run_stream(controls, [source], [kept], on_progress=on_progress)
    assert len(kept.records[5]["detections"]) == 1
    assert kept.records[29]["detections"] == []
    with pytest.raises(ValueError, match="from 0 to 1"):
        controls.set_score_thresholds(1.5)
