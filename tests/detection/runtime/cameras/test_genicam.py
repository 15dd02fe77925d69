"""The adapter against a stand-in of `harvesters`: its makers' cameras and simulators cannot be had here."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from detection.runtime.cameras.sources import camera_settings, open_source
from detection.runtime.errors import SourceError


class StandIn:
    """Harvester, acquirer and buffers in one; gives the images of `formats`, then nothing."""

    formats: list[str] = []
    said: list[Any] = []

    def add_file(self, path: str) -> None:
        self.said.append(path)

    def update(self) -> None:
        pass

    def create(self, key: Any) -> StandIn:
        if key == {"serial_number": "none"}:
            raise ValueError("no such device\nin the list")
        self.said.append(key)
        return self

    def start(self) -> None:
        self.said.append("start")

    def try_fetch(self, *, timeout: float) -> Any:
        if not self.formats:
            return None
        kind = self.formats.pop(0)
        channels = 3 if kind in ("BGR8", "RGB8") else 1
        data = np.tile(np.array([10, 20, 30][:channels], np.uint8), 4 * 6)
        component = SimpleNamespace(data_format=kind, width=6, height=4, data=data)

        def queue() -> None:
            data[:] = 255  # the driver fills the buffer again
            self.said.append("queue")

        return SimpleNamespace(payload=SimpleNamespace(components=[component]), queue=queue)

    def stop(self) -> None:
        self.said.append("stop")

    def destroy(self) -> None:
        self.said.append("destroy")

    def reset(self) -> None:
        self.said.append("reset")


@pytest.fixture
def producer(tmp_path: Path, monkeypatch: Any) -> Path:
    module: Any = ModuleType("harvesters.core")
    module.Harvester = StandIn
    monkeypatch.setitem(sys.modules, "harvesters", ModuleType("harvesters"))
    monkeypatch.setitem(sys.modules, "harvesters.core", module)
    StandIn.said = []
    path = tmp_path / "maker.cti"
    path.write_bytes(b"")
    return path


def test_images_are_converted_copied_and_given_back(producer: Path) -> None:
    StandIn.formats = ["BGR8", "RGB8", "Mono8", "BayerRG8", "Confidence16"]
    frames = []
    with open_source(camera_settings(f"genicam:{producer}#4711", read_timeout_s=0.5)) as source:
        capture = source._current  # type: ignore[attr-defined]
        assert capture.join(10)  # through before we look, so that the buffers have been filled again
        assert source.unreadable == 1 and source.dropped == 3
        with pytest.raises(SourceError, match="genicam-4711: no more images after 5"):
            frames.extend(source)
    assert StandIn.said[:3] == [str(producer), {"serial_number": "4711"}, "start"]
    assert StandIn.said[3:] == ["queue"] * 5 + ["stop", "destroy", "reset"]


@pytest.mark.parametrize(
    ("kind", "pixel"),
    [("BGR8", (10, 20, 30)), ("RGB8", (30, 20, 10)), ("Mono8", (10, 10, 10)), ("BayerBG8", (10, 10, 10))],
)
def test_each_format_becomes_bgr(producer: Path, kind: str, pixel: tuple[int, ...]) -> None:
    StandIn.formats = [kind]
    with open_source(camera_settings(f"genicam:{producer}", read_timeout_s=0.5)) as source:
        frame = source.poll(10)
    assert frame is not None and frame.image.shape == (4, 6, 3)
    assert (frame.image == pixel).all()
    assert StandIn.said[1] == 0  # the first camera there is


def test_camera_that_is_not_there_and_driver_that_is_not_there(producer: Path) -> None:
    with pytest.raises(SourceError, match=r"#none: no camera there that can be opened \(no such device\)$"):
        open_source(f"genicam:{producer}#none")
    assert StandIn.said[-1] == "reset"
    with pytest.raises(SourceError, match=r"write genicam:PRODUCER\.cti#SERIAL; /nowhere\.cti is not there"):
        open_source("genicam:/nowhere.cti")
