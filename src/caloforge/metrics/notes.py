"""What metrics keep beside their values: how they were made, and what a page draws of them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.optional import OPTIONAL
from caloforge.metrics.protocol import Protocol

Array = NDArray[Any]
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class ClassifierNotes:
    """Showers of each sample that trained and judged a classifier, and its settings."""

    n_train: int
    n_held_out: int
    repeats: int
    protocol: Protocol


@dataclass(frozen=True)
class AucOfSize:
    """A boosted AUC, its error, and the number of showers of each sample it was made with."""

    value: float
    error: float | None
    n: int


@dataclass(frozen=True)
class Auc:
    """An AUC and its error."""

    value: float
    error: float


@dataclass(frozen=True)
class Giveaway:
    """AUC of boosted trees that see one feature, `name`, together with the conditions."""

    name: str
    value: float
    error: float


@dataclass(frozen=True)
class BoostedNotes:
    """Where the boosted AUC comes from.

    Parameters
    ----------
    curve
        The AUC with a quarter, a half and all of the showers, as far as they are enough.
    conditions
        The AUC of the conditions alone: 0.5 where both samples have the same ones.
    features
        The ten features that give the generator away most, the largest AUC first.
    """

    curve: tuple[AucOfSize, ...]
    conditions: Auc
    features: tuple[Giveaway, ...]


@dataclass(frozen=True)
class PRDCurve:
    """Recall and precision, (101,) each, along the curve over clusters of showers."""

    recall: Vector
    precision: Vector


@dataclass(frozen=True)
class LayerCorrelations:
    """Correlations of the layers' shares of the incident energy, in both samples.

    Parameters
    ----------
    layers
        Identities of the L layers.
    reference, generated
        Correlation of each pair of different layers, L (L - 1) / 2 numbers: of the first layer
        with all later ones, of the second, and so on.
    """

    layers: tuple[int, ...]
    reference: tuple[float, ...]
    generated: tuple[float, ...]

    def matrices(self) -> tuple[Array, Array]:
        """The correlation matrices (L, L) of the reference and of the generated showers."""
        result = []
        for values in (self.reference, self.generated):
            matrix = np.eye(len(self.layers))
            rows, columns = np.triu_indices(len(matrix), 1)
            matrix[rows, columns] = matrix[columns, rows] = values
            result.append(matrix)
        return result[0], result[1]


@dataclass(frozen=True)
class Memorising:
    """Whether generated showers are nearer to the training showers than fresh Geant4 ones are.

    Parameters
    ----------
    closer, closer_error
        P(distance of a generated shower < that of a held-out one), ties half (Mann-Whitney AUC):
        0.5 without memorising, 1 for copies.
    ratio
        Median of the generated distances, each over the median held-out distance of its slice.
    close, close_expected
        Share of generated showers closer than the nearest 1 % of the held-out ones, and what it
        is without memorising.
    close_error, close_expected_error
        Their standard deviations: by the generated showers, and by the held-out ones that set
        what is near.
    copied, copied_error
        Excess of generated showers whose nearest Geant4 shower is a training one and not a
        held-out one: 0 without memorising whatever the spread of the generator, 1 for copies. The
        error is that of 0.
    generated, held_out
        Distance of each generated (G,) and held-out (H,) shower to its nearest training shower;
        infinite where its slice has none.
    used
        Labels of the slices that entered, such as incident energies in MeV.
    """

    closer: float
    closer_error: float
    ratio: float
    close: float
    close_expected: float
    copied: float
    copied_error: float
    generated: Vector
    held_out: Vector
    used: tuple[float, ...]
    close_error: float | None = field(default=None, metadata=OPTIONAL)
    close_expected_error: float | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Realised:
    """How one sample realises an attribute, from `n` showers: each value with its standard error.

    The bias is the mean of regressed minus requested, the spread the half width of the central
    68.3 % of it, and the slope that of regressed against requested.
    """

    bias: tuple[float, float]
    spread: tuple[float, float]
    slope: tuple[float, float]
    n: int


@dataclass(frozen=True)
class AttributeValues:
    """One attribute: Geant4's held-out showers beside the judged ones.

    Parameters
    ----------
    name, label, unit
        Name, label and unit of the condition, as in `attributes.Attribute`.
    power
        Share of the variance that the regressor explains for held-out Geant4 showers.
    reference, judged
        Values over all energies.
    at
        Energy point (or median of a slice) in MeV -> the same of both, in that order.
    tenths
        The same in tenths of a spectrum, fewer where they would hold less than 50 showers of the
        reference; for energy points as `at`.
    profile
        Empty for an angle; else `requested` (B,), means and standard deviations `reference_mean`,
        `reference_std`, `judged_mean`, `judged_std` (B,) of the regressed value in tenths of the
        reference (energies in MeV).
    """

    name: str
    label: str
    unit: str
    power: float
    reference: Realised
    judged: Realised
    at: dict[float, tuple[Realised, Realised]]
    tenths: dict[float, tuple[Realised, Realised]]
    profile: dict[str, Vector] = field(default_factory=dict)


@dataclass(frozen=True)
class Notes:
    """Everything the metrics of one pair of samples keep beside their values.

    Parameters
    ----------
    effort
        Name of the effort, "fast" or "full"; empty where one observable at a time was looked at.
    warnings
        Sentences: what was left out and why.
    reduced
        Keys of the metrics that were made with fewer showers than the published rule asks for.
    classifier
        Input of a network classifier -> how it was trained.
    boosted
        Where the boosted AUC comes from.
    prd
        "raw" (cells) and "physics" (observables) -> precision against recall.
    memorising
        Distances to the training showers.
    attributes
        Name of a condition -> how well it is realised.
    correlations
        Correlations of the layers' energies; None for fewer than two layers.
    """

    effort: str = ""
    warnings: tuple[str, ...] = ()
    reduced: tuple[str, ...] = ()
    classifier: dict[str, ClassifierNotes] = field(default_factory=dict)
    boosted: BoostedNotes | None = None
    prd: dict[str, PRDCurve] = field(default_factory=dict)
    memorising: Memorising | None = None
    attributes: dict[str, AttributeValues] = field(default_factory=dict)
    correlations: LayerCorrelations | None = None

    def __or__(self, other: Notes) -> Notes:
        """Notes of two metrics together: lists are joined, single notes are the latter's."""
        joined: dict[str, Any] = {}
        for this in fields(self):
            first, second = getattr(self, this.name), getattr(other, this.name)
            if isinstance(first, tuple):
                joined[this.name] = first + second
            elif isinstance(first, dict):
                joined[this.name] = first | second
            else:
                joined[this.name] = second or first
        return Notes(**joined)
