"""`Detector`: a deploy graph (.onnx) as a function from pictures to `Detections`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from detection.runtime import metadata as metadata_file
from detection.runtime.detections import Detections
from detection.runtime.errors import DeviceError, ModelFileError
from detection.runtime.letterbox import Placement, letterbox
from detection.runtime.metadata import ModelMetadata

CPU = "CPUExecutionProvider"
_INPUT = "images"
_OUTPUTS = {"boxes": ("tensor(float)", 3), "scores": ("tensor(float)", 2), "labels": ("tensor(int64)", 2)}


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture fitted to the network's input.

    Attributes:
        pixels: uint8 (H, W, 3) RGB, H and W those of the network's input.
        placement: where the picture lies in it; takes boxes back.

    """

    pixels: NDArray[np.uint8]
    placement: Placement


@dataclass(frozen=True, eq=False)
class Raw:
    """What the deploy graph gives for N pictures: K rows each, padded.

    Attributes:
        boxes: float32 (N, K, 4), xyxy in pixels of the network's input.
        scores: float32 (N, K), sorted, 0 where empty.
        labels: int64 (N, K), -1 where empty.

    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes)


def to_detections(
    boxes_xyxy: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    placement: Placement,
    score_thresholds: Sequence[float] | NDArray[np.float32],
) -> Detections:
    """The last step of every detector: padded rows in input pixels -> `Detections` of the picture.

    Rows are dropped where they are empty (label -1), below their class's threshold, or without area
    once clipped to the picture (they lay in the letterbox's grey part).

    Args:
        boxes_xyxy: float32 (K, 4), xyxy in pixels of the network's input.
        scores: float32 (K,), 0 to 1.
        labels: int64 (K,), -1 where empty.
        placement: the picture's, from `letterbox`.
        score_thresholds: one per class; at and above it a box is reported.

    Raises:
        ModelFileError: a label beyond the last class.

    """
    # Compared as float32: a score of 0.7 is at a threshold of 0.7, though float32(0.7) < 0.7.
    thresholds = np.asarray(score_thresholds, np.float32)
    if labels.size and labels.max() >= len(thresholds):
        raise ModelFileError(
            f"the model gave label {labels.max()} but names {len(thresholds)} classes; export it again"
        )
    kept = labels >= 0
    kept &= scores >= thresholds[np.maximum(labels, 0)]
    boxes = placement.to_picture(boxes_xyxy[kept])
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detections(boxes[has_area], scores[kept][has_area], labels[kept][has_area])


class Detector:
    """A deploy graph, loaded and checked, ready to be called with pictures.

        detector = Detector("weeds.onnx")
        detections = detector(cv2.imread("field.jpg"))

    One `Detector` may be called from several threads: it holds no state between calls.

    Args:
        path: the .onnx that `swath export` wrote.
        providers: onnxruntime execution providers in order of preference, by full name or short
            ("cuda", "tensorrt", "openvino", "cpu"). None is the CPU alone: a GPU is used when it is
            asked for, and asking for one that does not come to life is an error.
        threads: threads within one operator; None leaves it to onnxruntime (physical cores).
        score_thresholds: None takes the model file's own, one per class. One number counts for all
            classes (0.0 gives everything that the graph gives), a sequence has one per class.

    Attributes:
        metadata: what the model file says of itself.
        providers: the providers that are live, as onnxruntime names them.
        score_thresholds: float32 (classes,), those in force.

    Raises:
        ModelFileError: missing, not an .onnx, not Swath's, damaged, or written by a newer Swath.
        DeviceError: a provider that was asked for is not in this onnxruntime or did not come to life.
        ValueError: `score_thresholds` has another length than the classes, or `threads` is below 1.

    """

    def __init__(
        self,
        path: Path | str,
        *,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        score_thresholds: float | Sequence[float] | None = None,
    ) -> None:
        self.path = Path(path)
        self._session = _open_session(self.path, _resolve_providers(providers), threads)
        self.providers: tuple[str, ...] = tuple(self._session.get_providers())
        text = self._session.get_modelmeta().custom_metadata_map.get(metadata_file.KEY)
        self.metadata: ModelMetadata = metadata_file.parse(text, str(self.path))
        _check_signature(self._session, self.metadata, self.path)
        self.score_thresholds = _thresholds(score_thresholds, self.metadata)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of label 0, 1, ..."""
        return self.metadata.class_names

    @property
    def runs_on(self) -> str:
        """By what, where and at which size it runs, in words."""
        height, width = self.metadata.input_size_hw
        return f"onnxruntime {ort.__version__}, {self.providers[0]}, input {height} x {width}"

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """What is in one picture.

        Args:
            image_bgr: uint8 (H, W, 3), any size.

        Returns:
            Boxes in pixels of `image_bgr`, highest score first.

        Raises:
            ValueError: not a picture of that shape and dtype.

        """
        return self.detect_batch([image_bgr])[0]

    def detect_batch(self, images_bgr: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """What is in each of some pictures, run in batches of at most `metadata.max_batch`.

        Args:
            images_bgr: uint8 (H, W, 3) each, of any and of different sizes; may be empty.

        Returns:
            One `Detections` per picture, in order.

        """
        found: list[Detections] = []
        step = self.metadata.max_batch
        for start in range(0, len(images_bgr), step):
            prepared = [self.prepare(image) for image in images_bgr[start : start + step]]
            raw = self.infer(np.stack([p.pixels for p in prepared]))
            found += [self.finish(raw, row, p.placement) for row, p in enumerate(prepared)]
        return found

    def prepare(self, image_bgr: NDArray[np.uint8]) -> Prepared:
        """First stage: fit a picture, uint8 (H, W, 3), to the network's input.

        Raises:
            ValueError: not a picture of that shape and dtype, or without pixels.

        """
        if image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or image_bgr.dtype != np.uint8 or not image_bgr.size:
            raise ValueError(
                f"a picture must be uint8 (H, W, 3) with pixels, got {image_bgr.dtype} {image_bgr.shape}"
            )
        return Prepared(*letterbox(image_bgr, self.metadata.input_size_hw))

    def infer(self, pixels_rgb: NDArray[np.uint8]) -> Raw:
        """Second stage: run the graph on uint8 (N, H, W, 3) RGB, N from 1 to `metadata.max_batch`."""
        boxes, scores, labels = self._session.run(list(_OUTPUTS), {_INPUT: pixels_rgb})
        return Raw(boxes, scores, labels)

    @property
    def bare_run(self) -> Callable[[NDArray[np.uint8]], list[NDArray[Any]]]:
        """The backend's own call with nothing around it: what `swath bench` holds the detector against.

        Takes pixels as `infer` does; gives boxes, scores and labels as `Raw` holds them.
        """
        run, outputs = self._session.run, list(_OUTPUTS)
        return lambda pixels_rgb: run(outputs, {_INPUT: pixels_rgb})

    def finish(self, raw: Raw, row: int, placement: Placement) -> Detections:
        """Third stage: what row `row` of `raw` says of the picture that lies at `placement`."""
        return to_detections(raw.boxes[row], raw.scores[row], raw.labels[row], placement, self.score_thresholds)

    def warm_up(self, runs: int = 2) -> None:
        """Run on a grey picture, so that the first real one does not pay for allocations."""
        height, width = self.metadata.input_size_hw
        for _ in range(runs):
            self.infer(np.full((1, height, width, 3), self.metadata.letterbox_pad_value, np.uint8))


def _resolve_providers(asked: Sequence[str] | None) -> list[str]:
    """Full provider names of what was asked for, checked against what this onnxruntime has."""
    if asked is None:
        return [CPU]
    available = ort.get_available_providers()
    by_short_name = {name.removesuffix("ExecutionProvider").lower(): name for name in available}
    resolved = []
    for name in asked:
        full = by_short_name.get(name.lower().removesuffix("executionprovider"))
        if full is None:
            here = ", ".join(by_short_name)
            raise DeviceError(f"provider {name!r} is not in this onnxruntime, which has: {here}")
        resolved.append(full)
    return resolved or [CPU]


def _open_session(path: Path, providers: list[str], threads: int | None) -> Any:
    """An onnxruntime session on exactly these providers (and the CPU for operators they lack).

    Raises:
        ModelFileError: the file cannot be read as a graph.
        DeviceError: a provider did not come to life.

    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be 1 or more, got {threads}")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelFileError(f"{path}: there is no such model file") from None
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror})") from None
    options = ort.SessionOptions()
    # What goes wrong comes back as an exception; onnxruntime's own lines would bury ours.
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    if providers != [CPU]:
        load_gpu_libraries()
    try:
        # enable_fallback=0: by default onnxruntime retries on the CPU, and only prints that it did.
        session = ort.InferenceSession(content, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        reason = _first_line(error)
        if providers == [CPU]:
            raise ModelFileError(f"{path}: not a readable .onnx model ({reason})") from error
        names = ", ".join(providers)
        raise DeviceError(f"{path}: did not start on {names} ({reason}); does it load on the CPU?") from error
    session.disable_fallback()  # nor silently on to the CPU later, when a run fails
    live = session.get_providers()
    dead = [name for name in providers if name not in live]
    if dead:
        raise DeviceError(
            f"{', '.join(dead)} was asked for but did not come to life (live: {', '.join(live)}); "
            "check the driver and CUDA libraries, or ask for the CPU"
        )
    return session


def load_gpu_libraries(*, quiet: bool = True) -> None:
    """Let onnxruntime find the CUDA libraries that came as Python packages, where it can.

    Args:
        quiet: from now on onnxruntime says nothing by itself.

    """
    preload = getattr(ort, "preload_dlls", None)
    if quiet:
        ort.set_default_logger_severity(4)
    if preload is not None:
        import contextlib
        import io

        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it misses; we check liveness
            preload()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else type(error).__name__
    return line.rsplit(" : ", 1)[-1][:200]


def _check_signature(session: Any, metadata: ModelMetadata, path: Path) -> None:
    """Compare the graph's inputs and outputs with the contract and with its own metadata.

    Raises:
        ModelFileError: they differ.

    """
    inputs = session.get_inputs()
    if [(i.name, i.type) for i in inputs] != [(_INPUT, "tensor(uint8)")]:
        raise ModelFileError(
            f"{path}: its inputs are {_signature(inputs)}, not one uint8 '{_INPUT}'; export it again"
        )
    shape = list(inputs[0].shape)
    batch_is_fixed = len(shape) == 4 and isinstance(shape[0], int) and metadata.max_batch != shape[0]
    if shape[1:] != [*metadata.input_size_hw, 3] or batch_is_fixed:
        wanted = ["N", *metadata.input_size_hw, 3]
        raise ModelFileError(f"{path}: its input is {shape}, its metadata says {wanted}; export it again")
    outputs = {o.name: (o.type, len(o.shape)) for o in session.get_outputs()}
    if outputs != _OUTPUTS:
        raise ModelFileError(
            f"{path}: its outputs are {_signature(session.get_outputs())}, not boxes (N, K, 4), "
            "scores (N, K) and labels (N, K); export it again"
        )


def _signature(nodes: Any) -> str:
    return ", ".join(f"{n.name} {n.type} {n.shape}" for n in nodes) or "none"


def _thresholds(given: float | Sequence[float] | None, metadata: ModelMetadata) -> NDArray[np.float32]:
    """One threshold per class, read-only."""
    classes = len(metadata.class_names)
    values = np.array(metadata.score_thresholds if given is None else given, np.float32)
    if values.ndim == 0:
        values = np.repeat(values, classes)
    if values.shape != (classes,):
        raise ValueError(f"score_thresholds must be one number or {classes}, got shape {values.shape}")
    values.setflags(write=False)
    return values
