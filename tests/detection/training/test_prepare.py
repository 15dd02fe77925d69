import ast
from pathlib import Path

import detection.training


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
