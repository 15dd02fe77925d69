"""The field's own words: none that only this project understood is left in code, messages and docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHERE = ("detection", "data", "swath", "docs", "README.md", "configs", "hubconf.py")
COMPATIBILITY = {
    "detection/models/compatibility.py",
    "detection/cli/compatibility.py",
    "detection/recipe/compatibility.py",
    "detection/runtime/compatibility.py",
}
TEXT = {".py", ".md", ".yaml", ".yml", ".j2", ".html", ".js", ".css", ".ipynb"}

# What stands for what: shared words first. Ordinary uses of ordinary words (draw a box, cut a tile) must not match.
INSTEAD = {
    "image": r"\bpictures?\b|_pictures?\b|\bpictures?_",
    "synthetic pre-training": r"(?<!in )\bpracti[cs](?:e|ed|es|ing)\b|unpractised",
    "student": r"\bpupils?\b",
    "end-to-end graph": r"deploy[ _]?graph|deployed graph",
    "parity check, parity report": r"\bverdicts?\b|\bunproved\b|\bproofs?\b(?! of concept)|agree or be refused",
    "trainer": r"\bSetup\(|\bclass Setup\b|: Setup\b",
    "global batch size": r"pictures a step|images a step",
    "gradient accumulation": r"train\.accumulate\b|\baccumulate:",
    "EMA decay": r"train\.average\b|\baverage: 0\.",
    "LR multiplier": r"backbone_rate\b|backbone rate",
    "freeze": r"\bthaw",
    "center sampling": r"assign[=: ]+.?centre\b|[\"'`]centre[\"'`]|centre[ -]sampling",
    "score threshold": r"score[ _]floors?\b",
    "pre-NMS top-k": r"postprocess\.candidates|\bcandidates: (?:int|\d)",
    "test-time augmentation (TTA)": r"--flips\b|\bflips=|\bflips: bool|four looks|looks at mirrored",
    "slices": r"\bclass Look\b|\bLOOKS\b|\bLook\(",
    "throughput meter, frame-rate limiter, playback clock": r"\bPace\b",
    "channel pruning": r"\bslim(?:med)?\b(?!-)",
    "separable": r"\blight (?:head|neck|detector)s?\b",
    "tentative, confirmed, low-score": r"\bfaint(?:ly)?\b(?! ghosts)|\bbelieved?\b|\bbelieves\b",
    "class scores": r"\bvot(?:es?|ed|ing)\b",
    "odometry": r"wheel[ _]?motion|\bby the wheels\b|\bwheels alone\b",
    "published, settings, receives, no-op": r"\btold\b(?! apart)|\bhears?\b|\bNobody\b",
    "dropped": r"decided on no more|told of no more",
    "error breakdown": r"lost_ap\b|lost_AP50|\bis lost to\b",
    "dataset statistics": r"dataset[ _]card\b",
    "a sentence that one would say to a colleague": r"\bgoes its way\b|\ba room of (?:its|their) own\b|\bits worth\b",
}


def left() -> list[str]:
    """`path:line: word: the line`, for each private word that is left."""
    patterns = {
        word: re.compile(pattern, re.IGNORECASE if pattern.islower() else 0) for word, pattern in INSTEAD.items()
    }
    found = []
    for top in WHERE:
        for path in sorted([ROOT / top] if (ROOT / top).is_file() else (ROOT / top).rglob("*")):
            name = str(path.relative_to(ROOT))
            if path.suffix not in TEXT or name in COMPATIBILITY or "__pycache__" in name:
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                shown = line if len(line) < 400 else ""  # a picture inside a notebook
                found += [
                    f"{name}:{number}: say {w}: {shown.strip()}" for w, p in patterns.items() if p.search(shown)
                ]
    return found


def test_no_private_word_is_left() -> None:
    found = left()
    assert not found, f"{len(found)} private words:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "draw a box around each plant",
        "in practice",
        "a proof of concept",
        "cut a tile",
        "slim-down",
        "wheels of pip",
        "told apart",
    ],
)
def test_ordinary_words_are_left_alone(line: str) -> None:
    assert not [word for word, pattern in INSTEAD.items() if re.search(pattern, line)]


@pytest.mark.parametrize(
    "line",
    ["a picture", "practise", "the deploy graph", "score_floor: float", "class Pace:", "told = json.loads(text)"],
)
def test_private_words_are_found(line: str) -> None:
    assert [word for word, pattern in INSTEAD.items() if re.search(pattern, line)]
