"""Okabe and Ito's colours, which people with any kind of colour vision can tell apart, for pages of `data`.

Equal to `detection.runtime.palette`, which this package cannot import; a test compares the two.
"""

CLASS_COLOURS_HEX = ("#56B4E9", "#E69F00", "#CC79A7", "#F0E442", "#D55E00", "#0072B2", "#009E73")
"""Colours of class 0, 1, ..., those first that stand out on soil and leaves."""

LINE_COLOURS_HEX = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of curves and bars on white paper, the darkest first; yellow is too light there."""
