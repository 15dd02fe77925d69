"""What share of a model file is its postprocessing? The whole graph beside the same graph cut off behind its network.

    python scripts/bench/graph.py mine.onnx --images photos

Both take turns on the same images, in onnxruntime on the CPU; the boxes that it finds cost what they cost.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from data import load_dataset
from detection.export.precision.network import find_network, named, trunk
from detection.runtime import Detector
from detection.runtime.letterbox import letterbox


def main() -> None:
    """Parse the command line, let both take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--images", required=True, help="DATASET: 16 of its images are looked at")
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    whole = named(onnx.load(args.model))
    graphs = {"whole": whole, "network": trunk(whole, find_network(whole))}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or one would slow the other
    sessions = {
        name: onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for name, graph in graphs.items()
    }
    detector = Detector(args.model, score_thresholds=0.0)
    dataset = load_dataset(args.images, split="train")
    images = [image.read() for image in dataset.spread(16).images]
    inputs = [letterbox(image, detector.metadata.input_size_hw)[0][None] for image in images]
    took: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(args.turns):
        for name, session in sessions.items():
            start = time.perf_counter_ns()
            session.run(None, {"images": inputs[turn % len(inputs)]})
            took[name].append((time.perf_counter_ns() - start) / 1e6)
    warm = {name: np.array(times[args.turns // 10 :]) for name, times in took.items()}
    share = 1 - np.median(warm["network"] / warm["whole"])
    for name, times in warm.items():
        print(f"{name}: {np.median(times):.2f} ms")
    found = np.mean([len(detector(image)) for image in images])
    print(
        f"postprocessing: {100 * share:.1f} % of the whole, with {found:.0f} boxes an image above the score threshold"
    )


if __name__ == "__main__":
    main()
