"""The commands from a checkout, as a user starts them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import preloaded

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return preloaded.script(SCRIPTS / f"{name}.py", *arguments)


def benchmark(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """One that measures, and so lets OpenCV have its threads: those do not survive a fork."""
    command = [sys.executable, str(SCRIPTS / "bench" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def names(annotations: Path) -> list[str]:
    return [Path(image["file_name"]).name for image in json.loads(annotations.read_text())["images"]]


@pytest.mark.parametrize("name", ["train", "evaluate", "export", "stream"])
def test_each_script_is_its_command(name: str) -> None:
    done = script(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"swath {name}" in done.stdout  # the example
    assert script(name, "--no-such-option").returncode == 2


def test_cross_validation_tests_every_image_once_and_trains_on_none_of_its_own(
    rendered: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        json.dumps(  # JSON is YAML
            {
                "data": {"train": str(rendered)},
                "model": {"channels": 32, "head_convs": 1},
                "input": {"size_hw": [128, 160]},
                "train": {"epochs": 1, "workers": 0, "accelerator": "cpu"},
            }
        )
    )
    done = script("cross_validate", recipe, "--folds", 2, "--out", tmp_path / "folds")
    assert done.returncode == 0, done.stderr
    everything = names(rendered / "annotations.json")
    tested: list[str] = []
    for fold in ("fold0", "fold1"):
        train, test = (names(tmp_path / "folds" / fold / f"{part}.json") for part in ("train", "test"))
        assert not set(train) & set(test)
        assert len(train) == len(test) == 6
        tested += test
    assert sorted(tested) == sorted(everything)
    result = json.loads((tmp_path / "folds" / "cross_validation.json").read_text())
    assert len(result["folds"]) == 2
    assert result["mean"]["AP50"] == pytest.approx((result["folds"][0]["AP50"] + result["folds"][1]["AP50"]) / 2)
    trained = (tmp_path / "folds" / "fold0" / "run" / "best.safetensors").read_bytes()
    again = ["--folds", 2, "--out", tmp_path / "folds", "--only", 0]
    assert "contains a run already" in script("cross_validate", recipe, *again).stderr
    done = script("cross_validate", recipe, *again, "--resume", "--tta")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "folds" / "fold0" / "run" / "best.safetensors").read_bytes() == trained
    assert "2 folds, TTA" in " ".join(done.stdout.split())  # a long title is wrapped
    augmented = json.loads((tmp_path / "folds" / "cross_validation_tta.json").read_text())
    assert [fold["fold"] for fold in augmented["folds"]] == [0]  # the other was scored without
    assert json.loads((tmp_path / "folds" / "cross_validation.json").read_text()) == result


def test_the_data_benchmark_compares_loaders_on_the_same_images(rendered: Path, tmp_path: Path) -> None:
    asked = ["--images", 16, "--size", 64, "--batch", 4, "--epochs", 3, "--rounds", 1, "--workers", 0]
    (tmp_path / "file").write_text("")
    loaders = ["--only", "swath-ram", "torchvision", "ultralytics", "--ultralytics-venv", tmp_path / "file" / "venv"]
    done = benchmark("loading", rendered, *asked, *loaders, "--json", tmp_path / "bench.json")
    assert done.returncode == 0, done.stderr
    assert "Ultralytics cannot be installed here, its rows stay empty" in done.stdout
    runs = {run["loader"]: run["passes"] for run in json.loads((tmp_path / "bench.json").read_text())["runs"]}
    assert set(runs) == {"swath-ram", "torchvision"}
    for passes in runs.values():
        assert [p["pass"] for p in passes] == [1, 2, 3]
        assert all(p["images"] == 16 and p["seconds"] > 0 for p in passes)
    refused = benchmark("loading", rendered, "--epochs", 2)
    assert refused.returncode == 2 and "--epochs must be 3 or more" in refused.stderr


def test_the_cost_of_every_effect_is_printed_and_written(rendered: Path, tmp_path: Path) -> None:
    options = ("--size", 96, "--rounds", 1, "--json", tmp_path / "cost.json")
    done = benchmark("augment", "--dataset", rendered, *options)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "cost.json").read_text())["median_mean_ms"]
    assert {"nothing", "rain", "mosaic", "multi_scale", "strength season"} <= set(figures)
    assert all(0 < value < 10_000 for pair in figures.values() for value in pair)
    assert "copy_paste" in done.stdout
