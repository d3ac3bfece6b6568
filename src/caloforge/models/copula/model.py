"""The flagship: showers as a Gaussian copula whose empty cells are censored, and what is left.

Not after a paper: a method of this package, described in docs/flagship.md.

1. Each layer energy and each cell, in units of the incident energy, is mapped to a normal variable
   by its own distribution at the shower's condition; an empty cell is a variable below a
   threshold (`tables`, `conditional`).
2. Response and shares of the layers have a correlation matrix, and so have the cells with the layer
   energies; both are found by expectation maximisation (`correlation`). Cells are counted from
   the particle's line (`frame`).
3. A shower: layer energies; then y = B c + R^(1/2) w, c the normal variables of the layer energies
   and w white noise; then the cells by threshold and quantile. Each layer is scaled to its energy.
4. What is not Gaussian is learnt by a flow that moves w (`remainder`), in a few steps or in one.

Shapes: condition (N, C), noise (N, L + V): first the layers, then the cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from caloforge.geometry import Geometry
from caloforge.models.base import Batch, Fit, OptimiserSettings, Phase, ShowerModel
from caloforge.models.copula.bank import Bank
from caloforge.models.copula.conditional import Conditional
from caloforge.models.copula.correlation import Correlation
from caloforge.models.copula.frame import Frame, orbits
from caloforge.models.copula.given import (
    CellFeatures,
    Given,
    Givens,
    LayerFeatures,
    ParticleFeatures,
)
from caloforge.models.copula.layers import Shares
from caloforge.models.copula.lowrank import LowRank
from caloforge.models.copula.remainder import Jump, Velocity
from caloforge.models.copula.tables import Tables
from caloforge.transforms import IncidentFraction, Transform

CELLS = 1 << 18  # cells made at a time: bounds the memory
NEAR = 32  # cells of a shower that an update of the marginals looks at
LARGEST = 2500  # cells that have a matrix: larger ones take minutes and tens of megabytes
LAYER_STEPS = 12  # in which the flow of the layers is followed: it moves far, and costs little
NEWTON = 3  # steps in which the cells of a layer are brought to its energy
STRIDE = 2000  # showers whose empty cells are placed at a time

Member = Literal["none", "flow", "one-step"]
_Share = Annotated[float, Field(gt=0, lt=1)]


class Copula(ShowerModel):
    """A censored Gaussian copula of cells over the incident energy.

    Parameters
    ----------
    remainder
        What moves the white noise: "none" (the closed form), "flow" or "one-step".
    points, quantiles
        Most energies with marginals of their own, and steps of their tables.
    enough
        Showers of an energy that make marginals and correlations of their own; with fewer, the
        neighbouring energies help.
    knots
        Most energies with a correlation matrix of their own; 0: ten, or a single one for
        read-outs with an impact, whose matrices are large.
    rank
        Common factors of the cells, instead of a matrix; -1: a matrix up to `LARGEST` cells, 96
        factors for more.
    sweeps, draws, shrink
        Of the expectation maximisation: how often every empty cell is drawn anew; how many of
        its draws are kept for the remainder; the share of the identity in the matrices.
    width, blocks, steps
        Of the flow: width and number of its blocks, and steps that it is followed in.
    jump_width, jump_blocks
        Of the network that does it in one pass.
    marginal_width
        Of the network of the marginals, where there is one.
    marginal_share, jump_share
        Parts of the training that go to the marginals' network and, at the end, to the one pass;
        only where there is such a network.
    optimiser
        Of all networks.
    """

    training_only = ("bank", "teacher")
    not_dense = "looks up tables of quantiles"

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        *,
        remainder: Member = "none",
        points: Annotated[int, Field(ge=2)] = 16,
        quantiles: Annotated[int, Field(ge=8)] = 64,
        enough: PositiveInt = 300,
        knots: Annotated[int, Field(ge=0)] = 0,
        rank: Annotated[int, Field(ge=-1)] = -1,
        sweeps: PositiveInt = 25,
        draws: PositiveInt = 4,
        shrink: PositiveFloat = 0.003,
        width: PositiveInt = 512,
        blocks: PositiveInt = 2,
        steps: PositiveInt = 4,
        jump_width: PositiveInt = 256,
        jump_blocks: PositiveInt = 2,
        marginal_width: PositiveInt = 64,
        marginal_share: _Share = 0.3,
        jump_share: _Share = 0.3,
        optimiser: dict[str, Any] | None = None,
    ) -> None:
        hyper = {k: v for k, v in locals().items() if k not in ("self", "geometry", "transform")}
        hyper.pop("__class__", None)
        if optimiser is None:
            del hyper["optimiser"]
        super().__init__(geometry, transform or IncidentFraction(geometry, 0.0, 0), hyper)
        self.remainder, self.steps = remainder, steps
        self.enough, self.sweeps, self.draws, self.shrink = enough, sweeps, draws, shrink
        self.marginal_share, self.jump_share = marginal_share, jump_share
        self.optimiser = OptimiserSettings.of(
            {"name": "adamw", "lr": 1e-3, "betas": [0.9, 0.99], "weight_decay": 1e-3}
            | (optimiser or {})
        )
        layers, cells = geometry.n_layers, geometry.n_cells
        self.given, self.frame = Givens(geometry), Frame(geometry)
        self.particle = ParticleFeatures(geometry, self.frame)
        self.shares = Shares(geometry)
        self.group = self.frame.symmetries()
        permutations = [s.permutation for s in self.group]
        single = np.arange(layers)
        if self.frame.moves:
            self.cells: Conditional | Tables = Conditional(
                CellFeatures(geometry, self.particle), geometry.layer_of_cell, marginal_width
            )
            self.ranks, self.parts = (
                Conditional(LayerFeatures(self.particle, layers), single, marginal_width)
                for _ in range(2)
            )
        else:
            kinds = self.given.kinds
            self.cells = Tables(orbits(permutations), kinds, points, quantiles)
            self.ranks, self.parts = (Tables(single, kinds, points, quantiles) for _ in range(2))
        many = knots or (1 if self.frame.moves else 10)
        self.along = Correlation([single], 0, many)
        rank = (96 if cells > LARGEST else 0) if rank < 0 else rank
        self.across: Correlation | LowRank = (
            LowRank(permutations, layers, rank)
            if rank
            else Correlation(permutations, layers, many)
        )
        seen = self.across.size
        inputs = self.particle.size
        self.flow: nn.ModuleDict | None = None
        self.jump: nn.ModuleDict | None = None
        if remainder != "none":
            flow = nn.ModuleDict(
                {
                    "layers": Velocity(layers, inputs, 64 + layers, 2),
                    "cells": Velocity(seen, inputs + layers, width, blocks),
                }
            )
            if remainder == "flow":
                self.flow = flow
            else:
                self.teacher = flow
                self.jump = nn.ModuleDict(
                    {
                        "layers": Jump(layers, inputs, 64 + layers, 2),
                        "cells": Jump(seen, inputs + layers, jump_width, jump_blocks),
                    }
                )
            self.bank = Bank()
        layer = torch.from_numpy(geometry.layer_of_cell.copy())
        self.register_buffer("layer", layer, persistent=False)

    layer: Tensor

    @property
    def noise_size(self) -> int:
        """Z = L + V."""
        return self.geometry.n_layers + self.geometry.n_cells

    # --- sampling -----------------------------------------------------------------------------
    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See `ShowerModel.sample`."""
        size = max(1, CELLS // self.geometry.n_cells)
        if torch.compiler.is_exporting() or condition.shape[0] <= size:
            return self.make(condition, noise)
        pairs = zip(torch.split(condition, size), torch.split(noise, size), strict=True)
        return torch.cat([self.make(c, z) for c, z in pairs])

    def make(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Showers (N, V) in MeV, all at once."""
        given = self.given(condition)
        about = self.particle(given)
        z, w = noise.split([self.geometry.n_layers, self.geometry.n_cells], dim=1)
        layers = self.layer_energies(given, about, z)
        ranks = self.ranks.encode(layers / given.log_energy.exp()[:, None], given)
        plain = self.across.seen(w)
        moved = self._moved("cells", plain, torch.cat([about, ranks], dim=1))
        w = self.across.changed(w, moved - plain)
        y = self.across(w, ranks, given.log_energy)
        y = self.frame.read_out(y, condition, given.log_energy)
        values, above = self.cells.decode(y, given)
        return self._scaled(values, above, layers)

    def layer_energies(self, given: Given, about: Tensor, z: Tensor) -> Tensor:
        """Energies of the layers (N, L) in MeV from their noise."""
        z = self._moved("layers", z, about)
        y = self.along(z, z[:, :0], given.log_energy)
        shares, _ = self.parts.decode(y, given)
        return self.shares.inverse(shares, given.log_energy.exp()[:, None])

    def _moved(self, what: str, w: Tensor, context: Tensor) -> Tensor:
        if self.jump is not None:
            return w + self.jump[what](w, context)
        if self.flow is not None:
            return self._flown(self.flow, what, w, context)
        return w

    def _flown(self, flow: nn.ModuleDict, what: str, w: Tensor, context: Tensor) -> Tensor:
        return flow[what].move(w, context, self.steps if what == "cells" else LAYER_STEPS)

    def _scaled(self, values: Tensor, above: Tensor, layers: Tensor) -> Tensor:
        """Cells in MeV that add up to the layers: a layer that has energy and no filled cell gives
        it to the cell that was nearest to being filled, one without energy is empty.
        """
        lost = (self._sums(values) <= 0)[:, self.layer]
        best = torch.cat(
            [
                (part == part.amax(dim=1, keepdim=True)).to(values.dtype)
                for part in (above[:, where] for where in self.geometry.slices)
            ],
            dim=1,
        )
        floor = self.shares.floor.clamp(min=1e-9)
        values = torch.where(lost, best * layers[:, self.layer], values)
        above = (values / floor).clamp(min=1.0).log()
        power = self._power(above, values > 0, layers / floor)
        cells = torch.where(values > 0, floor * (power[:, self.layer] * above).exp(), 0.0)
        return cells * (layers / self._sums(cells).clamp(min=1e-30))[:, self.layer]

    def _power(self, above: Tensor, filled: Tensor, wanted: Tensor) -> Tensor:
        """g of each layer (N, L) with sum over its filled cells of exp(g above) = wanted, by
        Newton's method on the logarithm of the sum.

        In this way a layer gets its energy and no cell falls below the smallest energy that there
        is, where multiplying all cells with one number would move the edge of their spectrum.
        """
        power = torch.ones_like(wanted)
        goal = wanted.clamp(min=1.0).log()
        for _ in range(NEWTON):
            part = torch.where(filled, (power[:, self.layer] * above).exp(), 0.0)
            total = self._sums(part).clamp(min=1e-30)
            slope = self._sums(part * above) / total
            power = (power + (goal - total.log()) / slope.clamp(min=0.1)).clamp(0.0, 3.0)
        return power

    def _sums(self, cells: Tensor) -> Tensor:
        size = (cells.shape[0], self.geometry.n_layers)
        return cells.new_zeros(size).index_add(1, self.layer, cells)

    # --- training -----------------------------------------------------------------------------
    def phases(self) -> list[Phase | Fit]:
        """The closed form is fitted; networks are trained one after the other, where there are
        any: marginals, flow, one pass.
        """
        begin = self.marginal_share if self.frame.moves else 0.0
        end = 1 - self.jump_share if self.remainder == "one-step" else 1.0
        turns: list[Phase | Fit] = []
        if self.frame.moves:
            end = end if self.remainder != "none" else 1.0
            begin = begin if self.remainder != "none" else 1.0
            turns.append(Fit("tables", lambda showers, _: self.fit_tables(showers)))
            parts = [self.cells, self.ranks, self.parts]
            turns.append(self._phase("marginals", nn.ModuleList(parts), (0, begin)))
        turns.append(Fit("copula", self.fit_copula, at=begin))
        if self.remainder != "none":
            flow = self.flow if self.remainder == "flow" else self.teacher
            turns.append(self._phase("flow", flow, (begin, end)))
        if self.jump is not None:
            turns.append(self._phase("one pass", self.jump, (end, 1)))
        return turns

    def _phase(self, name: str, part: nn.Module | None, span: tuple[float, float]) -> Phase:
        losses = {
            "marginals": self.marginal_loss,
            "flow": self.flow_loss,
            "one pass": self.jump_loss,
        }
        parameters = [] if part is None else list(part.parameters())
        return Phase(
            name, parameters, losses[name], optimiser=self.optimiser, span=span, fade=0.7
        )

    def marginal_loss(
        self, batch: Batch, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Likelihood of cells, layer energies, and response and shares."""
        given = self.given(batch.condition)
        layers = self._sums(batch.energies) / given.log_energy.exp()[:, None]
        columns = self.cells.features.near(given, NEAR, rng)
        found = {
            "cells": self.cells.loss(batch.energies.gather(1, columns), given, columns, rng),
            "layers": self.ranks.loss(layers, given, None, rng),
            "shares": self.parts.loss(self.shares(layers), given, None, rng),
        }
        return _joint(found)

    def _from_bank(self, count: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """White noise of cells and layers and their contexts, of random showers, draws of their
        empty cells, and symmetries.
        """
        bank, device = self.bank, self.device

        def whole(below: int) -> Tensor:
            return torch.randint(below, (count,), generator=rng, device=device)

        row, draw = whole(len(bank.cells)), whole(bank.cells.shape[1])
        element = whole(len(self.group))
        permutation, matrix, offset = self._symmetries(element)
        cells = bank.cells[row, draw].float()
        if isinstance(self.across, Correlation):  # else they were turned when they were drawn
            cells = cells.gather(1, permutation)
        condition = torch.einsum("bij,bj->bi", matrix, bank.condition[row]) + offset
        about = self.particle(self.given(condition))
        ranks = bank.context[row, draw].float()
        return cells, bank.layers[row, draw].float(), about, torch.cat([about, ranks], dim=1)

    def _symmetries(self, element: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not hasattr(self, "_elements"):
            self._elements = tuple(
                torch.from_numpy(np.stack([getattr(s, name) for s in self.group]))
                for name in ("permutation", "matrix", "offset")
            )
        permutation, matrix, offset = (t.to(element.device)[element] for t in self._elements)
        return permutation, matrix.float(), offset.float()

    def flow_loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Flow matching of cells and layers."""
        flow = self.flow if self.flow is not None else self.teacher
        cells, layers, about, context = self._from_bank(len(batch.condition), rng)
        found = {
            "cells": flow["cells"].loss(cells, context, rng),
            "layers": flow["layers"].loss(layers, about, rng),
        }
        return _joint(found)

    def jump_loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the one pass against the displacement of the flow."""
        assert self.jump is not None
        cells, layers, about, context = self._from_bank(len(batch.condition), rng)
        found = {}
        for what, size, known in (("cells", cells, context), ("layers", layers, about)):
            w = torch.randn(size.shape, generator=rng, device=size.device)
            with torch.no_grad():
                moved = self._flown(self.teacher, what, w, known)
            found[what] = (self.jump[what](w, known) - (moved - w)).square().mean()
        return _joint(found)

    # --- fitting ------------------------------------------------------------------------------
    def _read(self, showers: Iterable[Batch]) -> tuple[Tensor, Given]:
        """All training showers at once, (N, V) MeV."""
        seen = list(showers)
        energies, condition = (torch.cat([b[k] for b in seen]) for k in (0, 1))
        return energies, self.given(condition)

    @torch.no_grad()
    def fit_tables(self, showers: Iterable[Batch]) -> dict[str, float]:
        """Set what the networks of the marginals start from: depths, scales, pooled tables."""
        energies, given = self._read(showers)
        self.frame.fit(energies, given.condition, given.log_energy)
        self.particle.fit(given)
        layers = self._fit_shares(energies, given)
        assert isinstance(self.cells, Conditional)
        self.cells.fit(energies)
        self.ranks.fit(layers)
        self.parts.fit(self.shares(layers))
        depth = self.frame.depth[:, 0]
        return {f"depth_{k}": float(z) for k, z in enumerate(depth)}

    def _fit_shares(self, energies: Tensor, given: Given) -> Tensor:
        """Order of the layers; returns layer energies in units of the incident energy."""
        layers = self._sums(energies) / given.log_energy.exp()[:, None]
        self.shares.fit(layers, energies[energies > 0].min())
        return layers

    @torch.no_grad()
    def fit_copula(self, showers: Iterable[Batch], rng: torch.Generator) -> dict[str, float]:
        """Set tables, where there are any, and correlations; fill the bank."""
        energies, given = self._read(showers)
        if not self.frame.moves:
            self.particle.fit(given)
        layers = self._fit_shares(energies, given)
        shares = self.shares(layers)
        y, threshold = self._place(self.cells, energies, given, rng)
        y, threshold, empty = (
            self.frame.seen(t, given.condition, given.log_energy)
            for t in (y, threshold, energies <= 0)
        )
        ranks = self._place(self.ranks, layers, given, rng)
        parts = self._place(self.parts, shares, given, rng)
        settings = {
            "enough": self.enough,
            "sweeps": self.sweeps,
            "draws": self.draws,
            "shrink": self.shrink,
        }
        log_energy = given.log_energy
        along, _ = self.along.fit(parts[0], shares <= 0, parts[1], log_energy, rng, **settings)
        white, context = self.across.fit(
            torch.cat([y, ranks[0]], dim=1),
            torch.cat([empty, layers <= 0], dim=1),
            torch.cat([threshold, ranks[1]], dim=1),
            log_energy,
            rng,
            **settings,
        )
        if self.remainder != "none":
            self.bank.put(
                cells=white.half(),
                layers=along,
                context=context.half(),
                condition=given.condition.float(),
            )
        return {
            "variance": float(white.square().mean()),
            "kurtosis": float(white.double().pow(4).mean()),
        }

    def _place(
        self,
        marginals: Tables | Conditional,
        values: Tensor,
        given: Given,
        rng: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """y of every variable and its threshold; tables are fitted on the way."""
        if isinstance(marginals, Tables):
            y = marginals.fit(
                values.double().cpu().numpy(),
                given.kind.cpu().numpy(),
                given.log_energy.double().cpu().numpy(),
                self.enough,
            )
            found = torch.from_numpy(y).to(values)
            return found, found
        level = torch.rand(values.shape, generator=rng, device=values.device)
        parts = [
            marginals.place(x, Given(*known), u)
            for x, u, *known in zip(
                values.split(STRIDE),
                level.split(STRIDE),
                *(k.split(STRIDE) for k in given),
                strict=True,
            )
        ]
        y, threshold = (torch.cat([p[k] for p in parts]) for k in (0, 1))
        return torch.where(values > 0, y, threshold), threshold


def _joint(losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of losses, and each of them to log."""
    return torch.stack(list(losses.values())).sum(), {k: v.detach() for k, v in losses.items()}


__all__ = ["Copula"]
