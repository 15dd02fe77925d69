"""A rendered field: images and videos of drives with exact labels, for where there are no photos.

Needs numpy and OpenCV only. Every pixel is determined by a seed.
"""

from data.synthetic.dataset import render_dataset
from data.synthetic.drive import render_drive
from data.synthetic.plants import CLASS_NAMES
from data.synthetic.scene import Field, View

__all__ = ["CLASS_NAMES", "Field", "View", "render_dataset", "render_drive"]
