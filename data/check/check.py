"""The check of a dataset: its splits in, a report of their faults out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from data.check.findings import KINDS, Example, Finding, Report, finding, in_order
from data.check.labels import class_findings, label_findings, noted_findings, numbers
from data.check.leaks import group_leaks, image_leaks
from data.check.signature import ImageSignature, image_signatures
from data.dataset import Dataset, LabelledImage
from data.decoding.pixels import NoteKind
from data.errors import DataError, NoSuchSplit, PartMissing
from data.formats import load_dataset
from data.formats.repair import Noted, every_fault

Progress = Callable[[str, int, int], None]
"""Called with (task, done, total)."""

_SHOWN_FAULTS = 3


@dataclass(frozen=True)
class Part:
    """One split as it was read.

    Attributes:
        name: "train", "val", "test", or the name of a list.
        dataset: what could be read; None where nothing could.
        noted: every fault and repair.
        fault: why nothing could be read, where `noted` does not say it.

    """

    name: str
    dataset: Dataset | None
    noted: tuple[Noted, ...] = ()
    fault: str | None = None


def read_parts(source: str | Path, *, split: str | None = None, **reading: Any) -> list[Part]:
    """Every split of a dataset, or the one that is named, with all faults.

    Args:
        source: as `load_dataset` takes it.
        split: "train", "val" or "test"; None reads all that there are.
        reading: `format`, `unlabelled` and `images_dir` of `load_dataset`.

    Raises:
        NoSuchSplit: the dataset has other splits.

    """
    parts: list[Part] = []
    absent: NoSuchSplit | None = None
    for name in (split,) if split else ("train", "val", "test"):
        try:
            with every_fault() as noted:
                dataset = load_dataset(source, split=name, **reading)
        except PartMissing as error:
            parts.append(Part(name, None, (*noted, Noted("part-missing", str(error), name))))
        except NoSuchSplit as error:
            absent = error
        except DataError as error:
            if not any(part.fault == str(error) for part in parts):  # without splits, each of them is the whole
                parts.append(Part(name, None, tuple(noted), str(error)))
        else:
            if any(part.dataset is not None and part.dataset.name == dataset.name for part in parts):
                # Without splits, every one of them is the whole: named by its file.
                return [Part(Path(source).stem or str(source), parts[0].dataset, parts[0].noted)]
            parts.append(Part(name, dataset, tuple(noted)))
    if not parts:
        raise absent or NoSuchSplit(f"{source}: no split {split!r}")
    return parts


def named_apart(one: Sequence[Part], other: Sequence[Part]) -> list[Part]:
    """Both lists of parts under names that differ."""
    parts = [*one, *other]
    if len({part.name for part in parts}) == len(parts):
        return parts
    return [
        Part(f"{part.name} ({which})", part.dataset, part.noted, part.fault)
        for which, some in (("first", one), ("second", other))
        for part in some
    ]


def check(
    parts: Sequence[Part],
    *,
    by: str | None = None,
    size_hw: tuple[int, int] = (512, 512),
    overlaps: bool = True,
    progress: Progress | None = None,
) -> Report:
    """ImageSignature at everything: files, pixels, boxes, classes, and what is on both sides of the splits.

    Args:
        parts: the splits, each compared with each.
        by: a group key (see `data.splits.groups`) that must not be on both sides; None checks the usual ones.
        size_hw: the network's input, by which boxes are too small.
        overlaps: search for tiles of one photo on both sides by their pixels too, which doubles the time.
        progress: called with (task, done, total).

    Raises:
        DataError: no image has the key `by`.

    """
    found: list[Finding] = []
    readable: dict[str, Dataset] = {}
    for part in parts:
        found += noted_findings(part.name, part.noted)
        if part.dataset is None and part.fault is None:
            continue
        if part.fault or part.dataset is None:
            found.append(finding("dataset-unreadable", part.name, [Example(part.name, part.fault or "")]))
        else:
            readable[part.name] = part.dataset
            found += label_findings(part.name, part.dataset, size_hw)
    found += class_findings(readable)
    found += _identical(readable)
    images, sides = _all_images(readable, found)
    found += group_leaks(images, sides, by)  # first: a wrong key is reported before the long work
    signatures = image_signatures(
        images,
        keypoints=overlaps and len(set(sides)) > 1,
        progress=(lambda done, total: progress("reading images", done, total)) if progress else None,
    )
    found += _image_findings(images, sides, signatures)
    comparing = (lambda done, total: progress("comparing images", done, total)) if progress else None
    found += image_leaks(images, sides, signatures, progress=comparing)
    return Report(in_order(found), {name: numbers(dataset, size_hw) for name, dataset in readable.items()})


def check_before_training(
    train: Dataset, val: Dataset | None, *, allow: Iterable[str] = (), progress: Progress | None = None
) -> tuple[str, ...]:
    """The part of the check that runs before training: every image is decoded, nothing is in both train and val.

    Overlapping tiles are searched for by their names only, not by their pixels.

    Args:
        train: the training images.
        val: the validation images.
        allow: kinds of errors to accept.
        progress: called with (task, done, total).

    Returns:
        One line for each error that was allowed, and for images of which not all is seen.

    Raises:
        DataError: there are errors that are not allowed, or `allow` names an unknown kind.

    """
    allowed = known_kinds(allow)
    found: list[Finding] = []
    parts = {"train": train} if val is None else {"train": train, "val": val}
    found += _identical(parts)
    images, sides = _all_images(parts, found)
    report = (lambda done, total: progress("checking images", done, total)) if progress else None
    signatures = image_signatures(images, keypoints=False, progress=report)
    found += _image_findings(images, sides, signatures)
    found += image_leaks(images, sides, signatures)
    found += group_leaks(images, sides)
    errors = [one for one in in_order(found) if one.severity == "error"]
    refuse([one for one in errors if one.kind not in allowed])
    noted = [one for one in in_order(found) if one.kind in get_args(NoteKind)]
    return (*(f"allowed: {one.line()}" for one in errors), *map(_with_detail, noted))


def load_allowing(load: Callable[[], Dataset], allow: Iterable[str]) -> Dataset:
    """Read a dataset; faults of the allowed kinds are skipped and listed in its notices, any other raises.

    Raises:
        DataError: as `load` does, and for an unknown kind.

    """
    allowed = known_kinds(allow)
    with every_fault() as noted:
        dataset = load()
    found = [one for one in noted_findings(dataset.name, noted) if one.severity == "error"]
    wrong = [one for one in found if one.kind not in allowed]
    if wrong and not allowed:
        load()  # its own message, of the first fault, says most
    refuse(wrong)
    more = (f"{one.count} {one.message}: skipped, as data.allow permits" for one in found)
    return Dataset(dataset.name, dataset.class_names, dataset.category_ids, dataset.images, (*dataset.notices, *more))


def known_kinds(kinds: Iterable[str]) -> frozenset[str]:
    """The kinds as a set.

    Raises:
        DataError: one is no kind of error.

    """
    errors = [kind for kind, (severity, _) in KINDS.items() if severity == "error"]
    for kind in kinds:
        if kind not in errors:
            raise DataError(f"data.allow: {kind!r} is no kind of error; there are: {', '.join(errors)}")
    return frozenset(kinds)


def refuse(errors: Sequence[Finding]) -> None:
    """Raise what was found, in one line."""
    if errors:
        lines = "; ".join(_with_detail(one) for one in errors[:_SHOWN_FAULTS])
        more = f"; and {len(errors) - _SHOWN_FAULTS} more kinds" if len(errors) > _SHOWN_FAULTS else ""
        kinds = ", ".join(dict.fromkeys(one.kind for one in errors))
        raise DataError(
            f"{lines}{more}: correct the data (swath data check lists all), or allow it with data.allow=[{kinds}]"
        )


def _with_detail(one: Finding) -> str:
    first = one.examples[0] if one.examples else None
    if first and one.kind in ("image-unreadable", "image-missing", "size-mismatch", *get_args(NoteKind)):
        return f"{one.kind}: {one.part}: {one.count} {one.message}, such as {first.detail}"
    return one.line()


def _identical(parts: dict[str, Dataset]) -> list[Finding]:
    """Splits that hold the same files: one finding for the pair."""
    seen: dict[frozenset[Path], str] = {}
    found = []
    for name, dataset in parts.items():
        files = frozenset(image.path.resolve() for image in dataset.images)
        if not files:
            continue  # nothing could be read, which is a fault of its own
        first = seen.setdefault(files, name)
        if first != name:
            found.append(finding("splits-identical", f"{first} / {name}", [Example(dataset.name)], count=2))
    return found


def _all_images(parts: dict[str, Dataset], found: Sequence[Finding]) -> tuple[list[LabelledImage], list[str]]:
    """The images of all parts with the part of each; a part that another one repeats whole is left out."""
    repeats = {one.part.split(" / ")[1] for one in found if one.kind == "splits-identical"}
    pairs = [(p, name) for name, dataset in parts.items() if name not in repeats for p in dataset.images]
    return [image for image, _ in pairs], [side for _, side in pairs]


def _image_findings(
    images: Sequence[LabelledImage], sides: Sequence[str], signatures: Sequence[ImageSignature]
) -> list[Finding]:
    """Images that cannot be read, those of which a part is left out, and those that their orientation turns."""
    examples: dict[tuple[str, str], list[Example]] = {}
    for image, side, signature in zip(images, sides, signatures, strict=True):
        if signature.fault:
            kind = "size-mismatch" if signature.size_differs else "image-unreadable"
            examples.setdefault((kind, side), []).append(Example(str(image.path), signature.fault))
        elif signature.orientation != 1:
            detail = f"EXIF orientation {signature.orientation}"
            examples.setdefault(("exif-orientation", side), []).append(Example(str(image.path), detail))
        for kind, words in signature.notes:
            examples.setdefault((kind, side), []).append(Example(str(image.path), words))
    return [finding(kind, side, found) for (kind, side), found in examples.items()]
