"""The results of a check: kinds with their severity, findings with examples, and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

MOST_EXAMPLES = 20
"""The most examples that a finding keeps; its count is of all."""

# An error makes a training or its metrics wrong. A warning may be intended.
KINDS: Mapping[str, tuple[Severity, str]] = {
    "dataset-unreadable": ("error", "cannot be read at all"),
    "part-missing": ("error", "parts that the dataset names and that are not there"),
    "splits-identical": ("error", "splits that hold the very same images"),
    "image-missing": ("error", "images that are missing"),
    "image-ambiguous": ("error", "images that two names or two files could mean"),
    "image-repeated": ("error", "images that are listed twice under different ids"),
    "image-unreadable": ("error", "images that are empty, cut short, damaged, or of a kind that is not read"),
    "size-mismatch": ("error", "images whose size differs from the size in their labels"),
    "box-not-finite": ("error", "boxes with NaN or infinite corners"),
    "box-swapped": ("error", "boxes with swapped corners (negative width or height)"),
    "box-outside": ("error", "boxes wholly outside their image"),
    "box-unit": ("error", "boxes in another unit or order than their format's: repairing them would leave none"),
    "label-unused": ("error", "label files without an image: their boxes are not used"),
    "label-malformed": ("error", "labels that cannot be parsed"),
    "class-unknown": ("error", "labels of a class that has no name"),
    "image-unknown": ("error", "labels of an image that is not listed"),
    "no-common-class": ("error", "parts without a single class in common"),
    "duplicate-across": ("error", "images that are in two parts"),
    "near-duplicate-across": ("error", "images of one part that another part shows almost the same"),
    "overlap-across": ("error", "images of one part that share a piece of the scene with one of another"),
    "group-on-both-sides": ("error", "groups with images in two parts"),
    "duplicate-within": ("warning", "images that are in one part twice"),
    "near-duplicate-within": ("warning", "images that one part shows twice, almost the same"),
    "box-clipped": ("warning", "boxes reaching outside their image: clipped to it"),
    "box-thin": ("warning", "boxes thinner than a pixel inside their image: dropped"),
    "box-duplicate": ("warning", "boxes exactly on top of another: kept"),
    "box-below-stride": ("warning", "boxes smaller than the network's finest grid at its input size"),
    "boxes-above-cap": (
        "warning",
        "images with more than 100 boxes, the most that a detector gives (postprocess.max_detections) and that COCO "
        "scores of a class: raise the former, or cut tiles",
    ),
    "image-dark": ("warning", "16-bit images that use the lower part of their range only"),
    "image-foreign": ("warning", "images of a kind that is not read, such as HEIC: left out"),
    "image-partly-read": ("warning", "images of which a part is left out"),
    "exif-turned": ("warning", "images labelled on their side (EXIF ignored): boxes turned upright"),
    "class-similar": ("warning", "classes whose names differ in case, spaces or punctuation only"),
    "class-unused": ("warning", "classes without a box"),
    "class-in-one-split": ("warning", "classes with boxes in some parts only"),
    "class-imbalance": ("warning", "classes much rarer than the most frequent one"),
    "exif-orientation": ("info", "images that their orientation turns: shown and trained upright"),
    "class-id-gap": ("info", "class numbers that are left out"),
    "notice": ("info", "noticed while reading"),
    "background": ("info", "images without a box: background"),
}
"""Kind -> its severity, and what it is. The kinds are stable: recipes name them in `data.allow`."""


@dataclass(frozen=True)
class Example:
    """One occurrence of a finding.

    Attributes:
        where: the image, class or group.
        detail: what is wrong there.
        box_xyxy: the box, absolute pixels of the image as displayed.
        other: the second image of a pair.

    """

    where: str
    detail: str = ""
    box_xyxy: tuple[float, float, float, float] | None = None
    other: str | None = None


@dataclass(frozen=True)
class Finding:
    """All that was found of one kind in one part, or between two.

    Attributes:
        kind: one of `KINDS`.
        part: where: "train", or "train / val".
        severity: "error", "warning" or "info".
        message: what it is, without the count.
        count: how many.
        examples: the first or worst of them, at most `MOST_EXAMPLES`.

    """

    kind: str
    part: str
    severity: Severity
    message: str
    count: int
    examples: tuple[Example, ...] = ()

    def line(self) -> str:
        """One line for a terminal: where, how many, what, and the first example."""
        first = self.examples[0] if self.examples else None
        shown = ""
        if first:
            pair = f"{first.where} and {first.other}" if first.other else first.where
            shown = f" ({first.detail if self.kind == 'group-on-both-sides' else pair})"
        return f"{self.kind}: {self.part}: {self.count} {self.message}{shown}"


def finding(
    kind: str,
    part: str,
    examples: Sequence[Example],
    *,
    count: int | None = None,
    message: str | None = None,
    severity: Severity | None = None,
) -> Finding:
    """A finding with the severity and message of its kind, where nothing else is given."""
    usual, text = KINDS[kind]
    number = len(examples) if count is None else count
    return Finding(kind, part, severity or usual, message or text, number, tuple(examples[:MOST_EXAMPLES]))


@dataclass(frozen=True)
class Report:
    """A whole check.

    Attributes:
        findings: errors first.
        parts: name of the part -> its numbers: source, images, boxes, boxes of each class, histograms.

    """

    findings: tuple[Finding, ...]
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def count(self, severity: Severity) -> int:
        """How many kinds of problems of a severity there are."""
        return sum(found.severity == severity for found in self.findings)

    def tally(self) -> str:
        """How many kinds of errors and warnings, such as "1 kind of errors, 0 kinds of warnings"."""
        counts = {one: self.count(one) for one in SEVERITIES[:2]}
        return ", ".join(f"{n} kind{'s' if n != 1 else ''} of {one}s" for one, n in counts.items())

    def to_json(self) -> dict[str, Any]:
        """What `--json` writes."""
        return {
            "schema": 1,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "parts": {name: dict(numbers) for name, numbers in self.parts.items()},
            "findings": [asdict(found) for found in self.findings],
        }


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, each in the order of `KINDS`."""
    rank = {kind: number for number, kind in enumerate(KINDS)}
    return tuple(sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), rank[f.kind], f.part)))
