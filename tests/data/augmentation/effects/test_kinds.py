from __future__ import annotations

import re
from pathlib import Path

from data.augmentation.effect import GROUPS
from data.augmentation.effects import KINDS
from detection.evaluation.robustness import EFFECTS

ROOT = Path(__file__).resolve().parents[4]


def test_every_effect_describes_itself():
    assert len({kind.name for kind in KINDS}) == len({kind.title for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        assert re.fullmatch("[a-z_0-9]+", kind.name) and kind.group in GROUPS
        assert kind.title[0].isupper() and kind.caption and kind.description
        assert (kind.others > 0) == (kind.group == "mix")


def test_the_robustness_evaluation_applies_all_effects_of_a_single_image():
    assert set(EFFECTS) == {kind.name for kind in KINDS if kind.group in ("geometry", "photometric")}


def test_counts_of_effects_in_texts_are_right():
    texts = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("detection/cli/*.py")]
    assert len(texts) > 10
    for text in texts:
        for count in re.findall(r"\b(\d+) (?:field )?effects", text.read_text(encoding="utf-8")):
            assert int(count) in (len(KINDS), len(EFFECTS)), f"{text}: {count} effects"
