"""Does the parity check refuse what is wrong and nothing else? Detectors are trained, exported and spoiled.

    python scripts/bench/parity_gate.py --out runs/parity_gate

Trains short runs of several presets, seeds and datasets, the folder of the real photos being `--photos`; exports
each, then checks each again with every fault of parity_faults.py planted in its graph. What is in `--out` already is
not made again. Prints a line for each detector, and how many passed and were refused.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import yaml
from parity_faults import faults_of, spoilt

from data import load_dataset
from data.synthetic import render_dataset
from detection.evaluation.evaluate import evaluate
from detection.export.export import ExportError, ExportOptions, export
from detection.export.graph.end_to_end import end_to_end_graph
from detection.export.onnx_file import to_onnx
from detection.export.parity_check import ParityCheck
from detection.export.run_images import parity_images
from detection.models.checkpoint import Trained, load_trained
from detection.models.torch_detector import TorchDetector
from detection.recipe.reading import load_recipe
from detection.training.train import train
from detection.training.watcher import Step

# preset, dataset, seed, epochs: short, since a detector that has learned little has scores that are nearly equal; and
# the assignment where it is not center_sampling: the others train a head without centre-ness
DETECTORS: tuple[tuple[Any, ...], ...] = (
    ("fcos_lite_n", "cwfid", 0, 2),
    ("ssdlite320_mobilenet_v3_large", "rendered", 0, 4),
    ("fasterrcnn_mobilenet_v3_large_320_fpn", "rendered", 0, 4),
    ("fcos_lite", "rendered", 0, 3),
    ("fcos_lite_s", "rendered", 0, 3),
    ("fcos_lite_n", "cwfid", 1, 4),
    ("fcos_lite_n", "rendered", 0, 6),
    ("fcos_lite", "cwfid", 0, 2),
    ("ssdlite320_mobilenet_v3_large", "cwfid", 0, 3),
    ("fasterrcnn_mobilenet_v3_large_320_fpn", "cwfid", 0, 3),
    ("fcos_lite_n", "sesame_weed", 0, 1),
    ("fcos_lite_n", "cwfid", 2, 6),
    ("fcos_lite_n", "cwfid", 3, 8),
    ("fcos_lite_s", "cwfid", 0, 2),
    ("fcos_lite", "rendered", 1, 8),
    ("ssdlite320_mobilenet_v3_large", "rendered", 1, 8),
    ("fasterrcnn_mobilenet_v3_large_320_fpn", "rendered", 1, 8),
    ("fcos_lite_n", "rendered", 1, 1),
    ("fcos_lite_n", "cwfid", 4, 1),
    ("fcos_lite_n", "cwfid", 5, 3),
    ("fcos_lite_n", "cwfid", 6, 6, "task_aligned"),
    ("fcos_lite", "rendered", 2, 6, "atss"),
)
SIZE_HW = (160, 224)


class Quiet:
    """A watcher that says nothing."""

    def note(self, line: str) -> None:
        """Nothing."""

    def progress(self, task: str, done: int, total: int) -> None:
        """Nothing."""

    def step(self, taken: Step) -> None:
        """Nothing."""

    def validated(self, **rest: object) -> None:
        """Nothing."""


def made(
    folder: Path, photos: Path, preset: str, dataset: str, seed: int, epochs: int, assign: str | None = None
) -> tuple[Trained, Path]:
    """A trained detector and its graph: read from `folder`, else made there."""
    source = photos / dataset
    if dataset == "rendered":
        source = folder.parent / f"rendered_{seed}"
        if not source.exists():
            render_dataset(source, images=16, size_hw=(240, 320), seed=20 + seed)
    graph = folder / "graph.onnx"
    if not graph.exists():
        folder.mkdir(parents=True, exist_ok=True)
        recipe: dict[str, Any] = {
            "data": {"train": str(source.resolve()), "val": None},
            "model": {"preset": preset, "weights": "imagenet-offline" if preset.startswith("fcos_lite") else "none"},
            "input": {"size_hw": list(SIZE_HW)},
            "train": {"epochs": epochs, "batch_size": 4, "workers": 0, "accelerator": "cpu", "seed": seed},
        }
        if assign:
            recipe["model"]["assign"] = assign
        if dataset == "sesame_weed":
            recipe["train"]["max_minutes"] = 1.5
        file = folder / "recipe.yaml"
        file.write_text(yaml.safe_dump(recipe))
        train(load_recipe(file), folder / "run", watcher=Quiet())
        trained = load_trained(folder / "run")
        onnx.save(to_onnx(end_to_end_graph(trained), trained.config.size_hw), graph)
    return load_trained(folder / "run"), graph


@dataclass(frozen=True)
class Result:
    """What became of one detector.

    Attributes:
        name: of the run.
        fault: why its sound file was refused; empty where it was written.
        ap: in PyTorch.
        boxes, borderline: compared, and of them those on one side only where the last bits decide.
        network: largest error of a score.
        planted: faults.
        accepted: those that were not refused.

    """

    name: str
    fault: str
    ap: float
    boxes: int
    borderline: int
    network: float
    planted: list[str]
    accepted: list[str]


def tried(name: str, trained: Trained, graph: Path, images: int) -> Result:
    """Export a detector as it is, and check its graph with every fault."""
    model = onnx.load(graph)
    dataset, held_out = parity_images(trained, load_dataset)
    dataset = dataset.spread(images)
    out = graph.with_name("model.onnx")
    try:
        report = export(trained, out, images=dataset, held_out=held_out, options=ExportOptions(graph=model))
        fault = ""
    except ExportError as error:
        report, fault = {}, str(error)
    detector = TorchDetector.of(trained)
    check = ParityCheck(detector, evaluate(detector, dataset))
    faults = faults_of(model)
    accepted = [kind for kind, plant in faults.items() if check.check_parts(spoilt(model, plant)).faults == []]
    return Result(
        name,
        fault,
        report.get("ap_pytorch", -1),
        report.get("boxes", 0),
        report.get("borderline_boxes", 0),
        report.get("network", {}).get("max_score_error", -1),
        list(faults),
        accepted,
    )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--photos", type=Path, default=Path("../shared/datasets"), help="folder of the real datasets")
    parser.add_argument("--images", type=int, default=4, help="images of a dataset that each file is compared on")
    parser.add_argument("--only-train", action="store_true", help="make runs and graphs, check nothing")
    parser.add_argument("--only-made", action="store_true", help="check what is in --out, train nothing")
    asked = parser.parse_args()
    results = []
    for detector in DETECTORS:
        name = "-".join(map(str, detector))
        kept = asked.out / name / "result.json"
        if asked.only_made and not (asked.out / name / "graph.onnx").exists():
            continue
        began = time.monotonic()
        trained, graph = made(asked.out / name, asked.photos, *detector)
        if not asked.only_train:
            if not kept.exists():
                kept.write_text(json.dumps(asdict(tried(name, trained, graph, asked.images))))
            result = Result(**json.loads(kept.read_text()))
            results.append(result)
            print(
                f"{name}: {result.fault or 'passed'}; AP {result.ap:.4f}, {result.borderline} of {result.boxes} "
                f"boxes borderline, scores within {result.network:.1e}; refused "
                f"{len(result.planted) - len(result.accepted)} of {len(result.planted)} faults, accepted: "
                f"{', '.join(result.accepted) or 'none'}",
                flush=True,
            )
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    planted = sum(len(one.planted) for one in results)
    refused = planted - sum(len(one.accepted) for one in results)
    print(
        f"sound files passed {sum(not one.fault for one in results)} of {len(results)}; planted faults refused "
        f"{refused} of {planted}"
    )


if __name__ == "__main__":
    main()
