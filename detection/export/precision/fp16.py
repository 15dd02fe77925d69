"""float16 weights and activations of the network; inputs, outputs and postprocessing stay in float32.

For GPUs and for ARM: on x86 onnxruntime has no float16 convolution and converts back to float32 before each one.

`onnxruntime.transformers.float16` and `onnxconverter-common` do it node by node: with a block list they put a pair of
conversions between any two blocked nodes, so that corners of boxes would be rounded to half a pixel on their way.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detection.export.precision.network import find_network, named

_FLOAT32 = (
    "InstanceNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "ReduceMean",
    "ReduceSum",
    "ReduceL2",
    "Softmax",
    "Exp",
    "Pow",
    "Cast",
)
"""Operators within the network that sum over many values, or leave float16's range, or are conversions themselves."""

_HALF = "_fp16"  # after the name of a tensor


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same end-to-end graph with its network in float16; weights beyond +-65504 are clipped to that.

    Every tensor keeps its name in float32; its float16 twin, where there is one, is named after it. A value is
    converted once, however many nodes use it.
    """
    model = named(model)
    network = find_network(model)
    inside = set(network.nodes)
    graph = model.graph
    weights = {w.name: w for w in graph.initializer if w.data_type == TensorProto.FLOAT}

    def is_half(node: onnx.NodeProto) -> bool:
        return node.name in inside and node.op_type not in _FLOAT32

    needed = {value.name for value in graph.output}
    needed |= {name for node in graph.node if not is_half(node) for name in node.input}
    nodes: list[onnx.NodeProto] = []
    twins: set[str] = set()
    for node in graph.node:
        if not is_half(node):
            nodes.append(node)
            # a Resize keeps its scales in float32: it uses them by their own name
            continue
        for index, name in enumerate(node.input):
            if name not in network.floats or (node.op_type == "Resize" and index):
                needed.add(name)
                continue
            if name not in twins:
                twins.add(name)
                if name in weights:
                    graph.initializer.append(_half(weights[name]))
                else:
                    nodes.append(_cast(name, name + _HALF, TensorProto.FLOAT16))
            node.input[index] = name + _HALF
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in network.floats:
                twins.add(name)
                node.output[index] = name + _HALF
                if name in needed:
                    nodes.append(_cast(name + _HALF, name, TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    # types of inner values are inferred again by whoever needs them
    del graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


def _half(weight: TensorProto) -> TensorProto:
    most = float(np.finfo(np.float16).max)
    values = np.clip(numpy_helper.to_array(weight), -most, most).astype(np.float16)
    return numpy_helper.from_array(values, weight.name + _HALF)


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}_cast", to=to)
