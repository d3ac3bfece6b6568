"""Recurrent network over the slices of a calorimeter: each slice is predicted from those before.

Reference: C. Guthrie, I. Malkin, A. Pine, "Generative Models for High Energy Physics
Calorimeters", New York University (section "Recurrent Neural Net").

Differs from the paper:
- `head = "l2"` is the paper's: the mean logarithm of every cell by least squares. It predicts the
  mean shower, as the paper found, whatever the noise. `head = "likelihood"` is the cure: a mixture
  density of the slice's energy given all slices before, then densities of its cells, which share
  that energy; both are zero-inflated and trained by maximum likelihood.
- `trails` and `sums` are ours, off by default: a convolution that tells every cell what was there
  and beside it in the slices before; and the energies of the last slice and of all so far as
  inputs.
- Layers behind the slices (the HCAL of `lcd`) are one last step with a head of its own, where the
  transform keeps them; the paper has the ECAL alone.
- What the paper leaves open is ours: dropout 0.2 on what enters and leaves the network, Adam.

Shapes: condition (N, C); x (N, D, n) + (N, R) from the spiral transform; one step sees x of the
slice before (n), the embeddings of the categories, of the other conditions and of the step (10
each), the convolution's features and the sums; noise (N, D (2 + n)) + (N, 2 + R) where R > 0.

Example
-------
>>> import torch
>>> from caloforge.geometry import load_geometry
>>> from caloforge.models.base import parameter_count
>>> model = RecurrentNetwork(load_geometry("lcd"), head="l2")  # 25 slices of 20 x 20 cells
>>> parameter_count(model)  # the paper: approximately 5 million
4264690
>>> condition = torch.tensor([[0.0, 100e3], [1.0, 50e3]])  # a photon and a neutral pion
>>> model.sample(condition, torch.zeros(2, model.noise_size)).shape
torch.Size([2, 16585])
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from caloforge.errors import ConditionError, ModelError
from caloforge.geometry import Geometry
from caloforge.models.base import Batch, OptimiserSettings, Phase, Refusal, ShowerModel
from caloforge.nn.conditions import ConditionEmbedding
from caloforge.nn.recurrent import Recurrent, dropout
from caloforge.nn.slices import DensityHead, MeanHead
from caloforge.transforms import Spiral, Transform

CELLS, UNIT = 400, 0.1  # of a spiral that a model makes for itself: 20 x 20 cells; MeV
SUMS = 2  # numbers that `sums` adds to the inputs
DECAY = 0.5  # of the trail: a slice counts half as much as the one behind it


class Past(NamedTuple):
    """What each of T steps knows of the slices before it, cells row by row: the last slice and
    the trail of all, (N, T, n) as logarithms; the energy of the last and of all, (N, T, 1) in MeV.
    """

    last: Tensor
    trail: Tensor
    energy: Tensor
    so_far: Tensor


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


class RecurrentNetwork(ShowerModel):
    """LSTM or GRU that predicts slice after slice.

    Parameters
    ----------
    head
        "l2" (the paper's) or "likelihood".
    cell, hidden, layers
        Kind, width and number of the recurrent layers.
    embedding
        Numbers that each category, the other conditions and the step are embedded in.
    dropout
        Share of the numbers entering and leaving the layers that is set to zero while training.
    conv
        Whether `SliceFeatures` of the slice before are among the inputs.
    sums
        Whether the energies of the slice before and of all so far are.
    trails
        Channels of the convolution over the last slice and the trail; 0: none ("likelihood").
    components, width
        Gaussians of a slice's energy, and hidden numbers of the heads ("likelihood").
    energy_weight
        Weight of the slices' energies in the loss; 1 is the likelihood ("likelihood").
    optimiser
        See `OptimiserSettings`.

    Raises ModelError for a transform that is not a spiral of logarithms.
    """

    default_transform = "spiral"
    not_dense = "is recurrent: it is fed its own slices"
    transform: Spiral

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        *,
        head: Literal["l2", "likelihood"] = "likelihood",
        cell: Literal["lstm", "gru"] = "lstm",
        hidden: PositiveInt = 800,
        layers: PositiveInt = 1,
        embedding: PositiveInt = 10,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
        conv: bool = False,
        sums: bool = False,
        trails: NonNegativeInt = 0,
        components: PositiveInt = 4,
        width: PositiveInt = 64,
        energy_weight: NonNegativeFloat = 1.0,
        optimiser: dict[str, Any] | None = None,
    ) -> None:
        optimiser = optimiser or {"name": "adam", "lr": 1e-3}
        hyper = {
            k: v
            for k, v in locals().items()
            if k not in ("self", "geometry", "transform", "__class__")
        }
        spiral = transform or Spiral(geometry, cells=CELLS, scaling="log", unit=UNIT)
        if not isinstance(spiral, Spiral) or spiral.scaling != "log":
            raise ModelError(
                "The recurrent network works on logarithms of slices; expected the transform "
                '"spiral" with scaling = "log".'
            )
        super().__init__(geometry, spiral, hyper)
        self.depth, self.cells, self.others = spiral.depth, spiral.cells, spiral.others
        self.dropout, self.sums, self.energy_weight = dropout, sums, energy_weight
        steps = self.depth + bool(self.others)
        self.embed, self.step = (
            ConditionEmbedding(geometry, embedding),
            nn.Embedding(steps, embedding),
        )
        self.features = SliceFeatures(spiral.shape) if conv else None
        inputs = self.cells + self.embed.size + embedding + SUMS * sums
        inputs += self.features.size if self.features is not None else 0
        self.recurrent = Recurrent(cell, inputs, hidden, layers)
        self.trails = trails > 0 and head == "likelihood"

        def make(cells: int, channels: int = 0) -> MeanHead | DensityHead:
            if head == "l2":
                return MeanHead(hidden, cells, spiral.unit)
            sizes = {"width": width, "components": components}
            return DensityHead(hidden, cells, **sizes, trails=2, channels=channels)

        self.slice = make(self.cells, trails)
        self.behind = make(self.others) if self.others else None
        self.settings = OptimiserSettings.of(optimiser)

    @property
    def noise_size(self) -> int:
        """Z: what the heads need for each slice, then for what is behind; 1, which is not looked
        at, where they need none.
        """
        behind = self.behind.noise if self.behind is not None else 0
        return max(self.depth * self.slice.noise + behind, 1)

    def core(self) -> Refusal:
        """Unrolled over 24 slices the smallest of these networks has 14 000 nodes in ONNX."""
        return Refusal(
            f"unrolled over its {self.depth} slices it is a graph of more than ten thousand "
            "nodes, which takes the ONNX exporter many minutes; generate with PyTorch."
        )

    def phases(self) -> list[Phase]:
        """One: the network."""
        return [Phase("network", list(self.parameters()), self.loss, 1, self.settings)]

    # --- what a step sees --------------------------------------------------------------------
    def inputs(self, past: Past, embedded: Tensor, incident: Tensor, steps: Tensor) -> Tensor:
        """Inputs of the recurrent layers at `steps` (T,), (N, T, inputs)."""
        count, shape = embedded.shape[0], self.transform.shape
        parts = [
            past.last,
            embedded[:, None].expand(-1, len(steps), -1),
            self.step(steps).expand(count, -1, -1),
        ]
        if self.features is not None:
            images = past.last.reshape(-1, 1, *shape)
            parts.append(self.features(images).reshape(count, len(steps), -1))
        if self.sums:
            unit, log_incident = self.transform.unit, incident[:, None].log()
            for energy in (past.energy, past.so_far):
                parts.append(0.2 * ((energy + unit).log() - log_incident))
        return torch.cat(parts, dim=2)

    def images(self, past: Past) -> Tensor | None:
        """Last slice and trail of every step as images (N T, 2, H, W)."""
        if not self.trails:
            return None
        both = torch.stack([past.last, past.trail], dim=2)
        return both.reshape(-1, 2, *self.transform.shape)

    def history(self, energies: Tensor) -> Past:
        """The past of every step 0 to D, from all slices (N, D, n) in MeV."""
        logs = (energies / self.transform.unit).log1p()
        trail = [torch.zeros_like(logs[:, 0])]
        for k in range(self.depth):
            trail.append(DECAY * (trail[-1] + logs[:, k]))
        total = energies.sum(2, keepdim=True)
        none = [torch.zeros_like(part[:, :1]) for part in (logs, total)]
        return Past(
            torch.cat([none[0], logs], 1),
            torch.stack(trail, 1),
            torch.cat([none[1], total], 1),
            torch.cat([none[1], total.cumsum(1)], 1),
        )

    def extend(self, past: Past, energies: Tensor) -> Past:
        """The past of the next step (T = 1) after a slice (N, n) in MeV."""
        logs = (energies / self.transform.unit).log1p()[:, None]
        total = energies.sum(1, keepdim=True)[:, None]
        return Past(logs, DECAY * (past.trail + logs), total, past.so_far + total)

    # --- training ----------------------------------------------------------------------------
    def states(self, past: Past, condition: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """What the recurrent layers say at all steps when they are shown the true past (teacher
        forcing), (N, T, hidden); with dropout where a generator is given.
        """
        steps = torch.arange(self.step.num_embeddings, device=condition.device)
        shown = Past(*(part[:, : len(steps)] for part in past))
        x = self.inputs(shown, self.embed(condition), self.incident(condition), steps)
        state = self.recurrent.begin(len(condition))
        h, _ = self.recurrent(dropout(x, self.dropout, rng), state, self.dropout, rng)
        return dropout(h, self.dropout, rng)

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
        incident = self.incident(batch.condition)
        past = self.history(cells)
        h = self.states(past, batch.condition, rng if self.training else None)
        seen = Past(*(part[:, : self.depth] for part in past))
        terms = self.slice.loss(
            h[:, : self.depth].flatten(0, 1),
            self.images(seen),
            cells.flatten(0, 1),
            incident.repeat_interleave(self.depth, 0),
        )
        if self.behind is not None:
            last = self.behind.loss(h[:, -1], None, behind, incident)
            terms |= {f"behind_{key}": value / self.depth for key, value in last.items()}
        weights = {key: self.energy_weight if "energy" in key else 1.0 for key in terms}
        total = torch.stack([weights[key] * value for key, value in terms.items()]).sum()
        return total, {key: value.detach() for key, value in terms.items()}

    # --- free running ------------------------------------------------------------------------
    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See `ShowerModel.sample`: the network is fed its own slices.

        `context` (N, K, cells of a slice) in MeV are the first K slices of every shower, in the
        geometry's order; they are returned as they are, and the rest is generated. Raises
        ConditionError for another shape.
        """
        count, given = condition.shape[0], self._given(condition, context)
        embedded, incident = self.embed(condition), self.incident(condition)
        state = self.recurrent.begin(count)
        past = Past(
            *(condition.new_zeros(count, 1, size) for size in (self.cells, self.cells, 1, 1))
        )
        steps = torch.arange(self.step.num_embeddings, device=condition.device)
        draws = noise[:, : self.depth * self.slice.noise].reshape(count, self.depth, -1)
        made = []
        for k in range(self.depth):
            x = self.inputs(past, embedded, incident, steps[k : k + 1])
            h, state = self.recurrent(x, state)
            if k < given.shape[1]:
                energies = given[:, k]
            else:
                energies = self.slice.draw(h[:, 0], self.images(past), draws[:, k], incident)
            past = self.extend(past, energies)
            made.append(energies[:, self.transform.rolled])
        if self.behind is not None:
            x = self.inputs(past, embedded, incident, steps[-1:])
            h, _ = self.recurrent(x, state)
            rest = noise[:, self.depth * self.slice.noise :]
            made.append(self.behind.draw(h[:, 0], None, rest, incident))
        logs = (torch.cat(made, 1) / self.transform.unit).log1p()
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
