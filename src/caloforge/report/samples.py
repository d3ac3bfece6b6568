"""What a report compares: reference, second Geant4 sample, generators, with their looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import CaloForgeError
from caloforge.evaluation.observables import Observable, observables
from caloforge.report.estimates import EnergySlice, Means, energy_slices, means
from caloforge.report.images import shown_layers
from caloforge.report.plots import Overlay, Series, overlay, shown_edges
from caloforge.report.style import FLOOR_LOOK, REFERENCE_LOOK, Look, looks

if TYPE_CHECKING:
    from caloforge.evaluation.summary import Summary
    from caloforge.geometry import Geometry, Layer

Array = NDArray[Any]


@dataclass(frozen=True)
class Samples:
    """Summaries of one geometry side by side.

    Raises
    ------
    CaloForgeError
        When there is no generated sample, a sample has no showers, or one has another read-out
        than the reference.
    """

    reference: Summary
    generated: tuple[Summary, ...]
    floor: Summary | None = None

    def __post_init__(self) -> None:
        if not self.generated:
            raise CaloForgeError(
                "Got no generated showers to report on; expected at least one set."
            )
        for summary in (self.reference, *self.others):
            if len(summary.incident_energy) == 0:
                raise CaloForgeError(f"'{summary.name}' holds no showers; expected at least one.")
            if summary.geometry.hash != self.geometry.hash:
                raise CaloForgeError(
                    f"'{summary.name}' has the read-out '{summary.geometry.name}', the reference "
                    f"has '{self.geometry.name}'; compare showers of one read-out."
                )

    @property
    def geometry(self) -> Geometry:
        """The read-out they share."""
        return self.reference.geometry

    @property
    def others(self) -> tuple[Summary, ...]:
        """The second Geant4 sample, where there is one, then the generators."""
        return (*([self.floor] if self.floor else []), *self.generated)

    @cached_property
    def looks(self) -> tuple[Look, ...]:
        """One look per generator."""
        return tuple(looks([summary.name for summary in self.generated]))

    @cached_property
    def drawn(self) -> tuple[tuple[Look, Summary], ...]:
        """Every sample with its look, the reference first."""
        second = [(FLOOR_LOOK, self.floor)] if self.floor else []
        return (
            (REFERENCE_LOOK, self.reference),
            *second,
            *zip(self.looks, self.generated, strict=True),
        )

    @cached_property
    def slices(self) -> list[EnergySlice]:
        """Energy points of the reference, or slices of its spectrum, from low to high."""
        return energy_slices(self.reference.incident_energy)

    @cached_property
    def layers(self) -> list[int]:
        """Positions of the layers that figures with one panel a layer show."""
        return shown_layers(self.geometry, self.reference.mean_cells[0])

    @cached_property
    def table(self) -> dict[str, Observable]:
        """The observables of the geometry that the reference has, by key."""
        have = self.reference.observables
        return {o.key: o for o in observables(self.geometry) if o.key in have}

    def layer(self, position: int) -> Layer:
        """The layer at a position."""
        return self.geometry.layers[position]

    def of_layer(self, observable: Observable) -> Layer:
        """The layer of an observable that has one."""
        if observable.layer is None:
            raise CaloForgeError(
                f"'{observable.key}' belongs to no layer; expected one that does."
            )
        return self.geometry.layers[observable.layer]

    def families(self, *names: str) -> list[Observable]:
        """Observables of the shown layers whose key starts with one of `names`, layer by layer."""
        shown = [o for o in self.table.values() if o.layer in self.layers]
        return [
            o
            for position in self.layers
            for o in shown
            if o.layer == position and o.key.partition("/")[0] in names
        ]

    def overlay(
        self,
        key: str,
        part: EnergySlice | None = None,
        edges: Array | None = None,
    ) -> Overlay | None:
        """Histograms of one observable, of all showers or of one energy slice.

        `edges` (B+1,) default to what shows the reference. None where the reference has no shower.
        """
        series = [
            Series(summary.observables[key][self._inside(summary, part)], look)
            for look, summary in self.drawn
        ]
        reference = series[0].values
        if len(reference) == 0:
            return None
        observable = self.table[key]
        log = observable.log and bool(np.any(reference > 0))
        if edges is None:
            edges = _edges(observable, reference, log, self.geometry)
        offset = 2 if self.floor else 1
        return overlay(
            series[0],
            series[offset:],
            series[1] if self.floor else None,
            edges=edges,
            log=log,
        )

    def varies(self, key: str) -> bool:
        """False for an observable that is one and the same number for all showers."""
        values = [summary.observables[key] for _, summary in self.drawn]
        return max(float(v.max()) for v in values) > min(float(v.min()) for v in values)

    @staticmethod
    def _inside(summary: Summary, part: EnergySlice | None) -> Any:
        return slice(None) if part is None else part.select(summary.incident_energy)

    def means(self, key: str, *, relative: bool = False) -> list[tuple[Look, Means]]:
        """Mean of an observable per energy slice; `relative` to the incident energy."""
        result = []
        for look, summary in self.drawn:
            values = summary.observables[key]
            values = values / summary.incident_energy if relative else values
            result.append((look, means(values, summary.incident_energy, self.slices)))
        return result


def _edges(observable: Observable, reference: Array, log: bool, geometry: Geometry) -> Array:
    if not observable.key.startswith("sparsity") or observable.layer is None:
        return shown_edges(reference, log=log)
    # Sparsity counts cells: bins hold equal numbers of its possible values, or they would show
    # combs.
    size = geometry.layers[observable.layer].size
    low, high = (round(float(q) * size) for q in np.quantile(reference, (0.001, 0.999)))
    step = max(1, -(-(high - low + 1) // 40))
    return (
        np.arange(max(low - step, 0), min(high + 2 * step, size + step + 1), step) - 0.5
    ) / size


def layer_title(layer: Layer) -> str:
    """Number and name of a layer, above its panels."""
    return f"layer {layer.id} · {layer.name}"


def names(items: Sequence[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    return ", ".join(items[:-1]) + (" and " if len(items) > 1 else "") + items[-1] if items else ""
