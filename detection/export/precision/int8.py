"""8-bit integers: convolutions and what joins them, as QuantizeLinear / DequantizeLinear pairs (QDQ).

onnxruntime, OpenVINO and TensorRT fuse such pairs into their own integer kernels. Weights are int8, symmetric, with a
scale for each output channel; activations are uint8 with one scale per tensor; biases int32. The arithmetic is that
of Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (CVPR
2018).

`onnxruntime.quantization` gives the same graph to within rounding, but takes seconds for each, and the search for
sensitive layers needs a graph per layer; it would also round what float layers read from one another.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from detection.export.precision.fusion import bytes_as_they_are, keep_float_weights
from detection.export.precision.network import WEIGHTED, Network

_GLUE = ("Add", "Concat", "Resize", "MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "Clip")
"""Operators with integer kernels, that are converted where they stand between converted ones."""

_READ = "_dq"
_SAME_SCALE = ("Resize", "MaxPool")
"""Of these the output takes the scale of the input: they move values and make no new ones."""


@dataclass(frozen=True)
class Ranges:
    """Activation ranges of a network: least and greatest value of each tensor, by name."""

    lows: dict[str, float]
    highs: dict[str, float]

    def scale_and_zero(self, name: str) -> tuple[np.float32, np.uint8]:
        """Scale and zero point of a tensor in uint8. Zero is represented exactly: convolutions are padded with it."""
        low, high = min(self.lows[name], 0.0), max(self.highs[name], 0.0)
        scale = np.float32((high - low) / 255 if high > low else 1.0)
        return scale, np.uint8(np.clip(round(-low / float(scale)), 0, 255))


def read_as(name: str) -> str:
    """Name of a tensor after it has been quantised and dequantised."""
    return name + _READ


def calibrated_tensors(model: onnx.ModelProto, network: Network) -> list[str]:
    """The tensors whose ranges `to_int8` may need: inputs and outputs of the network's nodes."""
    inside = set(network.nodes)
    weights = {weight.name for weight in model.graph.initializer}
    names = [
        name
        for node in model.graph.node
        if node.name in inside and node.op_type in (*WEIGHTED, *_GLUE)
        for name in (*node.input, *node.output)
        if name in network.floats and name not in weights
    ]
    return list(dict.fromkeys(names))


