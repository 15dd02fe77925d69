"""An end-to-end graph small enough to check by hand.

It finds, in each image, the bounds of the pixels that are bright in one channel: red is class 0,
green class 1. Its score is the highest value of that channel / 255. So every value can be foretold.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detection.runtime import letterbox
from detection.runtime.metadata import KEY, NO_DIGEST, SCHEMA_VERSION, Licences, ModelMetadata
from detection.runtime.model_file import sealed

BRIGHT = 150
CLASS_NAMES = ("weed", "crop")
ROWS = 4


PASSED: dict[str, Any] = {
    "schema": 2,
    "precision": "fp32",
    "images": 40,
    "boxes": 300,
    "unmatched_boxes": 0,
    "malformed_outputs": 0,
    "delta_ap_points": 0.01,
    "small_ap_fall_points": None,
}
"""A parity report of a file that passed."""


def metadata(**changes: Any) -> ModelMetadata:
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION if changes.get("file_sha256", NO_DIGEST) else 2,
        "swath_version": "0.1.0",
        "preset": "tiny",
        "backbone": "none",
        "class_names": CLASS_NAMES,
        "input_size_hw": (64, 96),
        "letterbox_rule": letterbox.RULE,
        "letterbox_pad_value": letterbox.PAD_VALUE,
        "score_thresholds": (0.7, 0.9),
        "pre_nms_score_threshold": 0.05,
        "nms_iou": 0.6,
        "max_detections": ROWS,
        "max_batch": 8,
        "precision": "fp32",
        "dataset_fingerprint": "none",
        "metrics": {},
        "parity": {},
        "licences": Licences(weights="none", data="none"),
        "file_sha256": NO_DIGEST,
    }
    return ModelMetadata(**{**fields, **changes})


def _nodes(height: int, width: int, *, batch: str | int) -> tuple[list[Any], list[Any], list[Any]]:
    nodes: list[Any] = []
    constants: list[Any] = []

    def const(name: str, value: Any, dtype: Any) -> str:
        constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def node(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    far = const("far", 1e6, np.float32)
    minus_far = const("minus_far", -1e6, np.float32)
    xs = const("xs", np.arange(width).reshape(1, 1, width, 1), np.float32)
    ys = const("ys", np.arange(height).reshape(1, height, 1, 1), np.float32)
    one = const("one", 1, np.float32)
    axes = const("axes", [1, 2], np.int64)
    pixels = node("Cast", ["images"], "pixels", to=TensorProto.FLOAT)  # (N, H, W, 3)
    bright = node("Greater", [pixels, const("limit", BRIGHT, np.float32)], "bright")
    # A grey or white pixel is bright in all channels: blue vetoes.
    blue = node(
        "Slice",
        [pixels, const("b0", [2], np.int64), const("b1", [3], np.int64), const("ba", [3], np.int64)],
        "blue",
    )
    dark_blue = node("Less", [blue, "limit"], "dark_blue")
    hit3 = node("And", [bright, dark_blue], "hit3")
    hit = node("Slice", [hit3, const("c0", [0], np.int64), const("c1", [2], np.int64), "ba"], "hit")  # (N,H,W,2)
    edges = []
    for name, grid in (("x", xs), ("y", ys)):
        low = node("ReduceMin", [node("Where", [hit, grid, far], f"{name}_where_low"), axes], f"{name}1", keepdims=0)
        high = node(
            "ReduceMax",
            [node("Where", [hit, grid, minus_far], f"{name}_where_high"), axes],
            f"{name}2_",
            keepdims=0,
        )
        edges += [low, node("Add", [high, one], f"{name}2")]
    last = const("last", [-1], np.int64)
    x1, x2, y1, y2 = (node("Unsqueeze", [e, last], f"{e}_column") for e in edges)
    raw_boxes = node("Concat", [x1, y1, x2, y2], "raw_boxes", axis=-1)  # (N, 2, 4)
    zero = const("zero", 0, np.float32)
    value = node("Where", [hit, node("Slice", [pixels, "c0", "c1", "ba"], "red_green"), zero], "value")
    raw_scores = node(
        "Div",
        [node("ReduceMax", [value, axes], "peak", keepdims=0), const("full", 255, np.float32)],
        "raw_scores",
    )
    found, order = "found", "order"
    nodes.append(helper.make_node("TopK", [raw_scores, const("two", [2], np.int64)], [found, order], axis=1))
    is_found = node("Greater", [found, zero], "is_found")
    labels2 = node("Where", [is_found, order, const("none", -1, np.int64)], "labels2")
    order4 = node(
        "Expand", [node("Unsqueeze", [order, last], "order_"), const("four", [1, 1, 4], np.int64)], "order4"
    )
    sorted_boxes = node("GatherElements", [raw_boxes, order4], "sorted_boxes", axis=1)
    boxes2 = node("Where", [node("Unsqueeze", [is_found, last], "is_found_"), sorted_boxes, zero], "boxes2")
    pad = ROWS - 2
    node("Pad", [boxes2, const("pads3", [0, 0, 0, 0, pad, 0], np.int64)], "boxes")
    node("Pad", [found, const("pads2", [0, 0, 0, pad], np.int64)], "scores")
    node("Pad", [labels2, "pads2", "none"], "labels")
    outputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [batch, ROWS, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, ROWS]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, [batch, ROWS]),
    ]
    return nodes, constants, outputs


def _add_fault(nodes: list[Any], constants: list[Any], value: float, *, if_below: float) -> None:
    """Add `value` to the scores of images in whose first pixel red - blue is below a number."""
    for name, content in (("f0", [0, 0, 0]), ("f1", [1, 1, 3]), ("fa", [1, 2, 3])):
        constants.append(numpy_helper.from_array(np.array(content, np.int64), name))
    for name, number in (("f_low", if_below), ("f_value", value), ("f_none", 0.0)):
        constants.append(numpy_helper.from_array(np.array(number, np.float32), name))
    next(n for n in nodes if "scores" in n.output).output[0] = "sound_scores"
    constants.append(numpy_helper.from_array(np.array([1, 0, -1], np.float32), "f_w"))
    nodes += [
        helper.make_node("Slice", ["pixels", "f0", "f1", "fa"], ["f_first"]),  # (N, 1, 1, 3)
        helper.make_node("Mul", ["f_first", "f_w"], ["f_weighted"]),
        helper.make_node("ReduceSum", ["f_weighted", "f_axes"], ["f_sum"], keepdims=0),  # red - blue, (N,)
        helper.make_node("Less", ["f_sum", "f_low"], ["f_is"]),
        helper.make_node("Where", ["f_is", "f_value", "f_none"], ["f_added"]),
        helper.make_node("Unsqueeze", ["f_added", "last"], ["f_column"]),
        helper.make_node("Add", ["sound_scores", "f_column"], ["scores"]),
    ]
    constants.append(numpy_helper.from_array(np.array([1, 2, 3], np.int64), "f_axes"))


def write(
    path: Path,
    meta: ModelMetadata | None = None,
    *,
    text: str | None = None,
    size_hw: tuple[int, int] | None = None,
    batch: str | int = "N",
    rename: dict[str, str] | None = None,
    with_metadata: bool = True,
    faulty_if_blue: float | None = None,
    faulty: float | None = None,
) -> Path:
    """Write the graph with `meta`; `text` replaces the metadata's JSON, `rename` inputs or outputs.

    `faulty_if_blue` is added to the scores of an image whose first pixel is blue, as a network does that overflows;
    `faulty` to those of every image.
    """
    meta = meta or metadata()
    height, width = size_hw or meta.input_size_hw
    nodes, constants, outputs = _nodes(height, width, batch=batch)
    if faulty_if_blue is not None:
        _add_fault(nodes, constants, faulty_if_blue, if_below=-200)
    if faulty is not None:
        _add_fault(nodes, constants, faulty, if_below=1000)
    inputs = [helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, height, width, 3])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    for old, new in (rename or {}).items():
        for info in [*graph.input, *graph.output]:
            if info.name == old:
                info.name = new
        for each in graph.node:
            each.input[:] = [new if n == old else n for n in each.input]
            each.output[:] = [new if n == old else n for n in each.output]
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    if with_metadata:
        helper.set_model_props(model, {KEY: meta.to_json() if text is None else text})
    content = model.SerializeToString()
    has_place = with_metadata and text is None and meta.file_sha256 == NO_DIGEST
    path.write_bytes(sealed(content) if has_place else content)
    return path


def changed_json(**changes: Any) -> str:
    """The tiny model's metadata JSON with some entries replaced (None removes one)."""
    content = json.loads(metadata().to_json())
    content.update({"schema_version": 2, "file_sha256": None, **changes})
    return json.dumps({k: v for k, v in content.items() if v is not None})
