"""Faults that people have built into exported detectors, planted in an ONNX graph: each must be refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper


def read_instead(model: onnx.ModelProto, name: str, changed: str, nodes: list[onnx.NodeProto]) -> None:
    """Let everything that reads tensor `name` read `changed`, which `nodes` make of it."""
    for node in model.graph.node:
        node.input[:] = [changed if one == name else one for one in node.input]
    made = {name for node in nodes for name in node.output}
    first = next(k for k, node in enumerate(model.graph.node) if made & set(node.input))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*rest[:first], *nodes, *rest[first:]])


def constant(model: onnx.ModelProto, name: str, value: object, dtype: type[np.generic] = np.int64) -> str:
    """Add a constant; its name."""
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
    return name


def _change(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    (held,) = (one for one in model.graph.initializer if one.name == name)
    values = change(numpy_helper.to_array(held).copy())
    held.CopyFrom(numpy_helper.from_array(np.asarray(values, numpy_helper.to_array(held).dtype), name))


def wrong_mean(model: onnx.ModelProto) -> None:
    """Normalise by four fifths of the mean."""
    subtract = next(node for node in model.graph.node if node.op_type == "Sub")
    _change(model, subtract.input[1], lambda mean: mean * 0.8)


def reads_bgr(model: onnx.ModelProto) -> None:
    """Take red for blue."""
    ends = [constant(model, f"bgr_{name}", [value]) for name, value in zip("saxe", (-1, -4, 3, -1), strict=True)]
    reverse = helper.make_node("Slice", ["images", *ends], ["images_bgr"], name="to_bgr")
    read_instead(model, "images", "images_bgr", [reverse])


def other_letterbox(model: onnx.ModelProto) -> None:
    """Made for another letterbox: the image lies 8 pixels lower than it is put."""
    zero, end, axis = (constant(model, f"roll_{n}", [v]) for n, v in (("zero", 0), ("end", 2**31), ("axis", 1)))
    cut = constant(model, "roll_cut", [-8])
    nodes = [
        helper.make_node("Slice", ["images", cut, end, axis], ["images_below"], name="below"),
        helper.make_node("Slice", ["images", zero, cut, axis], ["images_above"], name="above"),
        helper.make_node("Concat", ["images_below", "images_above"], ["images_rolled"], name="roll", axis=1),
    ]
    read_instead(model, "images", "images_rolled", nodes)


def swapped_labels(model: onnx.ModelProto) -> None:
    """Confuse the first two classes."""
    (maker,) = (node for node in model.graph.node if "labels" in node.output)
    maker.output[:] = ["labels_right" if one == "labels" else one for one in maker.output]
    table = constant(model, "swapped_labels", [-1, 1, 0, *range(2, 90)])
    one = constant(model, "swapped_one", 1)
    model.graph.node.extend(
        [
            helper.make_node("Add", ["labels_right", one], ["labels_index"], name="label_index"),
            helper.make_node("Gather", [table, "labels_index"], ["labels"], name="swap_labels"),
        ]
    )


def shifted_anchors(model: onnx.ModelProto) -> None:
    """Place all anchors one pixel farther right."""
    read = {node.input[0] for node in model.graph.node if node.op_type in ("Gather", "GatherND")}
    shifted = 0
    for held in list(model.graph.initializer):
        if held.name in read and len(held.dims) == 2 and held.dims[0] > 20 and held.dims[1] in (4, 8):
            _change(model, held.name, lambda anchors: anchors + np.eye(8)[[0, 2]].sum(axis=0)[: anchors.shape[1]])
            shifted += 1
    assert shifted


def _other_nms(by: float, which: int) -> Callable[[onnx.ModelProto], None]:
    def spoil(model: onnx.ModelProto) -> None:
        node = [one for one in model.graph.node if one.op_type == "NonMaxSuppression"][which]
        name = constant(model, "other_nms", numpy_helper.to_array(_held(model, node.input[3])) + by, np.float32)
        node.input[3] = name

    spoil.__doc__ = f"Suppress at an IoU that is {by:+} off."
    return spoil


def _held(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(one for one in model.graph.initializer if one.name == name)


def dropped_class(model: onnx.ModelProto) -> None:
    """Let the last class never be sure of anything, in the postprocessing."""
    _drop(model, "read")


def untrained_class(model: onnx.ModelProto) -> None:
    """Let the last class never be sure of anything, in the network."""
    _drop(model, "made")


def _drop(model: onnx.ModelProto, where: str) -> None:
    name = "network.cls_logits"
    (value,) = (one for one in model.graph.value_info if one.name in (name, "network.class_logits"))
    name, shape = value.name, value.type.tensor_type.shape
    never = np.zeros(shape.dim[-1].dim_value, np.float32)
    never[-1] = -100
    bias = constant(model, "never", never, np.float32)
    if where == "read":
        read_instead(model, name, "spoilt", [helper.make_node("Add", [name, bias], ["spoilt"], name="spoil")])
        return
    maker = next(node for node in model.graph.node if name in node.output)
    maker.output[:] = ["raw_logits" if one == name else one for one in maker.output]
    place = list(model.graph.node).index(maker) + 1
    model.graph.node.insert(place, helper.make_node("Add", ["raw_logits", bias], [name], name="spoil"))


FAULTS: dict[str, Callable[[onnx.ModelProto], None]] = {
    "wrong mean": wrong_mean,
    "BGR": reads_bgr,
    "other letterbox": other_letterbox,
    "swapped labels": swapped_labels,
    "shifted anchors": shifted_anchors,
    "NMS threshold +0.02": _other_nms(0.02, -1),
    "NMS threshold -0.02": _other_nms(-0.02, -1),
    "one class dropped": dropped_class,
    "one class never trained": untrained_class,
}
"""By name; each changes a graph of `detection.export.onnx_file.to_onnx` in place."""


def faults_of(model: onnx.ModelProto) -> dict[str, Callable[[onnx.ModelProto], None]]:
    """Those of `FAULTS` that a graph can have, and of two suppressions the first one's."""
    if sum(node.op_type == "NonMaxSuppression" for node in model.graph.node) < 2:
        return FAULTS
    return FAULTS | {f"first NMS threshold {by:+}": _other_nms(by, 0) for by in (0.02, -0.02)}


def spoilt(model: onnx.ModelProto, fault: Callable[[onnx.ModelProto], None]) -> onnx.ModelProto:
    """A copy of a graph with a fault, still a valid one."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    fault(copy)
    onnx.checker.check_model(copy, full_check=True)
    return copy
