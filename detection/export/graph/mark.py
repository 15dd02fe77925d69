"""Names for tensors within an end-to-end graph: where the parity check cuts it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class Mark(nn.Module):
    """Gives a tensor its name in the ONNX file, and is nothing there: no node, no output.

    Names begin with the part of the graph that the tensor leaves: `network.`, `candidates.`, `proposals.`, ...
    """

    def forward(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor."""
        return tensor


@contextmanager
def marked(graph: nn.Module) -> Iterator[dict[str, Tensor]]:
    """The tensors that a graph marks, by name, as it runs: a dict that fills."""
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, given, tensor: seen.__setitem__(given[0], tensor))
        for module in graph.modules()
        if isinstance(module, Mark)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
