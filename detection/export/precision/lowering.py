"""From the float32 end-to-end graph to one of lower precision that stays within its budget, or an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, Protocol

import onnx

from data import Dataset
from detection.export.parity_check import CheckResult, Progress
from detection.export.precision.calibration import Method, choose, inputs_of, measure
from detection.export.precision.fp16 import to_fp16
from detection.export.precision.int8 import calibrated_tensors, to_int8
from detection.export.precision.network import find_network, named, trunk
from detection.export.precision.search import fewest_in_float, sensitivity
from detection.runtime.errors import SwathError
from detection.runtime.parity.budgets import DELTA_AP_POINTS

Check = Callable[[onnx.ModelProto, str], CheckResult]
"""Checks a graph against PyTorch; the second argument names it for progress reports."""

_PROBES = 6  # images on which the sensitivity of layers is measured
_SHARE_IN_FLOAT = 0.5  # with more of its layers in float the file would hardly be int8


class PrecisionError(SwathError):
    """No graph of this precision is close enough to PyTorch."""


class Lowering(Protocol):
    """Makes a graph of lower precision."""

    @property
    def precision(self) -> str:
        """`fp16` or `int8`."""

    def __call__(
        self, model: onnx.ModelProto, check: Check, progress: Progress | None = None
    ) -> tuple[onnx.ModelProto, dict[str, Any]]:
        """Lower the float32 end-to-end graph.

        Args:
            model: in float32.
            check: checks a candidate against PyTorch.
            progress: called with (task, done, total).

        Returns:
            The graph of lower precision, and how it was made, for the parity report.

        """


class Fp16:
    """The network in float16, see `detection.export.precision.fp16`."""

    precision = "fp16"

    def __call__(
        self, model: onnx.ModelProto, check: Check, progress: Progress | None = None
    ) -> tuple[onnx.ModelProto, dict[str, Any]]:
        """See `Lowering`."""
        return to_fp16(model), {"made_for": "GPU, ARM; on an x86 CPU onnxruntime converts back to float32"}


class Int8:
    """The network in 8-bit integers, its most sensitive layers in float32.

    Args:
        images: to calibrate on; a representative subset is chosen of many.
        method: see `detection.export.precision.calibration.measure`.

    """

    precision = "int8"

    def __init__(self, images: Dataset, *, method: Method = "minmax") -> None:
        if not len(images):
            raise PrecisionError(f"{images.name}: no images to calibrate on; name others with --calibration")
        self._images = images
        self._method = method

    def __call__(
        self, model: onnx.ModelProto, check: Check, progress: Progress | None = None
    ) -> tuple[onnx.ModelProto, dict[str, Any]]:
        """See `Lowering`.

        Raises:
            PrecisionError: outside the budget even with half of the layers in float.
            DataError: an image cannot be read.

        """

        def report(task: str) -> Callable[[int, int], None]:
            return lambda done, total: progress(task, done, total) if progress else None

        model = named(model)
        network = find_network(model)
        chosen = choose(self._images, progress=report("choosing images"))
        height, width = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:3])
        inputs = list(inputs_of(chosen, (height, width)))
        ranges = measure(
            trunk(model, network),
            calibrated_tensors(model, network),
            inputs,
            method=self._method,
            progress=report("calibrating"),
        )
        sqnr_db = sensitivity(model, network, ranges, inputs[:: -(-len(inputs) // _PROBES)], report("layer by layer"))
        order = list(sqnr_db)

        def graph(in_float: int) -> onnx.ModelProto:
            return to_int8(model, network, ranges, order[in_float:])

        def passes(in_float: int) -> tuple[bool, str]:
            result = check(graph(in_float), f"{in_float} layers in float")
            delta = result.delta_points
            off = "AP undefined: no boxes" if delta is None else f"AP off by {delta:.2f} points"
            return result.passed, "; ".join(result.faults) or off

        most = int(_SHARE_IN_FLOAT * len(order))
        count, trials = fewest_in_float(len(order), most, passes)
        if count is None:
            raise PrecisionError(
                f"int8: out of budget even with {most} of {len(order)} layers in float ({trials[-1].result}); "
                "give more --calibration images of the field, or take --precision fp16 or fp32"
            )
        return graph(count), {
            "layers": len(order),
            "layers_in_float": [{"layer": name, "sqnr_db_alone": round(sqnr_db[name], 2)} for name in order[:count]],
            "criterion": "lowest signal-to-noise ratio with this layer alone in 8 bits; the fewest within the budget",
            "sqnr_db_alone_next": round(sqnr_db[order[count]], 2),
            "trials": [asdict(trial) for trial in trials],
            "calibration": {
                "dataset": self._images.name,
                "fingerprint": self._images.fingerprint(),
                "images": len(chosen),
                "images_available": len(self._images),
                "method": self._method,
                "activations": "uint8, per tensor",
                "weights": "int8 symmetric, per channel",
            },
        }


def summary_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Size, speed and accuracy of a file of lower precision, as lines of text; none for one in float32.

    Args:
        report: the file's parity report.

    """
    precision = report["precision"]
    if precision == "fp32":
        return
    gain, int8 = report["size_and_speed"], report.get("int8", {})
    kept = f"; {len(int8['layers_in_float'])} of {int8['layers']} layers in float" if int8 else ""
    size = f"{gain['bytes'] / 1e6:.1f} MB (fp32 {gain['fp32_bytes'] / 1e6:.1f} MB)"
    time = f"{gain['cpu_ms']:.1f} ms per image by onnxruntime on this CPU (fp32 {gain['fp32_cpu_ms']:.1f} ms"
    yield f"{precision}: {size}, {time}, {gain['cpu_speed_up']:.2f} x){kept}"
    delta, budget = report["delta_ap_points"], DELTA_AP_POINTS[precision]
    if delta is not None and delta > budget:
        chance = report["delta_ap_chance_points"]
        yield (
            f"AP is off by {delta:.2f} points, more than {precision}'s {budget}; {chance:.2f} of them may be "
            "chance: more images in data.val would tell"
        )
