"""Every repair of a box by hand: what is kept, what is said, and what `every_fault` gets to know."""

from pathlib import Path

import numpy as np
import pytest

from data.errors import DataError
from data.formats.repair import Noted, Notices, box_areas, count_unlabelled, every_fault, repair_boxes

SIZE_HW = (100, 200)
WHOLE, THIN = (10.0, 20.0, 30.0, 40.0), (50.0, 50.0, 50.5, 80.0)
OVER, OVER_END = (-5.0, -4.0, 20.0, 30.0), (190.0, 90.0, 210.0, 105.0)
NO_NUMBER, SWAPPED, OUTSIDE = (1.0, float("inf"), 9.0, 9.0), (60.0, 10.0, 50.0, 20.0), (200.0, 10.0, 220.0, 30.0)


def repaired(*boxes, **options):
    notices = Notices()
    kept, keep = repair_boxes(np.array(boxes), SIZE_HW, notices, "a.png", **options)
    return kept.tolist(), keep.tolist(), notices.lines()


def test_boxes_are_clipped_and_dropped_and_all_is_said() -> None:
    kept, keep, lines = repaired(WHOLE, OVER, THIN, OVER_END, WHOLE)
    assert kept == [list(WHOLE), [0, 0, 20, 30], [190, 90, 200, 100], list(WHOLE)]
    assert keep == [True, True, False, True, True]
    assert lines == (
        "1 box thinner than 1 px inside the image: dropped (a.png)",
        "2 boxes reaching outside the image: clipped to it (first: a.png)",
        "1 box exactly on top of another: kept (a.png)",
    )
    assert repaired() == ([], [], ())


@pytest.mark.parametrize(
    ("box", "options", "said"),
    [
        ((0.0, 0.0, 0.9995, 9.0), {}, []),  # rounded when it was written
        ((0.0, 0.0, 9.0, 0.998), {}, ["dropped"]),
        ((-0.009, 0.0, 9.0, 100.009), {}, []),  # likewise
        ((-0.02, 0.0, 9.0, 9.0), {}, ["clipped to it"]),
        ((0.0, 0.0, 3.9, 9.0), {"min_side_px": 4.0}, ["thinner than 4 px inside the image: dropped"]),
        ((0.0, 0.0, 4.0, 4.0), {"min_side_px": 4.0}, []),
        ((-9.0, 0.0, 0.5, 9.0), {}, ["dropped"]),  # too little of it is inside
        ((-0.5, 0.0, 0.0, 9.0), {}, ["dropped"]),  # outside, but no box of another image
    ],
)
def test_by_how_little_a_box_may_be_off(box, options, said) -> None:
    others = ((9.0, 50.0, 30.0, 90.0), (40.0, 50.0, 90.0, 90.0))  # so that it is one of several: no other unit
    lines = repaired(WHOLE, *others, box, **options)[2]
    assert len(lines) == len(said) and all(part in line for part, line in zip(said, lines, strict=True))


SAID = {
    NO_NUMBER: ("box-not-finite", "a.png: a box is not finite (NaN or infinite): correct or remove it"),
    SWAPPED: ("box-swapped", "a.png: a box has a negative width or height: correct or remove it"),
    OUTSIDE: (
        "box-outside",
        "a.png: a box (200, 10, 220, 30) lies wholly outside the image of 200 x 100: correct or remove it; where "
        "many do, x and y are in another order, or the labels of another image size",
    ),
}


@pytest.mark.parametrize("box", SAID)
def test_what_cannot_be_repaired_ends_the_reading(box) -> None:
    with pytest.raises(DataError) as caught:
        repaired(WHOLE, box)
    assert (caught.value.kind, str(caught.value)) == SAID[box]
    if box == OUTSIDE:
        for other in ((-30.0, 10.0, 0.0, 30.0), (10.0, 100.0, 30.0, 120.0), (10.0, -9.0, 30.0, 0.0)):
            with pytest.raises(DataError, match="lies wholly outside"):
                repaired(other)


def test_where_every_fault_is_wanted_the_rest_is_read_and_each_box_is_noted() -> None:
    with every_fault() as noted:
        kept, keep, _ = repaired(OUTSIDE, SWAPPED, WHOLE, NO_NUMBER, THIN, OVER, WHOLE, file=Path("d/a.png"))
    assert kept == [list(WHOLE), [0, 0, 20, 30], list(WHOLE)]
    assert keep == [False, False, True, False, False, True, True]
    assert noted == [
        Noted(*SAID[NO_NUMBER], "d/a.png", NO_NUMBER),
        Noted(*SAID[SWAPPED], "d/a.png", SWAPPED),
        Noted(*SAID[OUTSIDE], "d/a.png", OUTSIDE),
        Noted("box-thin", "thinner than 1 px inside the image: dropped", "d/a.png", THIN),
        Noted("box-clipped", "reaching outside the image: clipped to it", "d/a.png", OVER),
        Noted("box-duplicate", "exactly on top of another: kept", "d/a.png", WHOLE),
    ]
    assert Notices().every is None


def test_notices_are_counted_by_kind_and_keep_the_first_place() -> None:
    with every_fault() as noted:
        notices = Notices()
        notices.count("image", "images", "too dark", "a.png")
        notices.count("image", "images", "too bright", "b.png", 0)
        notices.count("image", "images", "too dark", "c.png", 2, kind="image-dark")
        notices.count("box", "boxes", "lost", "d.png", kind=None)
        notices.add("all is well")
        notices.fault(DataError("no name"), "e.png")
        notices.fault(DataError("no name", kind="name-missing"), "e.png", "label-other")
        assert notices.each(["1", "x", "3"], read, "f.txt", "label-number") == [("1", 1), ("3", 3)]
    assert notices.lines() == ("all is well", "3 images too dark (first: a.png)", "1 box lost (d.png)")
    assert noted == [
        Noted("notice", "images too dark", "a.png"),
        Noted("image-dark", "images too dark", "c.png", count=2),
        Noted("notice", "all is well", ""),
        Noted("label-malformed", "no name", "e.png"),
        Noted("name-missing", "no name", "e.png"),
        Noted("label-number", "x is no number", "f.txt"),
    ]
    with pytest.raises(DataError, match="x is no number"):
        Notices().each(["1", "x"], read, "f.txt")


def read(word: str) -> int:
    if not word.isdigit():
        raise DataError(f"{word} is no number")
    return int(word)


def test_images_without_labels_are_said_with_what_becomes_of_them() -> None:
    notices, files = Notices(), [Path("d/a.png"), Path("d/b.png")]
    count_unlabelled(files, "label file", "background", notices)
    count_unlabelled(files[1:], "mask", "skip", notices)
    count_unlabelled([], "box", "skip", notices)
    assert notices.lines() == (
        "2 images without a label file: taken as background (first: a.png)",
        "1 image without a mask: left out (unlabelled: skip) (b.png)",
    )


def test_areas_are_width_times_height() -> None:
    assert box_areas(np.float32([[1, 2, 4, 7], [0, 0, 2, 0]])).tolist() == [15, 0]
