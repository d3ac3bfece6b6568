"""Drawing functions return artists that hold the right numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from caloforge.detector.geometry import Layer
from caloforge.detector.shipped import load_geometry
from caloforge.errors import CaloForgeError
from caloforge.judge.shown.energies import energy_slices, energy_text, means
from caloforge.judge.shown.frame import shown_layers
from caloforge.judge.shown.histograms import Bins, shown_edges
from caloforge.report import curves, images, search
from caloforge.report.distributions import (
    Overlay,
    Series,
    draw_comparison,
    draw_overlay,
    draw_ratio,
)
from caloforge.report.distributions import overlay as overlay_of
from caloforge.report.drawn import names
from caloforge.report.panels import Grid, columns, legend, panel_figure
from caloforge.report.style import FLOOR_LOOK, REFERENCE_LOOK, Look, looks, plain, style
from caloforge.report.tables.cells import number


def _axes(count: int = 1) -> list[Axes]:
    return list(Figure().subplots(count, 1, squeeze=False).ravel())


def _values(seed: int, n: int = 4000) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 0.1, n)


def overlay(
    reference: np.ndarray,
    generated: list[tuple[np.ndarray, Look]],
    floor: np.ndarray | None = None,
    *,
    edges: np.ndarray,
    log: bool = False,
) -> Overlay:
    """Histograms of values (N,)."""
    bins = Bins(edges, log)
    second = None if floor is None else Series(bins.count(floor), FLOOR_LOOK)
    others = [Series(bins.count(values), look) for values, look in generated]
    return overlay_of(Series(bins.count(reference)), others, second, bins)


def test_identical_samples_have_ratio_one_inside_the_floor_band() -> None:
    values = _values(0)
    (look,) = looks(["gan"])
    data = overlay(
        values,
        [(values, look)],
        values,
        edges=shown_edges(values),
    )
    (ax,) = _axes()
    artists = draw_ratio(ax, data)
    drawn = np.asarray(artists["gan"].lines[0].get_ydata())
    filled = np.asarray(data.reference.histogram.values()) > 0
    assert np.array_equal(drawn[filled], np.ones(filled.sum()))
    band = artists["floor band"].get_data()
    counts = data.reference.histogram.values()[filled] * len(values)
    assert np.allclose((band.values - 1)[filled], np.sqrt(2 / counts))
    assert np.allclose(band.values + band.baseline, 2.0)
    assert np.array_equal(artists[FLOOR_LOOK.label].get_data().values[filled], drawn[filled])


def test_ratio_errors_are_those_of_both_samples() -> None:
    (look,) = looks(["gan"])
    edges = np.array([0.0, 1.0, 2.0])
    first = np.repeat([0.5, 1.5], [100, 300])
    second = np.repeat([0.5, 1.5], [50, 50])
    data = overlay(first, [(second, look)], edges=edges)
    (ax,) = _axes()
    container = draw_ratio(ax, data)["gan"]
    assert np.allclose(container.lines[0].get_ydata(), [0.5 / 0.25, 0.5 / 0.75])
    low, high = np.array([s[:, 1] for s in container.lines[2][0].get_segments()]).T
    ratio = np.array([2.0, 2 / 3])
    assert np.allclose(
        (high - low) / 2, ratio * np.sqrt(1 / np.array([100, 300]) + 1 / np.array([50, 50]))
    )


def test_band_grows_when_the_second_sample_is_small() -> None:
    values, few = _values(0), _values(1, 400)
    edges = shown_edges(values, bins=10)
    whole = overlay(values, [], edges=edges)
    small = overlay(values, [], few, edges=edges)
    (ax,) = _axes()
    wide = draw_ratio(ax, small)["floor band"].get_data().values
    narrow = draw_ratio(ax, whole)["floor band"].get_data().values
    filled = whole.reference.histogram.values() > 0
    assert np.allclose(((wide - 1) / (narrow - 1))[-8:-2], np.sqrt((1 + 10) / 2))
    assert filled.any()


def test_under_and_overflow_are_drawn_in_the_end_bins() -> None:
    values = np.concatenate([np.full(5, -3.0), np.linspace(0.01, 0.99, 90), np.full(5, 7.0)])
    data = overlay(values, [], edges=np.linspace(0, 1, 11))
    histogram = data.reference.histogram
    assert histogram.values().sum() == pytest.approx(1.0)
    assert histogram.values()[0] == histogram.values()[-1] == 0.05
    assert len(histogram.values()) == 12
    (ax,) = _axes()
    artists = draw_overlay(ax, data)
    assert artists[REFERENCE_LOOK.label][0].stairs.get_data().values.sum() == pytest.approx(1.0)
    assert ax.get_xlim()[0] < 0 and ax.get_xlim()[1] > 1


def test_zeros_on_a_logarithmic_axis_are_in_the_first_bin() -> None:
    values = np.concatenate([np.zeros(30), np.geomspace(1, 1000, 70)])
    data = overlay(values, [], edges=shown_edges(values, log=True), log=True)
    assert data.reference.histogram.values()[0] == pytest.approx(0.3, abs=0.02)
    assert data.reference.histogram.values().sum() == pytest.approx(1.0)
    (ax,) = _axes()
    draw_overlay(ax, data)
    assert ax.get_xscale() == "log"


@pytest.mark.parametrize("values", [np.zeros(0), np.zeros(9), np.full(9, 4.2), np.full(9, -1e9)])
@pytest.mark.parametrize("log", [False, True])
def test_edges_for_values_without_a_spread(values: np.ndarray, log: bool) -> None:
    edges = shown_edges(values, log=log)
    assert np.isfinite(edges).all() and (np.diff(edges) > 0).all()


def test_empty_reference_is_one_sentence() -> None:
    with pytest.raises(CaloForgeError, match="no showers to draw"):
        overlay(np.zeros(0), [], edges=np.array([0.0, 1.0]))


def test_a_generator_beyond_the_axis_is_named_with_its_share() -> None:
    (look,) = looks(["gan"])
    values = _values(0)
    data = overlay(values, [(values + 9, look)], edges=shown_edges(values))
    top, bottom = _axes(2)
    draw_comparison((top, bottom), data, label="x")
    assert "100 %" in [text.get_text() for text in top.texts]
    assert top.get_ylim()[1] < 0.5
    assert bottom.get_xlabel() == "x"


def test_points_and_their_ratio() -> None:
    x, reference, error = np.array([1.0, 10.0, 100.0]), np.array([2.0, 4.0, 0.0]), np.full(3, 0.2)
    (look,) = looks(["gan"])
    (ax,) = _axes()
    drawn = [(REFERENCE_LOOK, reference, error), (look, 1.1 * reference, error)]
    points = curves.draw_points(ax, x, drawn)["gan"].lines[0]
    assert np.allclose(points.get_ydata(), [2.2, 4.4, 0.0])
    assert np.allclose(points.get_xdata(), x)
    ratio = curves.draw_point_ratio(ax, x, drawn)["gan"].lines[0].get_ydata()
    assert np.allclose(ratio[:2], 1.1) and np.isnan(ratio[2])


def test_history_marks_the_kept_iteration() -> None:
    (ax,) = _axes()
    steps, chi2 = np.array([100, 200, 300]), np.array([5.0, 2.0, 3.0])
    artists = curves.draw_chi2_history(ax, steps, chi2, chosen=200, floor=1.1)
    assert artists["chosen"].get_ydata() == [2.0]
    assert artists["floor"].get_ydata()[0] == 1.1
    assert "iteration 200, χ²/NDF 2" in artists["chosen"].get_label()
    with pytest.raises(CaloForgeError, match="not among"):
        curves.draw_chi2_history(ax, steps, chi2, chosen=150)
    with pytest.raises(CaloForgeError, match="two equal"):
        curves.draw_chi2_history(ax, steps, chi2[:2])


def test_chi2_points_ranking_and_profile() -> None:
    first, second = looks(["a", "b"])
    (ax,) = _axes()
    artists = curves.draw_chi2_points(
        ax, ["1 GeV", "2 GeV"], [(first, [3.0, np.nan])], [1.0, 1.2], [2, 8]
    )
    assert artists["a"].get_ydata()[0] == 3.0
    assert list(artists["floor"].get_data().values) == [1.0, 1.2]
    assert list(artists["band"].get_data().values) == [2.0, 1.5]
    (ax,) = _axes()
    artists = curves.draw_ranking(
        ax, ["x", "y"], [(first, [0.1, 0.2]), (second, [0.0, 0.4])], None
    )
    assert artists["b"].get_xdata()[0] == ax.get_xlim()[0]  # nothing is lost on a log axis
    assert [t.get_text() for t in ax.get_yticklabels()] == ["x", "y"]
    (ax,) = _axes()
    profile = [(REFERENCE_LOOK, np.array([1.0, 2.0]), np.zeros(2))]
    drawn = curves.draw_profile(ax, np.array([0.0, 1.0, 2.0]), profile)
    assert list(drawn[REFERENCE_LOOK.label].get_data().values) == [1.0, 2.0]


def test_discs_and_maps_hold_the_cells() -> None:
    geometry = load_geometry("ds1-photons")
    layer = geometry.layers[1]
    cells = np.arange(layer.size, dtype=float)
    norm = images.energy_norm([cells])
    (ax,) = _axes()
    mesh = images.draw_disc(ax, layer, cells, norm)
    assert mesh.get_array().max() == layer.size - 1
    x, y = mesh.get_coordinates()[..., 0], mesh.get_coordinates()[..., 1]
    assert np.hypot(x, y).max() == pytest.approx(layer.edges[1][-1])
    inner = images.draw_disc(ax, layer, cells, norm, radius=20.0)
    assert np.hypot(*np.moveaxis(inner.get_coordinates(), -1, 0)).max() == pytest.approx(20.0)
    flat = images.draw_map(ax, layer, cells, norm)
    assert np.ma.allequal(flat.get_array(), cells.reshape(layer.shape))
    assert flat.get_array().mask.sum() == 1  # the one empty cell stays white
    grid = load_geometry("calogan").layers[0]
    drawn = images.draw_map(ax, grid, np.arange(grid.size, dtype=float), norm)
    assert np.ma.allequal(drawn.get_array(), np.arange(grid.size).reshape(grid.shape).T)


def test_core_ratio_and_shown_layers() -> None:
    geometry = load_geometry("ds1-photons")
    layer = geometry.layers[0]
    assert images.core_radius(layer, np.array([1.0] + [0.0] * 7)) == layer.edges[1][1]
    assert images.core_radius(layer, np.zeros(8)) == layer.edges[1][-1]
    void = Layer(0, "void", "polar", ("alpha", "r"), ((-np.pi, np.pi), (0.0,)))
    assert images.core_radius(void, np.zeros(0)) == 0
    found = images.ratio(np.array([2.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0]))
    assert found[0] == 2.0 and np.isnan(found[1]) and 0 < found[2] < images.RATIO_NORM[0]
    assert images.energy_norm([]).vmax == 1.0
    assert shown_layers(geometry, np.ones(geometry.n_cells)) == (0, 1, 2, 3, 4)
    lcd = load_geometry("lcd")
    mean = np.zeros(lcd.n_cells)
    mean[lcd.slices[10]] = 1.0
    shown = shown_layers(lcd, mean)
    assert len(shown) == 6 and 10 in shown and shown == tuple(sorted(set(shown)))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.2e3, 8e5, ["10⁴", "10⁵"]),
        (0.2, 5000.0, ["1", "10", "100", "1000"]),
        (3.9, 99.0, ["5", "10", "20", "50"]),
        (38.0, 66.0, ["40", "50", "60"]),
        (1.1e-7, 9e-7, ["2·10⁻⁷", "5·10⁻⁷"]),
        (1e-12, 1.0, ["10⁻¹²", "10⁻⁹", "10⁻⁶", "10⁻³", "10⁰"]),
    ],
)
def test_a_logarithmic_axis_has_numbers(low: float, high: float, expected: list[str]) -> None:
    """However short or long it is, and not only at powers of ten."""
    (ax,) = _axes()
    curves.draw_points(ax, np.array([low, high]), [(looks(["a"])[0], np.ones(2), np.zeros(2))])
    ax.set_xlim(low, high)
    ax.figure.draw_without_rendering()
    shown = "".maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
    texts = []
    for label in ax.get_xticklabels():
        text = label.get_text().removeprefix(r"$\mathdefault{").removesuffix("}$")
        number, _, power = text.replace(r"\cdot", "·").partition("^")
        texts.append(number + power.strip("{}").translate(shown))
    assert texts == expected


def test_trials_and_whole_settings_of_a_search_have_no_fractions() -> None:
    settings = [{"rate": 2e-4, "steps": 6}, {"rate": 4e-4, "steps": 7}]
    found = {
        "objectives": [{"name": "a", "label": "A", "direction": "minimize"}],
        "space": {
            "rate": {"low": 1e-5, "high": 1e-3, "log": True},
            "steps": {"low": 1, "high": 10, "log": False},
        },
        "trials": [
            {"number": k, "state": "complete", "values": [1.0 + k], "params": params}
            for k, params in enumerate(settings)
        ],
    }
    with style():
        figure = search._slices(found, 0).figure
        figure.draw_without_rendering()
    rate, steps, bar = figure.axes
    for ax, expected in ((steps, {"6", "7"}), (bar, {"0", "1"})):
        shown = {re.sub(r"[^\d.]", "", label.get_text()) for label in ax.get_xticklabels()}
        assert expected <= shown and not any("." in text for text in shown)
    # Numbers beside each other would overlap.
    assert not any(label.get_text() for label in rate.get_xticklabels(minor=True))


def test_energy_slices_and_means() -> None:
    points = np.repeat([256.0, 512.0], 50)
    low, high = energy_slices(points)
    assert low.is_point and low.label == "256 MeV" and high.energy == 512
    assert low.select(points * (1 + 5e-6)).sum() == 50
    found = means(points, points, (low, high))
    assert list(found.mean) == [256, 512] and list(found.error) == [0, 0]
    spectrum = np.linspace(1e3, 1e6, 4000)
    slices = energy_slices(spectrum)
    assert len(slices) > 1
    assert sum(int(s.select(spectrum).sum()) for s in slices) == len(spectrum)
    edges = np.repeat(np.geomspace(1e3, 1e5, 50), 100)  # an edge of two slices is in one of them
    assert sum(int(s.select(edges).sum()) for s in energy_slices(edges)) == len(edges)
    assert slices[0].label.startswith("1 GeV")
    assert [energy_text(e) for e in (0.5, 999.9, 4194304.0)] == ["0.5 MeV", "1 GeV", "4.19 TeV"]


def test_labels_cannot_be_markup() -> None:
    assert plain("$x^2$") == r"\$x^2\$"
    assert plain("_hidden") == " _hidden"
    assert plain("a\nb\u200b") == "a?b?"
    assert len(plain("x" * 500)) == 36
    figure = Figure()
    legend(figure, looks([f"a very long name of generator {k}" for k in range(9)]), floor=True)
    assert len(figure.legends[0].get_texts()) == 12
    assert len({(look.color, str(look.line)) for look in looks(["g"] * 12)}) == 12


def test_panels_fill_rows_evenly() -> None:
    assert [columns(n, 5) for n in (0, 1, 5, 6, 11)] == [1, 1, 5, 3, 4]
    figure, pairs = panel_figure(7, Grid(columns=4))
    assert len(pairs) == 7 and len(figure.axes) == 14
    _, alone = panel_figure(1, Grid(ratio=0))
    assert alone[0][0] is alone[0][1]


def test_numbers_and_words() -> None:
    assert [number(x) for x in (None, float("nan"), 0.0, 1.234, 1.2e-5)] == [
        "–", "–", "0", "1.23", "1.20e-05",
    ]  # fmt: skip
    assert names(["a"]) == "a" and names(["a", "b", "c"]) == "a, b and c" and names([]) == ""
