import numpy as np
import onnx
import pytest

from data import load_dataset
from detection.export.parity.graph_check import check_graph, side_of
from detection.export.parity.graph_part import Part
from detection.models.checkpoint import load_trained
from detection.models.torch_detector import TorchDetector
from detection.runtime.errors import SwathError
from detection.runtime.letterbox import letterbox

from .faults import PLANTED


@pytest.fixture(scope="module")
def compared(run, rendered):
    trained = load_trained(run)
    images = load_dataset(rendered).spread(2).images
    inputs = [letterbox(image.read(), trained.config.size_hw)[0] for image in images]
    grey = np.full_like(inputs[0], 114)
    return side_of(TorchDetector.of(trained)), [*inputs, grey]


def test_a_sound_graph_passes_and_its_detections_come_with_what_is_borderline(exported, compared) -> None:
    parity, expected = check_graph(onnx.load(exported), *compared)
    assert parity.faults == [] and parity.noise < 0.1 and parity.images == 3
    assert set(parity.suppression.values()) == {0} and len(parity.suppression) == 5
    assert parity.postprocessing.boxes > 200  # real tensors, and designed ones
    assert [len(one.borderline) for one in expected] == [len(one.detections) for one in expected]
    assert sum(len(one.detections) for one in expected) > 50


WHERE = {
    "wrong mean": "network.inputs",
    "BGR": "network.inputs",
    "other letterbox": "network.inputs",
    "swapped labels": "suppresses otherwise",
    "shifted anchors": "other boxes for the same tensors",
    "NMS threshold +0.02": "suppresses otherwise",
    "NMS threshold -0.02": "suppresses otherwise",
    "one class dropped": "other boxes for the same tensors",
    "one class never trained": "scores are off",
}


@pytest.mark.parametrize("fault", WHERE)
def test_every_planted_fault_is_found_where_it_is(fault: str, exported, compared) -> None:
    assert set(PLANTED.FAULTS) == set(WHERE)
    parity, _ = check_graph(PLANTED.spoilt(onnx.load(exported), PLANTED.FAULTS[fault]), *compared)
    assert any(WHERE[fault] in clause for clause in parity.faults) or (
        WHERE[fault] == "network.inputs" and "is off by" in parity.faults[-1]
    ), parity.faults


def test_a_graph_that_names_no_tensors_is_one_line(exported) -> None:
    with pytest.raises(SwathError, match=r"no tensor 'network\.none' to check it by: make it with"):
        Part(onnx.load(exported), ["images"], ["network.none"])
