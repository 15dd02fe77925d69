"""Where images are best fitted to the network's input: in the runtime by OpenCV, or inside the graph.

    python scripts/bench/letterbox.py MODEL.onnx ../shared/datasets/cwfid/images

(a) is `detection.runtime.letterbox`, before a graph of fixed size. (b) is a graph that takes any size and fits it by
itself, in the ways that ONNX has: the runtime's own by average pools (a graph for each number of halvings), `Resize`
with antialiasing, and the areas of OpenCV's INTER_AREA as two matrix products (`letterbox_graph.py`). All are called
in turns; what stands there are medians. Then: other ways to shrink with OpenCV, and how far each is from the means of
the exact areas.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
from letterbox_graph import WAYS, graph
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from detection.runtime.bench.images import Recording
from detection.runtime.detector import Detector, Raw
from detection.runtime.letterbox import letterbox, placement

Pixels = NDArray[np.uint8]

SIZES = (  # image -> input, height and width
    ((966, 1296), (480, 640)),
    ((1080, 1920), (384, 640)),
    ((640, 640), (640, 640)),
    ((3000, 4000), (480, 640)),
)


SHRUNK = (  # image -> what of the input it fills
    ((966, 1296), (477, 640)),
    ((768, 1024), (480, 640)),
    ((1080, 1920), (360, 640)),
    ((2048, 2448), (535, 640)),
    ((3000, 4000), (480, 640)),
)


def session(model: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    """On the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def in_turns(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Medians in ms."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 2):
        first = turn % len(calls)  # nobody is always the one that finds the caches cold
        for name, call in (list(calls.items()) * 2)[first : first + len(calls)]:
            began = time.perf_counter()
            call()
            if turn >= 2:
                taken[name].append(1000 * (time.perf_counter() - began))
    return {name: float(np.median(values)) for name, values in taken.items()}


def resampling(rounds: int, threads: int) -> Table:
    """The letterbox alone."""
    table = Table("image -> input", "way", title="(a) and (b), the letterbox alone", title_justify="left")
    for name in ("ms", "ratio", "most grey levels off", "mean", "OpenVINO differs"):
        table.add_column(name, justify="right")
    openvino = _openvino_core()
    for image_hw, size_hw in SIZES:
        image = scene(image_hw)
        rgb = np.ascontiguousarray(image[None, ..., ::-1])
        wanted = letterbox(image, size_hw)[0].astype(int)
        halvings = _halvings(image_hw, size_hw)
        calls: dict[str, Callable[[], Any]] = {"cv2": lambda p=image, s=size_hw: letterbox(p, s)}  # type: ignore[misc]
        notes: dict[str, tuple[str, str, str]] = {"cv2": ("", "", "")}
        for way in WAYS:
            model = graph(way, size_hw, 20, 10, halvings)
            try:
                runner = session(model, threads)
                off = np.abs(runner.run(None, {"image": rgb})[0][0] - wanted)
            except Exception as error:  # onnxruntime's have no common base
                notes[way] = (str(error).strip().splitlines()[0][:60], "", "")
                continue
            calls[way] = lambda r=runner, x=rgb: r.run(None, {"image": x})  # type: ignore[misc]
            theirs = _openvino_off(openvino, model, rgb, runner.run(None, {"image": rgb})[0])
            notes[way] = (f"{off.max()}", f"{off.mean():.3f}", theirs)
        medians = in_turns(calls, rounds)
        for way, (most, mean, theirs) in notes.items():
            ms = medians.get(way)
            name = f"{image_hw[1]} x {image_hw[0]} -> {size_hw[1]} x {size_hw[0]}" if way == "cv2" else ""
            figures = ("-", "-") if ms is None else (f"{ms:.2f}", f"{ms / medians['cv2']:.2f}")
            table.add_row(name, way, *figures, most, mean, theirs)
        table.add_section()
    return table


def _halvings(image_shape: tuple[int, ...], size_hw: tuple[int, int]) -> int:
    factor = max(image_shape[0] // size_hw[0], image_shape[1] // size_hw[1])
    return max(0, factor.bit_length() - 1)


def scene(size_hw: tuple[int, int]) -> Pixels:
    """Leaves, edges and the grain of a sensor, uint8 (H, W, 3)."""
    height, width = size_hw
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), (60, 90, 120), np.uint8)
    for _ in range(400):
        x, y, radius = rng.integers(0, width), rng.integers(0, height), rng.integers(2, max(3, width // 40))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        cv2.circle(image, (int(x), int(y)), int(radius), colour, -1)
    grain = rng.normal(0, 6, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def _openvino_core() -> Any:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # or the import reports to its makers
    try:
        import openvino
    except ModuleNotFoundError:
        return None
    return openvino.Core()


def _openvino_off(core: Any, model: onnx.ModelProto, rgb: Pixels, ours: Pixels) -> str:
    if core is None:
        return "not here"
    try:
        # On processors that have it, bfloat16 is OpenVINO's default: 8 bits of a grey level, fewer of a coordinate.
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU", settings)
        theirs = compiled([rgb])[0]
    except Exception as error:  # it raises RuntimeError of many kinds
        return f"fails: {str(error).strip().splitlines()[-1][:40]}"
    off = np.abs(theirs.astype(int) - ours)
    return f"{off.max()} (mean {off.mean():.3f})"


def with_network(path: Path, images: str, rounds: int, threads: int, count: int) -> Table:
    """The whole graph: its time, and how far its boxes are from those of the training's letterbox."""
    detector = Detector(path, threads=threads)
    size_hw = detector.metadata.input_size_hw
    whole = onnx.load(path)
    opset = next(o.version for o in whole.opset_import if o.domain == "")
    with Recording(images) as recording:
        shown = [recording.next()[0] for _ in range(count)]
    first = shown[0]
    joined = {}
    for way in WAYS:
        front = graph(way, size_hw, opset, whole.ir_version, _halvings(first.shape, size_hw))
        for other in whole.opset_import:
            if other.domain:
                front.opset_import.append(other)
        both = onnx.compose.merge_models(
            onnx.compose.add_prefix(front, "front_"), whole, io_map=[("front_pixels", "images")]
        )
        joined[way] = session(both, threads)
    table = Table("way", title=f"(a) and (b), {path.name}, {count} images", title_justify="left")
    for name in ("ms", "ratio", "boxes", "without a partner", "corner, most px of the input", "score, most"):
        table.add_column(name, justify="right")
    rgb = np.ascontiguousarray(first[None, ..., ::-1])
    calls: dict[str, Callable[[], Any]] = {
        "cv2, then the graph": lambda: detector.bare_run(detector.prepare(first).pixels[None]),
    }
    for way, runner in joined.items():
        calls[way] = lambda r=runner: r.run(None, {"front_image": rgb})  # type: ignore[misc]
    medians = in_turns(calls, rounds)
    base = next(iter(medians.values()))
    total = sum(len(detector(image)) for image in shown)
    table.add_row("cv2, then the graph", f"{base:.1f}", "1", f"{total}", "", "", "")
    for way, runner in joined.items():
        lost, corner, score = 0, 0.0, 0.0
        for image in shown:
            place = placement((image.shape[0], image.shape[1]), size_hw)
            outputs = runner.run(["boxes", "scores", "labels"], {"front_image": image[None, ..., ::-1].copy()})
            alone, apart, off = _compare(detector, detector(image), detector.finish(Raw(*outputs), 0, place), place)
            lost, corner, score = lost + alone, max(corner, apart), max(score, off)
        table.add_row(
            way, f"{medians[way]:.1f}", f"{medians[way] / base:.2f}", "", f"{lost}", f"{corner:.2f}", f"{score:.3f}"
        )
    return table


def _compare(detector: Detector, wanted: Any, found: Any, place: Any) -> tuple[int, float, float]:
    """Boxes without a partner of their class that overlaps by half; of the others the greatest differences."""
    ours, theirs = place.to_input(wanted.boxes_xyxy), place.to_input(found.boxes_xyxy)
    left, corner, score = list(range(len(found))), 0.0, 0.0
    alone = 0
    for box, value, label in zip(ours, wanted.scores, wanted.labels, strict=True):
        near = [(float(np.abs(theirs[i] - box).max()), i) for i in left if found.labels[i] == label]
        if not near or min(near)[0] > 0.25 * max(box[2:] - box[:2]):
            alone += 1
            continue
        apart, i = min(near)
        left.remove(i)
        corner, score = max(corner, apart), max(score, abs(float(found.scores[i] - value)))
    return alone + len(left), corner, score


def shrinking(rounds: int) -> Table:
    """Ways to shrink with OpenCV: their time, and how far they are from the means of the exact areas."""
    title = f"Shrinking (ratio to what the runtime does; {cv2.getNumThreads()} threads)"
    table = Table("image -> input", "way", title=title, title_justify="left")
    for name in ("ms", "ratio", "off the areas, mean", "99.9 %"):
        table.add_column(name, justify="right")
    for image_hw, fit_hw in SHRUNK:
        image, size_wh = scene(image_hw), (fit_hw[1], fit_hw[0])

        def halved(pixels: Any = image, size_wh: Any = size_wh) -> Any:
            while pixels.shape[1] >= 2 * size_wh[0] and pixels.shape[0] >= 2 * size_wh[1]:
                pixels = _by_whole(pixels, 2)
            return cv2.resize(pixels, size_wh, interpolation=cv2.INTER_LINEAR)

        def whole_factor(pixels: Any = image, size_wh: Any = size_wh) -> Any:
            pixels = _by_whole(pixels, min(pixels.shape[1] // size_wh[0], pixels.shape[0] // size_wh[1]))
            return cv2.resize(pixels, size_wh, interpolation=cv2.INTER_LINEAR)

        def directly(how: int, pixels: Any = image, size_wh: Any = size_wh) -> Any:
            return cv2.resize(pixels, size_wh, interpolation=how)

        ways: dict[str, Callable[[], Any]] = {
            "halved, then straight lines (the runtime)": halved,
            "by the whole factor, then straight lines": whole_factor,
            "by areas": partial(directly, cv2.INTER_AREA),
            "straight lines alone": partial(directly, cv2.INTER_LINEAR),
        }
        medians = in_turns(ways, rounds)
        base = next(iter(medians.values()))
        for way, ms in medians.items():
            name = f"{image_hw[1]} x {image_hw[0]} -> {fit_hw[1]} x {fit_hw[0]}" if ms is base else ""
            table.add_row(name, way, f"{ms:.2f}", f"{ms / base:.2f}", *_off_areas(ways[way], image, size_wh))
        table.add_section()
    return table


def _by_whole(image: Pixels, factor: int) -> Any:
    """Means of squares, what is left over at the right and below cut off."""
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    return cv2.resize(image[: rows * factor, : columns * factor], (columns, rows), interpolation=cv2.INTER_AREA)


def _off_areas(way: Callable[..., Any], image: Pixels, size_wh: tuple[int, int]) -> tuple[str, str]:
    """Grey levels, mean and 99.9th percentile; of an image cut so that all ways see the same part of it."""
    rows, columns = (side // 24 * 24 for side in image.shape[:2])
    cut = image[:rows, :columns]
    off = np.abs(way(image=cut) - cv2.resize(cut.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA))
    return f"{off.mean():.2f}", f"{np.percentile(off, 99.9):.0f}"


def main() -> None:
    """Parse the command line, time everything, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="an exported .onnx; without one, the letterbox alone")
    parser.add_argument("images", nargs="?", help="a folder of photos for it")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--count", type=int, default=20, help="photos")
    args = parser.parse_args()
    console = Console()
    console.print(resampling(args.rounds, args.threads))
    console.print(shrinking(args.rounds))
    if args.model is not None and args.images is not None:
        console.print(with_network(args.model, args.images, args.rounds, args.threads, args.count))


if __name__ == "__main__":
    main()
