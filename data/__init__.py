"""Labelled images in, batches out. Importing this needs neither torch nor albumentations."""

from data.dataset import Dataset, LabelledImage
from data.errors import DataError
from data.formats import load_dataset

__all__ = ["DataError", "Dataset", "LabelledImage", "load_dataset"]
