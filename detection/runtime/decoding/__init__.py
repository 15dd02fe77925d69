"""Image files, byte by byte, to pixels: the one rule for which are read, how they are scaled, and what is refused.

This package stands twice, as `data.decoding` and as `detection.runtime.decoding`: neither half may import the other,
and both must see the same pixels. A test holds the two equal: change one, then copy it to the other. It needs numpy
and OpenCV alone. `docs/reference/images.md` has the rule as a table.
"""
