"""The CaloChallenge's observables for any geometry: label, unit, axis and source of each.

Reference: C. Krause et al., CaloChallenge 2022 (arXiv:2410.21611); the axis ranges are
those of its public evaluation. Observables and ranges the challenge does not print are marked
`ours` in `source`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Geometry, Layer

Array = NDArray[Any]

CHALLENGE = "arXiv:2410.21611"
LOG_EDGES = 40
VOXEL_EDGES = 50
BINS = 100
# Half-range of the centres and full range of the widths in mm, by kind of layer in the public
# evaluation.
LIMITS = {"electrons": (30.0, 30.0), "layers 12, 13": (500.0, 400.0), "others": (100.0, 100.0)}
# Response per energy point: 20 bins; photons narrow down from the fifth point of the scan on.
RESPONSE_BINS = (20, 0.4, 1.4)
RESPONSE_BINS_PHOTONS = (20, 0.9, 1.1)
RESPONSE_PHOTONS_FROM = 4096.0  # MeV


@dataclass(frozen=True)
class Observable:
    """One number of a shower.

    Parameters
    ----------
    key
        Name in tables and results: "response", "layer_energy/12", "centre_x/1", ... (the number is
        the layer's id).
    label, unit
        For axes; the unit is MeV, mm or empty.
    layer
        Position of the layer in the geometry, None for the whole shower.
    bins
        (number, low, high) of a sensible axis, known without data.
    log
        Whether that axis is logarithmic.
    separation_bins
        Edges of the separation power where they are fixed, None where they follow the reference:
        see `edges`.
    source
        Where the definition and the axis come from.
    """

    key: str
    label: str
    unit: str
    layer: int | None
    bins: tuple[int, float, float]
    log: bool
    separation_bins: Array | None = field(compare=False)
    source: str = CHALLENGE

    def edges(self, reference: Array) -> Array:
        """Edges of the separation power, given the reference values (N,) in the observable's unit.

        Energies: 40 log-spaced edges from the cut (without one: the smallest value > 0) to the
        largest reference value. Response of a read-out that is not calibrated to 1: 100 bins over
        the mean +- 5 RMS of the reference.
        """
        if self.separation_bins is not None:
            return self.separation_bins
        values = np.asarray(reference, dtype=np.float64)
        if self.log:
            return log_edges(values, self.bins[1], LOG_EDGES)
        return spread_edges(values, 5.0, self.bins[0])


def log_edges(values: Array, low: float, number: int) -> Array:
    """`number` log-spaced edges from `low` (0: the smallest value > 0) to the largest value.

    The logarithm is taken in the precision of `values`, because the public evaluation does.
    """
    positive = values[values > 0]
    if low <= 0:
        low = float(positive.min()) if len(positive) else 1.0
    # A layer that is never hit still needs an axis.
    high = positive.max() if len(positive) and positive.max() > low else 10 * low
    edges = np.logspace(np.log10(low), np.log10(high), number)
    # 10**log10(x) rounds either way; the largest reference value belongs to the last bin.
    edges[-1] = max(edges[-1], float(high))
    return edges


def spread_edges(values: Array, rms: float, number: int) -> Array:
    """Edges of `number` bins over the mean +- `rms` standard deviations of `values`."""
    mean, spread = float(values.mean()), float(values.std())
    if not spread > 1e-12 * abs(mean):
        spread = 0.02 * abs(mean) or 1.0
    return np.linspace(mean - rms * spread, mean + rms * spread, number + 1)


def response_edges(geometry: Geometry, energy: float, reference: Array) -> Array:
    """Edges for the response at one energy point (MeV), given the reference responses (N,).

    Data set 1: 20 bins in [0.4, 1.4], photons from 4096 MeV on in [0.9, 1.1], as in the public
    evaluation; elsewhere 20 bins over the mean +- 3 RMS of the reference.
    """
    if geometry.format != "calochallenge" or geometry.pid == 11:
        return spread_edges(np.asarray(reference, dtype=np.float64), 3.0, RESPONSE_BINS[0])
    photons = geometry.pid == 22 and energy >= RESPONSE_PHOTONS_FROM
    number, low, high = RESPONSE_BINS_PHOTONS if photons else RESPONSE_BINS
    return np.linspace(low, high, number + 1)


def transverse_axes(layer: Layer) -> tuple[str, ...]:
    """Axes along which a layer has a centre: none for a polar layer with a single alpha bin."""
    if layer.kind == "grid":
        return layer.axes
    return ("x", "y") if layer.shape[0] > 1 else ()


def observables(geometry: Geometry) -> list[Observable]:
    """All observables of a geometry: of the whole shower, then family by family, layer by layer.

    Keys: `total_energy`, `response` (total / incident energy), `layer_energy/ID`, `centre_x/ID`
    and `centre_y/ID` (the challenge's EC_eta, EC_phi; for grid layers the geometry's own axis
    names), `width_x/ID`, `width_y/ID`, `centre_r/ID`, `width_r/ID`, `sparsity/ID`.
    """
    challenge = geometry.format == "calochallenge"
    highest = _highest_energy(geometry)
    energy_axis = (LOG_EDGES - 1, geometry.cut, highest)
    fixed = np.linspace(0.5, 1.5, BINS + 1) if challenge else None
    table = [
        Observable(
            "total_energy", "total energy", "MeV", None, energy_axis, True, None, "axis: ours"
        ),
        Observable(
            "response",
            "total energy / incident energy",
            "",
            None,
            (BINS, 0.5, 1.5) if challenge else (BINS, 0.0, 1.5),
            False,
            fixed,
            CHALLENGE if challenge else f"{CHALLENGE}; axis: ours",
        ),
    ]
    rows = [
        _layer_observables(geometry, position, highest)
        for position, layer in enumerate(geometry.layers)
        if layer.size
    ]
    # Family by family: the same quantity of all layers side by side reads best in reports.
    families: dict[str, list[Observable]] = {}
    for observable in (o for row in rows for o in row):
        families.setdefault(observable.key.partition("/")[0], []).append(observable)
    return table + [o for family in families.values() for o in family]


def _layer_observables(geometry: Geometry, position: int, highest: float) -> list[Observable]:
    layer = geometry.layers[position]
    where = f"layer {layer.id} ({layer.name})"
    challenge = geometry.format == "calochallenge"
    source = CHALLENGE if challenge else f"{CHALLENGE}; axis: ours"

    def linear(name: str, label: str, low: float, high: float, origin: str) -> Observable:
        return Observable(
            f"{name}/{layer.id}",
            f"{label}, {where}",
            "mm",
            position,
            (BINS, low, high),
            False,
            np.linspace(low, high, BINS + 1),
            origin,
        )

    rows = [
        Observable(
            f"layer_energy/{layer.id}",
            f"energy in {where}",
            "MeV",
            position,
            (LOG_EDGES - 1, geometry.cut, highest),
            True,
            None,
        )
    ]
    for axis in transverse_axes(layer):
        low, high, width = _limits(geometry, layer, axis)
        rows.append(linear(f"centre_{axis}", f"centre of energy in {axis}", low, high, source))
        rows.append(linear(f"width_{axis}", f"width in {axis}", 0.0, width, source))
    _, high, width = _limits(geometry, layer, "r")
    ours = f"{CHALLENGE}; axis: ours"
    rows.append(linear("centre_r", "centre of energy in r", 0.0, high, ours))
    rows.append(linear("width_r", "width in r", 0.0, width, ours))
    # Sparsity counts cells: up to 100 cells every value has a bin of its own.
    number = layer.size + 1 if layer.size < BINS else BINS
    half = 0.5 / (number - 1)
    rows.append(
        Observable(
            f"sparsity/{layer.id}",
            f"sparsity, {where}",
            "",
            position,
            (number, -half, 1 + half),
            False,
            np.linspace(-half, 1 + half, number + 1),
            ours,
        )
    )
    return rows


def _limits(geometry: Geometry, layer: Layer, axis: str) -> tuple[float, float, float]:
    """Lowest and highest centre and highest width in mm along an axis of a layer."""
    window = _window(geometry, layer)
    if geometry.format == "calochallenge":
        kind = "layers 12, 13" if layer.id in (12, 13) else "others"
        centre, width = LIMITS["electrons" if geometry.pid == 11 else kind]
        if axis != "r":
            return -centre, centre, width
        # The challenge prints no range in r: its widths' suits narrow showers in fine rings.
        fine = layer.edges[1][1] - layer.edges[1][0] < 50 and geometry.pid != 211
        outer = width if fine else window[1][1]
        return 0.0, outer, width if fine else outer / 2
    if axis == "r":
        outer = float(np.hypot(*np.abs(window).max(axis=1)))
        return 0.0, outer, outer / 2
    if layer.kind == "polar":  # x and y of a polar layer reach out to its outer edge
        outer = layer.edges[1][-1]
        return -outer, outer, outer / 2
    low, high = window[layer.axes.index(axis)]
    return low, high, (high - low) / 4


def _window(geometry: Geometry, layer: Layer) -> tuple[tuple[float, float], ...]:
    """Range of each axis in mm, with all positions a moving window can take."""
    ranges = []
    for axis, edges in zip(layer.axes, layer.edges, strict=True):
        low, high = edges[0], edges[-1]
        if layer.shift is not None and layer.shift.axis == axis:
            condition = geometry.conditions[geometry.column(layer.shift.condition)]
            moves = [layer.shift.step * condition.low, layer.shift.step * condition.high]
            low, high = low + min(moves), high + max(moves)
        ranges.append((low, high))
    return tuple(ranges)


def _highest_energy(geometry: Geometry) -> float:
    highest = np.array([[max(abs(c.low), abs(c.high)) for c in geometry.conditions]])
    return float(geometry.incident_energy(highest)[0])
