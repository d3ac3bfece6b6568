"""All that a page shows of judged samples, and how several results come onto one page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.same import check_same_read_out
from caloforge.errors import DataError
from caloforge.judge.kinds import kinds, of_kind
from caloforge.judge.sample import whole
from caloforge.judge.shown.frame import Frame, frame_of
from caloforge.judge.shown.portrait import Portrait, portrait
from caloforge.judge.shown.singles import anchors, copies, example_energies, examples, neighbours
from caloforge.judge.summary import Summary
from caloforge.metrics.base import Case
from caloforge.metrics.chi2 import total_energy_chi2
from caloforge.metrics.notes import Memorising

Array = NDArray[Any]

FEWEST_FOR_FLOOR = 4  # showers in each of two samples


@dataclass(frozen=True)
class Floor:
    """What two samples of the reference simulation give, where no `Comparison` says it.

    Parameters
    ----------
    chi2, ndf
        Chi-square of the total energy and its degrees of freedom per energy slice, both (K,); NaN
        where too few showers entered.
    """

    chi2: Array
    ndf: Array


@dataclass(frozen=True)
class Shown:
    """What a page shows of a reference, a second sample of it, and generated samples.

    Parameters
    ----------
    frame
        What the reference sets for all: energies, layers, bins.
    identity
        Hexadecimal digits that change with the showers of the reference.
    reference, second, generated
        What is shown of each sample; `second` is the second sample of the reference simulation.
    floor
        What the reference against itself gives.
    kinds
        Name of a kind of particle -> what is shown of its showers; only kinds that all samples
        have.
    """

    frame: Frame
    identity: str
    reference: Portrait
    second: Portrait | None
    generated: tuple[Portrait, ...]
    floor: Floor
    kinds: dict[str, Shown] = field(default_factory=dict)

    @property
    def samples(self) -> tuple[Portrait, ...]:
        """The reference, the second sample where there is one, the generated ones."""
        return (self.reference, *(() if self.second is None else (self.second,)), *self.generated)


def measure(
    reference: Summary,
    generated: Sequence[Summary],
    second: Summary | None = None,
    memorising: Sequence[Memorising | None] = (),
) -> Shown:
    """Measure everything a page shows.

    Parameters
    ----------
    reference, generated, second
        Summaries of one read-out; `second` is a second sample of the reference simulation.
    memorising
        What the check of memorising noted of each generated sample, None where it was not made.

    Raises
    ------
    DataError
        When there is no generated sample, a sample has no showers, or another read-out than the
        reference.
    """
    _check(reference, [*generated, *([second] if second else [])], len(generated))
    shown = _measure(reference, generated, second, memorising)
    return replace(shown, kinds=_kinds(reference, generated, second))


def _measure(
    reference: Summary,
    generated: Sequence[Summary],
    second: Summary | None,
    memorising: Sequence[Memorising | None] = (),
) -> Shown:
    frame, energies = frame_of(reference), example_energies(reference)
    first = anchors(reference, frame)
    notes = list(memorising) or [None] * len(generated)

    return Shown(
        frame=frame,
        identity=_identity(reference),
        reference=portrait(reference, frame, examples(reference, energies), first),
        second=None
        if second is None
        else portrait(second, frame, nearest=neighbours(second, frame, first)),
        generated=tuple(
            portrait(
                summary,
                frame,
                examples(summary, energies),
                neighbours(summary, frame, first),
                copies(checked, reference, summary),
            )
            for summary, checked in zip(generated, notes, strict=True)
        ),
        floor=_floor(reference, second, frame),
    )


def _check(reference: Summary, others: Sequence[Summary], generated: int) -> None:
    if generated == 0:
        raise DataError("Got no generated showers to report on; expected at least one set.")
    for summary in (reference, *others):
        if len(summary) == 0:
            raise DataError(f"'{summary.name}' holds no showers; expected at least one.")
        check_same_read_out(
            summary.geometry,
            reference.geometry,
            (f"'{summary.name}' has the read-out", "the reference has"),
            "compare showers of one calorimeter",
            DataError,
        )


def _identity(reference: Summary) -> str:
    digest = hashlib.sha256(reference.geometry.hash.encode())
    for values in (reference.conditions, reference.observables["total_energy"]):
        digest.update(np.ascontiguousarray(values, dtype=np.float64).tobytes())
    return digest.hexdigest()[:16]


def _kinds(
    reference: Summary, generated: Sequence[Summary], second: Summary | None
) -> dict[str, Shown]:
    result = {}
    for name in kinds(reference.geometry):
        base = of_kind(reference, name)
        others = [of_kind(s, name) for s in generated]
        floor = None if second is None else of_kind(second, name)
        parts = [s for s in others if s is not None]
        if base is None or len(parts) < len(others) or (second is not None and floor is None):
            continue
        # No nearest neighbours: those of all showers are shown.
        bare = [replace(s, cells=s.cells[:0], cell_rows=s.cell_rows[:0]) for s in parts]
        result[name] = _measure(
            replace(base, cells=base.cells[:0], cell_rows=base.cell_rows[:0]), bare, floor
        )
    return result


def _floor(reference: Summary, second: Summary | None, frame: Frame) -> Floor:
    """The second reference sample judged like a generator; without one, half against half."""
    pair = (reference, second)
    if second is None:
        pair = (_half(reference, frame, 0), _half(reference, frame, 1))
    first, other = pair
    chi2, ndf = (np.full(len(frame.slices), np.nan) for _ in range(2))
    if other is not None and min(len(first), len(other)) >= FEWEST_FOR_FLOOR:
        case = Case(whole(first), whole(other, first))
        for energy, (value, freedom) in total_energy_chi2(case).per_energy.items():
            for k, part in enumerate(frame.slices):
                if freedom and bool(part.select(np.array([energy]))[0]):
                    chi2[k], ndf[k] = value, freedom
    return Floor(chi2, ndf)


def _half(summary: Summary, frame: Frame, start: int) -> Summary:
    """Every second shower in order of incident energy: both halves have the same mixture.

    Showers of a slice of a spectrum get the slice's energy and keep their response, because halves
    of a spectrum would be cut into other slices than the whole.
    """
    rows = np.argsort(summary.incident_energy, kind="stable")[start::2]
    values = {key: column[rows] for key, column in summary.observables.items()}
    incident = summary.incident_energy[rows].copy()
    for part in frame.slices:
        incident[part.select(summary.incident_energy[rows])] = part.energy
    values["total_energy"] = values["response"] * incident
    return replace(
        summary, conditions=summary.conditions[rows], incident_energy=incident, observables=values
    )


def side_by_side(several: Sequence[Shown], folders: Sequence[str]) -> Shown:
    """The generated samples of several results of one reference, one after the other.

    The second reference sample and the floor are those of the first result that has one.

    Raises
    ------
    DataError
        For results of different read-outs or references, or two generators of one name.
    """
    first = several[0]
    for shown, folder in zip(several[1:], folders[1:], strict=True):
        check_same_read_out(
            shown.frame.geometry,
            first.frame.geometry,
            (f"{folder} has the read-out", f"{folders[0]} has"),
            "a page shows one calorimeter",
            DataError,
        )
        if first.identity != shown.identity:
            raise DataError(
                f"{folder} was judged against other reference showers "
                f"('{shown.reference.name}', {len(shown.reference)} showers) than {folders[0]} "
                f"('{first.reference.name}', {len(first.reference)} showers); judge both against "
                "one reference to see them on one page."
            )
    return _joined(several)


def _joined(several: Sequence[Shown]) -> Shown:
    source = next((s for s in several if s.second is not None), several[0])
    return replace(
        source,
        generated=tuple(p for shown in several for p in shown.generated),
        kinds={
            name: _joined([shown.kinds[name] for shown in several])
            for name in several[0].kinds
            if all(name in shown.kinds for shown in several)
        },
    )
