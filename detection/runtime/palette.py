"""The one palette: Okabe and Ito's colours, which people with any kind of colour vision can tell apart.

M. Okabe and K. Ito, "Color Universal Design" (2008). `data` cannot import this module and has a copy of its own in
`data.palette`; a test holds the two equal.
"""

from __future__ import annotations

SKY_BLUE, ORANGE, REDDISH_PURPLE, YELLOW = 0x56B4E9, 0xE69F00, 0xCC79A7, 0xF0E442
VERMILLION, BLUE, BLUISH_GREEN = 0xD55E00, 0x0072B2, 0x009E73

CLASS_COLOURS_RGB = (SKY_BLUE, ORANGE, REDDISH_PURPLE, YELLOW, VERMILLION, BLUE, BLUISH_GREEN)
"""Colours of class 0, 1, ... as 0xRRGGBB, those first that stand out on soil and leaves."""

CLASS_COLOURS_HEX = tuple(f"#{colour:06X}" for colour in CLASS_COLOURS_RGB)
"""The same for HTML and SVG."""

LINE_COLOURS_HEX = tuple(
    f"#{colour:06X}" for colour in (BLUE, VERMILLION, BLUISH_GREEN, REDDISH_PURPLE, ORANGE, SKY_BLUE)
)
"""Colours of curves on white paper, the darkest first; yellow is too light there."""


def bgr(colour: int) -> tuple[int, int, int]:
    """A colour 0xRRGGBB as OpenCV takes it: (blue, green, red), 0 to 255 each."""
    return colour & 0xFF, colour >> 8 & 0xFF, colour >> 16
