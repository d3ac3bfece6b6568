"""Files of showers: open, read, write, convert, split, describe; shipped samples and public originals."""

from caloforge.data.formats import FORMATS
from caloforge.data.samples import resolve_data, sample_names, sample_path
from caloforge.data.showerfile import (
    ShowerFile,
    ShowerWriter,
    convert,
    create_showers,
    open_showers,
    read_showers,
)
from caloforge.data.splits import holdout_split

__all__ = [
    "FORMATS",
    "ShowerFile",
    "ShowerWriter",
    "convert",
    "create_showers",
    "holdout_split",
    "open_showers",
    "read_showers",
    "resolve_data",
    "sample_names",
    "sample_path",
]
