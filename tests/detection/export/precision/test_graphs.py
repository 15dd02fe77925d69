import numpy as np
import onnx
import onnxruntime
import pytest

from detection.export.precision.calibration import measure
from detection.export.precision.fp16 import to_fp16
from detection.export.precision.int8 import Ranges, calibrated_tensors, to_int8
from detection.export.precision.network import find_network, named, trunk
from detection.export.precision.search import sensitivity

from . import tiny_graph
from .tiny_graph import OFFSET, PIXELS

EXACT = Ranges({"pixels": 0, "one": 0, "bent": 0, "raw": 0}, {"pixels": 255, "one": 510, "bent": 510, "raw": 510})


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": PIXELS})


def operators(model):
    return [node.op_type for node in model.graph.node]


def test_the_network_is_what_lies_between_convolutions():
    model = named(tiny_graph.build())
    network = find_network(model)
    assert [name.split("_")[0] for name in network.nodes] == ["Conv", "Relu", "Conv"]
    assert list(network.layers) == ["w1", "w2"] and all(len(nodes) == 1 for nodes in network.layers.values())
    assert network.outputs == ("raw",)
    assert operators(trunk(model, network)) == ["Cast", "Conv", "Relu", "Conv"]
    assert calibrated_tensors(model, network) == ["pixels", "one", "bent", "raw"]


def test_nothing_is_followed_through_what_chooses_boxes():
    # a second network behind the top-k, as a two-stage detector has it: what leads there is no part of either
    model = tiny_graph.build()
    del model.graph.output[:]
    helper = onnx.helper
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 3), np.float32), "w3"))
    model.graph.node.extend([helper.make_node("MatMul", ["best", "w3"], ["second"])])
    model.graph.output.append(helper.make_tensor_value_info("second", onnx.TensorProto.FLOAT, [1, 3]))
    network = find_network(named(model))
    assert [name.split("_")[0] for name in network.nodes] == ["Conv", "Relu", "Conv", "MatMul"]
    assert network.outputs == ("raw", "second")


def test_float16_is_in_the_network_alone():
    # 255 x 2.0005 = 510.13; float16's neighbours there are a half apart, and its weight is 2 exactly
    model = tiny_graph.build(first=2.0005)
    whole, half = run(model), run(to_fp16(model))
    assert whole[0][0] == pytest.approx([OFFSET + 510.1275, OFFSET + 400.1], abs=1e-3)
    assert half[0][0].tolist() == [OFFSET + 510, OFFSET + 400]  # 2559 is odd: float16 would give 2558 or 2560
    assert half[0].dtype == np.float32 and half[1].tolist() == [[3, 2]]
    lowered = to_fp16(model)
    kinds = {w.name: w.data_type for w in lowered.graph.initializer}
    assert kinds["w1_fp16"] == kinds["w2_fp16"] == onnx.TensorProto.FLOAT16
    assert kinds["offset"] == onnx.TensorProto.FLOAT and "w1" not in kinds
    assert operators(lowered).count("Cast") == 3  # pixels to float, into the network, out of it


def test_a_weight_beyond_float16_is_clipped():
    lowered = to_fp16(tiny_graph.build(first=1e6))
    weight = next(w for w in lowered.graph.initializer if w.name == "w1_fp16")
    assert onnx.numpy_helper.to_array(weight).item() == 65504


def test_integers_by_hand():
    # scales: pixels 1, weights 2 / 127 x 127, outputs 2: every value has an integer of its own
    model = named(tiny_graph.build())
    lowered = to_int8(model, find_network(model), EXACT, ["w1", "w2"])
    onnx.checker.check_model(lowered, full_check=True)
    best, where = run(lowered)
    assert best[0] == pytest.approx([OFFSET + 510, OFFSET + 400], abs=1e-3) and where.tolist() == [[3, 2]]
    assert "Relu" not in operators(lowered)  # uint8 says nothing below zero
    assert operators(lowered).count("QuantizeLinear") == 3
    constants = {w.name: onnx.numpy_helper.to_array(w) for w in lowered.graph.initializer}
    assert constants["w1_q"].dtype == np.int8 and constants["w1_q"].item() == 127
    assert constants["bent_scale"] == np.float32(2) and constants["bent_zero"].dtype == np.uint8


