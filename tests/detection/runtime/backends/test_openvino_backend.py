import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from detection.runtime.backends.openvino_backend import OpenVinoBackend
from detection.runtime.detector import Detector
from detection.runtime.errors import DeviceError, ModelFileError
from tests.detection.conftest import resealed


@pytest.fixture(scope="module")
def detector(model_path: Path) -> Detector:
    return Detector(model_path, providers=["openvino"], threads=1)


def test_it_says_what_it_is(detector: Detector) -> None:
    assert detector.providers == ("openvino",)
    assert detector.runs_on.startswith("OpenVINO 20") and detector.runs_on.endswith(", CPU in f32, input 64 x 96")


def test_the_same_answers_as_onnxruntime_for_every_batch(detector: Detector, model_path: Path) -> None:
    other = Detector(model_path)
    kept = []
    for count in (1, 2, 5, 8, 1, 3):
        images = np.random.default_rng(count).integers(0, 256, (count, 64, 96, 3), np.uint8)
        images[..., 1] = (
            images[..., 1] // 4 * 3
        )  # no class ties with the other: who comes first then is the backend's choice
        images[0] //= 2  # nothing is bright in it
        kept.append((other.infer(images), detector.infer(images)))
    for expected, found in kept:  # after all runs: none wrote over another's arrays
        for name in ("boxes", "scores", "labels"):
            one, two = getattr(expected, name), getattr(found, name)
            np.testing.assert_allclose(two, one, rtol=1e-6)
            assert one.dtype == two.dtype
    assert [int((found.labels >= 0).sum()) for _, found in kept] == [0, 2, 8, 14, 0, 4]


def test_images_in_boxes_out(detector: Detector, make_image: Any) -> None:
    found = detector(make_image(box=(30, 10, 50, 20)))
    np.testing.assert_array_equal(found.boxes_xyxy, [[30, 10, 50, 20]])
    assert len(detector(make_image())) == 0


def test_many_threads_share_one_detector(detector: Detector, make_image: Any) -> None:
    results: list[tuple[int, float]] = []

    def work(i: int) -> None:
        for _ in range(20):
            results.append((i, float(detector(make_image(box=(i, 0, i + 10, 10))).boxes_xyxy[0, 0])))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert len(results) == 80 and all(i == x for i, x in results)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_float32_whatever_this_cpu_would_take_by_itself(
    tiny: ModuleType, tmp_path: Path, precision: str, model_path: Path
) -> None:
    path = tiny.write(tmp_path / "m.onnx", tiny.metadata(precision=precision))
    assert ", CPU in f32," in Detector(path, providers=["openvino"]).runs_on


def test_another_precision_only_where_it_is_asked_for_and_there(model_path: Path) -> None:
    import openvino

    can = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" in can:
        assert ", CPU in bf16," in Detector(model_path, providers=["openvino:bf16"]).runs_on
    else:
        with pytest.raises(DeviceError, match="set to compute in bf16"):
            Detector(model_path, providers=["openvino:bf16"])
    if "FP16" not in can:  # it would take float32 or bfloat16 without a word
        with pytest.raises(DeviceError, match="set to compute in f16 and computes in (bf16|f32) on this CPU"):
            Detector(model_path, providers=["openvino:fp16"])
    with pytest.raises(DeviceError, match="does not compute in tf32; it supports: fp32, bf16, fp16"):
        Detector(model_path, providers=["openvino:tf32"])


def test_a_graph_of_fixed_batch(tiny: ModuleType, tmp_path: Path, make_image: Any) -> None:
    path = tiny.write(tmp_path / "m.onnx", tiny.metadata(max_batch=2), batch=2)
    backend = OpenVinoBackend(path, tiny.metadata(max_batch=2))
    images = np.stack([make_image(box=(1, 2, 11, 12))[..., ::-1], make_image()])
    found = backend.run(images)
    assert found.boxes[0, 0].tolist() == [1, 2, 11, 12] and found.labels[1].tolist() == [-1] * 4


def test_it_takes_the_whole_graph_or_nothing(model_path: Path) -> None:
    with pytest.raises(DeviceError, match="name no other provider"):
        Detector(model_path, providers=["openvino", "cpu"])
    with pytest.raises(DeviceError, match="'OpenVINOExecutionProvider' is not in this onnxruntime"):
        Detector(model_path, providers=["OpenVINOExecutionProvider"])
    with pytest.raises(ValueError, match="threads must be 1 or more"):
        Detector(model_path, providers=["openvino"], threads=0)


def test_files_that_are_no_good_are_one_line(tiny: ModuleType, model_path: Path, tmp_path: Path) -> None:
    content = model_path.read_bytes()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(resealed(content.replace(b"ReduceMin", b"ReduceXin")))
    assert broken.read_bytes() != content
    wrong = tiny.write(tmp_path / "wrong.onnx", rename={"boxes": "dets"})
    other = tiny.write(tmp_path / "other.onnx", text=tiny.changed_json(input_size_hw=[32, 96]))
    for path, why in (
        (broken, r"not a readable \.onnx model"),
        (wrong, r"its outputs are dets float32 \['N', 4, 4\]"),
        (other, r"its input is \['N', 64, 96, 3\], its metadata says \['N', 32, 96, 3\]"),
    ):
        with pytest.raises(ModelFileError, match=why) as error:
            Detector(path, providers=["openvino"])
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_without_the_package_it_says_what_to_type(model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it were not installed
    with pytest.raises(DeviceError, match=r'needs its package: pip install "swath\[openvino\]"'):
        Detector(model_path, providers=["openvino"])


SILENT = """
import sys
calls = []
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        calls.append((event, args))
        raise OSError("no network in this test")
sys.addaudithook(watch)
import numpy as np
from detection.runtime import Detector
detector = Detector(sys.argv[1], providers=["openvino"])
detector(np.zeros((64, 96, 3), np.uint8))
assert not calls, calls
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
assert "onnxruntime" not in sys.modules  # and it takes no memory either
import openvino_telemetry  # there, and not hidden any more
"""


def test_nothing_is_reported_to_anybody(model_path: Path, tmp_path: Path) -> None:
    env = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", SILENT, str(model_path)],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []  # no client id in the home folder, no cache
