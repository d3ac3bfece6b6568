"""The report: figures hold the numbers they show, the page is whole, safe and reproducible."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from caloforge.data import read_showers, sample_path
from caloforge.detector.geometry import Geometry
from caloforge.errors import CaloForgeError
from caloforge.judge.compare import compare
from caloforge.judge.folder import Result, result_of
from caloforge.judge.summary import Summary, summarise
from caloforge.metrics.resolution import ResolutionFit
from caloforge.report import figures
from caloforge.report.blocks import Picture, Section
from caloforge.report.contents import report_sections
from caloforge.report.figures.averages import average_maps
from caloforge.report.figures.cells import cell_spectra
from caloforge.report.figures.chi2 import chi2_per_energy
from caloforge.report.figures.linearity import linearity
from caloforge.report.figures.response import response, response_per_energy
from caloforge.report.floors import floor_chi2
from caloforge.report.page import write_page, write_report
from caloforge.report.style import REFERENCE_LOOK, looks, style, to_bytes
from caloforge.report.tables.cells import number
from caloforge.showers import Showers

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(autouse=True, scope="module")
def _coarse_pictures() -> Iterator[None]:
    """Few pixels: the tests look at what is drawn, not at how crisp it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("caloforge.report.style.DPI", 50)
        yield


def _geometry(kind: str) -> Geometry:
    ring = {"id": 0, "name": "front", "kind": "polar", "alpha_bins": 1, "r_edges": [0, 5, 20]}
    sectors = {"id": 3, "name": "main", "kind": "polar", "alpha_bins": 4, "r_edges": [0, 5, 9, 30]}
    square = {
        "id": 7,
        "name": "grid",
        "kind": "grid",
        "axes": ["x", "y"],
        "edges": [[-20, -5, 5, 20], [-20, -5, 5, 20]],
    }
    return Geometry.from_dict(
        {
            "name": f"toy-{kind}",
            "title": f"A toy, {kind}",
            "format": "calochallenge" if kind == "polar" else "caloforge",
            "layers": [ring, sectors] if kind == "polar" else [square],
            "conditions": [
                {"name": "energy", "unit": "MeV", "low": 100.0, "high": 1e4, "scale": "log"}
            ],
        }
    )


