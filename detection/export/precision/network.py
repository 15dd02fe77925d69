"""The network within an end-to-end graph, found by structure alone: no node is identified by its name.

An end-to-end graph normalises images, runs a network and decodes its outputs into boxes. Precision may be lowered in
the network; pixels, box coordinates and the order of scores need float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

WEIGHTED = ("Conv", "Gemm", "MatMul")
"""Operators that multiply by trained weights: nearly all of a network's work."""

_EXACT = (
    "TopK",
    "NonMaxSuppression",
    "RoiAlign",
    "MaxRoiPool",
    "Gather",
    "GatherElements",
    "GatherND",
    "ScatterElements",
    "ScatterND",
    "Where",
    "ArgMax",
    "Range",
)
"""Operators that select or place boxes: the search for the network stops at them."""


@dataclass(frozen=True)
class Network:
    """The network within an end-to-end graph.

    Attributes:
        nodes: names of its nodes, in the graph's order: those that multiply by weights, and what lies between two of
            them.
        layers: by name of a weight, the nodes that multiply by it, in the graph's order: one in a backbone, one per
            pyramid level in a head.
        outputs: the tensors that leave it, in the graph's order: raw scores and box codes.
        floats: names of all float32 tensors of the graph, weights included.

    """

    nodes: tuple[str, ...]
    layers: Mapping[str, tuple[str, ...]]
    outputs: tuple[str, ...]
    floats: frozenset[str]


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model in which every node has a unique name."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    seen: set[str] = set()
    for index, node in enumerate(copy.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_{index}"
        seen.add(node.name)
    return copy


def find_network(model: onnx.ModelProto) -> Network:
    """The network within an end-to-end graph whose nodes have unique names (see `named`)."""
    graph = model.graph
    weights = {weight.name for weight in graph.initializer if weight.data_type == TensorProto.FLOAT}
    floats = _floats(model) | weights
    weighted = [n for n in graph.node if n.op_type in WEIGHTED and n.input[1] in weights]
    maker = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def up(node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
        return (maker[name] for name in node.input if name in floats and name in maker)

    def down(node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
        return (user for name in node.output if name in floats for user in users.get(name, []))

    between = _reached(weighted, up) & _reached(weighted, down)
    inside = between | {node.name for node in weighted}
    nodes = [node for node in graph.node if node.name in inside]
    layers: dict[str, list[str]] = {}
    for node in weighted:
        layers.setdefault(node.input[1], []).append(node.name)
    ends = {value.name for value in graph.output}
    outputs = [
        name
        for node in nodes
        for name in node.output
        if name in floats and (name in ends or any(user.name not in inside for user in users.get(name, [])))
    ]
    return Network(
        tuple(node.name for node in nodes),
        {weight: tuple(names) for weight, names in layers.items()},
        # Tensors whose values are used: not those of which only the shape is read.
        tuple(name for name in outputs if name in ends or _is_computed_with(users[name], inside)),
        frozenset(floats),
    )


def _is_computed_with(users: Iterable[onnx.NodeProto], inside: set[str]) -> bool:
    return any(user.name not in inside and user.op_type != "Shape" for user in users)


def _reached(starts: Iterable[onnx.NodeProto], step: object) -> set[str]:
    """Names of the nodes reached from `starts` in one step or more, without passing an operator of `_EXACT`."""
    assert callable(step)
    seen: set[str] = set()
    waiting = list(starts)
    while waiting:
        for node in step(waiting.pop()):
            if node.name not in seen and node.op_type not in _EXACT:
                seen.add(node.name)
                waiting.append(node)
    return seen


def _floats(model: onnx.ModelProto) -> set[str]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}


def trunk(model: onnx.ModelProto, network: Network) -> onnx.ModelProto:
    """The graph from the images to the network's outputs, without the postprocessing."""
    inputs = [value.name for value in model.graph.input]
    typed = onnx.shape_inference.infer_shapes(model)
    return onnx.utils.Extractor(typed).extract_model(inputs, list(network.outputs))
