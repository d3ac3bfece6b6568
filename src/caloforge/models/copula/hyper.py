"""What can be chosen about the flagship."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from caloforge.models.hyper import Hyper

OPTIMISER = {"name": "adamw", "lr": 1e-3, "betas": [0.9, 0.99], "weight_decay": 1e-3}
Member = Literal["none", "flow", "one-step"]
_Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class CopulaHyper(Hyper):
    """Hyper-parameters of `Copula`."""

    remainder: Member = "none"
    """What moves the white noise: "none" (the closed form), "flow" or "one-step"."""
    points: Annotated[int, Field(ge=2)] = 16
    """Most energies with marginals of their own; over the energy of the layer, those of all bands
    together."""
    quantiles: Annotated[int, Field(ge=8)] = 64
    """Number of steps of the marginals' tables."""
    over: Literal["incident", "layer"] = "incident"
    """Energy that the tables of the cells are kept over: "incident", or that of the cell's
    "layer", for showers that fluctuate as much as those of hadrons do."""
    bands: PositiveInt = 1
    """Most bands of the incident energy, each with tables of its own over the energy of the
    layer."""
    enough: PositiveInt = 300
    """How many showers of an energy make marginals and correlations of their own; with fewer, the
    neighbouring energies help."""
    knots: Annotated[int, Field(ge=0)] = 0
    """Most energies with a correlation matrix of their own; 0: ten, or a single one for read-outs
    with an impact, whose matrices are large."""
    shifts: bool = False
    """Whether each of these matrices comes with means and variances of the cells' normal
    variables; for tables over the energy of the layer, which know little of the incident one."""
    core: PositiveInt = 2000
    """Number of cells, those nearest to the axis, that have a matrix of correlations."""
    rank: PositiveInt = 64
    """Number of common factors of all other cells, where there are others."""
    sweeps: PositiveInt = 25
    """How often the expectation maximisation draws every empty cell anew."""
    draws: PositiveInt = 4
    """How many of its draws are kept for the remainder."""
    shrink: PositiveFloat = 0.003
    """Share of the identity in the matrices."""
    width: PositiveInt = 512
    """Width of the blocks of the flow's network."""
    blocks: PositiveInt = 2
    """Number of the blocks of the flow's network."""
    steps: PositiveInt = 4
    """Number of steps in which the flow is followed."""
    jump_width: PositiveInt = 256
    """Width of the hidden layers of the network that needs one pass."""
    jump_blocks: PositiveInt = 2
    """Number of hidden layers of the network that needs one pass."""
    layer_width: PositiveInt = 64
    """Width of the networks of the layers' remainder, to which one is added for each layer."""
    marginal_width: PositiveInt = 64
    """Width of the network of the marginals, where there is one."""
    marginal_share: _Share = 0.3
    """Part of the training that goes to the marginals' network, where there is one."""
    jump_share: _Share = 0.3
    """Part of the training that goes, at the end, to the one pass, where there is one."""
    bounded: bool = False
    """Whether no cell gets more than training showers have in its layer at its distance from the
    particle's line; for showers with an impact, whose marginals are made by a network."""
    optimiser: dict[str, Any] = field(default_factory=dict)
    """How all networks are optimised, see `OptimiserSettings`; what it does not name is as in
    OPTIMISER."""
