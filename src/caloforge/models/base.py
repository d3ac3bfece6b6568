"""The contract every model keeps: a shower is a deterministic function of its condition and its
noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.models.hyper import Hyper, OptimiserSettings
from caloforge.nn.dense_core import DenseCore, Variable
from caloforge.transforms import IncidentEnergy, IncidentFraction, Transform


class Batch(NamedTuple):
    """One batch of training showers: energies (B, V) in MeV and conditions (B, C) in physical
    units.
    """

    energies: Tensor
    condition: Tensor


Loss = Callable[[Batch, torch.Generator], tuple[Tensor, dict[str, Tensor]]]
Source = Literal["next", "last", "step", "all"]


@dataclass(frozen=True)
class Phase:
    """One player's turn in a training step: `repeats` optimiser updates of `parameters` on `loss`.

    `loss(batch, rng)` returns the scalar to minimise and numbers to log; every random number comes
    from `rng`.

    `source` says which showers an update is given: "next" of the shuffled training set; the "last"
    batch of the phases before it in this step; as many drawn from that step's batches ("step") or
    from the whole training set ("all"). `rates` are learning rates of the parameters, one each,
    where they differ from the optimiser's. `span` is the part of the training's steps in which it
    takes turns; its learning rate rises from zero over the first `rise` of that span, and falls
    to zero over the last `fade`.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Loss
    repeats: int = 1
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    source: Source = "next"
    rates: tuple[float, ...] = ()
    span: tuple[float, float] = (0.0, 1.0)
    rise: float = 0.0
    fade: float = 0.0

    @property
    def planned(self) -> bool:
        """Whether what it does in a step depends on how many steps the training has."""
        return self.span != (0.0, 1.0) or self.rise > 0 or self.fade > 0


@dataclass(frozen=True)
class Fit:
    """A turn that is taken once: `fit(showers, rng)` sets buffers of the model from the training
    showers, and returns numbers to log; every random number comes from `rng`.

    `showers` can be walked through as often as needed; each walk gives every training shower once,
    batch by batch in the same order, not augmented. The turn comes before the first update of any
    phase, or when `at` of the training's steps are done. A model with fits alone is trained in one
    step.
    """

    name: str
    fit: Callable[[Iterable[Batch], torch.Generator], dict[str, float]]
    at: float = 0.0

    @property
    def planned(self) -> bool:
        """Whether its step depends on how many steps the training has."""
        return self.at > 0


@dataclass(frozen=True)
class Refusal:
    """Why a model cannot be exported."""

    reason: str


@dataclass(frozen=True)
class EnergyRange:
    """A part of a model that is responsible for (and trained on) showers with low <= incident
    energy <= high, in MeV.
    """

    low: float
    high: float
    model: ShowerModel


class ShowerModel(nn.Module):
    """A model of p(shower given condition).

    Subclasses are made as `Model(geometry, transform=None, hyper=None)`. Without a transform a
    model makes one that needs no fit, without hyper-parameters it takes the defaults of its
    `hyper_class`; both are kept as attributes.
    """

    # The class of its hyper-parameters.
    hyper_class: ClassVar[type[Hyper]] = Hyper
    # Sub-modules that only training needs: they are left out of the model file.
    training_only: ClassVar[tuple[str, ...]] = ()
    # Why it is no DenseCore, to follow "it"; for a model that has none.
    not_dense: ClassVar[str] = "is more than dense layers on noise and condition"
    # The transform fitted to the training showers when a recipe names none.
    default_transform: ClassVar[str] = "incident-fraction"

    geometry: Geometry
    transform: Transform
    hyper: Hyper

    def __init__(self, geometry: Geometry, transform: Transform, hyper: Hyper) -> None:
        super().__init__()
        self.geometry = geometry
        self.transform = transform
        self.hyper = hyper
        self.incident = IncidentEnergy(geometry)

    @property
    def noise_size(self) -> int:
        """Z: how many standard-normal numbers one shower needs."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the model is: of its first parameter, or of its first buffer if it has none."""
        return next(chain(self.parameters(), self.buffers())).device

    def phases(self) -> Sequence[Phase | Fit]:
        """How the model is trained: fits once, then the phases in the order of one step."""
        raise NotImplementedError

    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """Showers in MeV, (N, V), finite and >= 0.

        Several threads call it at once: in evaluation mode it must not change the model. Dense
        layers may have been replaced by faster ones (`caloforge.fast.packed`), so they are called
        and their weights are not looked at.

        Parameters
        ----------
        condition
            Conditions (N, C) in physical units, with the columns of the geometry.
        noise
            Standard-normal numbers (N, Z).
        context
            Leading slices to continue from; only sequence models take it.
        """
        raise NotImplementedError

    def core(self) -> nn.Module | Refusal:
        """The module to export, forward(noise (N, Z), condition (N, C)) -> MeV (N, V), or a
        refusal with its reason.
        """
        return Sampler(self)

    def dense_core(self) -> DenseCore | Refusal:
        """The dense layers that the model consists of, for formats that know no others, or why
        there are none.
        """
        return Refusal(f"it {self.not_dense}.")

    def energy_ranges(self) -> list[EnergyRange]:
        """The parts that are trained on ranges of incident energy; one part over everything unless
        a model is split.
        """
        return [EnergyRange(0.0, float("inf"), self)]

    def generator_state(self) -> dict[str, Tensor]:
        """What a model file holds: the state without the parts that only training needs."""
        dropped = tuple(f"{name}." for name in self.training_only)
        return {
            key: value
            for key, value in self.state_dict().items()
            if not any(key.startswith(d) or f".{d}" in key for d in dropped)
        }


class Sampler(nn.Module):
    """A model's `sample` as a plain module: forward(noise, condition) -> MeV."""

    def __init__(self, model: ShowerModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Showers (N, V) in MeV."""
        return self.model.sample(condition, noise)


def fractions_core(
    network: nn.Sequential,
    latent: int,
    variables: Sequence[Variable],
    transform: Transform,
    *,
    noise: tuple[float, float] = (0.0, 1.0),
) -> DenseCore | Refusal:
    """The DenseCore of a network from `latent` noise numbers, taken as (z + noise[0]) * noise[1],
    and variables of the condition to the cells' fractions of the incident energy; a refusal where
    the transform does more.
    """
    plain = isinstance(transform, IncidentFraction) and transform.low_cut == 0
    if not plain or getattr(transform, "energy_scale", False):
        return Refusal("its transform does more than multiply by the incident energy.")
    return DenseCore(
        network,
        latent,
        tuple(variables),
        tuple(map(str, range(transform.size()))),
        "energy of each cell as a fraction of the incident energy; below 0 counts as 0",
        lambda outputs, _, condition: transform.inverse(outputs, condition),
        *noise,
        fractions=True,
    )


def parameter_count(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
