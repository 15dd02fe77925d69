"""From the float32 deploy graph to one of lower precision that holds its budget, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import onnx

from data import Dataset
from detection.export.precision.calibration import Method, choose, inputs_of, measure
from detection.export.precision.fp16 import to_fp16
from detection.export.precision.int8 import calibrated_tensors, to_int8
from detection.export.precision.network import find_body, named, trunk
from detection.export.precision.search import fewest_in_float, sensitivity
from detection.export.reference import Progress, Verdict
from detection.runtime.errors import SwathError
from detection.runtime.parity.parity import DELTA_AP_POINTS

Judge = Callable[[onnx.ModelProto, str], Verdict]
"""Judges a graph; the second argument names it to whoever watches."""

_PROBES = 6  # images by which layers are put in order
_SHARE_IN_FLOAT = 0.5  # with more of its layers in float a file is no int8 file any more


class PrecisionError(SwathError):
    """No graph of that precision stays near enough to PyTorch."""


class Lowering(Protocol):
    """Makes a graph of lower precision."""

    @property
    def precision(self) -> str:
        """`fp16` or `int8`."""

    def __call__(
        self, model: onnx.ModelProto, judge: Judge, progress: Progress | None = None
    ) -> tuple[onnx.ModelProto, dict[str, Any]]:
        """The float32 deploy graph -> the other, and what the parity report says of how it was made."""


class Fp16:
    """The network in float16, see `detection.export.precision.fp16`."""

    precision = "fp16"

    def __call__(
        self, model: onnx.ModelProto, judge: Judge, progress: Progress | None = None
    ) -> tuple[onnx.ModelProto, dict[str, Any]]:
        """See `Lowering`."""
        return to_fp16(model), {"made_for": "GPU, ARM; on an x86 CPU onnxruntime converts back to float32"}


class Int8:
    """The network in 8-bit integers, the layers that these harm most in float32.

    Args:
        images: to calibrate on; of many those are chosen that cover them.
        method: see `detection.export.precision.calibration.measure`.

    """

    precision = "int8"

    def __init__(self, images: Dataset, *, method: Method = "minmax") -> None:
        if not len(images):
            raise PrecisionError(f"{images.name}: no images to calibrate on; name others with --calibration")
        self._images = images
        self._method = method

    def __call__(
        self, model: onnx.ModelProto, judge: Judge, progress: Progress | None = None
    ) -> tuple[onnx.ModelProto, dict[str, Any]]:
        """See `Lowering`.

        Raises:
            PrecisionError: the budget does not hold though half of the layers stay in float.
            DataError: an image cannot be read.

        """

        def told(task: str) -> Callable[[int, int], None]:
            return lambda done, total: progress(task, done, total) if progress else None

        model = named(model)
        body = find_body(model)
        chosen = choose(self._images, progress=told("choosing images"))
        height, width = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:3])
        inputs = list(inputs_of(chosen, (height, width)))
        ranges = measure(
            trunk(model, body),
            calibrated_tensors(model, body),
            inputs,
            method=self._method,
            progress=told("calibrating"),
        )
        harm = sensitivity(model, body, ranges, inputs[:: -(-len(inputs) // _PROBES)], told("layer by layer"))
        order = list(harm)
        verdicts: dict[int, Verdict] = {}

        def graph(in_float: int) -> onnx.ModelProto:
            return to_int8(model, body, ranges, order[in_float:])

        def holds(in_float: int) -> tuple[bool, str]:
            verdict = verdicts[in_float] = judge(graph(in_float), f"{in_float} layers in float")
            return not verdict.faults, "; ".join(verdict.faults) or f"AP off by {verdict.delta_points:.2f} points"

        most = int(_SHARE_IN_FLOAT * len(order))
        count, trials = fewest_in_float(len(order), most, holds)
        if count is None:
            raise PrecisionError(
                f"int8: out of budget even with {most} of {len(order)} layers in float ({trials[-1].said}); "
                "give more --calibration images of the field, or take --precision fp16 or fp32"
            )
        return graph(count), {
            "layers": len(order),
            "layers_in_float": [{"layer": name, "sqnr_db_alone": round(harm[name], 2)} for name in order[:count]],
            "why": "alone in 8 bits they disturb the network's answers most; the fewest that hold the budget",
            "sqnr_db_alone_next": round(harm[order[count]], 2),
            "trials": [{"in_float": t.in_float, "holds": t.holds, "said": t.said} for t in trials],
            "calibration": {
                "dataset": self._images.name,
                "fingerprint": self._images.fingerprint(),
                "images": len(chosen),
                "of": len(self._images),
                "method": self._method,
                "activations": "uint8, per tensor",
                "weights": "int8 symmetric, per channel",
            },
        }


def said_of(report: Mapping[str, Any]) -> Iterator[str]:
    """What a parity report says of a file of lower precision, line by line; nothing of one in float32."""
    precision = report["precision"]
    if precision == "fp32":
        return
    gain, int8 = report["size_and_speed"], report.get("int8", {})
    kept = f"; {len(int8['layers_in_float'])} of {int8['layers']} layers in float" if int8 else ""
    size = f"{gain['bytes'] / 1e6:.1f} MB (fp32 {gain['fp32_bytes'] / 1e6:.1f} MB)"
    time = f"{gain['cpu_ms']:.1f} ms an image by onnxruntime on this CPU (fp32 {gain['fp32_cpu_ms']:.1f} ms"
    yield f"{precision}: {size}, {time}, {gain['cpu_speed_up']:.2f} x){kept}"
    delta, budget = report["delta_ap_points"], DELTA_AP_POINTS[precision]
    if delta > budget:
        chance = report["delta_ap_chance_points"]
        yield (
            f"AP is off by {delta:.2f} points, more than {precision}'s {budget}; {chance:.2f} of them may be "
            "chance: more images in data.val would tell"
        )
