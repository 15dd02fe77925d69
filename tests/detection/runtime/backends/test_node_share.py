import json
from pathlib import Path

from detection.runtime.backends.node_share import NodeShare

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


def share(path: Path, *ran: tuple[str, str]) -> NodeShare:
    events = [{"name": "session_initialization", "args": {}}, {"name": "no args"}]
    events += [{"name": kind, "args": {"op_name": kind, "provider": provider}} for kind, provider in ran]
    path.write_text(json.dumps(events))
    return NodeShare.of_profile(path)


def test_counts_by_hand(tmp_path: Path) -> None:
    ran = share(tmp_path / "p", ("Conv", CUDA), ("FusedConv", CUDA), ("Relu", CUDA), ("TopK", CPU))
    assert ran.nodes == {CUDA: 3, CPU: 1} and ran.heavy == {CUDA: 2}
    assert ran.why_not_on([CUDA]) == ""


def test_convolutions_left_to_the_cpu_are_no_life_on_the_gpu(tmp_path: Path) -> None:
    ran = share(tmp_path / "p", ("QLinearConv", CPU), ("MatMul", CPU), ("Relu", CUDA))
    assert ran.why_not_on([CUDA]) == (
        "1 of 3 nodes and 0 of 2 convolutions ran on it "
        "(by provider: CPUExecutionProvider 2, CUDAExecutionProvider 1)"
    )


def test_a_part_compiled_into_one_node_holds_the_convolutions(tmp_path: Path) -> None:
    ran = share(tmp_path / "p", ("TRTKernel_graph_main_graph_0", TENSORRT), ("Conv", CUDA), ("TopK", CPU))
    assert ran.why_not_on([TENSORRT]) == "" and ran.why_not_on([CUDA]) == ""


def test_nobody_and_a_graph_without_convolutions(tmp_path: Path) -> None:
    assert "0 of 0 nodes" in share(tmp_path / "p").why_not_on([CUDA])
    assert "by provider: none" in share(tmp_path / "p").why_not_on([CUDA])
    assert share(tmp_path / "p", ("Add", CUDA), ("Mul", CPU)).why_not_on([CUDA]) == ""
    assert "0 of 1 nodes" in share(tmp_path / "p", ("Add", CPU)).why_not_on([CUDA])
