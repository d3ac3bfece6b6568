"""Showers from trained models: conditions, engines, streams, files, farms, one at a time."""

from caloforge.generate.conditions import (
    Conditions,
    Spectrum,
    check_range,
    middle_condition,
    parse_values,
)
from caloforge.generate.engines import ENGINES, Engine, default_batch, make_engine
from caloforge.generate.farm import farm_file
from caloforge.generate.generator import Generator
from caloforge.generate.showers import generate_file, generate_showers, stream

__all__ = [
    "ENGINES",
    "Conditions",
    "Engine",
    "Generator",
    "Spectrum",
    "check_range",
    "default_batch",
    "farm_file",
    "generate_file",
    "generate_showers",
    "make_engine",
    "middle_condition",
    "parse_values",
    "stream",
]
