"""Chi-square per degree of freedom of the total energy: it chooses checkpoints and is reported.

Reference: FastCaloGAN (ATL-SOFT-PUB-2020-006) and CaloShowerGAN (arXiv:2309.06515); the statistic
is the comparison of two histograms of counts in Gagunashvili (arXiv:physics/0605123), the "UU"
form of ROOT's TH1::Chi2Test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.metrics.base import Case, Measured, Measurements
from caloforge.observables.slices import energy_slices

Array = NDArray[Any]

BINS = 30
RANGE_RMS = (3.0, 3.0)
RANGE_RMS_PIONS = (4.0, 3.5)
PIONS = ("pi+", "pi-", "piplus", "piminus", "pion", "pions")
MINIMUM = 100


@dataclass(frozen=True)
class Chi2:
    """Chi-square summed over the energy points, with what entered it.

    Parameters
    ----------
    value_sum, ndf
        Sums over the energy points of chi-square and of the degrees of freedom.
    per_energy
        Incident energy in MeV -> (chi-square, degrees of freedom). For a spectrum the key is the
        median of the slice.
    left_out
        Incident energy in MeV -> why it did not enter.
    outside
        Incident energy in MeV -> fractions of reference and of generated showers outside the range
        of the histogram, which the published method does not see.
    """

    value_sum: float
    ndf: int
    per_energy: dict[float, tuple[float, int]]
    left_out: dict[float, str]
    outside: dict[float, tuple[float, float]] = field(default_factory=dict)

    @property
    def chi2_ndf(self) -> float:
        """Sum of chi-square over sum of degrees of freedom; NaN when no energy point entered."""
        return self.value_sum / self.ndf if self.ndf else float("nan")

    @property
    def error(self) -> float:
        """Standard deviation of `chi2_ndf`, that of a non-central chi-square.

        Its variance is 2 (ndf + 2 lambda), lambda estimated by chi-square - ndf where positive.
        NaN when no energy point entered.
        """
        if not self.ndf:
            return float("nan")
        excess = max(0.0, self.value_sum - self.ndf)
        return float(np.sqrt(2 * (self.ndf + 2 * excess)) / self.ndf)


def histogram_chi2(first: Array, second: Array) -> tuple[float, int]:
    """Chi-square of the shapes of two histograms of counts (B,), and its degrees of freedom.

    sum_i (N1 n2_i - N2 n1_i)^2 / (N1 N2 (n1_i + n2_i)), where N is the sum of n: both histograms
    scaled to unit sum, their difference in units of the error that both have together if they come
    from one distribution. It is Pearson's chi-square of the 2 x B table of counts. The degrees of
    freedom are the bins filled in either, less one. Its mean is `ndf` also where a small sample
    meets a large one. (Errors from each histogram alone, the form for weighted histograms, give
    the same for samples of one size, but 4.6 per degree of freedom for 2500 against 100 showers:
    a bin that the small sample leaves empty has no error there.) Against an empty histogram the
    value is the limit for a few entries far away: the sum of the other histogram.
    """
    n1, n2 = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    both = n1 + n2
    ndf = max(int((both > 0).sum()) - 1, 0)
    total1, total2 = float(n1.sum()), float(n2.sum())
    if total1 == 0 or total2 == 0:
        return total1 + total2, ndf
    difference = (total1 * n2 - total2 * n1)[both > 0]
    return float((difference**2 / both[both > 0]).sum() / (total1 * total2)), ndf


def energy_chi2(
    reference_total: Array,
    reference_incident: Array,
    generated_total: Array,
    generated_incident: Array,
    *,
    bins: int = BINS,
    range_rms: tuple[float, float] = RANGE_RMS,
    minimum: int = MINIMUM,
    flow: bool = False,
) -> Chi2:
    """Chi-square of the total deposited energy, per energy point and summed.

    Per energy point both samples are filled into `bins` bins from `range_rms[0]` RMS below to
    `range_rms[1]` RMS above the reference mean. Showers outside are dropped before the histograms
    are scaled to unit sum, as in the published method; `Chi2.outside` counts them. A spectrum of
    incident energies is cut into up to eight slices at the quantiles of the reference, and total /
    incident energy takes the place of the total energy.

    Parameters
    ----------
    reference_total, generated_total
        Deposited energy of each shower in MeV, (N,) and (M,).
    reference_incident, generated_incident
        Incident energy of each shower in MeV, (N,) and (M,).
    bins, range_rms, minimum
        Bins a histogram, its range in RMS below and above the mean (pions: 4 and 3.5), and the
        smallest number of showers in each sample for an energy point to enter.
    flow
        Keep what falls outside as two more bins. The published method does not, and so cannot see
        a generator that misses the range altogether: the choice of checkpoints does.

    Raises
    ------
    DataError
        For empty samples, arrays of different lengths, NaN or infinite energies, or an incident
        energy <= 0.
    """
    total1, incident1 = _pair("reference", reference_total, reference_incident)
    total2, incident2 = _pair("generated", generated_total, generated_incident)
    slices = energy_slices(incident1, incident2, minimum)
    if slices.spectrum:
        total1, total2 = total1 / incident1, total2 / incident2
    left_out = {p: "the reference has no showers of this energy" for p in slices.unknown}
    per_energy: dict[float, tuple[float, int]] = {}
    outside: dict[float, tuple[float, float]] = {}
    for point, (rows1, rows2) in slices.members.items():
        first, second = total1[rows1], total2[rows2]
        if min(len(first), len(second)) < max(minimum, 1):
            left_out[point] = (
                f"{len(first)} reference and {len(second)} generated showers; at least {minimum} "
                "of each are needed"
            )
            continue
        mean, rms = float(first.mean()), float(first.std())
        # A spread at the level of rounding cannot be cut into bins.
        if not rms > 1e-12 * abs(mean):
            left_out[point] = "the reference has no spread in total energy"
            continue
        span = (mean - range_rms[0] * rms, mean + range_rms[1] * rms)
        edges = np.concatenate([[-np.inf], np.linspace(*span, bins + 1), [np.inf]])
        counts = [np.histogram(x, bins=edges)[0] for x in (first, second)]
        per_energy[point] = histogram_chi2(*(c if flow else c[1:-1] for c in counts))
        outside[point] = (
            1 - float(counts[0][1:-1].sum()) / len(first),
            1 - float(counts[1][1:-1].sum()) / len(second),
        )
    return Chi2(
        value_sum=float(sum(value for value, _ in per_energy.values())),
        ndf=sum(ndf for _, ndf in per_energy.values()),
        per_energy=per_energy,
        left_out=left_out,
        outside=outside,
    )


def total_energy_chi2(case: Case) -> Chi2:
    """Chi-square of the total energy, with the range of pions where the showers are theirs."""
    names = case.reference.all.particles
    pions = bool(names) and all(name.lower() in PIONS for name in names)
    arrays = [(sample.values("total_energy"), sample.incident) for sample in case.samples]
    return energy_chi2(*arrays[0], *arrays[1], range_rms=RANGE_RMS_PIONS if pions else RANGE_RMS)


def measure(case: Case) -> Measurements:
    """`chi2_ndf_energy`, where an energy has showers enough."""
    chi2 = total_energy_chi2(case)
    if not chi2.ndf:
        return Measurements()
    measured = Measured(chi2.chi2_ndf, chi2.error, len(case.generated))
    return Measurements({"chi2_ndf_energy": measured})


def _pair(name: str, total: Array, incident: Array) -> tuple[Array, Array]:
    total = np.asarray(total, dtype=np.float64)
    incident = np.asarray(incident, dtype=np.float64)
    if total.ndim != 1 or total.shape != incident.shape or len(total) == 0:
        raise DataError(
            f"The {name} total and incident energies have the shapes {total.shape} and "
            f"{incident.shape}; expected two arrays of the same length (N,), N > 0."
        )
    if not (np.isfinite(total).all() and np.isfinite(incident).all() and incident.min() > 0):
        raise DataError(
            f"The {name} energies hold a NaN, an infinite number or an incident energy <= 0; "
            "expected finite MeV."
        )
    return total, incident
