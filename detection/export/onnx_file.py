"""An end-to-end graph as an ONNX model, by PyTorch's own exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import Tensor

from detection.export.graph.mark import marked
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
        The model, without metadata; it names no path of this machine. Tensors that the graph marks
        (`detection.export.graph.mark`) have these names in it.

    """
    names: list[str] = []
    inner = _WithMarked(graph, names)
    example = torch.zeros(2, *size_hw, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    # The exporter writes to stdout, logs, and warns about itself. Errors still raise.
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
            torch.no_grad(),
            _not_in_place(graph),
        ):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                inner.eval(),
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
    _name_inner(model, names)
    # Node documentation holds stack traces with this machine's paths.
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    return model


@contextlib.contextmanager
def _not_in_place(graph: torch.nn.Module) -> Iterator[None]:
    """Its activations give new tensors meanwhile.

    The same numbers and the same graph, in three quarters of the time: an operator in place has to be rewritten as
    one that is not, symbolically, before it is exported.
    """
    changed = [module for module in graph.modules() if getattr(module, "inplace", False)]
    for module in changed:
        setattr(module, "inplace", False)  # noqa: B010 - no attribute that nn.Module declares
    try:
        yield
    finally:
        for module in changed:
            setattr(module, "inplace", True)  # noqa: B010


class _WithMarked(torch.nn.Module):
    """A graph that gives the tensors that it marks as well, and writes down their names."""

    def __init__(self, graph: torch.nn.Module, names: list[str]) -> None:
        super().__init__()
        self.inner = graph
        self.names = names

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        with marked(self.inner) as seen:
            outputs: tuple[Tensor, ...] = self.inner(images)
        self.names[:] = seen
        return (*outputs, *seen.values())


def _name_inner(model: onnx.ModelProto, names: list[str]) -> None:
    """Name the outputs after the third, and let them be inner tensors."""
    graph = model.graph
    *_, third = graph.output[:3]
    inner = list(graph.output)[3:]
    assert third.name == "labels" and len(inner) == len(names)
    del graph.output[3:]
    new = {value.name: name for value, name in zip(inner, names, strict=True)}
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    known = [value for value in graph.value_info if value.name not in new]
    del graph.value_info[:]
    graph.value_info.extend(known)
    for value in inner:
        value.name = new[value.name]
        graph.value_info.append(value)
