"""The sensitivity of each layer to 8 bits, and the fewest layers that must stay in float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from detection.export.precision.int8 import Ranges, read_as, to_int8
from detection.export.precision.network import Network, trunk


@dataclass(frozen=True)
class Trial:
    """One graph that was checked.

    Attributes:
        layers_in_float: number of layers that stayed in float, the most sensitive ones.
        passed: whether the graph was within its budget.
        result: the figures or the faults, as text.

    """

    layers_in_float: int
    passed: bool
    result: str


def sensitivity(
    model: onnx.ModelProto,
    network: Network,
    ranges: Ranges,
    inputs: Sequence[NDArray[np.uint8]],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Sensitivity of each layer to 8 bits: signal-to-noise ratio of the outputs with this layer alone quantised.

    In dB, from the noise's share of the energy averaged over outputs and inputs; the most sensitive layer first.

    Args:
        model: float32, its nodes named.
        network: the network in it.
        ranges: its activation ranges.
        inputs: uint8 (H, W, 3) RGB each; a few are enough.
        progress: called with (done, total) layers.

    """
    small = trunk(model, network)
    truth = _outputs(small, inputs)
    found: dict[str, float] = {}
    for done, layer in enumerate(network.layers, 1):
        found[layer] = _sqnr_db(truth, _outputs(to_int8(small, network, ranges, [layer]), inputs))
        if progress:
            progress(done, len(network.layers))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _outputs(model: onnx.ModelProto, inputs: Sequence[NDArray[np.uint8]]) -> list[list[NDArray[np.float32]]]:
    """Outputs of a trunk, by input and output: as the postprocessing reads them, so after dequantisation."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    made = {name for node in copy.graph.node for name in node.output}
    for value in copy.graph.output:
        if read_as(value.name) in made:
            value.name = read_as(value.name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [session.run(None, {model.graph.input[0].name: image[None]}) for image in inputs]


def _sqnr_db(truth: list[list[NDArray[np.float32]]], outputs: list[list[NDArray[np.float32]]]) -> float:
    shares = [
        float(np.square(right - wrong).sum() / max(np.square(right).sum(), 1e-12))
        for rights, wrongs in zip(truth, outputs, strict=True)
        for right, wrong in zip(rights, wrongs, strict=True)
    ]
    return float(-10 * np.log10(max(sum(shares) / len(shares), 1e-12)))


def fewest_in_float(
    layers: int, most: int, check: Callable[[int], tuple[bool, str]]
) -> tuple[int | None, list[Trial]]:
    """The number of most sensitive layers that must stay in float: tries 0, 1, 2, 4, ..., then bisects.

    Args:
        layers: number of all layers.
        most: largest number that may stay in float.
        check: whether the graph with so many layers in float passes, and the result as text.

    Returns:
        The number, None if even `most` is not enough; and every trial.

    """
    trials: list[Trial] = []

    def passes(count: int) -> bool:
        trials.append(Trial(count, *check(count)))
        return trials[-1].passed

    too_few, count = -1, 0
    while not passes(count):
        if count >= most:
            return None, trials
        too_few, count = count, min(max(1, 2 * count), most, layers)
    while count - too_few > 1:
        middle = (too_few + count) // 2
        too_few, count = (too_few, middle) if passes(middle) else (middle, count)
    return count, trials
