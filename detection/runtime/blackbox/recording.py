"""A recording: images as the detector saw them, with the detections in each.

    recording.json    what it is: why it was made, the classes, the model file's name
    frames.jsonl      one line per image, in the order of detection: `RecordedFrame`
    events.jsonl      what happened beside the images
    images/           PNG, lossless; JPEG where memory or time did not suffice for that

Complete lines are appended after their image, so a recording whose writer was killed can be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError

import detection
from detection.runtime.blackbox.folder import BoundedFolder
from detection.runtime.blackbox.ring import Kept
from detection.runtime.compatibility import RECORDED_FRAME, RECORDING, renamed
from detection.runtime.detections import Detections
from detection.runtime.errors import SourceError
from detection.runtime.events import Event
from detection.runtime.settings import explain
from detection.runtime.streaming.slices import FrameSlicer, Window

SCHEMA = 2
"""Of a recording; raised when a key changes its meaning or goes. 1 had other names: `compatibility`."""

ABOUT, FRAMES, EVENTS, IMAGES = "recording.json", "frames.jsonl", "events.jsonl", "images"


@dataclass(frozen=True, eq=False)
class RecordedFrame:
    """One line of `frames.jsonl`: an image, when it was captured, and its detections in full precision.

    Attributes:
        image: its file, relative to the recording's folder.
        camera, frame, captured_ns, stream_s: as of `Frame`.
        age_ms: of the image when its detections were ready.
        model_sha256: of the model file in use.
        score_thresholds: in force, one per class.
        boxes_xyxy, scores, labels, track_ids: as of `Detections`.

    """

    image: str
    camera: str
    frame: int
    captured_ns: int
    stream_s: float | None
    age_ms: float
    model_sha256: str
    score_thresholds: list[float]
    boxes_xyxy: list[list[float]]
    scores: list[float]
    labels: list[int]
    track_ids: list[int] | None

    @classmethod
    def of(cls, kept: Kept, image: str) -> RecordedFrame:
        """The line of an image of the ring."""
        found, record = kept.detections, kept.record
        return cls(
            image=image,
            camera=kept.camera,
            frame=record["frame"],
            captured_ns=kept.captured_ns,
            stream_s=record["stream_s"],
            age_ms=record["age_ms"],
            model_sha256=kept.model_sha256,
            score_thresholds=list(kept.score_thresholds),
            boxes_xyxy=found.boxes_xyxy.tolist(),
            scores=found.scores.tolist(),
            labels=found.labels.tolist(),
            track_ids=None if found.track_ids is None else found.track_ids.tolist(),
        )

    @property
    def lossless(self) -> bool:
        """Whether its image is pixel by pixel the one that the detector saw."""
        return self.image.endswith(".png")

    @property
    def detections(self) -> Detections:
        """The detections in the image."""
        return Detections(
            np.array(self.boxes_xyxy, np.float32).reshape(-1, 4),
            np.array(self.scores, np.float32),
            np.array(self.labels, np.int64),
            None if self.track_ids is None else np.array(self.track_ids, np.int64),
        )


_FRAME = TypeAdapter(RecordedFrame)


class _Slices(BaseModel):
    roi_xyxy: Window | None
    tiles_rc: tuple[int, int]
    overlap: float


class _About(BaseModel):
    """What is read of `recording.json`."""

    class_names: tuple[str, ...]
    model: str
    slices: dict[str, _Slices]


@dataclass(frozen=True)
class Recording:
    """A recording that was read.

    Attributes:
        folder: where it lies.
        class_names: of label 0, 1, ...
        model: the model file's name.
        slicers: which slices of its images the detector saw, by camera.
        frames: in the order of detection.

    """

    folder: Path
    class_names: tuple[str, ...]
    model: str
    slicers: Mapping[str, FrameSlicer]
    frames: tuple[RecordedFrame, ...]

    @property
    def cameras(self) -> list[str]:
        """Names of its cameras, by first appearance."""
        return list(dict.fromkeys(frame.camera for frame in self.frames))

    @property
    def lossless(self) -> int:
        """How many of its images are pixel by pixel those that the detector saw."""
        return sum(frame.lossless for frame in self.frames)


class RecordingWriter:
    """Writes a recording into a part of a bounded folder; the part is hidden in ".part" until it is closed.

    Args:
        disk: takes the files.
        part: where, from `BoundedFolder.new_part`.
        class_names, model: of the detector in use.
        slicers: which slices of its images it sees, by camera.

    """

    def __init__(
        self,
        disk: BoundedFolder,
        part: Path,
        class_names: Sequence[str],
        model: str,
        slicers: Mapping[str, FrameSlicer],
    ) -> None:
        self._disk = disk
        self._finished = part
        self._part = part.with_name(part.name + ".part")
        self._about: dict[str, Any] = {
            "schema": SCHEMA,
            "swath_version": detection.__version__,
            "reasons": [],
            "class_names": list(class_names),
            "model": model,
            "slices": {camera: asdict(slicer) for camera, slicer in slicers.items()},
        }
        self.frames = 0
        disk.hold(self._part)

    def reason(self, event: Event) -> None:
        """Add a reason for the recording; there may be several."""
        self._about["reasons"].append(event.to_json())
        self._disk.write(self._part, ABOUT, json.dumps(self._about, indent=1).encode() + b"\n")

    def frame(self, kept: Kept) -> bool:
        """Write an image and its line; False where they were lost."""
        suffix, content = kept.file()
        image = f"{IMAGES}/{self.frames:06d}{suffix}"
        if not self._disk.write(self._part, image, content):
            return False
        line = json.dumps(asdict(RecordedFrame.of(kept, image)), separators=(",", ":"), allow_nan=False)
        if not self._disk.append(self._part, FRAMES, line.encode() + b"\n"):
            self._disk.discard(self._part, image)
            return False
        self.frames += 1
        return True

    def event(self, event: Event) -> None:
        """Write an event."""
        self._disk.append(self._part, EVENTS, json.dumps(event.to_json()).encode() + b"\n")

    def close(self) -> Path:
        """Finish the recording; returns its folder."""
        self._disk.finish(self._part, self._finished)
        return self._finished


def adopt_unfinished(disk: BoundedFolder, kind: str) -> None:
    """Finish the recordings of a run that was killed; delete those without an image."""
    for part in disk.parts(kind):
        if part.suffix == ".part":
            if (part / FRAMES).is_file() and (part / ABOUT).is_file():
                disk.finish(part, part.with_suffix(""))
            else:
                disk.remove(part)


def read_recording(folder: Path) -> Recording:
    """Read a recording.

    Raises:
        SourceError: no recording there, a damaged one, one without images, or one of a newer Swath.

    """
    try:
        content = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
            raise ValueError(f"{ABOUT} does not say its schema")
        if content["schema"] > SCHEMA:
            raise SourceError(f"{folder}: a recording of a newer Swath (schema {content['schema']}); upgrade swath")
        text = (folder / FRAMES).read_text(encoding="utf-8")
        # a line that a power cut interrupted has no end
        lines = text.split("\n")[:-1]
        about = _About.model_validate(renamed(content, RECORDING, str(folder / ABOUT)))
        frames = tuple(_FRAME.validate_python(renamed(json.loads(line), RECORDED_FRAME)) for line in lines)
        slicers = {c: FrameSlicer(s.roi_xyxy, s.tiles_rc, s.overlap) for c, s in about.slices.items()}
        recording = Recording(folder, about.class_names, about.model, slicers, frames)
        for frame in frames:
            labels = frame.detections.labels  # raises where shapes disagree
            if len(labels) and not 0 <= labels.min() <= labels.max() < len(about.class_names):
                raise ValueError(f"frame {frame.frame}: a label without a class name")
    except FileNotFoundError as error:
        raise SourceError(f"{folder}: no recording there ({Path(error.filename).name} is missing)") from None
    except ValidationError as error:
        raise SourceError(f"{folder}: a damaged recording ({explain(error.errors()[0], _About)})") from None
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise SourceError(f"{folder}: a damaged recording ({error})") from None
    if not frames:
        raise SourceError(f"{folder}: a recording without images")
    return recording
