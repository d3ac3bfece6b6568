"""The flagship: showers as a Gaussian copula whose empty cells are censored, and what is left.

Reference: a method of this package, described in docs/flagship.md. Gaussian copulas with
variables that are known only to be small are old in statistics (M. Pitt, D. Chan, R. Kohn, 2006,
doi:10.1093/biomet/93.3.537, for discrete margins), flow matching is arXiv:2210.02747.

1. Each layer energy and each cell, in units of the incident energy, is mapped to a normal variable
   by its own distribution at the shower's condition; an empty cell is a variable below a
   threshold (`tables`, `conditional`).
2. Response and shares of the layers have a correlation matrix, and so have the cells with the
   layer energies; both are found by expectation maximisation (`correlation`, `lowrank`). Cells
   are counted from the particle's line (`frame`).
3. A shower: layer energies; then y = B c + R^(1/2) w, c the normal variables of the layer energies
   and w white noise; then the cells by threshold and quantile. Each layer is scaled to its energy.
4. What is not Gaussian is learnt by a flow that moves w (`remainder`), in a few steps or in one.

Differs from the paper: there is no paper on the whole method.

Shapes: condition (N, C), noise (N, L + V): first the layers, then the cells.

Example
-------
>>> import torch
>>> from caloforge.data import read_showers, sample_path
>>> from caloforge.models.base import Batch
>>> showers = read_showers(sample_path("ds1-photons-test"))
>>> chosen = showers[showers.incident_energy == 16384.0]
>>> energies, condition = (torch.from_numpy(a).float() for a in (chosen.energies,
...     chosen.conditions))
>>> model = Copula(showers.geometry, hyper=CopulaHyper(knots=1, sweeps=2, draws=1))
>>> numbers = model.fit_copula([Batch(energies, condition)], torch.Generator().manual_seed(0))
>>> noise = torch.randn(2000, model.noise_size, generator=torch.Generator().manual_seed(0))
>>> drawn = model.sample(torch.full((2000, 1), 16384.0), noise)
>>> filled = [float((cells > 0).float().mean()) for cells in (drawn, energies)]
>>> abs(filled[0] / filled[1] - 1) < 0.02
True
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.models.base import Batch, Fit, Loss, Phase, ShowerModel
from caloforge.models.copula.bank import Bank
from caloforge.models.copula.bound import Bound
from caloforge.models.copula.by_layer import ByLayer
from caloforge.models.copula.censored import Censored, Sweeps
from caloforge.models.copula.check import departures
from caloforge.models.copula.conditional import Conditional
from caloforge.models.copula.core import Core
from caloforge.models.copula.correlation import Correlation
from caloforge.models.copula.frame import Frame
from caloforge.models.copula.given import (
    Given,
    Givens,
    ParticleFeatures,
)
from caloforge.models.copula.hyper import OPTIMISER, CopulaHyper
from caloforge.models.copula.layers import Shares
from caloforge.models.copula.marginals import make_marginals, place
from caloforge.models.copula.remainder import Flow, Jump, Jumps, Velocity
from caloforge.models.copula.scale import Scale
from caloforge.models.hyper import OptimiserSettings
from caloforge.transforms import IncidentFraction, Transform

# Showers whose layers, and cells that are made at a time: few enough that what passes from one
# operation to the next stays in the caches of a core, enough that calling them costs little.
ROWS, CELLS = 1 << 13, 1 << 17
MOVING_CELLS = 1 << 16  # the same where a network makes the marginals of every cell
NEAR = 32  # cells of a shower that an update of the marginals looks at
LAYER_BLOCKS = 2  # blocks of the networks of the layers' remainder, which have few numbers to move
# Of every network's turn: the first part, in which its learning rate rises (a network that starts
# with full steps learns from the noise of its gradients to be silent for ever), and the last part,
# in which it falls.
RISE, FADE = 0.03, 0.7
LAYER_STEPS = 12  # in which the flow of the layers is followed: it moves far, and costs little
CHECKED = 1000  # showers whose levels are tested to be uniform
# Most energies with a correlation matrix of their own, with an impact and without one.
ONE_MATRIX, MATRICES = 1, 10


class Copula(ShowerModel):
    """A censored Gaussian copula of cells over the incident energy."""

    hyper_class = CopulaHyper
    training_only = ("bank", "teacher")
    not_dense = "looks up tables of quantiles"

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        hyper: CopulaHyper | None = None,
    ) -> None:
        hyper = hyper or CopulaHyper()
        if hyper.shifts and geometry.n_cells > hyper.core:
            raise ModelError(
                f"Got shifts = true for the read-out '{geometry.name}'. Expected shifts = false, "
                f"as in all read-outs of more than {hyper.core} cells (`core`)."
            )
        super().__init__(geometry, transform or IncidentFraction(geometry, 0.0, 0), hyper)
        self.remainder, self.steps = hyper.remainder, hyper.steps
        self.em = Sweeps(hyper.enough, hyper.sweeps, hyper.draws, hyper.shrink)
        self.marginal_share, self.jump_share = hyper.marginal_share, hyper.jump_share
        self.optimiser = OptimiserSettings.of(OPTIMISER | hyper.optimiser)
        layers, cells = geometry.n_layers, geometry.n_cells
        self.given, self.frame = Givens(geometry), Frame(geometry)
        self.particle = ParticleFeatures(geometry, self.frame)
        self.shares, self.scale = Shares(geometry), Scale(geometry)
        self.group = self.frame.symmetries()
        permutations = [s.permutation for s in self.group]
        self.bound = Bound(geometry, self.frame) if self.frame.moves and hyper.bounded else None
        self.cells, self.ranks, self.parts = make_marginals(
            geometry, hyper, self.particle, self.given.kinds, permutations
        )
        knots = hyper.knots or (ONE_MATRIX if self.frame.moves else MATRICES)
        self.along = Correlation([np.arange(layers)], 0, knots)
        self.across: Correlation | Core = (
            Correlation(permutations, layers, knots, hyper.shifts)
            if cells <= hyper.core
            else Core(geometry, permutations, layers, hyper.core, hyper.rank)
        )
        self.flow: Flow | None = None
        self.jump: Jumps | None = None
        if hyper.remainder != "none":
            self._make_remainder(hyper)

    def _make_remainder(self, hyper: CopulaHyper) -> None:
        """The networks that move the noise, and what they are trained on."""
        layers, seen, inputs = self.geometry.n_layers, self.across.size, self.particle.size
        self.bank = Bank(self.group, self.across.group_seen)
        width = hyper.layer_width + layers
        flow = Flow(
            Velocity(layers, inputs, width, LAYER_BLOCKS),
            Velocity(seen, inputs + layers, hyper.width, hyper.blocks),
        )
        if hyper.remainder == "flow":
            self.flow = flow
            return
        self.teacher = flow
        self.jump = Jumps(
            Jump(layers, inputs, width, LAYER_BLOCKS),
            Jump(seen, inputs + layers, hyper.jump_width, hyper.jump_blocks),
        )

    @property
    def noise_size(self) -> int:
        """Z = L + V."""
        return self.geometry.n_layers + self.geometry.n_cells

    # --- sampling -----------------------------------------------------------------------------
    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See `ShowerModel.sample`."""
        if torch.compiler.is_exporting() or condition.shape[0] <= ROWS:
            return self.make(condition, noise)
        pairs = zip(torch.split(condition, ROWS), torch.split(noise, ROWS), strict=True)
        return torch.cat([self.make(c, z) for c, z in pairs])

    def make(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Showers (N, V) in MeV: the layers all at once, the cells in parts."""
        given = self.given(condition)
        about = self.particle(given)
        z, w = torch.split(noise, [self.geometry.n_layers, self.geometry.n_cells], dim=1)
        layers = self.layer_energies(given, about, z)
        ranks = self.ranks.encode(layers / given.log_energy.exp()[:, None], given)
        size = max(1, (MOVING_CELLS if self.frame.moves else CELLS) // self.geometry.n_cells)
        if torch.compiler.is_exporting() or len(w) <= size:
            return self._make_cells(given, about, layers, ranks, w)
        parts = zip(
            *(torch.split(t, size) for t in (*given, about, layers, ranks, w)), strict=True
        )
        return torch.cat([self._make_cells(Given(*p[:3]), *p[3:]) for p in parts])

    def _make_cells(
        self, given: Given, about: Tensor, layers: Tensor, ranks: Tensor, w: Tensor
    ) -> Tensor:
        """Showers (N, V) in MeV from their layer energies, also as normal numbers, and the noise
        of the cells.
        """
        w = self._moved_cells(w, torch.cat([about, ranks], dim=1))
        y = self.across(w, ranks, given.log_energy)
        y = self.frame.read_out(y, given.condition, given.log_energy)
        if isinstance(self.cells, ByLayer):
            logs, above = self.cells.decode(y, given, layers)
        else:
            logs, above = self.cells.decode(y, given)
            if self.bound is not None:
                logs = self.bound(logs, given)
        return self.scale(logs, above, layers)

    def layer_energies(self, given: Given, about: Tensor, z: Tensor) -> Tensor:
        """Energies of the layers (N, L) in MeV from their noise."""
        z = self._moved_layers(z, about)
        y = self.along(z, z[:, :0], given.log_energy)
        logs, above = self.parts.decode(y, given)
        shares = torch.where(above > 0, logs.exp(), 0.0)
        layers = self.shares.inverse(shares) * given.log_energy.exp()[:, None]
        return torch.where(layers < self.scale.floor, 0.0, layers)

    def _moved_layers(self, z: Tensor, about: Tensor) -> Tensor:
        if self.jump is not None:
            return z + self.jump.layers(z, about)
        return z if self.flow is None else self.flow.layers.move(z, about, LAYER_STEPS)

    def _moved_cells(self, w: Tensor, context: Tensor) -> Tensor:
        if self.jump is None and self.flow is None:
            return w
        seen = self.across.seen(w)
        if self.jump is not None:
            return self.across.changed(w, self.jump.cells(seen, context))
        assert self.flow is not None
        moved = self.flow.cells.move(seen, context, self.steps)
        return self.across.changed(w, moved - seen)

    # --- training -----------------------------------------------------------------------------
    def phases(self) -> list[Phase | Fit]:
        """The closed form is fitted; networks are trained one after the other, where there are
        any: marginals, flow, one pass.
        """
        networks = self.remainder != "none"
        begin = (self.marginal_share if networks else 1.0) if self.frame.moves else 0.0
        end = 1 - self.jump_share if self.remainder == "one-step" else 1.0
        turns: list[Phase | Fit] = []
        if self.frame.moves:
            turns.append(Fit("tables", lambda showers, _: self.fit_tables(showers)))
            parts = (self.cells, self.ranks, self.parts)
            turns.append(self._phase("marginals", self.marginal_loss, (0, begin), *parts))
        turns.append(Fit("copula", self.fit_copula, at=begin))
        if networks:
            flow = self.teacher if self.flow is None else self.flow
            turns.append(self._phase("flow", self.flow_loss, (begin, end), flow))
        if self.jump is not None:
            turns.append(self._phase("one pass", self.jump_loss, (end, 1), self.jump))
        return turns

    def _phase(self, name: str, loss: Loss, span: tuple[float, float], *parts: nn.Module) -> Phase:
        parameters = [p for part in parts for p in part.parameters()]
        return Phase(
            name, parameters, loss, optimiser=self.optimiser, span=span, rise=RISE, fade=FADE
        )

    def marginal_loss(
        self, batch: Batch, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Likelihood of cells, layer energies, and response and shares."""
        parts = (self.cells, self.ranks, self.parts)
        cells, ranks, shares = (part for part in parts if isinstance(part, Conditional))
        with self._exactly():
            given = self.given(batch.condition)
            layers = self.scale.sums(batch.energies) / given.log_energy.exp()[:, None]
            columns = cells.near(given, NEAR, rng)
            return _joint(
                cells=cells.loss(batch.energies.gather(1, columns), given, columns, rng),
                layers=ranks.loss(layers, given, None, rng),
                shares=shares.loss(self.shares(layers), given, None, rng),
            )

    def _exactly(self) -> torch.autocast:
        """Within it, numbers are computed in single precision, as response and energy need it."""
        return torch.autocast(self.device.type, enabled=False)

    def _from_bank(self, count: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """White noise of cells and layers, and the contexts of the layers and of the cells."""
        with self._exactly():
            drawn = self.bank.draw(count, rng)
            about = self.particle(self.given(drawn.condition))
        return drawn.cells, drawn.layers, about, torch.cat([about, drawn.ranks], dim=1)

    def flow_loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Flow matching of cells and layers."""
        flow = self.teacher if self.flow is None else self.flow
        cells, layers, about, context = self._from_bank(len(batch.condition), rng)
        return _joint(
            cells=flow.cells.loss(cells, context, rng), layers=flow.layers.loss(layers, about, rng)
        )

    def jump_loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the one pass against the displacement of the flow."""
        assert self.jump is not None
        _, _, about, context = self._from_bank(len(batch.condition), rng)
        jump, teacher = self.jump, self.teacher
        return _joint(
            cells=jump.cells.loss(teacher.cells, context, self.steps, rng),
            layers=jump.layers.loss(teacher.layers, about, LAYER_STEPS, rng),
        )

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
        if self.bound is not None:
            self.bound.fit(energies, given)
        layers = self._fit_shares(energies, given)
        for marginals, values in (
            (self.cells, energies),
            (self.ranks, layers),
            (self.parts, self.shares(layers)),
        ):
            assert isinstance(marginals, Conditional)
            marginals.fit(values)
        depth = self.frame.depth[:, 0]
        return {f"depth_{k}": float(z) for k, z in enumerate(depth)}

    def _fit_shares(self, energies: Tensor, given: Given) -> Tensor:
        """Order of the layers; returns layer energies in units of the incident energy."""
        layers = self.scale.sums(energies) / given.log_energy.exp()[:, None]
        self.shares.fit(layers)
        self.scale.fit(energies)
        return layers

    @torch.no_grad()
    def fit_copula(self, showers: Iterable[Batch], rng: torch.Generator) -> dict[str, float]:
        """Set tables, where there are any, and correlations; fill the bank."""
        energies, given = self._read(showers)
        if not self.frame.moves:
            self.particle.fit(given)
        layers = self._fit_shares(energies, given)
        shares = self.shares(layers)
        read_out = place(self.cells, energies, given, rng, self.em.enough)
        cells = Censored(
            *(self.frame.seen(t, given.condition, given.log_energy) for t in read_out)
        )
        ranks = place(self.ranks, layers, given, rng, self.em.enough)
        parts = place(self.parts, shares, given, rng, self.em.enough)
        log_energy, settings = given.log_energy, self.em
        along, _ = self.along.fit(parts, log_energy, rng, settings)
        white, context = self.across.fit(cells.beside(ranks), log_energy, rng, settings)
        if self.remainder != "none":
            self.bank.put(
                cells=white.half(),
                layers=along,
                context=context.half(),
                condition=given.condition.float(),
            )
        some = slice(0, CHECKED)
        departing = departures(self, energies[some], given.condition[some], rng)
        return {
            "variance": float(white.square().mean()),
            "kurtosis": float(white.double().pow(4).mean()),
            # How far levels are from uniform in the worst bin.
            "departure": max((d.distance for d in departing), default=0.0),
        }


def _joint(**losses: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of losses, and each of them to log."""
    return torch.stack(list(losses.values())).sum(), {k: v.detach() for k, v in losses.items()}
