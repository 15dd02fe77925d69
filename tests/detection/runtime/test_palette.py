import data.palette
from detection.runtime import palette


def test_both_halves_have_the_same_colours() -> None:
    assert data.palette.CLASS_COLOURS_HEX == palette.CLASS_COLOURS_HEX
    assert data.palette.LINE_COLOURS_HEX == palette.LINE_COLOURS_HEX
    assert len(set(palette.CLASS_COLOURS_HEX)) == 7 and set(palette.LINE_COLOURS_HEX) < set(palette.CLASS_COLOURS_HEX)


def test_opencv_takes_blue_first() -> None:
    assert palette.bgr(palette.SKY_BLUE) == (0xE9, 0xB4, 0x56)
    assert palette.bgr(palette.VERMILLION) == (0, 94, 213)
    assert palette.bgr(palette.BLUISH_GREEN) == (115, 158, 0)
