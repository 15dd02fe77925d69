from __future__ import annotations

import pytest

from data import LabelledImage
from tests.data.loading.photos import image


@pytest.fixture
def photo(tmp_path, write_image) -> LabelledImage:
    """100 x 200; a box within the first tile of 64, one cut by several, one larger than any."""
    write_image(tmp_path / "DSC_0001.png", (100, 200), seed=1)
    boxes = ((4, 6, 24, 26), (50, 40, 80, 60), (90, 0, 190, 100))
    return image(tmp_path / "DSC_0001.png", boxes=boxes, attributes={"field": "north"})
