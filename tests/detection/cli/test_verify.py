import json
import shutil
import subprocess
import sys

import onnx

from data import load_dataset
from detection.export.export import export
from detection.models.checkpoint import load_trained
from detection.runtime.detector import Detector
from detection.runtime.parity.report import parity_fault
from tests.detection.conftest import resealed, swath

WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "torchvision", "timm", "onnx", "lightning_fabric"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from detection.cli.app import main
main(sys.argv[1:])
"""


def test_an_exported_file_agrees_also_where_there_is_no_torch(exported, rendered, tmp_path):
    for given in ((), (rendered,)):
        command = [sys.executable, "-c", WITHOUT, "verify", exported, *given, "--json", tmp_path / "v.json"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=200)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{exported}: agrees with PyTorch on " in done.stdout and "CPUExecutionProvider" in done.stdout
        written = json.loads((tmp_path / "v.json").read_text())
        assert written["agrees"] and written["same_file"] and written["unmatched_boxes"] == 0
        assert written["boxes"] > 100
        known = len(load_dataset(rendered)) if given else 0
        assert (written["reference_images"], written["other_images"]) == (known, 0)
        assert (written["delta_ap_points"] is None) == (not given)
    assert written["delta_ap_points"] <= 0.1
    parity = json.loads(exported.with_suffix(".parity.json").read_text())
    assert parity["compared_on_fingerprint"] == load_dataset(rendered).fingerprint()


def test_a_file_that_was_tampered_with_does_not(exported, rendered, tmp_path, capsys):
    model = tmp_path / "model.onnx"
    shutil.copy(exported.with_suffix(".reference.npz"), model.with_suffix(".reference.npz"))
    graph = onnx.load(exported)
    weights = next(w for w in graph.graph.initializer if len(w.dims) == 4 and w.dims[0] > 8)
    values = onnx.numpy_helper.to_array(weights) * -1
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    model.write_bytes(graph.SerializeToString())
    code, said, error = swath(capsys, "verify", model, rendered)
    assert code == 1 and "damaged or changed: its content is not what was exported" in error
    model.write_bytes(resealed(graph.SerializeToString()))
    code, said, error = swath(capsys, "verify", model, rendered, "--json", tmp_path / "v.json")
    assert (code, said) == (1, "")
    line = error.splitlines()[-1]
    assert "it is not the file that was exported: its SHA-256 is another; " in line
    assert "boxes differ from PyTorch's" in line and "AP is off by" in line
    assert json.loads((tmp_path / "v.json").read_text())["agrees"] is False


def test_other_images_and_a_lost_reference_are_one_line(exported, coco_file, tmp_path, capsys):
    other = coco_file([[(7, (10, 10, 40, 50))]])
    code, _, error = swath(capsys, "verify", exported, other)
    assert code == 1 and "the export was checked on none of its images, but on" in error.splitlines()[-1]
    alone = shutil.copy(exported, tmp_path / "alone.onnx")
    code, _, error = swath(capsys, "verify", alone)
    assert code == 1 and "alone.reference.npz: no such file; swath export writes it beside the model" in error


def test_ap_of_images_without_a_box_is_undefined_and_never_a_number(run, coco_file, tmp_path, capsys):
    empty, model = coco_file([[], []], names=load_trained(run).class_names), tmp_path / "model.onnx"
    report = export(load_trained(run), model, images=load_dataset(empty), held_out=True)
    assert report["ap_pytorch"] == report["ap_onnx"] == -1
    assert report["delta_ap_points"] is report["delta_ap_chance_points"] is report["small_ap_fall_points"] is None
    assert "AP is undefined, the images have no boxes" in report["warnings"][0]
    code, said, _ = swath(capsys, "verify", model, empty, "--json", tmp_path / "v.json")
    assert code == 0 and "AP undefined: the images have no boxes" in said and "AP within" not in said
    written = json.loads((tmp_path / "v.json").read_text())
    assert written["delta_ap_points"] is written["delta_ap_chance_points"] is None
    assert parity_fault(model, Detector(model).metadata) == ""
