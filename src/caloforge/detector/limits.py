"""Limits of the observables that a detector states: ranges of histograms, depths, thresholds.

They are part of the geometry file and not of the geometry's hash: other limits make other
histograms of the same showers. What a file does not state has a default that follows from the
edges of the cells; `caloforge.observables` says which one where it asks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from caloforge.detector.checks import check_keys, increasing
from caloforge.errors import GeometryError


@dataclass(frozen=True)
class ResponseRange:
    """Histogram range of the response (total over incident energy) at one incident energy.

    Parameters
    ----------
    energy
        The range holds from this incident energy on, MeV.
    low, high
        The ends of the range.
    """

    energy: float
    low: float
    high: float


@dataclass(frozen=True)
class LayerLimits:
    """What one layer states; None stands for the default.

    Parameters
    ----------
    centre
        Largest distance of the centre of energy from 0 along a transverse axis, mm. Default: the
        ends of the layer.
    width
        Largest width along a transverse axis, mm. Default: a quarter of the layer, half the
        radius of a polar one.
    centre_r, width_r
        Largest centre and width in the distance r from the middle of the layer, mm. Default: the
        radius of the layer, and half of it.
    published_centre_r, published_width_r
        Upper ends, in mm, of the published histograms of the centre and the width in r, which
        start at 0. They are too wide to see what narrow showers do, and serve the comparison with
        published numbers alone. Default: the ranges above.
    cell_eta
        Pseudorapidity that one cell covers along the axis eta. Without it, the layer has no width
        in units of pseudorapidity.
    """

    centre: float | None = None
    width: float | None = None
    centre_r: float | None = None
    width_r: float | None = None
    published_centre_r: float | None = None
    published_width_r: float | None = None
    cell_eta: float | None = None

    def to_dict(self) -> dict[str, float]:
        """The limits that are stated."""
        return {key: value for key, value in vars(self).items() if value is not None}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> LayerLimits:
        """Build from the table `limits` of a layer; raises GeometryError for a misspelt key."""
        check_keys(plain, [f.name for f in fields(cls)], "layer limit")
        return cls(**{key: _positive(key, value) for key, value in plain.items()})


@dataclass(frozen=True)
class Limits:
    """What the whole detector states; None or an empty tuple stands for the default.

    Parameters
    ----------
    source
        The publication that prints these ranges. Without it, the ranges are the package's own.
    response
        Histogram range of the response of all showers. Default: 0 to 1.5, and a separation power
        in bins that follow the reference.
    response_at
        Histogram ranges of the response at one incident energy, in order of energy. Default: bins
        that follow the reference.
    feature_length
        Length in mm by which a classifier's inputs divide the positions in every layer, where a
        publication prints one; it then also prints all inputs layer by layer. Default: half the
        size of the layer, and a summary of many layers.
    effective_depth
        Depth in mm behind the front face at which the centre of energy lies on the particle's
        line on average. Without it, there are no observables along the inclination.
    thresholds
        Energies in MeV above which cells are counted.
    sparsity_bins
        Number of bins from 0 to 1 of the published histograms of the sparsity. Default: a bin for
        every value, up to 100.
    """

    source: str = ""
    response: tuple[float, float] | None = None
    response_at: tuple[ResponseRange, ...] = ()
    feature_length: float | None = None
    effective_depth: float | None = None
    thresholds: tuple[float, ...] = ()
    sparsity_bins: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The limits that are stated, JSON-able."""
        plain = {key: value for key, value in vars(self).items() if value not in (None, "", ())}
        if self.response_at:
            plain["response_at"] = [vars(entry) for entry in self.response_at]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Limits:
        """Build from the table `limits` of a geometry; raises GeometryError for a misspelt key."""
        check_keys(plain, [f.name for f in fields(cls)], "limit")
        ranges = []
        for entry in plain.get("response_at", ()):
            check_keys(entry, [f.name for f in fields(ResponseRange)], "range of the response")
            low, high = increasing((entry["low"], entry["high"]), "the range of the response")
            ranges.append(ResponseRange(float(entry["energy"]), low, high))
        given = {
            key: _positive(key, plain[key])
            for key in ("feature_length", "effective_depth")
            if key in plain
        }
        response = plain.get("response")
        return cls(
            source=str(plain.get("source", "")),
            response=None if response is None else increasing(response, "the limit 'response'"),
            response_at=tuple(sorted(ranges, key=lambda entry: entry.energy)),
            thresholds=tuple(_positive("thresholds", t) for t in plain.get("thresholds", ())),
            sparsity_bins=round(_positive("sparsity_bins", plain["sparsity_bins"]))
            if "sparsity_bins" in plain
            else None,
            **given,
        )


def _positive(key: str, value: Any) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise GeometryError(f"The limit '{key}' is {number:g}; expected a number above 0.")
    return number
