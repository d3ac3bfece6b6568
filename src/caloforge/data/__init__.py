"""Files of showers: open, read, write, convert, split, describe; samples, public originals."""

from caloforge.data.catalogue import CATALOGUE
from caloforge.data.download import fetch
from caloforge.data.formats import FORMATS
from caloforge.data.reader import ShowerFile, open_showers, read_showers
from caloforge.data.samples import resolve_data, sample_names, sample_path
from caloforge.data.splits import holdout_split
from caloforge.data.summary import describe
from caloforge.data.writer import ShowerWriter, convert, create_showers

__all__ = [
    "CATALOGUE",
    "FORMATS",
    "ShowerFile",
    "ShowerWriter",
    "convert",
    "create_showers",
    "describe",
    "fetch",
    "holdout_split",
    "open_showers",
    "read_showers",
    "resolve_data",
    "sample_names",
    "sample_path",
]
