"""The table of metrics: one entry for each key that results.json can hold.

What tables, ranks, the page and the documentation say of a metric follows from its entry; see
`caloforge.metrics.base.Metric` for the fields. To add a metric, write a function of a `Case` in a
file of its own and an entry here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from caloforge.entry_points import load_all
from caloforge.metrics import (
    attributes,
    boosted,
    chi2,
    classifier,
    correlations,
    frechet,
    memorising,
    neighbours,
    prd,
    resolution,
    separation,
    wasserstein,
)
from caloforge.metrics.base import Measurements, Metric

CHALLENGE = "C. Krause et al. 2024, arXiv:2410.21611"
KANSAL = "R. Kansal et al. 2023, arXiv:2211.10295"
PRECISION = "T. Kynkäänniemi et al. 2019, arXiv:1904.06991"
DENSITY = "M. F. Naeem et al. 2020, arXiv:2002.09797"
PRD = "M. S. M. Sajjadi et al. 2018, arXiv:1806.00035"
OLIVEIRA = "L. de Oliveira, M. Paganini, B. Nachman 2017, arXiv:1711.08813"
# What an AUC says of the classifier that a sentence begins with.
TELLS = "cannot tell the samples apart at 0.5, and always can at 1."

METRICS: list[Metric] = [
    Metric(
        "chi2_ndf_energy",
        "χ²/NDF of E_tot",
        "It is the chi-square of the total energy, summed over all energy points, divided by its "
        "degrees of freedom.",
        chi2.measure,
        source="M. Faucci Giannelli, R. Zhang 2023, arXiv:2309.06515; N. D. Gagunashvili 2006, "
        "arXiv:physics/0605123",
        ideal=1.0,
        needs="observables",
        rank=True,
        leading=True,
    ),
    Metric(
        "response_bias",
        "bias of the response in σ",
        "It is the root mean square, over all energies, of the difference of the mean responses "
        "in units of its statistical error.",
        resolution.measure,
        ideal=1.0,
        needs="observables",
        leading=True,
    ),
    Metric(
        "separation/",
        "Separation power, bins and ranges of the CaloChallenge",
        "It is ½ Σ (h₁−h₂)²/(h₁+h₂) of the histograms of an observable, or of all voxel energies.",
        separation.measure,
        source=CHALLENGE,
        worst=1.0,
        needs="observables",
    ),
    Metric(
        "separation_with_flow/",
        "Separation power, under- and overflow counted",
        "It is the separation power with under- and overflow as two more bins.",
        separation.measure,
        source=CHALLENGE,
        worst=1.0,
        needs="observables",
        rank=True,
        short="mean separation",
    ),
    Metric(
        "wasserstein/",
        "Wasserstein distance, in the unit of the observable",
        "It is the first Wasserstein distance of an observable, in its unit.",
        wasserstein.measure,
        source=KANSAL,
        needs="observables",
    ),
    Metric(
        "correlations",
        "correlations of layers",
        "It is the root mean square difference of the correlations of the layers' shares of the "
        "incident energy, over all pairs of layers.",
        correlations.measure,
        needs="observables",
    ),
    Metric(
        "auc_low",
        "AUC low",
        f"A network that sees the cells over the incident energy {TELLS}",
        classifier.low,
        source=CHALLENGE,
        way="share",
        ideal=0.5,
        worst=1.0,
        rank=True,
        column=True,
        leading=True,
        together="Classifier of low features",
    ),
    Metric(
        "auc_low_normed",
        "AUC low-normed",
        f"A network that sees the cells as shares of their layer {TELLS}",
        classifier.low_normed,
        source=CHALLENGE,
        way="share",
        ideal=0.5,
        worst=1.0,
        column=True,
        together="Classifier of low_normed features",
    ),
    Metric(
        "auc_high",
        "AUC high",
        f"A network that sees layer energies, centres, widths and sparsity {TELLS}",
        classifier.high,
        source=CHALLENGE,
        way="share",
        ideal=0.5,
        worst=1.0,
        rank=True,
        column=True,
        leading=True,
        together="Classifier of high features",
    ),
    Metric(
        "auc_boosted",
        "AUC boosted",
        "Boosted trees that see the observables, and filled cells, largest shares and smallest "
        f"cell of each layer, {TELLS}",
        boosted.measure,
        source="its error: J. A. Hanley, B. J. McNeil 1982, doi:10.1148/radiology.143.1.7063747",
        way="share",
        ideal=0.5,
        worst=1.0,
        rank=True,
        column=True,
        leading=True,
        together="Boosted AUC",
    ),
    Metric(
        "jsd_low",
        "JSD low",
        "It is the Jensen–Shannon divergence of the calibrated scores of the network that sees "
        "the cells over the incident energy.",
        classifier.low,
        source=CHALLENGE,
        way="share",
        worst=1.0,
        apart="root",
        together="Classifier of low features",
    ),
    Metric(
        "jsd_low_normed",
        "JSD low-normed",
        "It is the Jensen–Shannon divergence of the calibrated scores of the network that sees "
        "the cells as shares of their layer.",
        classifier.low_normed,
        source=CHALLENGE,
        way="share",
        worst=1.0,
        apart="root",
        together="Classifier of low_normed features",
    ),
    Metric(
        "jsd_high",
        "JSD high",
        "It is the Jensen–Shannon divergence of the calibrated scores of the network that sees "
        "layer energies, centres, widths and sparsity.",
        classifier.high,
        source=CHALLENGE,
        way="share",
        worst=1.0,
        apart="root",
        together="Classifier of high features",
    ),
    Metric(
        "fpd",
        "FPD ×10³",
        "The Fréchet physics distance compares means and covariances of the shower shapes.",
        frechet.measure,
        source=KANSAL,
        scale=1e3,
        rank=True,
        column=True,
        leading=True,
        together="FPD and KPD",
    ),
    Metric(
        "kpd",
        "KPD ×10³",
        "The kernel physics distance compares all moments of the shower shapes up to the fourth.",
        frechet.measure,
        source=KANSAL,
        scale=1e3,
        column=True,
        together="FPD and KPD",
    ),
    Metric(
        "precision",
        "precision",
        "It is the share of generated showers that lie in the neighbourhood of a Geant4 shower.",
        neighbours.precision_recall,
        source=PRECISION,
        way="share",
        ideal=1.0,
        worst=0.0,
        alike="as the floor",
        column=True,
        together="Precision and recall",
    ),
    Metric(
        "recall",
        "recall",
        "It is the share of Geant4 showers that lie in the neighbourhood of a generated shower.",
        neighbours.precision_recall,
        source=PRECISION,
        way="share",
        ideal=1.0,
        worst=0.0,
        alike="as the floor",
        column=True,
        together="Precision and recall",
    ),
    Metric(
        "density",
        "density",
        "It is the mean number of neighbourhoods of Geant4 showers around a generated one, over "
        "k = 5.",
        neighbours.precision_recall,
        source=DENSITY,
        way="both sides",
        ideal=1.0,
        worst=0.0,
        column=True,
        together="Precision and recall",
    ),
    Metric(
        "coverage",
        "coverage",
        "It is the share of Geant4 showers with a generated one in their neighbourhood.",
        neighbours.precision_recall,
        source=DENSITY,
        way="share",
        ideal=1.0,
        worst=0.0,
        alike="0.97",
        rank=True,
        column=True,
        leading=True,
        together="Precision and recall",
    ),
    Metric(
        "prd_auc_raw",
        "PRD-AUC raw",
        "It is the area under the precision-recall curve over clusters of cell images.",
        prd.measure,
        source=PRD,
        way="share",
        ideal=1.0,
        worst=0.0,
        column=True,
        together="PRD-AUC",
    ),
    Metric(
        "prd_auc_physics",
        "PRD-AUC physics",
        "It is the area under the precision-recall curve over clusters of the observables.",
        prd.measure,
        source=PRD,
        way="share",
        ideal=1.0,
        worst=0.0,
        column=True,
        together="PRD-AUC",
    ),
    Metric(
        "prd_auc",
        "PRD-AUC",
        "It is the smaller of `prd_auc_raw` and `prd_auc_physics`.",
        prd.measure,
        source=PRD,
        way="share",
        ideal=1.0,
        worst=0.0,
        rank=True,
        leading=True,
        together="PRD-AUC",
    ),
    Metric(
        "copies",
        "copies",
        "It is the share of generated showers that are closer to a training shower than the "
        "closest percent of held-out Geant4 showers is.",
        memorising.copies,
        source="C. Meehan et al. 2020, arXiv:2004.05675",
        ideal=0.01,
        worst=1.0,
        needs="training",
        column=True,
        leading=True,
    ),
    Metric(
        "memorising",
        "memorising",
        "It is the probability that a generated shower is closer to the training showers than a "
        "held-out Geant4 shower is.",
        memorising.copies,
        source="C. Meehan et al. 2020, arXiv:2004.05675",
        way="share",
        ideal=0.5,
        worst=1.0,
        apart="excess",
        needs="training",
        column=True,
        leading=True,
    ),
    Metric(
        "attribute_bias/",
        "Attributes read back from the showers: bias, in their unit",
        "It is the mean of what a regressor trained on Geant4 reads back of a condition, minus "
        "the requested value (energy: relative; angles: arcs).",
        attributes.measure,
        source=OLIVEIRA,
        way="none",
        alike="as the floor",
        needs="second reference",
    ),
    Metric(
        "attribute_spread/",
        "Attributes read back from the showers: spread, in their unit",
        "It is half the width of the central 68.3 % of read-back minus requested values.",
        attributes.measure,
        source=OLIVEIRA,
        way="both sides",
        alike="as the floor",
        needs="second reference",
    ),
    Metric(
        "attribute_slope/",
        "Attributes read back from the showers: slope against the requested ones",
        "It is the slope of the values read back against the requested ones.",
        attributes.measure,
        source=OLIVEIRA,
        way="both sides",
        ideal=1.0,
        alike="as the floor",
        needs="second reference",
    ),
]


def metrics() -> Sequence[Metric]:
    """All metrics in the order in which tables show them: those of `METRICS`, then those of other
    packages.

    Raises CaloForgeError when another package's metric cannot be loaded.
    """
    return (*METRICS, *_of_other_packages())


@cache
def _of_other_packages() -> Sequence[Metric]:
    keys = [known.key for known in METRICS]
    return load_all("caloforge.metrics", Metric, lambda metric: metric.key, keys)


def metric(key: str) -> Metric:
    """The metric behind a key of results.json, or a family behind the key of one of its members.

    A key that no metric here has, of results that were written with a further package, gets a
    metric that is read as a multiple of its floor and cannot be computed.
    """
    for known in metrics():
        if known.covers(key) or known.key == f"{key}/":
            return known
    return Metric(key, key.replace("_", " "), "", lambda case: Measurements())
