"""One model file on every backend: the boxes that PyTorch gave at its export."""

from __future__ import annotations

from pathlib import Path

import pytest

from detection.models.presets import preset_names
from detection.runtime.backends.probe import probe
from detection.runtime.detector import Detector
from detection.runtime.parity.verify import verify
from tests.detection.conftest import swath


def test_openvino_agrees_and_bfloat16_is_found_out(exported: Path) -> None:
    detector = Detector(exported, providers=["openvino"], score_thresholds=0.0)
    outcome = verify(exported, detector)
    assert outcome.same_file and outcome.parity.passed and outcome.parity.boxes > 100
    import openvino

    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        # what OpenVINO would do by itself on such a CPU is another detector
        lower = Detector(exported, providers=["openvino:bf16"], score_thresholds=0.0)
        assert not verify(exported, lower).parity.passed


def test_the_commands_take_the_backend_by_name(
    exported: Path, rendered: Path, run: Path, tmp_path: Path, capsys
) -> None:
    code, said, _ = swath(capsys, "verify", exported, "--provider", "openvino")
    assert code == 0 and "agrees with PyTorch" in said and "OpenVINO" in said and "CPU in f32" in said
    images = str(next(p for p in rendered.rglob("*") if p.suffix in (".jpg", ".png")).parent)
    jsonl = tmp_path / "d.jsonl"
    code, _, _ = swath(
        capsys, "stream", exported, images, "--provider", "openvino", "--jsonl", jsonl, "--max-frames", 3
    )
    assert code == 0 and len(jsonl.read_text().splitlines()) == 3
    out = tmp_path / "scored"
    code, _, _ = swath(capsys, "evaluate", exported, rendered, "--provider", "openvino", "--out", out)
    assert code == 0 and "OpenVINO" in (out / "metrics.json").read_text()
    code, _, error = swath(capsys, "evaluate", exported, rendered, "--provider", "abacus", "--out", out)
    assert code == 1 and "provider 'abacus' is not in this onnxruntime" in error
    code, _, error = swath(capsys, "evaluate", run, rendered, "--provider", "openvino", "--out", out)
    assert code == 1 and "--provider is for an .onnx" in error


@pytest.mark.gpu
@pytest.mark.skipif(not Path("/dev/nvidia0").exists(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize(
    ("provider", "full"), [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")]
)
def test_nvidia_agrees_and_computes_the_convolutions(
    provider: str, full: str, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = probe(full)
    if not live.live:
        pytest.skip(f"{full} is not live: {live.reason}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    detector = Detector(exported, providers=[provider], score_thresholds=0.0)
    assert detector.providers[0] == full
    outcome = verify(exported, detector)
    assert outcome.parity.passed and outcome.parity.boxes > 100, outcome.parity
    if provider == "tensorrt":
        assert list(tmp_path.glob("swath/tensorrt/*/*.engine"))
        again = Detector(exported, providers=[provider], score_thresholds=0.0)  # from the kept engines
        assert verify(exported, again).parity.passed


# fcos_lite is above; its size m differs from s in widths only
SEEN = ("fcos_lite", "fcos_lite_m")
ONE_STAGE = [name for name in preset_names() if "rcnn" not in name and name not in SEEN]


@pytest.mark.parametrize(
    "preset",
    # sizes of one kind differ in widths only, and the ResNets in what lies below the same heads
    [pytest.param(p, marks=[pytest.mark.slow] if "resnet50" in p or p == "fcos_lite_s" else []) for p in ONE_STAGE],
)
def test_openvino_agrees_for_every_other_one_stage_preset(preset: str, lively_exported) -> None:
    out = lively_exported(preset)
    parity = verify(out, Detector(out, providers=["openvino"], score_thresholds=0.0)).parity
    assert parity.images >= 32 and parity.boxes > 100  # batches of 1, 2, 5 and 8, twice each
    assert parity.passed, parity
