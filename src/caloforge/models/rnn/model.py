"""Recurrent network over the slices of a calorimeter: each slice is predicted from those before.

Reference: C. Guthrie, I. Malkin, A. Pine, "Generative Models for High Energy Physics
Calorimeters", New York University, 2017 (section "Recurrent Neural Net").

Differs from the paper:
- `head = "l2"` is the paper's: the mean logarithm of every cell by least squares. It predicts the
  mean shower, as the paper found, whatever the noise. `head = "likelihood"` is the cure, trained
  by maximum likelihood: a mixture density of the energy of all slices together, then slice by
  slice one of the fraction of what is left, then densities of the cells, which share that energy.
- With the likelihood a step is also given the energies of the last slices, of what is left and of
  all; and the density of a cell looks at what was in it and beside it in the slices before.
- Layers behind the slices (the HCAL of `lcd`) are one last step with a head of its own, where the
  transform keeps them; the paper has the ECAL alone.
- What the paper leaves open is ours: dropout 0.2 on what enters and leaves the network, Adam.

Shapes: condition (N, C); x (N, D, n) + (N, R) from the spiral transform; one step sees x of the
slice before (n), the convolution's features, the embeddings of the categories, of the other
conditions and of the step (10 each), and with the likelihood five energies; noise
(N, 2 + D (2 + n)) + (N, 2 + R) where R > 0.

Example
-------
>>> import torch
>>> from caloforge.detector.shipped import load_geometry
>>> from caloforge.models.base import parameter_count
>>> model = RecurrentNetwork(load_geometry("lcd"), hyper=RecurrentHyper(head="l2"))
>>> parameter_count(model)  # the paper: approximately 5 million
4264690
>>> condition = torch.tensor([[0.0, 100e3], [1.0, 50e3]])  # a photon and a neutral pion
>>> model.sample(condition, torch.zeros(2, model.noise_size)).shape
torch.Size([2, 16585])
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ConditionError, ModelError
from caloforge.models.base import Batch, Phase, ShowerModel
from caloforge.models.hyper import Hyper, OptimiserSettings
from caloforge.models.rnn.recurrent import Recurrent, dropout
from caloforge.models.rnn.slices import (
    LOG_SCALE,
    SMALLEST,
    DensityHead,
    EnergyDensity,
    MeanHead,
    Step,
)
from caloforge.nn.conditions import ConditionEmbedding
from caloforge.transforms import Spiral, Transform

ADAM = {"name": "adam", "lr": 1e-3}
# Cells of a slice, 20 x 20, and unit in MeV of the spiral that a model makes for itself.
CELLS, UNIT = 400, 0.1
RECENT = 3  # slices whose energies a step is given one by one
SUMS = RECENT + 2  # energies that a step is given: those, what is left, and all
IMAGES = 2  # images that the density of a cell looks at: the last slice and the trail
DECAY = 0.5  # of the trail: a slice counts half as much as the one behind it
# Log-odds of an energy in its pool that the means begin at, before anything is learned: slices at
# usual shares, the other layers nearly empty; and the logarithm of the response of all slices.
SLICE_START, BEHIND_START, TOTAL_START = 0.2, -8.0, -4.0
ROUNDING = 1e-6  # of the energy of all slices: less than that is left only by rounding
LEAST_SHARE = 1e-9  # of the incident energy in all slices: keeps its logarithm finite


class Past(NamedTuple):
    """What each of T steps knows of the slices before it, cells row by row: the last slice and
    the trail of all, (N, T, n) as logarithms; the energies of the `RECENT` last ones, newest
    first, what is left for the others, and the sum over all slices, (N, T, SUMS) in MeV.
    """

    last: Tensor
    trail: Tensor
    sums: Tensor


class SliceFeatures(nn.Module):
    """Two sets of four 3x3 maps of a slice, each averaged over 2 x 2 cells.

    Shapes: (B, 1, H, W) to (B, size).
    """

    MAPS = 4

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, self.MAPS, 3, padding=1)
        self.second = nn.Conv2d(self.MAPS, self.MAPS, 3, padding=1)
        self.size = self.MAPS * (shape[0] // 4) * (shape[1] // 4)

    def forward(self, images: Tensor) -> Tensor:
        """The features."""
        x = nn.functional.avg_pool2d(torch.relu(self.first(images)), 2)
        return nn.functional.avg_pool2d(torch.relu(self.second(x)), 2).flatten(1)


@dataclass(frozen=True)
class RecurrentHyper(Hyper):
    """Hyper-parameters of `RecurrentNetwork`."""

    head: Literal["l2", "likelihood"] = "likelihood"
    """How a slice is predicted: "l2" is the paper's, "likelihood" the cure."""
    cell: Literal["lstm", "gru"] = "lstm"
    """Kind of the recurrent layers."""
    hidden: PositiveInt = 800
    """Width of the recurrent layers."""
    layers: PositiveInt = 1
    """Number of the recurrent layers."""
    embedding: PositiveInt = 10
    """How many numbers each category, the other conditions and the step are embedded in."""
    slice_index: bool = True
    """Whether a step is told which slice it makes; without, it sees zeros in that place."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share set to zero while training: of what the layers see of the cells, and of what they
    say."""
    conv: bool = False
    """Whether `SliceFeatures` of the slice before are among the inputs."""
    components: PositiveInt = 4
    """Number of Gaussians of a slice's energy, for "likelihood"."""
    width: PositiveInt = 64
    """How many hidden numbers the heads have, for "likelihood"."""
    optimiser: dict[str, Any] = field(default_factory=ADAM.copy)
    """How the network is optimised, see `OptimiserSettings`."""


