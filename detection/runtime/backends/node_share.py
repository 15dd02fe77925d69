"""Which provider really ran a graph's nodes: a session may name a GPU and compute on the CPU."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_HEAVY = ("Conv", "MatMul", "Gemm")
"""What a detector's time goes into; QLinearConv, FusedConv, ConvTranspose, FusedMatMul... hold one of these too."""


@dataclass(frozen=True)
class NodeShare:
    """Nodes that ran, by provider.

    Attributes:
        nodes: all of them; a part of the graph that a provider compiled into one counts as one.
        heavy: convolutions and matrix products, and such compiled parts.

    """

    nodes: Mapping[str, int]
    heavy: Mapping[str, int]

    @classmethod
    def of_profile(cls, path: Path) -> NodeShare:
        """Read from what `InferenceSession.end_profiling` wrote for one run."""
        nodes: Counter[str] = Counter()
        heavy: Counter[str] = Counter()
        for event in json.loads(path.read_text(encoding="utf-8")):
            told = event.get("args", {})
            provider, kind = told.get("provider"), told.get("op_name", "")
            if not provider:
                continue
            nodes[provider] += 1
            # ONNX names operators without "_"; TRTKernel_graph_0, CoreML_1_0, DmlFusedNode_0_0 are compiled parts
            if "_" in kind or any(name in kind for name in _HEAVY):
                heavy[provider] += 1
        return cls(dict(nodes), dict(heavy))

    def why_not_on(self, asked: Sequence[str]) -> str:
        """Why this was no run on any of `asked` (full names); empty where it was one."""
        here = sum(self.nodes.get(name, 0) for name in asked)
        heavy_here = sum(self.heavy.get(name, 0) for name in asked)
        total, heavy = sum(self.nodes.values()), sum(self.heavy.values())
        if here and (heavy_here or not heavy):
            return ""
        by = ", ".join(f"{name} {count}" for name, count in sorted(self.nodes.items())) or "nobody"
        return f"{here} of {total} nodes and {heavy_here} of {heavy} convolutions ran on it (by provider: {by})"
