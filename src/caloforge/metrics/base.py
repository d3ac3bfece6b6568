"""What a metric is: its line in the table, what it is given, and what it gives back.

A metric is a function of a `Case`, two samples of showers as arrays, that returns `Measurements`.
Its `Metric` says everything else there is to know of it, once: how it is called, which way is
worse, whether it enters the mean rank. `caloforge.metrics.table` holds one line for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry
from caloforge.metrics.effort import Effort
from caloforge.metrics.notes import Notes
from caloforge.metrics.optional import OPTIONAL

Array = NDArray[Any]

SMALL_SQUARE = 0.01  # the square of a distance, below which it counts itself
FEWEST_PER_ENERGY = 50  # showers of both samples for most metrics at one energy


@dataclass(frozen=True)
class Value:
    """Value of a metric, its standard deviation, its floor, the number of generated showers that
    entered, and the standard deviation of the floor of one sample; None where it is not known.
    """

    value: float
    error: float | None
    floor: float | None
    n: int
    floor_error: float | None = field(default=None, metadata=OPTIONAL)

    @property
    def joint_error(self) -> float | None:
        """Standard deviation of the value less its floor; None where neither is known."""
        known = [e for e in (self.error, self.floor_error) if e is not None]
        return math.hypot(*known) if known else None


class Measured(NamedTuple):
    """What a metric returns: value, standard deviation, generated showers that entered.

    `floor`, with its standard deviation, is given only where the metric knows it by itself; else
    the floor is the same metric of two samples of the reference simulation.
    """

    value: float
    error: float | None
    n: int
    floor: float | None = None
    floor_error: float | None = None


# --- what a metric is given ----------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Arrays:
    """N showers of C conditions and V cells as arrays; cells below the geometry's cut are zero.

    Parameters
    ----------
    geometry
        The read-out.
    conditions, incident
        Conditions (N, C) and incident energies (N,), in MeV, mm and rad.
    observables
        Key of an observable -> its values, (N,) float64.
    groups
        Incident energy in MeV of the energy point, or of the slice of the reference's spectrum,
        that a shower belongs to, (N,); NaN for none.
    scan
        Whether the incident energies are a few points and no spectrum.
    cells, cell_rows
        Cell energies (K, V) in MeV of the showers that were kept whole, and their rows (K,) among
        the N, increasing.
    voxel_edges
        Edges (B + 1,) in MeV of the distribution of all cell energies.
    voxels
        Numbers of cells of each shower in those bins, with under- and overflow, (N, B + 2).
    particles
        Names of the incident particles.
    """

    geometry: Geometry
    conditions: Array
    incident: Array
    observables: Mapping[str, Array]
    groups: Array
    scan: bool
    cells: Array
    cell_rows: Array
    voxel_edges: Array
    voxels: Array
    particles: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Sample:
    """Some of the showers of a set: the whole, a half, or a choice.

    Parameters
    ----------
    all
        The set they are taken from.
    rows
        Which of its showers, (n,).
    """

    all: Arrays
    rows: Array

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def geometry(self) -> Geometry:
        """The read-out."""
        return self.all.geometry

    def values(self, key: str) -> Array:
        """An observable, (n,)."""
        return self.all.observables[key][self.rows]

    @property
    def observables(self) -> dict[str, Array]:
        """All observables, key -> (n,)."""
        return {key: values[self.rows] for key, values in self.all.observables.items()}

    @property
    def voxels(self) -> Array:
        """Numbers of cells of each shower in the bins of the voxel distribution, (n, B + 2)."""
        return self.all.voxels[self.rows]

    @property
    def incident(self) -> Array:
        """Incident energies in MeV, (n,)."""
        return self.all.incident[self.rows]

    @property
    def conditions(self) -> Array:
        """Conditions, (n, C)."""
        return self.all.conditions[self.rows]

    @property
    def groups(self) -> Array:
        """Energy point or slice that each shower belongs to, (n,) in MeV; NaN for none."""
        return self.all.groups[self.rows]

    @property
    def cells(self) -> Array:
        """Energies of all cells after the cut, (n, V) in MeV; only of samples by `with_cells`."""
        return self.all.cells[np.searchsorted(self.all.cell_rows, self.rows)]

    def with_cells(self) -> Sample:
        """Those of the showers that were kept whole, in their order."""
        return replace(self, rows=self.rows[np.isin(self.rows, self.all.cell_rows)])

    def part(self, n: int, seed: int) -> Sample:
        """`n` showers chosen at random with the mixture of energies kept, or all of them."""
        if n >= len(self):
            return self
        order = self.mixed(seed)
        return replace(self, rows=order[np.arange(n) * len(order) // n])

    def mixed(self, seed: int) -> Array:
        """The rows in random order; those of a scan ordered by incident energy first.

        Neighbours of a spectrum would be more alike than two independent samples are.
        """
        random = np.random.default_rng(seed).random(len(self))
        energy = self.incident if self.all.scan else np.zeros(len(self))
        return self.rows[np.lexsort((random, energy))]


@dataclass(frozen=True, eq=False)
class Case:
    """What a metric is given: two samples to compare, and how much work to do.

    Parameters
    ----------
    reference, generated
        The samples. `reference.all` sets the edges of histograms.
    effort
        How much work to do; None for the metrics that look at one observable at a time.
    seed
        Seed of every random choice.
    device
        Device of torch: "auto", "cpu" or "cuda".
    other
        A third sample, for the metrics that need it (`Metric.needs`): the training showers, or
        further showers of the reference simulation.
    closely
        Whether to keep notes on where a difference comes from, which takes more work.
    values_only
        Whether nothing but values is asked for: errors that take work may be left out.
    tell
        It is called with each step.
    """

    reference: Sample
    generated: Sample
    effort: Effort | None = None
    seed: int = 0
    device: str = "auto"
    other: Sample | None = None
    closely: bool = False
    values_only: bool = False
    tell: Callable[[str], None] = lambda what: None

    @property
    def geometry(self) -> Geometry:
        """The read-out of both samples."""
        return self.reference.geometry

    @property
    def samples(self) -> tuple[Sample, Sample]:
        """The reference and the generated sample."""
        return self.reference, self.generated

    def cut(self, most: int | None) -> Case:
        """Both samples cut to one size by a seeded choice, and to `most` showers of each."""
        n = min(len(self.reference), len(self.generated))
        n = n if most is None else min(n, most)
        first, second = (sample.part(n, self.seed) for sample in self.samples)
        return replace(self, reference=first, generated=second)

    def for_networks(self) -> Case:
        """The showers that network classifiers see: those kept whole, cut as the effort says."""
        first, second = (sample.with_cells() for sample in self.samples)
        most = None if self.effort is None else self.effort.protocol.most
        return replace(self, reference=first, generated=second).cut(most)

    def for_neighbours(self) -> Case:
        """The showers that enter metrics of distances between cells, and boosted trees."""
        return self.for_networks().cut(None if self.effort is None else self.effort.neighbours)

    def energies(self, fewest: int = FEWEST_PER_ENERGY) -> Iterator[tuple[float, Array, Array]]:
        """Energy in MeV and rows (n,), (m,) of both samples, for so many showers in both."""
        first, second = (sample.groups for sample in self.samples)
        for energy in np.intersect1d(first[~np.isnan(first)], second).tolist():
            rows = np.flatnonzero(first == energy), np.flatnonzero(second == energy)
            if min(map(len, rows)) >= fewest:
                yield energy, *rows


# --- what a metric gives back --------------------------------------------------------------------
@dataclass(frozen=True)
class Measurements:
    """Metrics of two samples over all energies, and at each energy in MeV, and notes on them."""

    total: Mapping[str, Measured] = field(default_factory=dict)
    at: Mapping[float, Mapping[str, Measured]] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)


def joined(parts: Iterable[Measurements]) -> Measurements:
    """The measurements of several metrics together."""
    total: dict[str, Measured] = {}
    at: dict[float, dict[str, Measured]] = {}
    notes = Notes()
    for part in parts:
        total |= part.total
        for energy, figures in part.at.items():
            at.setdefault(energy, {}).update(figures)
        notes |= part.notes
    return Measurements(total, at, notes)


# --- the line of a metric ------------------------------------------------------------------------
Compute = Callable[[Case], Measurements]
Way = Literal["multiple", "share", "both sides", "none"]
Apart = Literal["difference", "excess", "root"]
Needs = Literal["observables", "effort", "training", "second reference"]


@dataclass(frozen=True)
class Metric:
    """One line of the table of metrics.

    Parameters
    ----------
    key
        Key in results.json. One that ends in "/" stands for a family: one value for each
        observable (or condition), whose key follows.
    name
        Name as shown, with the scale.
    meaning
        One sentence on what it says.
    compute
        The function of a `Case` that gives the values. Metrics that share a function are
        computed together, once.
    source
        Where it comes from: a paper with its arXiv number and equation.
    scale
        Factor by which it is multiplied in tables, such as 1000.
    way
        How it is read beside its floor. "multiple": as a multiple of the floor; "share": as the
        share of the way from the floor to `worst`; "both sides": by how far it is off the floor,
        up or down, relative to it; "none": not at all.
    ideal, worst
        Values of samples that are the same, and of samples that have nothing in common.
    apart
        How a distance is made of a "share". "difference": |value - ideal|; "excess": of value -
        ideal only what is above 0; "root": the square root of the value, which near 0 becomes
        the value itself, so that chance is not made large.
    alike
        What same samples give, in words, where `ideal` is not it for samples of finite size.
    needs
        When it is computed. "observables": always; "effort": when an effort was chosen, because
        it looks at all features or cells together; "training": when the training showers are
        given, as `Case.other`; "second reference": with an effort, on further showers of the
        reference simulation, `Case.other`.
    rank
        Whether it enters the mean rank of several generators; a family enters with its mean.
    column
        Whether it has a column in the leaderboard's table of all features together.
    leading
        Whether it has a row in the leaderboard of the page.
    short
        Name of a family's mean in a sentence; by default `name`.
    together
        Name, in warnings, of all that its function computes; by default `name`.
    """

    key: str
    name: str
    meaning: str
    compute: Compute
    source: str = ""
    scale: float = 1.0
    way: Way = "multiple"
    ideal: float = 0.0
    worst: float = math.inf
    apart: Apart = "difference"
    alike: str = ""
    needs: Needs = "effort"
    rank: bool = False
    column: bool = False
    leading: bool = False
    short: str = ""
    together: str = ""

    @property
    def family(self) -> bool:
        """Whether it has one value for each observable."""
        return self.key.endswith("/")

    def covers(self, key: str) -> bool:
        """Whether a key of results.json is its own or one of its family."""
        return key.startswith(self.key) if self.family else key == self.key

    def limited(self, value: float) -> float:
        """The value itself, but 0 for an estimated divergence that came out negative.

        Calibrated scores give a lower bound, which few showers take far below the 0 that is
        known to be a lower bound as well.
        """
        return max(value, 0.0) if self.way == "share" and self.apart == "root" else value

    def distance(self, value: float, floor: float | None = None) -> float:
        """How bad a value is, on a scale of its own: 0 for the same samples, larger is worse."""
        if self.way == "both sides":
            return abs(value - (1.0 if floor is None else floor))
        if self.way != "share":
            return value
        if self.apart == "root":
            above = self.limited(value)
            return above * math.sqrt((1 + SMALL_SQUARE) / (above + SMALL_SQUARE))
        beyond = value - self.ideal
        return max(beyond, 0.0) if self.apart == "excess" else abs(beyond)