def _showers(kind: str, seed: int, n: int = 600, scale: float = 1.0) -> Showers:
    """Cells with random shares of the incident energy, a third empty: a scan or a spectrum."""
    rng = np.random.default_rng(seed)
    geometry = _geometry(kind)
    if kind == "polar":
        energy = np.repeat([256.0, 1024.0, 4096.0], n // 3)
    else:
        energy = rng.uniform(200, 9000, n)
    shares = rng.exponential(size=(n, geometry.n_cells)) * (
        rng.random((n, geometry.n_cells)) > 0.3
    )
    shares *= scale / geometry.n_cells
    return Showers(
        (shares * energy[:, None]).astype("f4"), energy[:, None], geometry, {"seed": seed}
    )


def _summaries(kind: str) -> tuple[Summary, Summary, Summary, Summary]:
    reference = summarise(_showers(kind, 1), "reference")
    floor = summarise(_showers(kind, 2), "second", like=reference)
    good = summarise(_showers(kind, 3), "good", like=reference)
    bad = summarise(_showers(kind, 4, scale=1.4), HOSTILE, like=reference)
    return reference, floor, good, bad


@pytest.fixture(scope="module")
def polar() -> tuple[Summary, Summary, Summary, Summary]:
    return _summaries("polar")


@pytest.fixture(scope="module")
def grid() -> tuple[Summary, Summary, Summary, Summary]:
    return _summaries("grid")


def _result(summaries: tuple[Summary, ...]) -> Result:
    """Both generators beside the second reference sample."""
    reference, floor, good, bad = summaries
    return result_of(reference, [good, bad], compare(reference, [good, bad], floor), floor)


@pytest.fixture(scope="module")
def page(
    _coarse_pictures: None, polar: tuple[Summary, ...], tmp_path_factory: pytest.TempPathFactory
) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    timing = ({"name": "good", "batch": 100, "ms_per_shower": 0.01234},)
    write_report(path, replace(_result(polar), timing=timing))
    return path.read_text(encoding="utf-8")


def _without_images(html: str) -> str:
    return re.sub(r'src="data:image/[^"]*"|<script>.*</script>', "", html, flags=re.DOTALL)


def test_page_holds_every_generator_and_figure(page: str, polar: tuple[Summary, ...]) -> None:
    for name in ("good", "&lt;script&gt;alert(1)&lt;/script&gt;", "second", "reference"):
        assert name in page
    text = _without_images(page)
    comparison = compare(polar[0], [polar[2]], polar[1])[0]
    for key, value in comparison.metrics.items():
        assert f"floor {number(value.floor)}" in text, key
    for anchor in ("response", "separation", "layer-energies", "average-showers", "cell-spectra"):
        assert f'id="{anchor}"' in page
    assert "0.0123" in page
    assert "600 against 600" in page
    assert page.count("<img ") == page.count('alt="') > 0
    assert page.count("<svg ") == page.count('aria-label="') - 1 > 0  # and the navigation
    assert page.count("<img ") + page.count("<svg ") == page.count("<figure ") >= 12


def test_page_needs_nothing_else(page: str) -> None:
    text = _without_images(page)
    assert "http:" not in text and "https:" not in text and "//" not in text
    assert set(re.findall("<script[^>]*>", text)) == {'<script type="application/json">'}
    assert "<link" not in text and "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', text))
    assert set(re.findall(r'src="(data:image/\w+)', page)) == {"data:image/png"}
    anchors = set(re.findall(r'id="([^"]*)"', text))
    assert {target[1:] for target in re.findall(r'href="([^"]*)"', text)} <= anchors


def test_hostile_names_stay_text(page: str) -> None:
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


def test_same_input_same_bytes(
    grid: tuple[Summary, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, _, good, bad = grid
    result = result_of(reference, [good, bad], compare(reference, [good, bad]))
    first = write_report(tmp_path / "a.html", result)
    before = dict(matplotlib.rcParams)
    # What the caller has set for figures of their own must not reach the page, nor be changed.
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 9.0)
    second = write_report(tmp_path / "b.html", result)
    assert first.read_bytes() == second.read_bytes()
    assert matplotlib.rcParams["lines.linewidth"] == 9.0
    monkeypatch.undo()
    assert dict(matplotlib.rcParams) == before
    html = first.read_text()
    assert "halves of the reference" in html
    assert "at 300 showers" in html


def test_figures_as_pdf(polar: tuple[Summary, ...], tmp_path: Path) -> None:
    with style():
        picture = response(_result(polar))
    write_page(
        tmp_path / "page.html",
        "One figure",
        [Section("Mine & yours", "<b>text</b>", pictures=(picture,))],
        verbatim="[model]\nname = '<x>'",
        figures_as_pdf=tmp_path / "figures",
    )
    html = (tmp_path / "page.html").read_text()
    assert "Mine &amp; yours" in html and "&lt;b&gt;text" in html and "&lt;x&gt;" in html
    assert [f.name for f in (tmp_path / "figures").iterdir()] == ["response.pdf"]
    pdf = (tmp_path / "figures" / "response.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"CreationDate" not in pdf


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_figure_bytes_are_reproducible(kind: str, polar: tuple[Summary, ...]) -> None:
    made, result = [], _result(polar)
    for _ in range(2):
        with style():
            picture = cell_spectra(result)
            assert picture is not None
            made.append(to_bytes(picture.figure, kind))  # type: ignore[arg-type]
    assert made[0] == made[1]


def test_every_section_of_both_kinds_of_layers(
    polar: tuple[Summary, ...], grid: tuple[Summary, ...]
) -> None:
    for summaries in (polar, grid):
        with style():
            sections = report_sections(_result(summaries))
        pictures = [p for s in sections for p in (*s.pictures, *s.more)]
        assert all(isinstance(p.figure, Figure) and p.alt and p.caption for p in pictures)
        assert len({p.name for p in pictures}) == len(pictures)
        titles = [s.title for s in sections]
        assert titles[0] == "Where they differ" and titles[-1] == "Details"
        for title in ("Energy response", "Layers", "Shower shapes", "Voxels", "Average showers"):
            assert title in titles
        assert "Per incident energy" in titles
        assert ("Correlations" in titles) == (summaries[0].geometry.n_layers > 1)
        captions = {p.name: p.caption for p in pictures}
        rings = "single bin in α has whole rings" in captions["average-showers"]
        assert rings == (summaries is polar)


def test_captions_state_the_numbers(polar: tuple[Summary, ...]) -> None:
    reference, _, _, bad = polar
    result = _result(polar)
    with style():
        pictures: list[Picture | None] = [
            response(result),
            average_maps(result),
            chi2_per_energy(result),
        ]
    means, maps, chi2 = (p.caption for p in pictures if p is not None)
    assert f"{reference.observables['response'].mean():.4g} (Geant4)" in means
    assert f"{bad.observables['response'].mean():.4g} ({HOSTILE})" in means
    assert "hold" in maps and "%" in maps
    assert "Largest: good" in chi2


def test_a_resolution_is_shown_with_its_chi_square_or_not_at_all(
    polar: tuple[Summary, ...],
) -> None:
    """A chi-square of 122 with 10 degrees of freedom has a probability of 10^-21."""
    result = _result(polar)
    shown = result.shown
    well = ResolutionFit(0.08, 0.002, 0.01, 0.001, chi2=9.1, ndf=10)
    badly = replace(well, chi2=122.0)
    good, bad = (
        replace(portrait, fit=fit)
        for portrait, fit in zip(shown.generated, (well, badly), strict=True)
    )
    made = replace(result, shown=replace(shown, second=None, generated=(good, bad)))
    with style():
        picture = linearity(made)
    assert picture is not None
    assert "(8 ± 0.2) % ⊕ (1 ± 0.1) % [good, χ²/NDF 9.1/10]" in picture.caption
    assert f"do not describe the points: {HOSTILE} (χ²/NDF 122/10)" in picture.caption
    lines = [line for ax in picture.figure.axes for line in ax.lines if len(line.get_xdata()) > 9]
    assert {line.get_color() for line in lines} <= {look.color for look in looks(["good"])} | {
        REFERENCE_LOOK.color
    }


def test_numbers_of_chi_square_stand_above_the_curves(polar: tuple[Summary, ...]) -> None:
    """In every panel the text lies above all bins below it, here of a sample that is too high."""
    result = _result(polar)
    *first, last = result.shown.generated
    counts = dict(last.counts)
    for name in (n for n in counts if n.startswith("response") and n != "response"):
        counts[name] = np.linspace(0, 9, len(counts[name])) ** 2
    moved = (*first, replace(last, counts=counts))
    with style():
        picture = response_per_energy(
            replace(result, shown=replace(result.shown, generated=moved))
        )
        assert picture is not None
        to_bytes(picture.figure, "png", 50)
    panels = [ax for ax in picture.figure.axes if ax.texts]
    assert len(panels) == 3
    for ax in panels:
        boxes = [t.get_window_extent() for t in ax.texts]
        inverse = ax.transData.inverted()
        left, low = inverse.transform((min(b.x0 for b in boxes), min(b.y0 for b in boxes)))
        right, _ = inverse.transform((max(b.x1 for b in boxes), 0))
        for patch in ax.patches:
            if isinstance(patch, StepPatch):
                values, edges, _ = patch.get_data()
                below = values[(edges[:-1] < right) & (edges[1:] > left)]
                assert not len(below) or below.max() <= low


def test_floor_of_a_spectrum_is_made_in_the_slices_of_the_reference() -> None:
    geometry = _geometry("grid")
    rng = np.random.default_rng(0)
    energy = rng.uniform(200, 9000, 2400)
    cells = rng.exponential(size=(2400, geometry.n_cells)) * energy[:, None]
    reference = summarise(Showers(cells, energy[:, None], geometry), "reference")
    result = result_of(reference, [reference], compare(reference, [reference]))
    values = floor_chi2(result)
    assert len(values) == len(result.shown.frame.slices) > 1
    assert np.isfinite(values).all()
    assert all(0.3 < v < 2.5 for v in values)


def test_samples_that_do_not_belong_together(
    polar: tuple[Summary, ...], grid: tuple[Summary, ...], tmp_path: Path
) -> None:
    reference, floor, good, _ = polar
    comparisons = compare(reference, [good], floor)
    with pytest.raises(CaloForgeError, match="read-out"):
        result_of(grid[0], [good], comparisons)
    with pytest.raises(CaloForgeError, match="one comparison a sample"):
        result_of(reference, [floor], comparisons)
    with pytest.raises(CaloForgeError, match="at least one set"):
        result_of(reference, [], [])
    empty = replace(good, incident_energy=np.zeros(0))
    with pytest.raises(CaloForgeError, match="holds no showers"):
        result_of(reference, [empty], comparisons)
    with pytest.raises(CaloForgeError, match="expected a folder there"):
        (tmp_path / "file").write_text("")
        write_page(tmp_path / "file" / "r.html", "t", [])
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_report_of_shipped_photons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # All figures of a page are drawn by the command of the README, in test_readme.py.
    monkeypatch.setattr(figures, "FIGURES", figures.FIGURES[:3])
    test, train = (read_showers(sample_path(f"ds1-photons-{part}")) for part in ("test", "train"))
    reference = summarise(test, "test")
    generated = summarise(train, "train", like=reference)
    result = result_of(reference, [generated], compare(reference, [generated]))
    path = write_report(tmp_path / "r.html", result)
    html = path.read_text()
    assert "368 cells in 5 layers" in html
    energies = len(np.unique(reference.incident_energy))
    assert f"256 MeV – 4.19 TeV, {energies} values" in html
    assert energies == 15
