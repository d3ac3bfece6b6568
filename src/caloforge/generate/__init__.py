"""Showers from trained models: conditions, engines, streams, files, and one at a time."""

from caloforge.generate.blocks import generate_blocks
from caloforge.generate.conditions import (
    Conditions,
    Spectrum,
    check_range,
    middle_condition,
    parse_values,
)
from caloforge.generate.engines import ENGINES, Engine, default_batch, make_engine
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
    "generate_blocks",
    "generate_file",
    "generate_showers",
    "make_engine",
    "middle_condition",
    "parse_values",
    "stream",
]
