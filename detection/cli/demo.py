"""`swath demo`: the whole path on a rendered field, from images to an annotated drive.

Heavy imports stand inside the functions, so that `swath --help` answers at once.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from detection.cli.help import example

EXAMPLE = example("swath demo --out demo")

IMAGES = {"train": 200, "val": 40, "test": 80}
SIZE_HW = (480, 640)
DRIVE_S, DRIVE_FPS, DRIVE_M_S = 8.0, 15.0, 0.5
_SEEDS = {"train": 0, "val": 1_000, "test": 2_000, "drive": 3_000}


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where everything goes.")] = Path("demo"),
) -> None:
    """Render a field, train on it, evaluate, export and stream a drive along its rows.

    No network, no account, no GPU needed. Leaves metrics.json, model.onnx, report.html and stream/.
    """
    run_demo(out)


def run_demo(out: Path) -> None:
    """Render, train, evaluate, export, stream; each result is printed as it comes.

    Args:
        out: gets `metrics.json`, `report.html`, `model.onnx`, `stream/detections.jsonl`,
            `stream/annotated.mp4`, `stream/score.json`; and `field/` and `run/`, which they came from.

    Raises:
        SwathError: `out` is a file, or holds something that is not a demo.

    """
    from rich.console import Console

    from data.formats import load_dataset
    from data.synthetic import render_dataset, render_drive
    from detection.cli.stream_terminal import run_in_terminal
    from detection.cli.terminal import TerminalWatcher, metrics_table
    from detection.evaluation.evaluate import evaluate
    from detection.evaluation.report import write_evaluation
    from detection.export.export import export
    from detection.models.checkpoint import load_trained, write_whole
    from detection.models.torch_detector import TorchDetector
    from detection.recipe.reading import config_folder, load_recipe
    from detection.runtime.errors import SwathError
    from detection.runtime.operations.machine import Machine
    from detection.runtime.signals import stopped_by_signals
    from detection.training.train import train

    console = Console()
    _make_room(out)
    recipe_path = config_folder() / "demo.yaml"
    field = out / "field"
    recipe = load_recipe(recipe_path, [f"data.{part}={json.dumps(str(field / part))}" for part in ("train", "val")])

    console.rule("1. a field, rendered", align="left")
    with TerminalWatcher() as watcher:
        for part, images in IMAGES.items():
            render_dataset(
                field / part,
                images=images,
                size_hw=SIZE_HW,
                seed=_SEEDS[part],
                progress=lambda done, total, part=part: watcher.progress(f"rendering {part}", done, total),  # type: ignore[misc]
            )
        render_drive(
            field / "drive",
            seconds=DRIVE_S,
            fps=DRIVE_FPS,
            size_hw=SIZE_HW,
            seed=_SEEDS["drive"],
            speed_m_s=DRIVE_M_S,
            progress=lambda done, total: watcher.progress("rendering drive", done, total),
        )

    console.rule("2. train", align="left")
    with stopped_by_signals() as stop, TerminalWatcher() as watcher:
        best = train(recipe, out / "run", watcher=watcher, stop=stop)

    console.rule("3. evaluate, on images of fields that training never saw", align="left")
    trained = load_trained(best)
    test = load_dataset(field / "test")
    with TerminalWatcher() as watcher:
        scored = evaluate(
            TorchDetector.of(trained),
            test,
            progress=lambda done, total: watcher.progress("evaluating", done, total),
        )
    write_evaluation(out, scored, model=str(best))
    console.print(metrics_table(scored.metrics, title=f"{len(test)} unseen images"))

    console.rule("4. export, and compare with PyTorch box by box", align="left")
    model = out / "model.onnx"
    with TerminalWatcher() as watcher:
        report = export(trained, model, images=load_dataset(field / "val"), held_out=True, progress=watcher.progress)
    console.print(f"{report['boxes']} boxes of {report['images']} images agree")

    console.rule("5. stream a drive along the rows", align="left")
    (out / "stream").mkdir(exist_ok=True)
    jsonl = out / "stream" / "detections.jsonl"
    machine = Machine.model_validate(
        {
            "model": {"path": model},
            "cameras": [{"name": "drive", "source": str(field / "drive" / "drive.mp4")}],
            "outputs": {"jsonl": jsonl, "video": out / "stream" / "annotated.mp4"},
            "tracking": {},
        }
    )
    status = run_in_terminal(machine)
    if status:
        raise SwathError(f"{field / 'drive'}: the drive could not be streamed to its end")
    score = score_drive(jsonl, field / "drive" / "annotations.json")
    text = json.dumps(score, indent=2) + "\n"
    write_whole(out / "stream" / "score.json", lambda path: path.write_text(text, encoding="utf-8"))
    console.print(
        f"{score['frames']} frames against the scene's truth: "
        f"precision {score['precision']:.3f}, recall {score['recall']:.3f}"
    )
    console.print(f"\nlook at [bold]{out / 'report.html'}[/bold] and [bold]{out / 'stream' / 'annotated.mp4'}[/bold]")


def score_drive(jsonl: Path, annotations: Path) -> dict[str, Any]:
    """Match a stream's detections with the truth of each frame, at IoU 0.5 and of the same class.

    Args:
        jsonl: as `swath stream` writes it, one line a frame.
        annotations: of the rendered drive, COCO with a `frame` at each image.

    Returns:
        `frames`, `boxes`, `detections`, `hits`, `precision`, `recall`.

    """
    import numpy as np

    from detection.evaluation.matching import match_detections
    from detection.runtime.detections import Detections

    truth = json.loads(annotations.read_text(encoding="utf-8"))
    labels = {category["id"]: label for label, category in enumerate(truth["categories"])}
    by_name = {category["name"]: labels[category["id"]] for category in truth["categories"]}
    frame_of = {image["id"]: image["frame"] for image in truth["images"]}
    boxes_of: dict[int, list[list[float]]] = {frame: [] for frame in frame_of.values()}
    labels_of: dict[int, list[int]] = {frame: [] for frame in frame_of.values()}
    for annotation in truth["annotations"]:
        x, y, width, height = annotation["bbox"]
        boxes_of[frame_of[annotation["image_id"]]].append([x, y, x + width, y + height])
        labels_of[frame_of[annotation["image_id"]]].append(labels[annotation["category_id"]])

    lines = [json.loads(line) for line in jsonl.read_text(encoding="utf-8").splitlines()]
    detections = hits = 0
    for line in lines:
        found = line["detections"]
        matched = match_detections(
            np.array(boxes_of[line["frame"]], np.float32).reshape(-1, 4),
            np.array(labels_of[line["frame"]], np.int64),
            Detections(
                np.array([d["box_xyxy"] for d in found], np.float32).reshape(-1, 4),
                np.array([d["score"] for d in found], np.float32),
                np.array([by_name[d["class"]] for d in found], np.int64),
            ),
        )
        detections += len(matched.kept)
        hits += int(matched.true_positive.sum())
    boxes = len(truth["annotations"])
    return {
        "frames": len(lines),
        "boxes": boxes,
        "detections": detections,
        "hits": hits,
        "precision": hits / detections if detections else 0.0,
        "recall": hits / boxes if boxes else 0.0,
    }


def _make_room(out: Path) -> None:
    """Take away what an earlier demo left; touch nothing else."""
    from detection.runtime.errors import SwathError

    if out.is_dir() and any(out.iterdir()) and not (out / "field").is_dir():
        raise SwathError(f"{out}: holds something that is no demo; give another --out")
    if out.exists() and not out.is_dir():
        raise SwathError(f"{out}: is a file; give another --out")
    for name in ("field", "run", "stream"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "field").mkdir(parents=True)
