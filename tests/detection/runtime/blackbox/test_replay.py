from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer

from detection.cli.replay import replay
from detection.runtime.blackbox.black_box import BlackBox
from detection.runtime.blackbox.recorded_source import open_recording
from detection.runtime.blackbox.recording import read_recording
from detection.runtime.blackbox.settings import BlackBoxSettings
from detection.runtime.cameras.sources import open_source, open_sources
from detection.runtime.detections import Detections, Frame
from detection.runtime.detector import Detector
from detection.runtime.errors import ModelFileError, OutputError, SourceError
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.streaming.controls import Controls
from detection.runtime.streaming.options import StreamOptions
from detection.runtime.streaming.pipeline import run_stream
from detection.runtime.streaming.slices import FrameSlicer


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Path:
    """40 images of two cameras at two rates, saved by hand in the middle."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("box")
    detector = Detector(model_path, threads=1, score_thresholds=[0.5, 0.9])
    settings = BlackBoxSettings(folder=folder, before_s=300, after_s=300, uncertain_every_s=None)
    with BlackBox(settings, Controls(detector)) as box:
        for i in range(40):
            camera = "left" if i % 4 else "right"
            image = rng.integers(0, 140, (rng.integers(60, 200), rng.integers(60, 200), 3), dtype=np.uint8)
            image[:, :, 0] = 0
            for channel in (1, 2)[: rng.integers(0, 3)]:
                x, y = rng.integers(0, 40, 2)
                image[y : y + 20, x : x + 13, channel] = rng.integers(120, 256)
            frame = Frame(image, camera, 100 + i, time.monotonic_ns(), i / 50)
            found = detector(image)
            box.write(frame, found, _record(frame, found))
            if i == 20:
                box.trigger("by a test")
            time.sleep(0.02)
        deadline = time.monotonic() + 30
        while len(list(folder.rglob("*.png"))) < 40 and time.monotonic() < deadline:
            time.sleep(0.05)
    return next((folder / "incidents").iterdir())


def replay_command(model: Path, recording: Path, **options: Any) -> int:
    with pytest.raises(typer.Exit) as ended:
        replay(model, recording, **options)
    return ended.value.exit_code


def _record(frame: Frame, found: Detections) -> Record:
    from detection.runtime.outputs.contract import make_record

    return make_record(frame, found, ("weed", "crop"), age_ms=3.0, latency_ms={})


def test_the_same_decisions_at_the_same_pace(model_path: Path, recording: Path, tmp_path: Path, capfd: Any) -> None:
    frames = read_recording(recording).frames
    assert len(frames) == 40 and 10 < sum(len(f.labels) for f in frames)
    recorded_s = (frames[-1].captured_ns - frames[0].captured_ns) / 1e9
    out = tmp_path / "outcome.json"
    started = time.monotonic()
    assert replay_command(model_path, recording, jsonl=tmp_path / "d.jsonl", summary=out, threads=1) == 0
    assert recorded_s <= time.monotonic() - started < recorded_s + 30
    outcome = json.loads(out.read_text())
    assert outcome["same"] and outcome["images"] == 40 and outcome["differing"] == outcome["missing"] == 0
    assert outcome["same_model_file"] and outcome["lossy"] == 0 and outcome["boxes"] > 10
    lines = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert {(line["camera"], line["frame"]) for line in lines} == {(f.camera, f.frame) for f in frames}
    stderr = capfd.readouterr().err
    assert "40 images" in stderr and "the same detections as recorded" in stderr


def test_images_come_when_they_came_then(recording: Path) -> None:
    recorded = read_recording(recording)
    sources = open_recording(recorded)
    assert [source.camera for source in sources] == ["right", "left"]
    assert sources[1].length == 30 and 1 < (sources[1].fps or 0) < 45
    shown: dict[tuple[str, int], int] = {}
    while not all(source.ended for source in sources):
        for source in sources:
            frame = source.poll(0.001)
            if frame is not None:
                shown[frame.camera, frame.index] = frame.captured_ns
                assert 0 <= time.monotonic_ns() - frame.captured_ns  # never before it is due
    then = {(f.camera, f.frame): f.captured_ns for f in recorded.frames}
    assert shown.keys() == then.keys()
    first = min(then, key=lambda key: then[key])
    for key, at_ns in shown.items():
        assert at_ns - shown[first] == then[key] - then[first]


def test_as_fast_does_not_wait(recording: Path, model_path: Path) -> None:
    sources = open_recording(read_recording(recording), as_fast=True)
    started = time.monotonic()
    frames = [frame for source in sources for frame in source]
    assert len(frames) == 40 and time.monotonic() - started < 0.7
    assert [f.stream_s for f in frames[:2]] == [0.0, 4 / 50]
    assert replay_command(model_path, recording, as_fast=True, threads=1) == 0


@pytest.mark.parametrize(("field", "by", "same"), [("boxes_xyxy", 9e-4, True), ("boxes_xyxy", 2e-3, False),
                                                   ("scores", 9e-5, True), ("scores", 2e-4, False),
                                                   ("labels", 1, False)])  # fmt: skip
def test_what_counts_as_the_same(
    model_path: Path, recording: Path, tmp_path: Path, field: str, by: float, same: bool, capfd: Any
) -> None:
    copy = _copy(recording, tmp_path)
    lines = [json.loads(line) for line in (copy / "frames.jsonl").read_text().splitlines()]
    place = next(i for i, line in enumerate(lines) if line["scores"] and line["scores"][0] < 0.98)
    first = lines[place][field][0]
    lines[place][field][0] = [first[0] + by, *first[1:]] if isinstance(first, list) else first + by
    (copy / "frames.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert replay_command(model_path, copy, as_fast=True, threads=1) == (0 if same else 1)
    stderr = capfd.readouterr().err
    assert ("1 of 40 images have other detections" in stderr) == (not same)
    assert (str(lines[place]["frame"]) in stderr) == (not same)


def test_thresholds_that_were_moved_meanwhile(model_path: Path, recording: Path, tmp_path: Path) -> None:
    copy = _copy(recording, tmp_path)
    lines = [json.loads(line) for line in (copy / "frames.jsonl").read_text().splitlines()]
    for line in lines[10:]:
        line["score_thresholds"] = [0.8, 1.0]
        keep = [i for i, (s, c) in enumerate(zip(line["scores"], line["labels"], strict=True)) if s >= (0.8, 1.0)[c]]
        for field in ("boxes_xyxy", "scores", "labels"):
            line[field] = [line[field][i] for i in keep]
    (copy / "frames.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert replay_command(model_path, copy, as_fast=True, threads=1) == 0


def test_jpegs_are_counted_and_not_compared(model_path: Path, recording: Path, tmp_path: Path, capfd: Any) -> None:
    copy = _copy(recording, tmp_path)
    lines = [json.loads(line) for line in (copy / "frames.jsonl").read_text().splitlines()]

    def kept_as_jpeg(some: list[dict[str, Any]]) -> int:
        for line in some:
            image = cv2.imread(str(copy / line["image"]))
            line["image"] = line["image"].replace(".png", ".jpg")
            cv2.imwrite(str(copy / line["image"]), image)
        (copy / "frames.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return replay_command(model_path, copy, as_fast=True, threads=1)

    assert kept_as_jpeg(lines[5:15]) == 0
    stderr = capfd.readouterr().err
    assert "10 images were recorded as JPEG" in stderr and "30 images" in stderr
    assert kept_as_jpeg(lines[:5] + lines[15:]) == 1
    assert "no image could be compared" in capfd.readouterr().err


def test_another_model_is_said_and_its_differences_shown(
    tiny: Any, model_path: Path, recording: Path, tmp_path: Path, capfd: Any
) -> None:
    other = tiny.write(tmp_path / "other.onnx", tiny.metadata(input_size_hw=(32, 48)))
    copy = _copy(recording, tmp_path)
    for name in ("frames.jsonl", "recording.json"):  # from a machine that is not trusted
        text = (copy / name).read_text()
        (copy / name).write_text(text.replace('"left"', r'"l\u001b[31mft"').replace(".onnx", r"\u001b[2J.onnx"))
    assert replay_command(other, copy, as_fast=True, threads=1) == 1
    stderr = capfd.readouterr().err
    assert "another model file" in stderr and "Different detections" in stderr
    assert "\x1b" not in stderr and r"l\x1b[31mft" in stderr and r"\x1b[2J.onnx" in stderr
    renamed = tiny.write(tmp_path / "renamed.onnx", tiny.metadata(class_names=("thistle", "crop")))
    with pytest.raises(ModelFileError, match="detects thistle, crop; the recording is of weed, crop"):
        replay_command(renamed, recording)


def test_a_damaged_recording_is_one_clear_line(model_path: Path, recording: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no recording there"):
        replay_command(model_path, tmp_path)
    copy = _copy(recording, tmp_path)
    whole = (copy / "frames.jsonl").read_text()
    (copy / "frames.jsonl").write_text(whole[:-30])  # a line cut by a power cut
    assert len(read_recording(copy).frames) == 39
    for text in ("", "{}\n", "[1\n", whole.replace('"scores":[0', '"scores":[0.1,0', 1)):
        (copy / "frames.jsonl").write_text(text)
        with pytest.raises(SourceError):
            read_recording(copy)
    (copy / "frames.jsonl").write_text(whole)
    about = (copy / "recording.json").read_text()
    (copy / "recording.json").write_text(about.replace('"schema": 2', '"schema": 3'))
    with pytest.raises(SourceError, match="newer Swath"):
        read_recording(copy)


def test_a_image_that_is_gone_fails_the_replay(model_path: Path, recording: Path, tmp_path: Path, capfd: Any) -> None:
    copy = _copy(recording, tmp_path)
    (copy / read_recording(copy).frames[12].image).unlink()
    assert replay_command(model_path, copy, as_fast=True, threads=1) == 1
    stderr = capfd.readouterr().err
    assert "missing or damaged" in stderr and "were not reached" in stderr
    with pytest.raises(OutputError, match="2 cameras"):
        replay_command(model_path, copy, video=tmp_path / "v.mp4")


def test_a_stream_with_a_black_box_replays_the_same(model_path: Path, video_path: Path, tmp_path: Path) -> None:
    """The whole way: a video through the stream, the box asked to save in the middle, the recording replayed."""
    detector = Detector(model_path, threads=1)
    settings = BlackBoxSettings(folder=tmp_path / "box", after_s=0.1, uncertain_every_s=None)
    with BlackBox(settings, Controls(detector)) as box:

        class Button(Output):
            def write(self, frame: Frame, detections: Detections, record: Record) -> None:
                if frame.index == 15:
                    box.trigger()

            def close(self) -> None:
                pass

        (source,) = open_sources([video_path])
        with source:
            assert run_stream(detector, [source], [box, Button()]).frames == 30
        deadline = time.monotonic() + 30
        while not box.incidents and time.monotonic() < deadline:
            time.sleep(0.05)
    (folder,) = (tmp_path / "box" / "incidents").iterdir()
    assert [frame.frame for frame in read_recording(folder).frames][:16] == list(range(16))
    assert replay_command(model_path, folder, video=tmp_path / "again.mp4", threads=1) == 0
    assert (tmp_path / "again.mp4").stat().st_size > 1000


def _as_schema_1(folder: Path) -> None:
    """A recording in the names that Swath 0.1 wrote."""
    (folder / "images").rename(folder / "pictures")
    about = json.loads((folder / "recording.json").read_text())
    about = {**about, "schema": 1, "looks": about.pop("slices")}
    (folder / "recording.json").write_text(json.dumps(about))
    lines = [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]
    lines = [{"picture": line.pop("image").replace("images/", "pictures/"), **line} for line in lines]
    (folder / "frames.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_regions_and_tiles_are_replayed_too(
    model_path: Path, tmp_path: Path, make_field_image: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A red patch outside of the region must not be found, one inside is: now as then, and from an old recording."""
    detector = Detector(model_path, threads=1)
    slicers = {"front": FrameSlicer(roi_xyxy=(0, 62, 100, 118), tiles_rc=(1, 2))}
    folder = tmp_path / "front"
    folder.mkdir()
    for i in range(6):
        image = make_field_image(i)  # its patch lies above the region
        image[70:100, 20:30, 2] = 255
        cv2.imwrite(str(folder / f"{i}.png"), image)
    controls = Controls(detector)
    settings = BlackBoxSettings(folder=tmp_path / "box", after_s=0.1, uncertain_every_s=None)
    with BlackBox(settings, controls, slicers=slicers) as box:
        with open_source(folder) as source:
            run_stream(controls, [source], [box], StreamOptions(slicers=slicers))
        box.trigger()
        deadline = time.monotonic() + 30
        while not box.incidents and time.monotonic() < deadline:
            time.sleep(0.05)
    (incident,) = (tmp_path / "box" / "incidents").iterdir()
    recorded = read_recording(incident)
    assert recorded.slicers == slicers and len(recorded.frames) == 6
    for frame in recorded.frames:
        assert frame.boxes_xyxy and min(box[1] for box in frame.boxes_xyxy) >= 62
    assert replay_command(model_path, incident, as_fast=True, threads=1) == 0
    about = json.loads((incident / "recording.json").read_text())
    _as_schema_1(incident)
    caplog.clear()
    with caplog.at_level("WARNING"):
        old = read_recording(incident)
    assert old.slicers == slicers and [f.image for f in old.frames][:1] == ["pictures/000000.png"]
    assert [record.message for record in caplog.records] == [
        f"{incident / 'recording.json'}: written by an older Swath; looks is now slices"
    ]
    assert replay_command(model_path, incident, as_fast=True, threads=1) == 0
    (incident / "recording.json").write_text(json.dumps({**about, "slices": {}}))
    assert replay_command(model_path, incident, as_fast=True, threads=1) == 1  # they do matter


def test_a_recording_of_two_models_of_different_classes(model_path: Path, recording: Path, tmp_path: Path) -> None:
    copy = _copy(recording, tmp_path)
    lines = (copy / "frames.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    lines[0] = json.dumps({**first, "score_thresholds": [0.5, 0.5, 0.5]})
    (copy / "frames.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(ModelFileError, match="detect different classes"):
        replay_command(model_path, copy)


def _copy(recording: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(recording, tmp_path / "copy"))
