"""`Comparison`: the whole result of judging one generator, typed, made once and never changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

from caloforge.metrics.base import Value
from caloforge.metrics.notes import Notes
from caloforge.metrics.resolution import ResolutionFit, Response

# What JSON knows: the type of provenance, which comes from files.
Plain = None | bool | int | float | str | list[object] | dict[str, object]


@dataclass(frozen=True)
class Point:
    """One generator at one energy point, or in one slice of a spectrum.

    Parameters
    ----------
    n_reference, n_generated
        Numbers of showers there.
    reference, generated
        Mean response and resolution.
    metrics
        Key -> value at this energy, with the number of showers of its floor.
    chi2, ndf
        Chi-square of the total energy and its degrees of freedom; None where it was left out.
    outside_reference, outside_generated
        Shares of the showers outside the histogram of chi-square.
    chi2_left_out
        Why there is no chi-square; empty where there is one.
    separation_response
        Separation power of the response in the bins of the CaloChallenge for this energy; None
        without generated showers.
    """

    n_reference: int
    n_generated: int
    reference: Response
    generated: Response
    metrics: dict[str, Value] = field(default_factory=dict)
    chi2: float | None = None
    ndf: int | None = None
    outside_reference: float | None = None
    outside_generated: float | None = None
    chi2_left_out: str = ""
    separation_response: Value | None = None


@dataclass(frozen=True)
class Floor:
    """How the floor was made.

    Parameters
    ----------
    kind
        In words: halves of the reference, or a second reference sample.
    n_reference, n
        Numbers of showers of the two samples; `n` is that of the one in the generator's place.
    notes
        What the metrics keep beside the floor's values, such as curves.
    """

    kind: str
    n_reference: int
    n: int
    notes: Notes = field(default_factory=Notes)


@dataclass(frozen=True)
class Details:
    """How a generator was judged.

    Parameters
    ----------
    warnings
        Sentences: what was left out and why, and what makes metrics hard to read.
    floor
        How the floor was made.
    provenance
        What the file of showers says of its origin.
    at_floor_size
        The metrics again at the floor's number of showers, where that is smaller; else empty.
    notes
        What the metrics keep beside their values: how classifiers were trained, curves, what gives
        the generator away, distances to the training showers, attributes. Its warnings are among
        `warnings` here.
    spectrum
        Whether the energies are slices of a spectrum; None where none was looked at.
    chi2_left_out
        Energy in MeV -> why it does not enter chi-square.
    resolution_fit_reference, resolution_fit_generated
        Stochastic and constant terms of the resolution; None with fewer than three energies.
    """

    warnings: tuple[str, ...] = ()
    floor: Floor | None = None
    provenance: dict[str, Plain] = field(default_factory=dict)
    at_floor_size: dict[str, Value] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)
    spectrum: bool | None = None
    chi2_left_out: dict[float, str] = field(default_factory=dict)
    resolution_fit_reference: ResolutionFit | None = None
    resolution_fit_generated: ResolutionFit | None = None


@dataclass(frozen=True, repr=False)
class Comparison:
    """One generator judged.

    Parameters
    ----------
    name
        Name of the generator.
    metrics
        Key -> value over all energies. The keys are those of `caloforge.metrics.table`; families
        have one for each observable, such as `separation/response`.
    per_energy
        Energy point (or median of a slice) in MeV -> the metrics there.
    details
        How it was judged.
    """

    name: str
    metrics: dict[str, Value]
    per_energy: dict[float, Point] = field(default_factory=dict)
    details: Details = field(default_factory=Details)

    def __repr__(self) -> str:
        size = next((value.n for value in self.metrics.values()), 0)
        return f"Comparison('{self.name}': {len(self.metrics)} metrics of {size} showers)"

    def _repr_html_(self) -> str:
        return html_table(self)

    @property
    def sized(self) -> dict[str, Value]:
        """The metrics at the number of showers that their floor was made with."""
        return {**self.metrics, **self.details.at_floor_size}


def html_table(comparison: Comparison) -> str:
    """The metrics of a generator as a table in HTML, each with its error and its floor."""
    rows = "".join(
        f"<tr><th>{escape(key)}</th><td>{value.value:.4g}</td>"
        f"<td>{'' if value.error is None else f'{value.error:.1g}'}</td>"
        f"<td>{'' if value.floor is None else f'{value.floor:.4g}'}</td><td>{value.n}</td></tr>"
        for key, value in comparison.metrics.items()
    )
    head = "".join(f"<th>{name}</th>" for name in ("metric", "value", "±", "floor", "showers"))
    return (
        f"<table><caption>{escape(comparison.name)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


@dataclass(frozen=True)
class ReferenceInfo:
    """The reference sample of a result: its name, file, size, read-out and origin."""

    name: str
    file: str | None
    n: int
    geometry: str
    geometry_hash: str
    provenance: dict[str, Plain] = field(default_factory=dict)
