"""One new file and one line in `KINDS`: the recipe, the augmentation, the preview and the robustness list know it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]

EFFECT = '''"""Frost: cold light, and white crystals."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from data.augmentation.effect import Draw, Effect, EffectSettings
from data.augmentation.effects.linear import encoded, linear
from data.augmentation.sample import Sample


class FrostSettings(EffectSettings):
    """The keys of `frost`."""

    crystals: float = Field(0.02, ge=0, le=1, description="share of pixels with a crystal at the strongest")


def _frosted(sample: Sample, draw: Draw[FrostSettings]) -> Sample:
    cold = linear(sample.image_bgr) * np.array([1 + 0.3 * draw.amount, 1.0, 1 - 0.3 * draw.amount], np.float32)
    white = draw.rng.random(cold.shape[:2]) < draw.settings.crystals * draw.amount
    return sample._replace(image_bgr=encoded(np.where(white[..., None], np.float32(1), cold)))


FROST = Effect(
    "frost",
    "photometric",
    _frosted,
    title="Ground frost",
    caption="cold light, white crystals",
    description="ground frost",
    settings=FrostSettings,
)
'''

USE = """
import sys
from pathlib import Path

import numpy as np

from data import load_dataset
from data.augmentation.augment import Augment
from data.augmentation.settings import AugmentSettings
from data.loading.preview import html_preview
from detection.evaluation.robustness import EFFECTS
from detection.recipe.reading import RecipeError, load_recipe
from detection.recipe.schema import Recipe

Path("r.yaml").write_text("data: {train: photos}\\naugment: {frost: 0.5, crystals: 0.3}\\n")
keys = load_recipe(Path("r.yaml")).augment
assert (keys.frost, keys.crystals) == (0.5, 0.3)
assert "frost: 0.5" in load_recipe(Path("r.yaml")).to_yaml()
schema = Recipe.model_json_schema()["$defs"]["AugmentSettings"]["properties"]
assert schema["frost"]["description"] == "probability of ground frost" and schema["crystals"]["maximum"] == 1
try:
    load_recipe(Path("r.yaml"), ["augment.crystals=2"])
except RecipeError as error:
    assert "augment.crystals: Input should be less than or equal to 1" in str(error)
else:
    raise AssertionError("a wrong setting passed")

dark, boxes, labels = np.full((32, 32, 3), 60, np.uint8), np.array([[4, 4, 20, 20]], np.float32), np.zeros(1, int)
only = AugmentSettings(strength="none", frost=1, crystals=1)
seen, moved, _ = Augment(only, size_hw=(32, 32))(dark, boxes, labels, seed=1)
assert (seen == 255).all(axis=2).any() and (moved == boxes).all()

dataset = load_dataset(sys.argv[1]).subset(range(2))
page = html_preview(dataset, name="mine", size_hw=(64, 64), settings=keys, images=1,
                    fit=lambda image, boxes: (np.zeros((64, 64, 3), np.uint8), boxes * 0))
assert "Ground frost" in page and "cold light, white crystals" in page and "frost 0.5" in page
assert "frost" in EFFECTS
"""


def test_an_effect_is_one_file_and_one_line(tmp_path: Path, rendered: Path) -> None:
    assert len(EFFECT.splitlines()) <= 60
    shutil.copytree(ROOT / "data", tmp_path / "data", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "detection").symlink_to(ROOT / "detection")
    folder = tmp_path / "data" / "augmentation" / "effects"
    (folder / "frost.py").write_text(EFFECT)
    kinds = (folder / "__init__.py").read_text()
    line = "    weather.HAZE,\n"
    assert kinds.count(line) == 1
    (folder / "__init__.py").write_text(
        kinds.replace(line, line + "    frost.FROST,\n").replace("import camera,", "import frost, camera,")
    )
    (tmp_path / "use.py").write_text(USE)
    done = subprocess.run(
        [sys.executable, "use.py", str(rendered)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
