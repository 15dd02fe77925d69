"""Which layers 8 bits harm, and how few of them must stay in float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from detection.export.precision.int8 import Ranges, read_as, to_int8
from detection.export.precision.network import Body, trunk


@dataclass(frozen=True)
class Trial:
    """One graph that was judged.

    Attributes:
        in_float: so many layers stayed in float, the most sensitive ones.
        holds: whether that was enough.
        said: why not, or how well, in words.

    """

    in_float: int
    holds: bool
    said: str


def sensitivity(
    model: onnx.ModelProto,
    body: Body,
    ranges: Ranges,
    inputs: Sequence[NDArray[np.uint8]],
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """How much noise each layer alone in 8 bits puts into the network's answers, the most harmful layer first.

    Signal to noise in dB, the mean over the network's answers and over inputs of the noise's share of the energy.

    Args:
        model: float32, its nodes named.
        body: the network in it.
        ranges: what flows in it.
        inputs: uint8 (H, W, 3) RGB each; a few are enough.
        progress: called with (done, total) layers.

    """
    small = trunk(model, body)
    truth = _answers(small, inputs)
    found: dict[str, float] = {}
    for done, layer in enumerate(body.layers, 1):
        found[layer] = _sqnr_db(truth, _answers(to_int8(small, body, ranges, [layer]), inputs))
        if progress:
            progress(done, len(body.layers))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _answers(model: onnx.ModelProto, inputs: Sequence[NDArray[np.uint8]]) -> list[list[NDArray[np.float32]]]:
    """What a trunk says, by input and answer: as the postprocessing reads it, so after its way through integers."""
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


def _sqnr_db(truth: list[list[NDArray[np.float32]]], answers: list[list[NDArray[np.float32]]]) -> float:
    shares = [
        float(np.square(right - wrong).sum() / max(np.square(right).sum(), 1e-12))
        for rights, wrongs in zip(truth, answers, strict=True)
        for right, wrong in zip(rights, wrongs, strict=True)
    ]
    return float(-10 * np.log10(max(sum(shares) / len(shares), 1e-12)))


def fewest_in_float(
    layers: int, most: int, judge: Callable[[int], tuple[bool, str]]
) -> tuple[int | None, list[Trial]]:
    """How many of the most sensitive layers must stay in float: none, one, two, four ..., then halves between.

    Args:
        layers: there are.
        most: so many may stay at most.
        judge: whether the graph with so many left out holds, and that in words.

    Returns:
        The number, None where even `most` do not help; and every trial.

    """
    trials: list[Trial] = []

    def holds(count: int) -> bool:
        trials.append(Trial(count, *judge(count)))
        return trials[-1].holds

    too_few, count = -1, 0
    while not holds(count):
        if count >= most:
            return None, trials
        too_few, count = count, min(max(1, 2 * count), most, layers)
    while count - too_few > 1:
        middle = (too_few + count) // 2
        too_few, count = (too_few, middle) if holds(middle) else (middle, count)
    return count, trials