def test_a_layer_left_out_stays_as_it_was():
    model = named(tiny_graph.build())
    network = find_network(model)
    lowered = to_int8(model, network, EXACT, ["w2"])
    constants = {w.name for w in lowered.graph.initializer}
    assert "w1" in constants and "w2_q" in constants and "Relu" in operators(lowered)
    assert to_int8(model, network, EXACT, []).graph == model.graph


def normalised(mean, factor):
    """(byte - mean) x factor -> a 1 x 1 convolution of weight 127 and bias 3."""
    helper, tensor = onnx.helper, onnx.numpy_helper.from_array
    nodes = [
        helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["floats"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Sub", ["floats", "mean"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "factor"], ["pixels"]),
        helper.make_node("Conv", ["pixels", "w", "b"], ["raw"]),
    ]
    constants = {"mean": mean, "factor": factor}
    graph = helper.make_graph(
        nodes,
        "bytes",
        [helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, [1, 1, 4, 2])],
        [helper.make_tensor_value_info("raw", onnx.TensorProto.FLOAT, [1, 1, 1, 4])],
        [
            *(tensor(np.float32(v).reshape(1, 2, 1, 1), name) for name, v in constants.items()),
            tensor(np.float32([127, 127]).reshape(1, 2, 1, 1), "w"),
            tensor(np.float32([3]), "b"),
        ],
    )
    return named(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def test_the_integers_of_pixels_are_their_bytes():
    # a range of -1 to 1 would round 127.5 grey levels to 128 steps, and two levels to one
    model = normalised([127.5, 127.5], [1 / 127.5, 1 / 127.5])
    ranges = Ranges({"pixels": -1, "raw": -251}, {"pixels": 1, "raw": 259})
    lowered = to_int8(model, find_network(model), ranges, ["w"])
    onnx.checker.check_model(lowered, full_check=True)
    session = onnxruntime.InferenceSession(lowered.SerializeToString(), providers=["CPUExecutionProvider"])
    seen = np.array([[126, 127], [128, 127], [128, 129], [0, 255]], np.uint8).reshape(1, 1, 4, 2)
    # what comes out has steps of 2: so it says 126 + 127 and 128 + 127 and 128 + 129 apart
    wanted = 127 * (seen.astype(float).sum(-1) - 255) / 127.5 + 3
    assert session.run(None, {"images": seen})[0].ravel() == pytest.approx(wanted.ravel(), abs=1.01)
    assert not {"Cast", "Sub", "Mul"} & set(operators(lowered))
    constants = {w.name: onnx.numpy_helper.to_array(w) for w in lowered.graph.initializer}
    assert constants["pixels_zero"] == 128 and constants["pixels_scale"] == np.float32(1 / 127.5)


def test_colours_of_different_means_are_normalised_as_before():
    model = normalised([124, 116], [1 / 58, 1 / 57])
    ranges = Ranges({"pixels": -2.2, "raw": -600}, {"pixels": 2.5, "raw": 700})
    assert {"Cast", "Sub", "Mul"} <= set(operators(to_int8(model, find_network(model), ranges, ["w"])))


@pytest.mark.parametrize("activation", [None, "Relu", "Clip"])
def test_weights_of_a_layer_in_float_stay_float_in_onnxruntime_too(activation):
    # between integers its optimiser would round them to int8 with one scale for both channels: 0.001 becomes 0
    helper, tensor = onnx.helper, onnx.numpy_helper.from_array
    ends = [tensor(np.float32(0), "least"), tensor(np.float32(6), "most")]
    bend = {None: [], "Relu": [["kept", "bent"]], "Clip": [["kept", "least", "most", "bent"]]}[activation]
    middle = "bent" if bend else "kept"
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Conv", ["pixels", "w1"], ["one"]),
        helper.make_node("Conv", ["one", "w2", "b2"], ["kept"]),
        *(helper.make_node(activation, names[:-1], names[-1:]) for names in bend),
        helper.make_node("Conv", [middle, "w3"], ["raw"]),
    ]
    weights = {"w1": [[1.0]], "w2": [[1.0], [0.001]], "w3": [[0.0, 1.0]]}
    constants = [tensor(np.float32(w)[..., None, None], name) for name, w in weights.items()]
    graph = helper.make_graph(
        nodes,
        "three",
        [helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, [1, 1, 1, 4])],
        [helper.make_tensor_value_info("raw", onnx.TensorProto.FLOAT, [1, 1, 1, 4])],
        [*constants, tensor(np.zeros(2, np.float32), "b2"), *ends],
    )
    model = named(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    highs = {"pixels": 255, "one": 255, "kept": 0.255, "bent": 0.255, "raw": 0.255}
    lowered = to_int8(model, find_network(model), Ranges(dict.fromkeys(highs, 0), highs), ["w1", "w3"])
    assert run(lowered)[0].ravel() == pytest.approx([0, 0.01, 0.2, 0.255], abs=2e-3)
    assert ("Clip" in operators(lowered), "Relu" in operators(lowered)) == (False, False)


def test_each_channel_has_a_scale_of_its_own():
    model = named(tiny_graph.build(second=[1.0, 0.001]))
    lowered = to_int8(model, find_network(model), EXACT, ["w1", "w2"])
    constants = {w.name: onnx.numpy_helper.to_array(w) for w in lowered.graph.initializer}
    assert constants["w2_q"].ravel().tolist() == [127, 127]
    assert constants["w2_scale"] == pytest.approx([1 / 127, 0.001 / 127])


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero"),
    [(0, 6, 6 / 255, 0), (-255, 0, 1, 255), (-10, 245, 1, 10), (5, 255, 1, 0), (0, 0, 1, 0), (-3, -1, 3 / 255, 255)],
)
def test_zero_always_has_an_integer(low, high, scale, zero):
    assert Ranges({"x": low}, {"x": high}).scale_and_zero("x") == (pytest.approx(scale), zero)


