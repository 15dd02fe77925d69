"""Images on both sides of a split: by their pixels, by their scene, by the group they belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np

from data.check.duplicates import correlation, exact_duplicates, near_duplicates
from data.check.findings import Example, Finding, Severity, finding
from data.check.overlap import overlapping
from data.check.signature import ImageSignature
from data.dataset import LabelledImage
from data.splits.groups import DERIVED, group_images

_ALWAYS_WRONG = ("photo", "video")  # neighbouring tiles and frames show the same; a field on both sides may be meant
_USUAL_KEYS = ("field", "session", "video", "photo", "date")


def image_leaks(
    images: Sequence[LabelledImage],
    sides: Sequence[str],
    signatures: Sequence[ImageSignature],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Exact, near and overlapping images, within parts and across them.

    Args:
        images: of all parts.
        sides: the part of each.
        signatures: of each image; overlaps are searched for where they hold keypoints.
        progress: called with (done, total) while overlaps are searched for.

    """
    same = [pair for group in exact_duplicates(signatures) for pair in combinations(group, 2)]
    found = _pairs("duplicate", ((a, b, "the same pixels") for a, b in same), images, sides)
    near = near_duplicates(signatures)
    alike = sorted(((correlation(signatures[a], signatures[b]), a, b) for a, b in near), reverse=True)
    found += _pairs("near-duplicate", ((a, b, f"correlation {c:.2f}") for c, a, b in alike), images, sides)
    if len(set(sides)) > 1 and any(signature.keypoints is not None for signature in signatures):
        reported = {*same, *near}
        described = [index for index, signature in enumerate(signatures) if signature.keypoints is not None]
        side_numbers = np.unique([sides[index] for index in described], return_inverse=True)[1]
        keypoints = [k for index in described if (k := signatures[index].keypoints) is not None]
        scenes = []
        clearest_first = sorted(overlapping(keypoints, side_numbers, progress=progress), key=lambda o: -o.inliers)
        for overlap in clearest_first:
            first, second = described[overlap.first], described[overlap.second]
            if (first, second) not in reported:
                scenes.append((first, second, overlap.described()))
        found += _pairs("overlap", scenes, images, sides)
    return found


def group_leaks(images: Sequence[LabelledImage], sides: Sequence[str], by: str | None = None) -> list[Finding]:
    """Groups with images in more than one part.

    Args:
        images: of all parts.
        sides: the part of each.
        by: a group key (see `data.splits.groups`), on which a leak is an error; None takes all usual keys:
            photos and videos are errors, fields, sessions and days warnings.

    Raises:
        DataError: there is no such key.

    """
    if by and images:
        group_images(images, by)  # a wrong key is an error even where there is nothing to compare
    if len(set(sides)) < 2:
        return []
    own = {name for image in images for name in image.attributes}
    keys = [by] if by else [key for key in _USUAL_KEYS if key in own or key in DERIVED]
    found = []
    for key in keys:
        members: defaultdict[str, list[int]] = defaultdict(list)
        for index, group in enumerate(group_images(images, key)):
            if group:
                members[group].append(index)
        severity: Severity = "error" if by or key in _ALWAYS_WRONG else "warning"
        split: defaultdict[str, list[Example]] = defaultdict(list)
        for group, indices in members.items():
            of_side: dict[str, list[int]] = {}
            for index in indices:
                of_side.setdefault(sides[index], []).append(index)
            for one, other in combinations(of_side, 2):
                detail = f"{group}: {len(of_side[one])} in {one}, {len(of_side[other])} in {other}"
                first, second = (str(images[of_side[side][0]].path) for side in (one, other))
                split[f"{one} / {other}"].append(Example(first, detail, other=second))
        for part, examples in split.items():
            text = f"{key} groups ({len(members)} in all) with images in both parts"
            found.append(finding("group-on-both-sides", part, examples, message=text, severity=severity))
    return found


def _pairs(
    kind: str, pairs: Iterable[tuple[int, int, str]], images: Sequence[LabelledImage], sides: Sequence[str]
) -> list[Finding]:
    """Findings `kind`-within and `kind`-across; the count is of images, the examples are pairs."""
    examples: defaultdict[tuple[str, str], list[Example]] = defaultdict(list)
    touched: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    order: Mapping[str, int] = {side: number for number, side in enumerate(dict.fromkeys(sides))}
    for first, second, detail in pairs:
        if order[sides[first]] > order[sides[second]]:
            first, second = second, first
        across = sides[first] != sides[second]
        place = ("across", f"{sides[first]} / {sides[second]}") if across else ("within", sides[first])
        examples[place].append(Example(str(images[first].path), detail, other=str(images[second].path)))
        # Across: what has to leave the second part. Within: what is there once too often.
        touched[place].add(second)
    return [
        finding(f"{kind}-{where}", part, found, count=len(touched[where, part]))
        for (where, part), found in examples.items()
    ]
