"""An end-to-end graph in miniature: pixels, two convolutions, then a tail that needs float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OFFSET = 2049.0  # float16 knows 2048 and 2050


def build(first: float = 2.0, second: list[float] | None = None) -> onnx.ModelProto:
    """Pixel / 1 -> x `first` -> relu -> one channel per weight of `second` -> + OFFSET -> the sum's best 2.

    `second` (channels out,) of 1 x 1 weights; None: one weight of 1.
    """
    seconds = np.float32(second or [1.0]).reshape(-1, 1, 1, 1)
    constants = {
        "w1": np.float32([first]).reshape(1, 1, 1, 1),
        "w2": seconds,
        "b2": np.zeros(len(seconds), np.float32),
        "offset": np.float32([OFFSET]),
        "flat": np.int64([0, -1]),
        "k": np.int64([2]),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["pixels", "w1"], ["one"]),
        helper.make_node("Relu", ["one"], ["bent"]),
        helper.make_node("Conv", ["bent", "w2", "b2"], ["raw"]),
        helper.make_node("Add", ["raw", "offset"], ["shifted"]),
        helper.make_node("Reshape", ["shifted", "flat"], ["row"]),
        helper.make_node("TopK", ["row", "k"], ["best", "where"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 1, 1, 4])],
        [
            helper.make_tensor_value_info("best", TensorProto.FLOAT, [1, 2]),
            helper.make_tensor_value_info("where", TensorProto.INT64, [1, 2]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


PIXELS = np.array([0, 10, 200, 255], np.uint8).reshape(1, 1, 1, 4)
