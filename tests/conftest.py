"""What many tests share: real datasets where they are present, and a small rendered field."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # as many workers as cores: one thread each, in the tests' child processes too; before anything loads OpenMP
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.once import once


def pytest_xdist_auto_num_workers() -> int:
    """Workers of `-n auto`: three for two cores, as a third of a worker's time is waiting for cameras and clocks."""
    return math.ceil(1.5 * len(os.sched_getaffinity(0)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that train, export or open a browser first: no worker is left alone with one of them at the end."""
    long = {"run", "exported", "lively", "rendered", "browser"}
    runtime = Path(__file__).parent / "detection" / "runtime"
    for item in items:
        if item.get_closest_marker("serial") and not item.path.is_relative_to(runtime):
            raise pytest.UsageError(f"{item.nodeid}: make test looks for serial tests in {runtime} only")
    files = {item.path for item in items if long & set(getattr(item, "fixturenames", ()))}
    items.sort(key=lambda item: item.path not in files)


REAL_DATASETS = Path(__file__).resolve().parents[2] / "shared" / "datasets"


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a rendered dataset of 12 images, 240 x 320, some of them empty or sparse."""
    from data.synthetic import render_dataset

    return once(
        tmp_path_factory, "rendered", lambda folder: render_dataset(folder, images=12, size_hw=(240, 320), seed=7)
    )


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, rendered: Path) -> Path:
    """A run folder: 18 steps on the rendered field, its own images as validation split."""
    from detection.recipe.reading import load_recipe
    from detection.training.train import train
    from tests.detection.conftest import Quiet, write_recipe

    def make(folder: Path) -> None:
        recipe = load_recipe(
            write_recipe(
                folder / "recipe.yaml",
                rendered,
                data={"val": str(rendered), "allow": ["splits-identical"]},
                train={"epochs": 3, "validate_every": 2, "learning_rate": 2e-3},
            )
        )
        train(recipe, folder / "run", watcher=Quiet())

    return once(tmp_path_factory, "run", make) / "run"


@pytest.fixture(scope="session")
def exported(run: Path, rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .onnx of `run`, its parity report and reference beside it. Read-only: copy what you change."""
    from data import load_dataset
    from detection.export.export import export
    from detection.models.checkpoint import load_trained

    def make(folder: Path) -> None:
        export(load_trained(run), folder / "model.onnx", images=load_dataset(rendered), held_out=True)

    return once(tmp_path_factory, "exported", make) / "model.onnx"


@pytest.fixture(scope="session")
def traced(exported: Path) -> Callable[[], AbstractContextManager[None]]:
    """A context in which PyTorch's exporter gives the graph of `exported` again: for commands that export `run`."""
    import onnx

    from detection.export import export

    @contextmanager
    def same_graph() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(export, "to_onnx", lambda *_: onnx.load(exported))
            yield

    return same_graph


@pytest.fixture
def real_dataset():
    """Gives the folder of a real dataset by name, or skips where it is not there."""

    def folder(name: str) -> Path:
        path = REAL_DATASETS / name
        if not path.is_dir():
            pytest.skip(f"the real dataset {name} is not beside this checkout")
        return path

    return folder


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, headless; skips where it is not installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("needs Debian's chromium: apt-get install -y chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # root may not have a sandbox, as in a container
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        with playwright.chromium.launch(executable_path=chromium, args=arguments) as opened:
            yield opened