def test_ranges_are_those_of_the_images():
    model = named(tiny_graph.build(first=-1.0))
    network = find_network(model)
    small, tensors = trunk(model, network), calibrated_tensors(model, network)
    found = measure(small, tensors, [PIXELS[0], np.full((1, 1, 4), 7, np.uint8)])
    assert (found.lows["pixels"], found.highs["pixels"], found.lows["one"], found.highs["bent"]) == (0, 255, -255, 0)
    # 40,000 values, of which one is an outlier: a ten-thousandth, half of it at each end, is two
    grey = [np.full((1, 1, 4), 100, np.uint8)] * 9999
    clipped = measure(small, tensors, [PIXELS[0], *grey], method="percentile")
    assert clipped.highs["pixels"] < 102 and clipped.lows["pixels"] >= 0


def test_the_layer_that_suffers_most_comes_first():
    # The network says 0, 20, 400, 510. In steps of 200 that is 0, 0, 400, 600: noise 400 + 8100 of 420,500, 16.94 dB.
    model = named(tiny_graph.build())
    network = find_network(model)
    harm = sensitivity(model, network, Ranges(EXACT.lows, EXACT.highs | {"raw": 51000}), [PIXELS[0]])
    assert list(harm) == ["w2", "w1"]
    assert harm["w2"] == pytest.approx(16.94, abs=0.01) and harm["w1"] > 90
    # Between the layers it harms both, but what the second makes of 600 ends at 510: noise 400, 30.22 dB.
    harm = sensitivity(model, network, Ranges(EXACT.lows, EXACT.highs | {"bent": 51000}), [PIXELS[0]])
    assert harm == {"w1": pytest.approx(16.94, abs=0.01), "w2": pytest.approx(30.22, abs=0.01)}
