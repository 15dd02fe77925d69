from pathlib import Path
from typing import Any

import pytest

from detection.runtime.parity.report import parity_fault

INT8 = {
    "precision": "int8",
    "images": 39,
    "agreement": 0.98,
    "malformed_outputs": 0,
    "delta_ap_points": 0.74,
    "small_ap_fall_points": None,
}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"delta_ap_chance_points": 0.74}, ""),
        ({"delta_ap_chance_points": 0.3}, ""),
        ({"delta_ap_chance_points": 0.2}, "AP is off by 0.74 points, of which 0.20 may be chance"),
        ({}, "AP is off by 0.74 points"),  # a report of before knows of no chance
        ({"delta_ap_chance_points": "much"}, "export it again"),
    ],
)
def test_what_a_report_leaves_to_chance_is_not_held_against_its_file(
    tiny: Any, changes: dict[str, Any], fault: str
) -> None:
    metadata = tiny.metadata(precision="int8", parity={**INT8, **changes})
    said = parity_fault(Path("weeds.onnx"), metadata)
    assert bool(said) == bool(fault) and said.endswith(fault)
