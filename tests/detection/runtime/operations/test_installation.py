import onnx
from onnx import TensorProto, helper

from detection.runtime.backends.probe import PROBE_ONNX, Liveness, probe
from detection.runtime.operations.finding import Finding
from detection.runtime.operations.installation import (
    opencv_finding,
    openvino_finding,
    provider_findings,
    runtime_finding,
    suggestion,
    tensorrt_finding,
)

LIVE, DEAD = Liveness(True, ""), Liveness(False, "libcudnn.so.9: cannot open")


def test_two_versions_of_cv2_overwrite_one_another():
    both = {"opencv-python": "5.0.0.93", "opencv-python-headless": "5.0.0.93"}
    assert opencv_finding(both, "5.0.0", "FFmpeg yes").state == "ok"
    mixed = opencv_finding({**both, "opencv-python-headless": "4.12.0.88"}, "4.12.0", "FFmpeg yes")
    assert mixed.state == "wrong" and "--no-deps opencv-python==5.0.0.93" in mixed.message
    shadowed = opencv_finding(both, "4.9.0", "FFmpeg no")
    assert shadowed.state == "wrong" and "another cv2 comes first" in shadowed.message
    assert opencv_finding({}, "4.9.0", "GStreamer yes").state == "ok"  # built by oneself, as on a Jetson


def test_the_newest_of_two_wheels_is_found_by_number_not_by_letter():
    mixed = opencv_finding({"opencv-python": "4.9.0.80", "opencv-python-headless": "4.12.0.88"}, "4.12.0", "")
    assert "opencv-python==4.12.0.88 opencv-python-headless==4.12.0.88" in mixed.message


def test_two_wheels_of_onnxruntime_kill_the_gpu():
    assert runtime_finding({"onnxruntime-gpu": "1.31.1"}, "1.31.1").state == "ok"
    two = runtime_finding({"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}, "1.31.1")
    assert two.state == "wrong" and "pip uninstall onnxruntime onnxruntime-gpu, then install one" in two.message


def test_only_a_provider_that_was_asked_for_must_live():
    tried = {"CUDAExecutionProvider": DEAD, "CPUExecutionProvider": LIVE}
    assert [f.state for f in provider_findings(tried, ())] == ["note", "ok"]
    for name in ("cuda", "CUDA", "CUDAExecutionProvider"):
        cuda, cpu = provider_findings(tried, [name, "cpu"])
        assert (cuda.state, cpu.state) == ("wrong", "ok") and "libcudnn.so.9" in cuda.message
    unknown = provider_findings(tried, ["coreml"])[-1]
    assert unknown == Finding(
        "coreml", "wrong", "not in this onnxruntime, which has CUDAExecutionProvider, CPUExecutionProvider"
    )


def test_short_names_of_providers_are_known():
    tried = {"DmlExecutionProvider": LIVE, "CPUExecutionProvider": LIVE}
    assert [f.subject for f in provider_findings(tried, ["directml", "dml"])] == list(tried)
    assert [f.state for f in provider_findings({"DmlExecutionProvider": DEAD}, ["dml"])] == ["wrong"]


def test_openvino_must_live_only_where_it_is_asked_for():
    assert openvino_finding(None, required=False).state == "note"
    missing = openvino_finding(None, required=True)
    assert missing.state == "wrong" and 'pip install "swath[openvino]"' in missing.message
    assert [openvino_finding(DEAD, required=required).state for required in (False, True)] == ["note", "wrong"]
    told = openvino_finding(Liveness(True, "", "2026.4.1, devices: CPU (x)"), required=True)
    assert told == Finding("openvino", "ok", "live: it ran a graph; 2026.4.1, devices: CPU (x)")


def test_openvino_is_probed_and_says_what_it_would_compute_in():
    outcome = probe("openvino")
    assert outcome.live and "devices: CPU (" in outcome.details
    import openvino

    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert "its default is bf16, Swath sets f32" in outcome.details


def test_which_backend_to_take():
    cpu = {"CPUExecutionProvider": LIVE}
    both = {"TensorrtExecutionProvider": DEAD, "CUDAExecutionProvider": LIVE, **cpu}
    assert "--provider cuda; then swath verify" in suggestion(both, None).message
    for missing in (None, DEAD):
        without = suggestion({**both, "CUDAExecutionProvider": DEAD}, missing)
        assert without.state == "ok" and 'pip install "swath[openvino]"' in without.message
    assert "leave --provider out; --provider openvino for int8 files" in suggestion(cpu, LIVE).message
    assert suggestion({"CPUExecutionProvider": DEAD}, None).state == "note"
    assert tensorrt_finding({}).state == "note" and tensorrt_finding({"tensorrt": "10.9"}).message == "tensorrt 10.9"


def test_the_probe_is_a_graph_of_one_node_and_the_cpu_runs_it():
    square = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "probe", square[:1], square[1:])
    assert onnx.load_from_string(PROBE_ONNX).graph == graph
    assert probe("CPUExecutionProvider") == LIVE


def test_a_provider_that_falls_back_to_the_cpu_is_not_live():
    # no provider of that name: onnxruntime would run the graph on the CPU and only warn
    outcome = probe("NoSuchExecutionProvider")
    assert not outcome.live and outcome.reason
