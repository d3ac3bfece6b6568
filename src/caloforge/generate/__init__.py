"""Showers from trained models: conditions, engines, streams, files, farms, one at a time."""

from caloforge.generate.conditions import (
    Conditions,
    Spectrum,
    check_range,
    middle_condition,
    parse_values,
)
from caloforge.generate.engines import ENGINES, Engine, make_engine
from caloforge.generate.farm import farm_file
from caloforge.generate.generator import Generator
from caloforge.generate.showers import BATCH, generate_file, generate_showers, stream

__all__ = [
    "BATCH",
    "ENGINES",
    "Conditions",
    "Engine",
    "Generator",
    "Spectrum",
    "check_range",
    "farm_file",
    "generate_file",
    "generate_showers",
    "make_engine",
    "middle_condition",
    "parse_values",
    "stream",
]
