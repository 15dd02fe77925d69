"""An output as anybody would add it: how many boxes of each class there were, as one JSON at the end."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from detection.runtime.files import write_whole
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.outputs.kind import Flag, OutputContext, OutputKind, Package
from detection.runtime.settings import HomePath, Positive, Settings

if TYPE_CHECKING:
    from detection.runtime.detections import Detections, Frame


class TallySettings(Settings):
    path: HomePath = Field(description="the JSON")
    factor: Positive = Field(1.0, description="plants that a box stands for")


class TallyOutput(Output):
    needs_image = False

    def __init__(self, path: Path, factor: float) -> None:
        self._path, self._factor = path, factor
        self._boxes: Counter[str] = Counter()

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        self._boxes.update(found["class"] for found in record["detections"])

    def close(self) -> None:
        write_whole(self._path, json.dumps({name: n * self._factor for name, n in self._boxes.items()}))


def _open(settings: TallySettings, context: OutputContext) -> list[Output]:
    return [TallyOutput(settings.path, settings.factor)]


KIND = OutputKind(
    key="tally",
    about="boxes by class",
    settings=TallySettings,
    opens=_open,
    flags=(Flag("F", "Boxes by class.", field="path"), Flag("X", "Plants a box.", field="factor", suffix="factor")),
    example="season/tally.json",
    needs=Package("swath_tally", "pip install swath-tally"),
    writes=lambda settings: [settings.path],
)
