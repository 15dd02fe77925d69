"""Which provider ran a graph's nodes: a session may list a GPU and compute on the CPU."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_HEAVY = ("Conv", "MatMul", "Gemm")
"""Where a detector's time goes; names such as QLinearConv, FusedConv and FusedMatMul contain one of these."""


@dataclass(frozen=True)
class NodeShare:
    """Number of nodes that ran, by provider.

    Attributes:
        nodes: all nodes; a subgraph that a provider compiled counts as one.
        heavy: convolutions and matrix products, and compiled subgraphs.

    """

    nodes: Mapping[str, int]
    heavy: Mapping[str, int]

    @classmethod
    def of_profile(cls, path: Path) -> NodeShare:
        """From the file that `InferenceSession.end_profiling` wrote for one run."""
        nodes: Counter[str] = Counter()
        heavy: Counter[str] = Counter()
        for event in json.loads(path.read_text(encoding="utf-8")):
            args = event.get("args", {})
            provider, kind = args.get("provider"), args.get("op_name", "")
            if not provider:
                continue
            nodes[provider] += 1
            # ONNX names operators without "_"; TRTKernel_graph_0, CoreML_1_0, DmlFusedNode_0_0 are compiled parts
            if "_" in kind or any(name in kind for name in _HEAVY):
                heavy[provider] += 1
        return cls(dict(nodes), dict(heavy))

    def why_not_on(self, providers: Sequence[str]) -> str:
        """Why the graph did not run on any of `providers` (full names); empty where it did."""
        here = sum(self.nodes.get(name, 0) for name in providers)
        heavy_here = sum(self.heavy.get(name, 0) for name in providers)
        total, heavy = sum(self.nodes.values()), sum(self.heavy.values())
        if here and (heavy_here or not heavy):
            return ""
        by = ", ".join(f"{name} {count}" for name, count in sorted(self.nodes.items())) or "none"
        return f"{here} of {total} nodes and {heavy_here} of {heavy} convolutions ran on it (by provider: {by})"
