"""Labelled pictures in, batches out. Importing this needs neither torch nor albumentations."""

from data.dataset import Dataset, Picture, load_dataset
from data.errors import DataError

__all__ = ["DataError", "Dataset", "Picture", "load_dataset"]
