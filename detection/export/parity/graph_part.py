"""Parts of an end-to-end graph, cut out at the tensors that it names and run by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from detection.runtime.errors import SwathError

Tensors = dict[str, NDArray[Any]]
"""By name, as in the graph; the first axis is that of the images."""


_IMAGES = "images"


class Part:
    """A part of a graph: from some of its tensors to others, in onnxruntime on the CPU.

    Args:
        model: the whole graph, as `detection.export.onnx_file.to_onnx` gives it.
        inputs: names of the tensors to be given.
        outputs: names of those to be had.

    Raises:
        SwathError: the graph has no tensor of such a name.

    """

    def __init__(self, model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        graph = model.graph
        known = {value.name for value in (*graph.input, *graph.value_info, *graph.output)}
        if missing := sorted({*inputs, *outputs} - known):
            raise SwathError(
                f"the graph has no tensor {missing[0]!r} to check it by: make it with "
                "detection.export.onnx_file.to_onnx"
            )
        self.outputs = tuple(outputs)
        self.inputs = tuple(inputs)
        # the number of images is read from `images` wherever it is needed
        part = onnx.utils.Extractor(model).extract_model([*inputs, *({_IMAGES} - {*inputs})], list(outputs))
        self._counts_images = _IMAGES not in inputs and any(_IMAGES in node.input for node in part.graph.node)
        if not self._counts_images and _IMAGES not in inputs:
            kept = [value for value in part.graph.input if value.name != _IMAGES]
            del part.graph.input[:]
            part.graph.input.extend(kept)
        shape = next(value for value in graph.input if value.name == _IMAGES).type.tensor_type.shape
        self._image_shape = [axis.dim_value for axis in shape.dim[1:]]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            part.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, tensors: Mapping[str, NDArray[Any]]) -> Tensors:
        """Its outputs by name; of `tensors` it takes those that it needs, the first with an axis of images."""
        given = {name: np.ascontiguousarray(tensors[name]) for name in self.inputs}
        if self._counts_images:
            given[_IMAGES] = np.zeros((len(given[self.inputs[0]]), *self._image_shape), np.uint8)
        return dict(zip(self.outputs, self._session.run(None, given), strict=True))