def to_int8(model: onnx.ModelProto, network: Network, ranges: Ranges, layers: Collection[str]) -> onnx.ModelProto:
    """The same end-to-end graph with some layers in 8-bit integers.

    Args:
        model: float32, its nodes named (`detection.export.precision.network.named`), or its trunk.
        network: the network in it.
        ranges: of every tensor that `calibrated_tensors` names.
        layers: those of `network.layers` to convert.

    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    converted = {name for layer in layers for name in network.layers[layer]}
    converted |= _glue(copy, network, converted)
    _drop_activations(copy, converted)
    pixels = bytes_as_they_are(copy) if layers else {}
    writer = _Writer(copy, network, ranges, pixels)
    made = {name for node in copy.graph.node if node.name in converted for name in node.output}
    for node in copy.graph.node:
        for index, name in enumerate(node.input):
            if name in made and node.op_type == "Shape":
                node.input[index] = name + "_q"
            elif name in made or (node.name in converted and writer.flows(name)):
                node.input[index] = writer.through_integers(name)
        if node.name in converted and node.op_type in WEIGHTED:
            writer.convert_weights(node)
        writer.nodes.append(node)
        if node.name in converted:
            if node.op_type in _SAME_SCALE:
                writer.same_scale(node.output[0], node.input[0].removesuffix(_READ))
            writer.through_integers(node.output[0])
    writer.finish()
    keep_float_weights(copy)
    return copy


def _glue(model: onnx.ModelProto, network: Network, converted: set[str]) -> set[str]:
    """The nodes that would otherwise cost a conversion to float32 and back, by name.

    All that flows in comes from integers, and something that it flows to takes integers. An activation right behind
    a converted node is always one: it vanishes into its scale.
    """
    inside = set(network.nodes)
    weights = {weight.name for weight in model.graph.initializer}
    users: dict[str, set[str]] = {}
    maker: dict[str, str] = {}
    for node in model.graph.node:
        maker.update(dict.fromkeys(node.output, node.name))
        for name in node.input:
            users.setdefault(name, set()).add(node.name)
    fed: set[str] = set()
    for node in model.graph.node:  # from images to boxes
        if node.name in inside and node.op_type in _GLUE:
            flows = [maker.get(name, "") for name in node.input if name in network.floats and name not in weights]
            joins_constant = node.op_type in ("Add", "Concat") and any(name in weights for name in node.input)
            if flows and not joins_constant and all(name in converted or name in fed for name in flows):
                fed.add(node.name)
    found: set[str] = set()
    for node in reversed(model.graph.node):
        if node.name in fed:
            after = set().union(*(users.get(name, set()) for name in node.output))
            if node.op_type in ("Relu", "Clip") or after & (converted | found):
                found.add(node.name)
    return found


def _drop_activations(model: onnx.ModelProto, converted: set[str]) -> None:
    """Take out each converted Relu or Clip that alone uses a converted node: integers end where it would cut.

    The range of its output begins at its lower end, so that uint8 represents nothing below, and ends where it ends.
    """
    users: dict[str, int] = {}
    maker: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        maker.update(dict.fromkeys(node.output, node))
        for name in node.input:
            users[name] = users.get(name, 0) + 1
    kept = []
    for node in model.graph.node:
        before = maker.get(node.input[0]) if node.input else None
        vanishes = node.name in converted and node.op_type in ("Relu", "Clip") and before is not None
        if vanishes and before is not None and before.name in converted and users[node.input[0]] == 1:
            before.output[0] = node.output[0]
            maker[node.output[0]] = before
        else:
            kept.append(node)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Writer:
    """The nodes and constants of a graph that is being converted, in order."""

    def __init__(
        self, model: onnx.ModelProto, network: Network, ranges: Ranges, scales: dict[str, tuple[np.float32, np.uint8]]
    ) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._model = model
        self._ranges = ranges
        self._weights = {weight.name: weight for weight in model.graph.initializer}
        self._floats = network.floats
        self._done: set[str] = set()
        self._scales = dict(scales)

    def flows(self, name: str) -> bool:
        """Whether a tensor is an activation in float32."""
        return name in self._floats and name not in self._weights

    def same_scale(self, name: str, other: str) -> None:
        """Let a tensor have the scale of another."""
        self._scales[name] = self._scale_of(other)

    def _scale_of(self, name: str) -> tuple[np.float32, np.uint8]:
        if name not in self._scales:
            self._scales[name] = self._ranges.scale_and_zero(name)
        return self._scales[name]

    def through_integers(self, name: str) -> str:
        """Name of an existing tensor after it has been quantised to uint8 and dequantised."""
        if name not in self._done:
            self._done.add(name)
            scale, zero = self._scale_of(name)
            constants = [self._constant(f"{name}_scale", scale), self._constant(f"{name}_zero", zero)]
            self._node("QuantizeLinear", [name, *constants], f"{name}_q")
            self._node("DequantizeLinear", [f"{name}_q", *constants], read_as(name))
        return read_as(name)

    def convert_weights(self, node: onnx.NodeProto) -> None:
        """Weights in int8, biases in int32 with the scale of what they are added to."""
        name, axis = node.input[1], _output_axis(node)
        weight = numpy_helper.to_array(self._weights[name])
        scales = _channel_scales(weight, axis)
        if name not in self._done:
            self._done.add(name)
            shape = [-1 if k == axis else 1 for k in range(weight.ndim)]
            values = np.clip(np.rint(weight / scales.reshape(shape)), -127, 127).astype(np.int8)
            zeros = np.zeros(len(scales), np.int8)
            inputs = [
                self._constant(f"{name}_{k}", v) for k, v in (("q", values), ("scale", scales), ("zero", zeros))
            ]
            self._node("DequantizeLinear", inputs, read_as(name), axis=axis)
        node.input[1] = read_as(name)
        if len(node.input) > 2 and node.input[2] in self._weights:
            bias = numpy_helper.to_array(self._weights[node.input[2]])
            bias_scales = self._scale_of(node.input[0].removesuffix(_READ))[0] * scales
            whole = np.rint(bias.astype(np.float64) / bias_scales)
            integers = np.clip(whole, -(2**31) + 1, 2**31 - 1).astype(np.int32)
            own = f"{node.name}_bias"  # nodes that share a bias read from tensors of other scales
            inputs = [self._constant(f"{own}_q", integers), self._constant(f"{own}_scale", bias_scales)]
            self._node(
                "DequantizeLinear", [*inputs, self._constant(f"{own}_zero", np.zeros_like(integers))], own, axis=0
            )
            node.input[2] = own

    def finish(self) -> None:
        """Put the nodes into the graph; drop constants that nothing uses any more."""
        graph = self._model.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        used = {name for node in graph.node for name in node.input}
        constants = [w for w in graph.initializer if w.name in used]
        del graph.initializer[:]
        graph.initializer.extend(constants)
        del graph.value_info[:]

    def _node(self, op_type: str, inputs: list[str], output: str, axis: int | None = None) -> None:
        node = helper.make_node(op_type, inputs, [output], name=output)
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)

    def _constant(self, name: str, value: NDArray[np.generic] | np.generic) -> str:
        self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _output_axis(node: onnx.NodeProto) -> int:
    """The axis of a node's weight along which output channels lie."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return 0 if node.op_type == "Conv" else 1


def _channel_scales(weight: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """One per output channel: its largest value is 127."""
    largest = np.abs(weight).max(axis=tuple(k for k in range(weight.ndim) if k != axis))
    return np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
