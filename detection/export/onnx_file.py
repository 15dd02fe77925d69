"""An end-to-end graph as an ONNX model, by PyTorch's own exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import onnx
import torch

from detection.export.graph.suppression import onnx_translations

MAX_BATCH = 8
"""The batch of a graph is dynamic, 1 to this many images."""

_OPSET = 20


def to_onnx(graph: torch.nn.Module, size_hw: tuple[int, int]) -> onnx.ModelProto:
    """Export an end-to-end graph.

    Args:
        graph: as `detection.export.graph.end_to_end_graph` gives it, in eval mode.
        size_hw: height and width of its input in pixels.

    Returns:
        The model, without metadata; it names no path of this machine.

    """
    example = torch.zeros(2, *size_hw, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    # The exporter writes to stdout, logs, and warns about itself. Errors still raise.
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                input_names=["images"],
                output_names=["boxes", "scores", "labels"],
                dynamic_shapes=({0: batch},),
                opset_version=_OPSET,
                custom_translation_table=onnx_translations(),
            )
    finally:
        exporter_log.setLevel(level)
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    # Node documentation holds stack traces with this machine's paths.
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    return model
