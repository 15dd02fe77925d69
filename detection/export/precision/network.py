"""Which part of a deploy graph is the network, found by its structure alone: no node is known by its name.

A deploy graph normalises images, runs a network and turns what that says into boxes. Precision may be lowered in
the network; pixels, coordinates of boxes and the order of scores need float32.
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
"""Operators that choose or place boxes: nothing is followed through them."""


@dataclass(frozen=True)
class Body:
    """The network within a deploy graph.

    Attributes:
        nodes: names of its nodes, in the graph's order: those that multiply by weights, and what lies between two of
            them.
        layers: of each weight, by its name, the nodes that multiply by it, in the graph's order: one in a backbone,
            one per level of the pyramid in a head.
        answers: the tensors that leave it, in the graph's order: raw scores and codes of boxes.
        floats: names of all float32 tensors of the graph, weights included.

    """

    nodes: tuple[str, ...]
    layers: Mapping[str, tuple[str, ...]]
    answers: tuple[str, ...]
    floats: frozenset[str]


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model in which every node has a name of its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    seen: set[str] = set()
    for index, node in enumerate(copy.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.name or node.op_type}_{index}"
        seen.add(node.name)
    return copy


def find_body(model: onnx.ModelProto) -> Body:
    """The network within a deploy graph whose nodes have names of their own (see `named`)."""
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
    answers = [
        name
        for node in nodes
        for name in node.output
        if name in floats and (name in ends or any(user.name not in inside for user in users.get(name, [])))
    ]
    return Body(
        tuple(node.name for node in nodes),
        {weight: tuple(names) for weight, names in layers.items()},
        # What leaves it unchanged in meaning: not the shape of a feature map that something else asks for.
        tuple(name for name in answers if name in ends or _is_computed_with(users[name], inside)),
        frozenset(floats),
    )


def _is_computed_with(users: Iterable[onnx.NodeProto], inside: set[str]) -> bool:
    return any(user.name not in inside and user.op_type != "Shape" for user in users)


def _reached(starts: Iterable[onnx.NodeProto], step: object) -> set[str]:
    """Names of the nodes that lie one step or more from `starts`, none of them, nor anything behind them, exact."""
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


def trunk(model: onnx.ModelProto, body: Body) -> onnx.ModelProto:
    """The graph from the images to the network's answers, without the postprocessing."""
    inputs = [value.name for value in model.graph.input]
    typed = onnx.shape_inference.infer_shapes(model)
    return onnx.utils.Extractor(typed).extract_model(inputs, list(body.answers))
