"""Graphs that fit an image of any size to a network's input: what ONNX can say instead of OpenCV's letterbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detection.runtime.letterbox import PAD_VALUE

WAYS = ("halved", "antialias", "antialias, uint8", "areas")
"""The runtime's, by average pools and `Resize` (a graph for each number of halvings); `Resize` by antialiased
straight lines, of floats and of bytes; areas as two matrix products."""


def graph(way: str, size_hw: tuple[int, int], opset: int, ir_version: int, halvings: int = 0) -> onnx.ModelProto:
    """`image` uint8 (1, H, W, 3) of any size -> `pixels` uint8 (1, h, w, 3), top left, the rest grey.

    Args:
        way: one of `WAYS`.
        size_hw: h and w.
        opset: of the model that it will be joined to.
        ir_version: of it too.
        halvings: of "halved": how often; images of other sizes need other graphs.

    """
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def const(value: Any, dtype: Any) -> str:
        name = f"constant{len(constants)}"
        constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def node(op: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, list(inputs), [f"value{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    height, width = size_hw
    one, three = const([1], np.int64), const([3], np.int64)
    image = "image"
    if way == "halved":
        image = node("Transpose", node("Cast", image, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
        for _ in range(halvings):  # without an odd last row, as the runtime; .5 is rounded up
            pooled = node("AveragePool", image, kernel_shape=[2, 2], strides=[2, 2])
            image = node("Floor", node("Add", pooled, const(0.5, np.float32)))
    shape = node("Shape", image)
    begin, end = (const([2], np.int64), const([4], np.int64)) if way == "halved" else (one, three)
    size = node("Slice", shape, begin, end)  # (2,): H, W
    size_float = node("Cast", size, to=TensorProto.FLOAT)
    room = const([height, width], np.float32)
    scale = node("ReduceMin", node("Div", room, size_float), keepdims=1)
    fit_float = node("Max", node("Round", node("Mul", size_float, scale)), const([1], np.float32))
    fit = node("Cast", node("Min", fit_float, room), to=TensorProto.INT64)
    if way == "antialias, uint8":
        to = node("Concat", one, fit, three, axis=0)
        fitted = node("Resize", "image", "", "", to, mode="linear", antialias=1)
    else:
        planes = image
        if way != "halved":
            planes = node("Transpose", node("Cast", image, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
        if way != "areas":
            to = node("Concat", one, three, fit, axis=0)
            small = node("Resize", planes, "", "", to, mode="linear", antialias=int(way == "antialias"))
        else:
            rows, columns = (_areas(node, const, size_float, fit_float, axis) for axis in (0, 1))
            small = node("MatMul", node("MatMul", rows, planes), node("Transpose", columns, perm=[1, 0]))
        small = node("Clip", node("Round", small), const(0, np.float32), const(255, np.float32))
        fitted = node("Transpose", node("Cast", small, to=TensorProto.UINT8), perm=[0, 2, 3, 1])
    missing = node("Sub", const([height, width], np.int64), fit)
    pads = node("Concat", const([0] * 5, np.int64), missing, const([0], np.int64), axis=0)
    # as int32: not every backend pads bytes
    padded = node("Pad", node("Cast", fitted, to=TensorProto.INT32), pads, const(PAD_VALUE, np.int32))
    nodes.append(helper.make_node("Cast", [padded], ["pixels"], to=TensorProto.UINT8))
    made = helper.make_graph(
        nodes,
        "letterbox",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "H", "W", 3])],
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, height, width, 3])],
        constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    onnx.checker.check_model(model)
    return model


def _areas(node: Callable[..., str], const: Callable[..., str], size: str, fit: str, axis: int) -> str:
    """Weights (fit, size): how much of each old pixel lies in each new one."""
    place = const(axis, np.int64)
    old, new = (node("Gather", sizes, place) for sizes in (size, fit))
    zero, one, last = const(0, np.float32), const(1, np.float32), const([1], np.int64)
    step = node("Div", old, new)
    begins = node("Unsqueeze", node("Mul", node("Range", zero, new, one), step), last)
    pixels = node("Range", zero, old, one)
    upper = node("Min", node("Add", begins, step), node("Add", pixels, one))
    return node("Div", node("Max", node("Sub", upper, node("Max", begins, pixels)), zero), step)
