"""How much work the judge does: `FAST`, a minute or two on two cores, and `FULL`, as published.

They differ in the classifier (see `caloforge.metrics.classifier`), and in how many showers
enter the metrics that look at all cells at once.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from caloforge.errors import DataError, did_you_mean
from caloforge.metrics.protocol import FAST as FAST_PROTOCOL
from caloforge.metrics.protocol import PUBLISHED, Protocol

INPUTS = ("low", "low_normed", "high")


@dataclass(frozen=True)
class Effort:
    """What the judge spends on the metrics that look at all features or cells together.

    Parameters
    ----------
    name
        Name, "fast" or "full", which labels the results.
    protocol
        Settings of the network classifiers. Its `most` is the largest number of showers of a
        sample in any metric of all cells.
    inputs
        Inputs of the network classifiers, one network for each: "low", "low_normed", "high".
    cell_bytes
        Memory in bytes for the cells of one sample; fewer showers enter where they do not fit.
        None sets no limit.
    neighbours
        Number of showers of each sample for precision, recall, density, coverage, PRD and boosted
        trees.
    features
        Number of features that boosted trees try alone, for the list of what gives a generator
        away.
    """

    name: str
    protocol: Protocol
    inputs: tuple[str, ...] = INPUTS
    cell_bytes: int | None = None
    neighbours: int = 10_000
    features: int = 40

    @property
    def keep(self) -> int:
        """How many showers a summary has to keep whole: twice as many as enter a metric.

        Each half of a reference then has as many as the metric takes.
        """
        return sys.maxsize if self.protocol.most is None else 2 * self.protocol.most


FAST = Effort("fast", FAST_PROTOCOL, cell_bytes=128 << 20, features=20)
FULL = Effort("full", PUBLISHED)
EFFORTS = {effort.name: effort for effort in (FAST, FULL)}


def choose_effort(
    name: str,
    inputs: tuple[str, ...] | None = None,
    repeats: int | None = None,
    most: int | None = None,
) -> Effort:
    """An effort by name, with other classifier inputs, other repeats or fewer showers.

    Raises
    ------
    DataError
        For an unknown name or input, or a number below 1.
    """
    if name not in EFFORTS:
        raise DataError(f"Unknown metrics '{name}': {did_you_mean(name, EFFORTS)}")
    for given in inputs or ():
        if given not in INPUTS:
            raise DataError(f"Unknown classifier input '{given}': {did_you_mean(given, INPUTS)}")
    for what, value in (("repeats", repeats), ("showers", most)):
        if value is not None and value < 1:
            raise DataError(f"Got {value} {what}; expected at least 1.")
    effort = EFFORTS[name]
    protocol = effort.protocol
    if repeats is not None:
        protocol = replace(protocol, repeats=repeats)
    if most is not None:
        protocol = replace(protocol, most=most)
        effort = replace(effort, neighbours=min(most, effort.neighbours))
    return replace(effort, protocol=protocol, inputs=inputs or effort.inputs)
