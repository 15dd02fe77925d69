import ast
from pathlib import Path

import pytest
import yaml

import detection.training
from detection.recipe.reading import load_recipe
from detection.training.prepare import prepare
from tests.detection.conftest import Quiet


def test_the_recipe_stops_at_the_door() -> None:
    """It is unpacked where a training begins; no other module of the room imports it."""
    folder = Path(detection.training.__file__).parent
    seen, knowing = 0, set()
    for path in folder.glob("*.py"):
        seen += 1
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            # compatibility maps the names in an older run's files; it is no recipe
            if module and module.startswith("detection.recipe") and module != "detection.recipe.compatibility":
                knowing.add(path.stem)
    assert seen > 15
    assert knowing == {"train", "prepare", "pretraining_recipe"}


def test_the_room_prints_nothing() -> None:
    for path in Path(detection.training.__file__).parent.glob("*.py"):
        called = {
            n.func.id
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        assert not called & {"print", "exit", "input"}, path


@pytest.mark.parametrize(
    ("preset", "takes_top_k"), [("fcos_resnet50_fpn", True), ("fasterrcnn_mobilenet_v3_large_320_fpn", False)]
)
def test_limits_below_the_boxes_are_said_before_training(preset, takes_top_k, tmp_path, rendered) -> None:
    recipe = {
        "data": {"train": str(rendered)},
        "model": {"preset": preset, "weights": "none"},
        "input": {"size_hw": [128, 160]},
        "train": {"accelerator": "cpu", "workers": 0},
        "postprocess": {"max_detections": 1, "pre_nms_top_k": 1},
    }
    path, watcher = tmp_path / "r.yaml", Quiet()
    path.write_text(yaml.safe_dump(recipe))
    prepare(load_recipe(path), watcher)
    said = " ".join(watcher.notes)
    assert "train: " in said and "raise postprocess.max_detections" in said
    assert ("raise postprocess.pre_nms_top_k" in said) == takes_top_k
