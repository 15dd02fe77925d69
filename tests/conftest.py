"""What many tests share: real datasets where they are present, and a small rendered field."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # as many workers as cores: one thread each, in the tests' child processes too; before anything loads OpenMP
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from pathlib import Path

import pytest

REAL_DATASETS = Path(__file__).resolve().parents[2] / "shared" / "datasets"


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a rendered dataset of 12 images, 240 x 320, some of them empty or sparse."""
    from data.synthetic import render_dataset

    folder = tmp_path_factory.mktemp("rendered")
    render_dataset(folder, images=12, size_hw=(240, 320), seed=7)
    return folder


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