class RecurrentNetwork(ShowerModel):
    """LSTM or GRU that predicts slice after slice.

    Raises ModelError for a transform that is not a spiral of logarithms.
    """

    hyper_class = RecurrentHyper
    default_transform = "spiral"
    not_dense = "is recurrent: it is fed its own slices"
    transform: Spiral

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        hyper: RecurrentHyper | None = None,
    ) -> None:
        hyper = hyper or RecurrentHyper()
        spiral = transform or Spiral(geometry, cells=CELLS, scaling="log", unit=UNIT)
        if not isinstance(spiral, Spiral) or spiral.scaling != "log":
            raise ModelError(
                "The recurrent network works on logarithms of slices; expected the transform "
                '"spiral" with scaling = "log".'
            )
        super().__init__(geometry, spiral, hyper)
        self.depth, self.cells, self.others = spiral.depth, spiral.cells, spiral.others
        self.dropout, self.likelihood = hyper.dropout, hyper.head == "likelihood"
        steps = self.depth + bool(self.others)
        self.embed = ConditionEmbedding(geometry, hyper.embedding)
        self.step, self.slice_index = nn.Embedding(steps, hyper.embedding), hyper.slice_index
        self.features = SliceFeatures(spiral.shape) if hyper.conv else None
        inputs = self.embed.size + hyper.embedding + SUMS * self.likelihood
        seen = self.cells + (self.features.size if self.features is not None else 0)
        self.recurrent = Recurrent(hyper.cell, seen + inputs, hyper.hidden, hyper.layers)
        self.total: EnergyDensity | None = None
        self.slice: MeanHead | DensityHead
        self.behind: MeanHead | DensityHead | None = None
        if self.likelihood:
            self._make_densities(hyper, inputs)
        else:
            self.slice = MeanHead(hyper.hidden, self.cells, spiral.unit)
            if self.others:
                self.behind = MeanHead(hyper.hidden, self.others, spiral.unit)
        self.settings = OptimiserSettings.of(hyper.optimiser)

    def _make_densities(self, hyper: RecurrentHyper, inputs: int) -> None:
        """The heads of the likelihood, with so many numbers from `inputs`."""
        width, components = hyper.width, hyper.components
        self.total = EnergyDensity(self.embed.size, width, components, TOTAL_START)
        sizes: dict[str, Any] = {
            "width": width,
            "components": components,
            "unit": self.transform.unit,
        }
        slices = DensityHead(
            hyper.hidden, inputs, self.cells, **sizes, images=IMAGES, start=SLICE_START
        )
        with torch.no_grad():
            # Means begin at an energy like that of the slice before, as a share of what is left.
            slices.energy.go_on.weight[:, 0] = 1 / LOG_SCALE
            slices.energy.go_on.weight[:, RECENT] = -1 / LOG_SCALE
        self.slice = slices
        if self.others:
            self.behind = DensityHead(
                hyper.hidden, inputs, self.others, **sizes, images=0, start=BEHIND_START
            )

    @property
    def noise_size(self) -> int:
        """Z: two for the energy of all slices, what the head needs for each, then for what is
        behind; 1, which is not looked at, where they need none.
        """
        behind = self.behind.noise if self.behind is not None else 0
        return max(2 * self.likelihood + self.depth * self.slice.noise + behind, 1)

    def phases(self) -> list[Phase]:
        """There is one phase: it trains the network."""
        return [Phase("network", list(self.parameters()), self.loss, 1, self.settings)]

    # --- what a step sees --------------------------------------------------------------------
    def seen(self, past: Past, rng: torch.Generator | None = None) -> Tensor:
        """The slice before and its features, (N, T, F); dropout where a generator is given."""
        parts = [past.last]
        if self.features is not None:
            images = past.last.reshape(-1, 1, *self.transform.shape)
            parts.append(self.features(images).reshape(*past.last.shape[:2], -1))
        return dropout(torch.cat(parts, dim=2), self.dropout, rng)

    def inputs(self, past: Past, condition: Tensor, steps: Tensor) -> Tensor:
        """With the likelihood the logarithms of `Past.sums` over the incident energy; then the
        embeddings of the condition and of `steps` (T,); (N, T, F).
        """
        shape = (condition.shape[0], len(steps), -1)
        # Times zero and not left out: the weights then have a gradient, which is zero.
        index = self.step(steps) if self.slice_index else 0 * self.step(steps)
        parts = [self.embed(condition)[:, None].expand(shape), index.expand(shape)]
        if self.likelihood:
            incident, least = self.incident(condition)[:, None], SMALLEST * self.transform.unit
            parts.insert(0, LOG_SCALE * ((past.sums + least) / incident).log())
        return torch.cat(parts, dim=2)

    def images(self, past: Past) -> Tensor:
        """Last slice and trail of every step as images, (N T, 2, H, W)."""
        both = torch.stack([past.last, past.trail], dim=2)
        return both.reshape(-1, IMAGES, *self.transform.shape)

    def begin(self, total: Tensor) -> Past:
        """The past of the first step: nothing, and all of `total` (N, 1) in MeV is left."""
        nothing = total.new_zeros(total.shape[0], 1, self.cells)
        left = total[:, None]
        return Past(nothing, nothing, torch.cat([nothing[..., :1]] * RECENT + [left, left], 2))

    def extend(self, past: Past, energies: Tensor) -> Past:
        """The past of the next step (T = 1) after a slice (N, n) in MeV."""
        logs = (energies / self.transform.unit).log1p()[:, None]
        energy = energies.sum(1, keepdim=True)[:, None]
        recent, left, total = torch.split(past.sums, [RECENT, 1, 1], 2)
        # What rounding leaves of a pool that is used up would differ from one engine to another.
        left = torch.where(left - energy > ROUNDING * total, left - energy, 0.0)
        sums = torch.cat([energy, recent[..., :-1], left, total], 2)
        return Past(logs, DECAY * (past.trail + logs), sums)

    def history(self, energies: Tensor) -> Past:
        """The past of every step 0 to D, from all slices (N, D, n) in MeV."""
        steps = [self.begin(energies.sum((1, 2))[:, None])]
        for k in range(self.depth):
            steps.append(self.extend(steps[-1], energies[:, k]))
        return Past(*(torch.cat(parts, 1) for parts in zip(*steps, strict=True)))

    # --- training ----------------------------------------------------------------------------
    def states(
        self, past: Past, condition: Tensor, rng: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the recurrent layers say at all steps when they are shown the true past (teacher
        forcing), (N, T, hidden), and their `inputs`, (N, T, F); with dropout where a generator is
        given.
        """
        steps = torch.arange(self.step.num_embeddings, device=condition.device)
        shown = Past(*(part[:, : len(steps)] for part in past))
        inputs = self.inputs(shown, condition, steps)
        x = torch.cat([self.seen(shown, rng), inputs], dim=2)
        h, _ = self.recurrent(x, self.recurrent.begin(len(condition)), self.dropout, rng)
        return dropout(h, self.dropout, rng), inputs

    def slices(self, energies: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Slices (N, D, n), row by row, and the other layers' cells (N, R), of showers (N, V);
        all in MeV.
        """
        x = self.transform(energies, condition).expm1() * self.transform.unit
        cells, behind = x.split([self.depth * self.cells, self.others], dim=1)
        return cells.reshape(-1, self.depth, self.cells)[..., self.transform.image], behind

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over slices of -log P(X_t | X_<t, M, P), or of the squared error."""
        cells, behind = self.slices(batch.energies, batch.condition)
        incident, past = self.incident(batch.condition), self.history(cells)
        h, inputs = self.states(past, batch.condition, rng if self.training else None)
        before = Past(*(part[:, : self.depth] for part in past))
        steps = Step(
            h[:, : self.depth].flatten(0, 1),
            inputs[:, : self.depth].flatten(0, 1),
            self.images(before),
            before.sums[..., RECENT].flatten()[:, None],
        )
        of_slices = self.slice.loss(steps, cells.flatten(0, 1))
        terms = {key: nll.reshape(-1, self.depth) for key, nll in of_slices.items()}
        if self.total is not None:
            all_of_them = past.sums[:, 0, -1:]
            share = (all_of_them / incident).clamp(min=LEAST_SHARE).log()[:, 0]
            density = self.total(self.embed(batch.condition))
            terms["total"] = density.nll(share, all_of_them[:, 0] > 0)[:, None]
            terms["energy"] = terms["energy"][:, :-1]  # the last slice takes what is left
        if self.behind is not None:
            last = self.behind.loss(Step(h[:, -1], inputs[:, -1], None, incident), behind)
            terms |= {f"behind_{key}": nll[:, None] for key, nll in last.items()}
        means = {key: nll.sum(1).mean() / self.depth for key, nll in terms.items()}
        total = torch.stack(list(means.values())).sum()
        return total, {key: value.detach() for key, value in means.items()}

    # --- free running ------------------------------------------------------------------------
    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See `ShowerModel.sample`: the network is fed its own slices.

        `context` (N, K, cells of a slice) in MeV are the first K slices of every shower, in the
        geometry's order; they are returned as they are, and the rest is generated: where they
        have more energy than was drawn for all slices, nothing is left for the others. Raises
        ConditionError for another shape.
        """
        count, given = condition.shape[0], self._given(condition, context)
        incident, total = self.incident(condition), given.sum((1, 2))[:, None]
        if self.total is not None:
            drawn, _ = self.total(self.embed(condition)).draw(noise[:, 0], noise[:, 1])
            total = torch.maximum(total, drawn[:, None].clamp(max=0.0).exp() * incident)
            noise = noise[:, 2:]
        past, state = self.begin(total), self.recurrent.begin(count)
        steps = torch.arange(self.step.num_embeddings, device=condition.device)
        split = self.depth * self.slice.noise
        draws, rest = noise[:, :split].reshape(count, self.depth, -1), noise[:, split:]
        slices = []
        for k in range(len(steps)):
            inputs = self.inputs(past, condition, steps[k : k + 1])
            h, state = self.recurrent(torch.cat([self.seen(past), inputs], dim=2), state)
            if k == self.depth and self.behind is not None:
                step = Step(h[:, 0], inputs[:, 0], None, incident)
                slices.append(self.behind.draw(step, rest, whole=False))
                break
            if k < given.shape[1]:
                energies = given[:, k]
            else:
                images, left = self.images(past), past.sums[:, 0, RECENT : RECENT + 1]
                step = Step(h[:, 0], inputs[:, 0], images, left)
                energies = self.slice.draw(step, draws[:, k], whole=k == self.depth - 1)
            past = self.extend(past, energies)
            slices.append(energies[:, self.transform.rolled])
        logs = (torch.cat(slices, 1) / self.transform.unit).log1p()
        showers = self.transform.inverse(logs, condition)
        if context is None:
            return showers
        return self.transform.put_slices(showers, context)

    def _given(self, condition: Tensor, context: Tensor | None) -> Tensor:
        """The kept cells of the slices that are given, (N, K, n), row by row."""
        if context is None:
            return condition.new_zeros(condition.shape[0], 0, self.cells)
        size = self.transform.slice_cells
        if context.ndim != 3 or context.shape[::2] != (len(condition), size):
            raise ConditionError(
                f"Got a context of shape {tuple(context.shape)}; expected the first K slices of "
                f"every shower, ({len(condition)}, K, {size}) in MeV."
            )
        if context.shape[1] > self.depth:
            raise ConditionError(
                f"Got a context of {context.shape[1]} slices; expected {self.depth} at most."
            )
        return context[..., self.transform.kept][..., self.transform.image]
