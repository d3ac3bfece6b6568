"""How the classifier test is done: the settings of its network and of its training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from caloforge.metrics.optional import OPTIONAL


@dataclass(frozen=True)
class Protocol:
    """Settings of the classifier test.

    Parameters
    ----------
    name
        Name in tables.
    hidden
        Number of units of each hidden layer; a LeakyReLU with slope 0.01 follows each.
    epochs, batch, learning_rate
        Settings of the training with Adam.
    repeats
        Number of trainings, each with new splits and new initial weights.
    dtype
        Type of weights and arithmetic; "bfloat16" keeps weights in float32 and multiplies in
        bfloat16.
    splits
        Fractions of both samples to train on, to choose and calibrate with, and to judge with.
    standardise
        Whether every input is scaled to mean 0 and standard deviation 1 of the training showers.
    most
        Largest number of showers taken of each sample; None takes all.
    grouped
        Whether showers with the same condition stay in the same part of every split; see
        `caloforge.metrics.twins`. The public evaluation splits at random.
    """

    name: str
    hidden: tuple[int, ...]
    epochs: int
    batch: int
    learning_rate: float
    repeats: int
    dtype: Literal["float64", "float32", "bfloat16"]
    splits: tuple[float, float, float] = (80 / 121, 20 / 121, 21 / 121)
    standardise: bool = False
    most: int | None = None
    grouped: bool = field(default=False, metadata=OPTIONAL)


# The public evaluation of the CaloChallenge, with the splits 80 000, 20 000, 21 000 of its data
# set 1 photons. Ten repeats are a reading of the published digits (five are ruled out by them, ten
# are not proven).
PUBLISHED = Protocol("published", (2048, 2048, 2048), 50, 1000, 2e-4, 10, "float64")
# For two cores: an eighth of the width and standardised inputs, which learn in fewer steps.
FAST = Protocol(
    "fast",
    (256, 256, 256),
    25,
    250,
    5e-4,
    3,
    "float32",
    standardise=True,
    most=10_000,
    grouped=True,
)
