"""`Detections`, the result of every detector, and `Frame`, an image of a camera."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import supervision


def _frozen(name: str, value: Any, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
    """A read-only copy of `value`; -1 in `shape` matches any length.

    Raises:
        ValueError: wrong shape, or a dtype that cannot be cast safely enough (floats as labels).

    """
    given = np.asarray(value)
    if given.size and np.issubdtype(dtype, np.integer) and not np.issubdtype(given.dtype, np.integer):
        raise ValueError(f"{name} must be integers, got {given.dtype}")
    array = np.array(given, dtype=dtype)  # a copy: the caller's array stays the caller's
    wrong = array.ndim != len(shape) or any(w not in (-1, s) for w, s in zip(shape, array.shape, strict=True))
    if wrong:
        wanted = tuple("N" if s == -1 else s for s in shape)
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}")
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections in one image. Arrays are copied and read-only; a transform returns a new object.

        found = Detector("weeds.onnx")(image)
        sure = found[found.scores > 0.5]  # by a mask, a slice or indices
        print(len(sure), sure.boxes_xyxy, sure.labels)
        theirs = sure.to_supervision()

    Attributes:
        boxes_xyxy: float32 (N, 4) in absolute pixels of the image that came in,
            continuous corners (a box around pixel column 3 alone spans 3.0 to 4.0).
        scores: float32 (N,), 0 to 1.
        labels: int64 (N,), index into the model's class names.
        track_ids: int64 (N,), or None where nothing was tracked; -1 for a tentative track.

    Raises:
        ValueError: shapes disagree, labels are not integers, or a box is not finite.

    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    track_ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        boxes = _frozen("boxes_xyxy", self.boxes_xyxy, np.float32, (-1, 4))
        if not np.isfinite(boxes).all():
            raise ValueError("boxes_xyxy must be finite")
        n = len(boxes)
        object.__setattr__(self, "boxes_xyxy", boxes)
        object.__setattr__(self, "scores", _frozen("scores", self.scores, np.float32, (n,)))
        object.__setattr__(self, "labels", _frozen("labels", self.labels, np.int64, (n,)))
        if self.track_ids is not None:
            object.__setattr__(self, "track_ids", _frozen("track_ids", self.track_ids, np.int64, (n,)))

    @classmethod
    def empty(cls) -> Detections:
        """No detections."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    @property
    def boxes(self) -> NDArray[np.float32]:
        """The former name of `boxes_xyxy`; goes with the next minor version."""
        warnings.warn("Detections.boxes is now Detections.boxes_xyxy", DeprecationWarning, stacklevel=2)
        return self.boxes_xyxy

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    def __getitem__(self, index: slice | NDArray[Any]) -> Detections:
        """The detections selected by a slice, a boolean mask (N,) or an index array."""
        tracks = None if self.track_ids is None else self.track_ids[index]
        return Detections(self.boxes_xyxy[index], self.scores[index], self.labels[index], tracks)

    def __add__(self, more: Detections) -> Detections:
        """These rows, then those of `more`; track ids only where both have them."""
        ids = None
        if self.track_ids is not None and more.track_ids is not None:
            ids = np.concatenate([self.track_ids, more.track_ids])
        return Detections(
            np.concatenate([self.boxes_xyxy, more.boxes_xyxy]),
            np.concatenate([self.scores, more.scores]),
            np.concatenate([self.labels, more.labels]),
            ids,
        )

    def to_supervision(self) -> supervision.Detections:
        """The same as `supervision.Detections` (needs the package `supervision`)."""
        import supervision

        return supervision.Detections(
            xyxy=self.boxes_xyxy.copy(),
            confidence=self.scores.copy(),
            class_id=self.labels.copy(),
            tracker_id=None if self.track_ids is None else self.track_ids.copy(),
        )

    @classmethod
    def from_supervision(cls, theirs: supervision.Detections) -> Detections:
        """Swath's form of `supervision.Detections`; a missing confidence counts as 1.

        Raises:
            ValueError: they carry no class ids.

        """
        if theirs.class_id is None and len(theirs):
            raise ValueError("detections without class_id cannot be labelled")
        n = len(theirs)
        return cls(
            np.asarray(theirs.xyxy, np.float32).reshape(n, 4),
            np.ones(n, np.float32) if theirs.confidence is None else theirs.confidence,
            np.zeros(0, np.int64) if theirs.class_id is None else theirs.class_id,
            theirs.tracker_id,
        )


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of one camera, and when it was captured.

    Attributes:
        image: uint8 (H, W, 3), BGR as OpenCV gives it.
        camera: name of the source in outputs.
        index: 0, 1, 2, ... in the order of delivery; a gap means dropped images.
        captured_ns: `time.monotonic_ns()` when the image was grabbed; it travels to the last output.
        stream_s: the image's own time stamp in its stream, in seconds from the stream's start; None
            where it has none. It gives the time between images, `captured_ns` their age.
        captured_utc_ns: when the image was captured, in nanoseconds since 1970 (UTC), where its source says so, as
            recordings of robots do; None where it does not.

    """

    image: NDArray[np.uint8] = field(repr=False)
    camera: str
    index: int
    captured_ns: int
    stream_s: float | None = None
    captured_utc_ns: int | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            shape, dtype = self.image.shape, self.image.dtype
            raise ValueError(f"a frame's image must be uint8 (H, W, 3), got {dtype} {shape}")
