"""Dataset formats: `load_dataset` recognises and reads them. One file a format, one entry in `KINDS`."""

from data.formats.format import Format, ReadOptions, Writer
from data.formats.kinds import KINDS
from data.formats.load import load_dataset, load_parts

__all__ = ["KINDS", "Format", "ReadOptions", "Writer", "load_dataset", "load_parts"]
