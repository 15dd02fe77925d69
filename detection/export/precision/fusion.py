"""Graph rewrites that make backends fuse pairs of QuantizeLinear and DequantizeLinear as intended."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from detection.export.precision.network import WEIGHTED


def bytes_as_they_are(model: onnx.ModelProto) -> dict[str, tuple[np.float32, np.uint8]]:
    """Use the pixels' own bytes as quantised input, where the normalisation is the same for all three channels.

    The network reads (byte - mean) x factor. A range of -1 to 1 has its zero between two integers, and rounds two
    grey levels to one. The difference between the mean and the nearest integer goes into the biases: exact, except
    that the zero padding around the image moves by up to half a grey level. Backends then have nothing to compute and
    no layout to change: in onnxruntime the whole graph takes three quarters of the time.

    Returns:
        Scale and zero point of the input tensor, by name; empty where this does not apply.

    """
    constants = {weight.name: weight for weight in model.graph.initializer}
    maker = {name: node for node in model.graph.node for name in node.output}
    for scaled in model.graph.node:
        shifted = maker.get(scaled.input[0]) if scaled.op_type == "Mul" else None
        cast = maker.get(shifted.input[0]) if shifted is not None and shifted.op_type == "Sub" else None
        if shifted is None or cast is None or cast.op_type != "Cast":
            continue
        if scaled.input[1] not in constants or shifted.input[1] not in constants:
            continue
        mean, factor = (numpy_helper.to_array(constants[node.input[1]]).ravel() for node in (shifted, scaled))
        name = scaled.output[0]
        users = [node for node in model.graph.node if name in node.input]
        biases = {node.input[2] for node in users if node.op_type == "Conv" and len(node.input) > 2}
        if len(biases) != len(users) or not biases <= constants.keys() or np.ptp(mean) or np.ptp(factor):
            continue
        scale, zero = np.float32(factor[0]), np.uint8(np.rint(mean[0]))
        off = (float(zero) - float(mean[0])) * float(scale)
        for node in users:
            weight, bias = (numpy_helper.to_array(constants[key]) for key in node.input[1:3])
            moved = (bias + off * weight.sum(axis=(1, 2, 3))).astype(np.float32)
            constants[node.input[2]].CopyFrom(numpy_helper.from_array(moved, node.input[2]))
        constants_of_bytes = (
            numpy_helper.from_array(np.asarray(v), f"{name}_byte_{k}") for k, v in (("scale", scale), ("zero", zero))
        )
        model.graph.initializer.extend(constants_of_bytes)
        scaled.op_type = "DequantizeLinear"
        scaled.input[:] = [cast.input[0], f"{name}_byte_scale", f"{name}_byte_zero"]
        nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
        nodes = [n for n in nodes if n.name not in (cast.name, shifted.name)]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        return {name: (scale, zero)}
    return {}


def keep_float_weights(model: onnx.ModelProto) -> None:
    """Stop onnxruntime from quantising the weights of layers that stay in float.

    Where a convolution reads from integers and writes to integers, perhaps through a Relu or Clip, its optimiser
    (WeightBiasQuantization, seen in 1.31) makes its weights int8 with one scale for all channels: worse than our own,
    and useless for a depthwise convolution. A LeakyRelu of slope 1 between them changes nothing, prevents this, and
    is fused into the convolution. It replaces an activation, as that is absorbed by the quantisation that follows.
    """
    users: dict[str, list[onnx.NodeProto]] = {}
    maker = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    ends = {value.name for value in model.graph.output}
    floats = {weight.name for weight in model.graph.initializer if weight.data_type == onnx.TensorProto.FLOAT}
    nodes: list[onnx.NodeProto] = []
    vanished: set[str] = set()
    for node in model.graph.node:
        if node.output[0] in vanished:
            continue
        nodes.append(node)
        before = maker.get(node.input[0]) if node.input else None
        if node.op_type not in WEIGHTED or node.input[1] not in floats or before is None:
            continue
        path = [node.output[0]]
        while (after := users.get(path[-1], [])) and len(after) == 1 and after[0].op_type in ("Relu", "Clip"):
            path.append(after[0].output[0])
        to_integers = len(after) == 1 and after[0].op_type == "QuantizeLinear" and not ends & set(path)
        if before.op_type == "DequantizeLinear" and to_integers:
            vanished.update(path[1:])
            made = path[-1]
            node.output[0] = f"{made}_float"
            nodes.append(helper.make_node("LeakyRelu", [node.output[0]], [made], name=f"{made}_kept", alpha=1.0))
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
