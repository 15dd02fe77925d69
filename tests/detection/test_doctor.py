import json

import onnx
from onnx import TensorProto, helper

from detection.doctor import Finding, opencv_finding, provider_findings, runtime_finding, to_json
from detection.runtime.probe import PROBE_ONNX, Liveness, probe

from .conftest import swath

LIVE, DEAD = Liveness(True, ""), Liveness(False, "libcudnn.so.9: cannot open")


def test_two_versions_of_cv2_overwrite_one_another():
    both = {"opencv-python": "5.0.0.93", "opencv-python-headless": "5.0.0.93"}
    assert opencv_finding(both, "5.0.0", "FFmpeg yes").state == "ok"
    mixed = opencv_finding({**both, "opencv-python-headless": "4.12.0.88"}, "4.12.0", "FFmpeg yes")
    assert mixed.state == "wrong" and "--no-deps opencv-python==5.0.0.93" in mixed.said
    shadowed = opencv_finding(both, "4.9.0", "FFmpeg no")
    assert shadowed.state == "wrong" and "another cv2 comes first" in shadowed.said
    assert opencv_finding({}, "4.9.0", "GStreamer yes").state == "ok"  # built by oneself, as on a Jetson


def test_the_newest_of_two_wheels_is_found_by_number_not_by_letter():
    mixed = opencv_finding({"opencv-python": "4.9.0.80", "opencv-python-headless": "4.12.0.88"}, "4.12.0", "")
    assert "opencv-python==4.12.0.88 opencv-python-headless==4.12.0.88" in mixed.said


def test_two_wheels_of_onnxruntime_kill_the_gpu():
    assert runtime_finding({"onnxruntime-gpu": "1.31.1"}, "1.31.1").state == "ok"
    two = runtime_finding({"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}, "1.31.1")
    assert two.state == "wrong" and "pip uninstall onnxruntime onnxruntime-gpu, then install one" in two.said


def test_only_a_provider_that_was_asked_for_must_live():
    tried = {"CUDAExecutionProvider": DEAD, "CPUExecutionProvider": LIVE}
    assert [f.state for f in provider_findings(tried, ())] == ["note", "ok"]
    for name in ("cuda", "CUDA", "CUDAExecutionProvider"):
        cuda, cpu = provider_findings(tried, [name, "cpu"])
        assert (cuda.state, cpu.state) == ("wrong", "ok") and "libcudnn.so.9" in cuda.said
    unknown = provider_findings(tried, ["coreml"])[-1]
    assert unknown == Finding(
        "coreml", "wrong", "not in this onnxruntime, which has CUDAExecutionProvider, CPUExecutionProvider"
    )


def test_the_probe_is_a_graph_of_one_node_and_the_cpu_runs_it():
    square = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "probe", square[:1], square[1:])
    assert onnx.load_from_string(PROBE_ONNX).graph == graph
    assert probe("CPUExecutionProvider") == LIVE


def test_a_provider_that_falls_back_to_the_cpu_is_not_live():
    # no provider of that name: onnxruntime would run the graph on the CPU and only warn
    outcome = probe("NoSuchExecutionProvider")
    assert not outcome.live and outcome.reason


def test_the_command(capsys):
    code, said, _ = swath(capsys, "doctor", "--json", "--provider", "cpu")
    told = json.loads(said)
    states = {finding["what"]: finding["state"] for finding in told["findings"]}
    assert states["CPUExecutionProvider"] == states["onnxruntime"] == states["cv2"] == "ok"
    assert (code, told["ok"], told["schema"]) == (0, True, 1)
    code, said, _ = swath(capsys, "doctor", "--provider", "abacus")
    assert code == 1 and "WRONG" in said and "abacus" in said
    assert to_json([Finding("x", "note", "y")])["ok"]
