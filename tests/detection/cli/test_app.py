"""The commands as a user meets them: help, exit codes, one clear line for bad input, nothing half-written."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from tests.detection.conftest import swath, write_recipe

HELP = """
import json, sys
from io import StringIO
from detection.cli.app import main
shown, heavy = {}, {}
for command in (["--help"], *([name, "--help"] for name in sys.argv[1:])):
    sys.stdout = StringIO()
    try:
        main(command)
    except SystemExit as ended:
        assert not ended.code, command
    shown[command[0]] = sys.stdout.getvalue()
    heavy[command[0]] = sorted({"torch", "cv2", "onnxruntime", "numpy", "pandas"} & sys.modules.keys())
sys.stdout = sys.__stdout__
print(json.dumps({"shown": shown, "heavy": heavy}))
"""
ONE_COMMAND = ("train", "evaluate", "export", "verify", "replay", "bench", "doctor", "demo", "stream")


def test_help_has_an_example_and_needs_no_torch() -> None:
    code = [sys.executable, "-c", HELP, *ONE_COMMAND]
    said = json.loads(subprocess.run(code, check=True, capture_output=True, text=True).stdout)
    assert len(said["heavy"]) == 1 + len(ONE_COMMAND) and not any(said["heavy"].values())
    for command in ONE_COMMAND:
        assert f"$ swath {command}" in said["shown"][command], command
        assert f" {command} " in said["shown"]["--help"], command


def test_it_runs_as_a_module_too() -> None:
    shown = subprocess.run([sys.executable, "-m", "detection.cli", "--version"], capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, "") and shown.stdout.startswith("swath ")


def test_wrong_usage_is_2(capsys) -> None:
    for arguments in ([], ["train"], ["fly"], ["export", "run"], ["export", "run", "--out", "f.txt"]):
        if arguments:
            assert swath(capsys, *arguments)[0] == 2, arguments
    assert swath(capsys, "export", "run", "--out", "f.onnx", "--precision", "fp8")[0] == 2
    for wrong in (["--runs", 0], ["--pulse-m", 0], ["--valve-ms", -1], ["--fps", 0], ["--threads", 0]):
        assert swath(capsys, "bench", "f.onnx", *wrong)[0] == 2, wrong
    assert swath(capsys, "bench")[0] == 2


def coco(folder: Path, *, boxes=((1, [10, 10, 30, 30]),), image_id=1) -> Path:
    """A dataset of one image."""
    (folder / "images").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "a.jpg"), np.full((100, 120, 3), 90, np.uint8))
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 120, "height": 100}],
        "categories": [{"id": 1, "name": "weed"}],
        "annotations": [
            {"id": i, "image_id": image_id, "category_id": c, "bbox": box, "area": 1, "iscrowd": 0}
            for i, (c, box) in enumerate(boxes)
        ],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def broken_jpeg(folder: Path) -> Path:
    path = coco(folder) / "images" / "a.jpg"
    path.write_bytes(path.read_bytes()[:300])
    return folder


def not_a_image(folder: Path) -> Path:
    (coco(folder) / "images" / "a.jpg").write_text("hello")
    return folder


def no_images(folder: Path) -> Path:
    folder.mkdir()
    (folder / "annotations.json").write_text(
        '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "weed"}]}'
    )
    return folder


def not_json(folder: Path) -> Path:
    folder.mkdir()
    (folder / "annotations.json").write_text("{")
    return folder


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder, "no such file or folder"),
        (lambda folder: coco(folder, boxes=[(1, [500, 500, 40, 40])]), "lies wholly outside the image"),
        (lambda folder: coco(folder, boxes=[(1, [float("nan"), 0, 40, 40])]), "not finite"),
        (lambda folder: coco(folder, boxes=[(9, [0, 0, 40, 40])]), "category_id 9 is not in categories"),
        (lambda folder: coco(folder, image_id=77), "image_id 77 is not in images"),
        (lambda folder: coco(folder, boxes=[]), "no boxes"),
        (broken_jpeg, "a.jpg"),
        (not_a_image, "a.jpg"),
        (no_images, "the dataset is empty"),
        (not_json, "JSON"),
    ],
)
def test_a_dataset_that_cannot_be_used(make, said: str, tmp_path: Path, capsys) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", make(tmp_path / "dataset"))
    code, out, error = swath(capsys, "train", recipe, "--out", tmp_path / "run")
    assert code == 1
    assert out == ""
    line = error.splitlines()[-1]
    assert line.startswith("swath: ") and said in line
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_a_box_that_reaches_outside_is_clipped_and_said(tmp_path: Path, capsys) -> None:
    dataset = coco(tmp_path / "dataset", boxes=[(1, [100, 80, 40.5, 40]), (1, [5, 5, 0.2, 9]), (1, [5, 5, 9, 9])])
    recipe = write_recipe(tmp_path / "r.yaml", dataset)
    code, _, error = swath(capsys, "train", recipe, "--out", tmp_path / "run", "-s", "train.epochs=1")
    assert code == 0
    assert "1 box reaching outside the image: clipped to it" in error
    assert "1 box thinner than 1 px inside the image: dropped" in error


def foreign_onnx(path: Path) -> Path:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_models_that_cannot_be_used(tmp_path: Path, capsys) -> None:
    dataset = coco(tmp_path / "dataset")
    (tmp_path / "text.onnx").write_text("not a graph")
    for model, said in (
        (foreign_onnx(tmp_path / "foreign.onnx"), "not a Swath model"),
        (tmp_path / "text.onnx", "not a readable .onnx"),
        (tmp_path / "none.onnx", "no such model file"),
        (tmp_path / "none", "no such run"),
    ):
        code, _, error = swath(capsys, "evaluate", model, dataset, "--out", tmp_path / "out")
        assert code == 1
        assert len(error.splitlines()) == 1 and said in error, error
    code, _, error = swath(capsys, "stream", tmp_path / "foreign.onnx", "x.mp4", "--jsonl", tmp_path / "f.jsonl")
    assert code == 1 and "not a Swath model" in error.splitlines()[-1]
    assert not (tmp_path / "out").exists() and not (tmp_path / "f.jsonl").exists()


def test_recipes_that_cannot_be_used(tmp_path: Path, capsys) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tmp_path)
    for arguments, said in (
        (["train", tmp_path / "none.yaml"], "no such recipe"),
        (["train", recipe, "-s", "train.epoch=3"], "train.epoch: unknown key; did you mean train.epochs?"),
        (["train", recipe, "-s", "model.weights=nowhere.pth", "-s", f"data.train={coco(tmp_path / 'd')}"], "no file"),
    ):
        code, _, error = swath(capsys, *arguments, "--out", tmp_path / "run")
        assert code == 1
        assert error.splitlines()[-1].startswith("swath: ") and said in error
    assert not (tmp_path / "run").exists()


def test_train_evaluate_export_evaluate_stream(tmp_path: Path, rendered: Path, capsys) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", rendered)
    same = ("-s", f"data.val={rendered}", "-s", "data.allow=[splits-identical]")
    code, out, _ = swath(capsys, "train", recipe, "--out", tmp_path / "run", *same)
    assert (code, out.strip()) == (0, str(tmp_path / "run" / "best.safetensors"))
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["val"] == str(rendered)

    code, out, _ = swath(capsys, "evaluate", tmp_path / "run", rendered, "--slice-by", "light")
    assert code == 0
    evaluation = tmp_path / "run" / "evaluation"
    from_run = json.loads((evaluation / "metrics.json").read_text())
    assert from_run["slices"]
    assert out.strip().endswith(str(evaluation / "report.html"))

    model = tmp_path / "m.onnx"
    code, out, _ = swath(capsys, "export", tmp_path / "run", "--out", model)
    assert code == 0 and "agrees with PyTorch on" in out
    code, _, _ = swath(capsys, "evaluate", model, rendered, "--out", tmp_path / "onnx")
    from_onnx = json.loads((tmp_path / "onnx" / "metrics.json").read_text())
    assert from_run["runs_on"].startswith("PyTorch ") and from_run["runs_on"].endswith(", cpu, input 128 x 160")
    assert from_onnx["runs_on"].startswith("onnxruntime ") and "CPUExecutionProvider" in from_onnx["runs_on"]
    assert from_onnx["coco"] == pytest.approx(from_run["coco"], abs=1e-3)

    code, _, error = swath(capsys, "stream", model, rendered / "images", "--jsonl", tmp_path / "d.jsonl")
    assert code == 0
    lines = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(12))
    assert "p99" in error


def test_a_missing_extra_is_answered_by_what_to_install(capsys, monkeypatch, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", tmp_path)
    for name in (
        "detection.training.train",
        "detection.training.prepare",
    ):  # may be imported already
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    code, _, error = swath(capsys, "train", recipe, "--out", tmp_path / "run")
    assert (code, error) == (1, 'swath: this command needs the training half: pip install "swath[train]"\n')
