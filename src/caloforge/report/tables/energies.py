"""The table of every energy: chi-square, response and resolution."""

from __future__ import annotations

from caloforge.judge.comparison import Point
from caloforge.judge.folder import Result
from caloforge.judge.merit import Level
from caloforge.judge.shown.energies import energy_text
from caloforge.metrics.resolution import Response, pull
from caloforge.report.blocks import Cell, Table
from caloforge.report.floors import energies_of
from caloforge.report.tables.cells import generators

NEAR_BIAS, FAR_BIAS = 3.0, 6.0  # standard deviations of the bias of a response


def energy_table(result: Result) -> Table:
    """Chi-square, response and resolution at each incident energy, the reference first."""
    rows = []
    for energy in energies_of(result.comparisons):
        points = [c.per_energy.get(energy) for c in result.comparisons]
        reference = next((p.reference for p in points if p is not None), None)
        cells = [Cell(energy_text(energy)), _response_cell(reference)]
        for point in points:
            cells += [_chi2_cell(point), _response_cell(point.generated if point else None)]
            cells.append(_bias_cell(point))
        rows.append(tuple(cells))
    columns = ["incident energy", "Geant4: response, resolution"]
    for name in generators(result):
        columns += [f"{name}: χ²/NDF", f"{name}: response, resolution", f"{name}: bias"]
    return Table(
        "Chi-square, response and resolution in numbers",
        tuple(columns),
        tuple(rows),
        note="Response: mean of total over incident energy; resolution: its relative standard "
        "deviation; bias: the difference of the mean responses in units of its statistical error, "
        "which scatters about 0 by 1 for a perfect generator. In a spectrum the energy is the "
        "median of its slice.",
        collapsed=True,
    )


def _chi2_cell(point: Point | None) -> Cell:
    if point is None or point.chi2 is None or not point.ndf:
        return Cell("–", "", point.chi2_left_out if point else "")
    return Cell(
        f"{point.chi2:.1f} / {point.ndf} = {point.chi2 / point.ndf:.3g}",
        "",
        f"{100 * (point.outside_generated or 0.0):.1f} % outside the histogram",
    )


def _bias_cell(point: Point | None) -> Cell:
    """The bias of the response in its error, coloured beyond three and six of them."""
    bias = None if point is None else pull(point.reference, point.generated)
    if bias is None:
        return Cell("–")
    level: Level = "far" if abs(bias) > FAR_BIAS else "off" if abs(bias) > NEAR_BIAS else "good"
    return Cell(f"{bias:+.1f} σ", level)


def _response_cell(measured: Response | None) -> Cell:
    if measured is None or measured.response is None:
        return Cell("–")
    text = f"{measured.response:.4f}"
    if measured.response_error is not None:
        text += f" ± {measured.response_error:.4f}"
    if measured.resolution is not None:
        text += (
            f", ({100 * measured.resolution:.2f} ± {100 * (measured.resolution_error or 0):.2f}) %"
        )
    return Cell(text, "", f"{measured.n} showers")
