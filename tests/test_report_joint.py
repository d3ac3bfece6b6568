"""Figures of joint results: they hold the numbers they are given; without them there are none."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import load_geometry
from caloforge.judge.compare import compare
from caloforge.judge.comparison import Comparison, Details, Point
from caloforge.judge.folder import Result, result_of
from caloforge.judge.shown.frame import volumes
from caloforge.judge.shown.singles import scaled_distances
from caloforge.judge.summary import Summary, summarise
from caloforge.metrics.base import Value
from caloforge.metrics.inputs import for_trees
from caloforge.metrics.memorising import fractions, memorising
from caloforge.metrics.notes import (
    Auc,
    AucOfSize,
    BoostedNotes,
    ClassifierNotes,
    Giveaway,
    Notes,
    PRDCurve,
)
from caloforge.metrics.protocol import FAST
from caloforge.metrics.resolution import Response
from caloforge.observables.table import observables
from caloforge.report.contents import section
from caloforge.report.figures import copies, correlations, singles, unrolled
from caloforge.report.figures.joint_energy import draw_against_floor
from caloforge.report.figures.prd import draw_prd, prd
from caloforge.report.figures.separation_map import Row, ratios, separation_map
from caloforge.report.style import looks, style
from caloforge.report.tables.giveaways import (
    giveaway_table,
    number_of_features,
    sigmas_of_largest,
    size_table,
)
from caloforge.report.tables.joint import joint_table
from caloforge.report.tables.summary import leaderboard
from caloforge.showers import Showers

ENERGIES = (1024.0, 4096.0, 16384.0)
JOINT = "All features together"


def _showers(geometry: Geometry, seed: int, n: int = 360, tilt: float = 0.0) -> Showers:
    """Random cells, a third of them empty; `tilt` moves energy towards the last layer."""
    rng = np.random.default_rng(seed)
    energy = np.tile(ENERGIES, n // len(ENERGIES))
    cells = rng.exponential(size=(n, geometry.n_cells)) * (rng.random((n, geometry.n_cells)) > 0.3)
    cells *= np.exp(tilt * geometry.layer_of_cell) * energy[:, None] / geometry.n_cells
    return Showers(cells.astype("f4"), energy[:, None], geometry, {"seed": seed})


@pytest.fixture(scope="module")
def samples() -> SimpleNamespace:
    """Summaries: the reference, two generators, a second sample of the reference."""
    geometry = load_geometry("ds1-photons")
    reference = summarise(_showers(geometry, 1), "reference", keep=360)
    good = summarise(_showers(geometry, 2), "good", like=reference, keep=360)
    bad = summarise(_showers(geometry, 3, tilt=1.0), "bad", like=reference, keep=360)
    floor = summarise(_showers(geometry, 4), "second", like=reference, keep=360)
    return SimpleNamespace(reference=reference, generated=[good, bad], floor=floor)


def _joint(comparison: Comparison, auc: float) -> Comparison:
    """The comparison with joint figures as the judge adds them."""
    curve = PRDCurve(np.linspace(1, 0, 11), np.linspace(0, 1, 11) ** 0.1)
    figures = {"auc_high": auc, "fpd": 1e-3 * auc, "precision": 1 - auc, "prd_auc": 1 - auc}
    floors = {"auc_high": 0.5, "fpd": 1e-4, "precision": 0.7, "prd_auc": 0.9}

    def values() -> dict[str, Value]:
        return {k: Value(v, 0.01 * v, floors[k], 100) for k, v in figures.items()}

    made = ClassifierNotes(60, 20, 2, replace(FAST, name="small"))
    details, floor = comparison.details, comparison.details.floor
    assert floor is not None
    notes = Notes("fast", reduced=("fpd",), classifier={"high": made}, prd={"raw": curve})
    return replace(
        comparison,
        metrics=comparison.metrics | values(),
        per_energy={
            e: replace(p, metrics=p.metrics | values()) for e, p in comparison.per_energy.items()
        },
        details=replace(
            details, notes=notes, floor=replace(floor, notes=Notes(prd={"raw": curve}))
        ),
    )


def point(metrics: dict[str, Value]) -> Point:
    """An energy with these figures alone."""
    none = Response(0, None, None, None, None)
    return Point(0, 0, none, none, metrics)


@pytest.fixture(scope="module")
def comparisons(samples: SimpleNamespace) -> list[Comparison]:
    plain = compare(samples.reference, samples.generated, samples.floor)
    return [_joint(c, auc) for c, auc in zip(plain, (0.52, 0.95), strict=True)]


@pytest.fixture(scope="module")
def result(samples: SimpleNamespace, comparisons: list[Comparison]) -> Result:
    return result_of(samples.reference, samples.generated, comparisons, samples.floor)


def _with(result: Result, comparisons: list[Comparison]) -> Result:
    return replace(result, comparisons=tuple(comparisons))


def _ax() -> Axes:
    return Figure().subplots()


def test_points_stand_over_a_band_from_equal_samples_to_the_floor() -> None:
    (look,) = looks(["gan"])
    ax, energy = _ax(), np.array([1.0, 2.0, 4.0])
    value, floor = np.array([0.9, 0.8, 0.7]), np.array([0.55, np.nan, 0.6])
    artists = draw_against_floor(ax, energy, [(look, value, 0 * value)], floor, ideal=0.5)
    assert np.allclose(artists["gan"].lines[0].get_ydata(), value)
    band = artists["floor"].get_paths()[0].vertices
    assert band[:, 1].min() == 0.5 and band[:, 1].max() == 0.6
    assert band[:, 0].max() == 4.0


def test_prd_curves_are_those_of_the_details() -> None:
    (look,) = looks(["gan"])
    recall, precision = np.array([1.0, 0.5, 0.0]), np.array([0.0, 0.8, 1.0])
    artists = draw_prd(_ax(), [(look, recall, precision)], (recall, precision))
    assert np.array_equal(artists["gan"].get_xdata(), recall)
    assert np.array_equal(artists["gan"].get_ydata(), precision)
    assert artists["floor"].get_paths()[0].vertices[:, 1].max() == 1.0


def test_correlations_are_drawn_with_their_numbers() -> None:
    values = np.array([[1.0, -1.0], [-1.0, 1.0]])
    ax = _ax()
    image = correlations.draw_correlations(ax, values, ["a", "b"])
    assert np.array_equal(image.get_array(), values)
    assert [t.get_text() for t in ax.texts][:2] == ["1.00", "−1.00"]


def test_the_matrices_are_those_of_the_metric(samples: SimpleNamespace) -> None:
    """Their root mean square is the metric, which the caption has at the size of its floor."""
    empty = dict(samples.reference.observables)
    empty["layer_energy/12"] = np.zeros(len(samples.reference))
    reference = replace(samples.reference, observables=empty)
    judged = compare(reference, samples.generated)
    result = result_of(reference, samples.generated, judged)
    with style():
        picture = correlations.correlations(result)
    assert picture is not None and "Left out: 1 layer" in picture.caption
    axes = {ax.get_title(loc="left"): ax for ax in picture.figure.axes}
    drawn = np.asarray(axes["bad − Geant4"].images[0].get_array())
    square = (drawn[~np.eye(len(drawn), dtype=bool)] ** 2).mean()
    assert square**0.5 == pytest.approx(judged[1].metrics["correlations"].value, rel=1e-3)
    value = judged[1].sized["correlations"]
    assert value.n == 180 and value.floor is not None
    words = f"{value.value:.2g} (bad at 180 showers, floor {value.floor:.2g})"
    assert words in picture.caption
    assert "halves of Geant4" in axes


def test_long_names_of_generators_do_not_run_into_each_other(samples: SimpleNamespace) -> None:
    """Four generators beside Geant4 fill the first line of matrices and begin another."""
    names = [f"caloshowergan-photon-with-a-long-name-of-its-own{k}" for k in range(4)]
    generated = [replace(samples.generated[1], name=name) for name in names]
    one = compare(samples.reference, samples.generated[1:])[0]
    judged = [replace(one, name=name) for name in names]
    with style():
        picture = correlations.correlations(result_of(samples.reference, generated, judged))
        assert picture is not None
        canvas = FigureCanvasAgg(picture.figure)
        canvas.draw()
        drawn = [
            text.get_window_extent(canvas.get_renderer())
            for ax in picture.figure.axes
            for text in (ax._left_title, ax.title)
            if text.get_text()
        ]
        boxes = [ax.get_window_extent() for ax in picture.figure.axes if ax.images]
    assert len(drawn) == len(boxes) == 10
    for k, title in enumerate(drawn):
        assert not any(title.padded(6).overlaps(other) for other in drawn[k + 1 :])
        assert not any(title.overlaps(box) for box in boxes)
        assert title.x1 < picture.figure.bbox.x1 and title.y1 < picture.figure.bbox.y1


def test_what_stands_beside_a_floor_has_its_number_of_showers(result: Result) -> None:
    """Halves scatter by the root of two more: whole samples beside them look better than they are.

    One separation of 0.01 with all showers, 0.02 with half of them, and a floor of 0.02.
    """
    key, area = "separation_with_flow/response", "prd_auc_raw"
    whole = {key: Value(0.01, 0.001, 0.02, 300), area: Value(0.97, 0.01, 0.95, 300)}
    sized = {key: Value(0.02, 0.001, 0.02, 150), area: Value(0.95, 0.01, 0.95, 150)}
    halves = _with(
        result,
        [
            replace(c, metrics=whole, details=replace(c.details, at_floor_size=sized))
            for c in result.comparisons
        ],
    )
    rows = {row[0].text: row[1] for row in leaderboard(halves).rows}
    cell = rows["separations farthest above their floor"]
    assert cell.text.endswith("0.02 (floor 0.02)") and cell.note == "at 150 showers"
    with style():
        picture, equal = prd(halves), prd(result)
    assert picture is not None and equal is not None
    assert "good has 300 showers, the grey area 150" in picture.caption
    assert "lift a curve" not in equal.caption


def test_map_is_dark_where_the_generator_fails(
    result: Result, comparisons: list[Comparison]
) -> None:
    with style():
        picture = separation_map(result)
    assert picture is not None
    good, bad = (np.asarray(ax.collections[0].get_array()) for ax in picture.figure.axes[:2])
    assert good.shape == bad.shape and good.shape[1] == len(ENERGIES)
    assert np.median(good) < 1.5 < 5 < bad.max()
    assert "Darkest: good" in picture.caption
    stripped = [replace(c, per_energy={}) for c in comparisons]
    assert separation_map(_with(result, stripped)) is None


def test_map_divides_by_the_floor(result: Result) -> None:
    values = {"separation_with_flow/response": Value(0.04, 0.0, 0.04, 180)}
    bad = result.comparisons[1]
    comparison = Comparison("good", {}, {1024.0: point(values)})
    rows = [Row("response", "response", ("separation_with_flow/response",))]
    found = ratios(_with(result, [comparison, bad]), 0, rows, [1024.0, 4096.0])
    assert found[0, 0] == pytest.approx(1.0) and np.isnan(found[0, 1])
    # A floor that is 0 by chance gives way to the error.
    lucky = {"separation_with_flow/response": Value(0.02, 0.01, 1e-9, 360)}
    comparison = Comparison("good", {}, {1024.0: point(lucky)})
    found = ratios(_with(result, [comparison, bad]), 0, rows, [1024.0])
    assert found[0, 0] == pytest.approx(2.0)


def test_copies_are_seen_at_distance_zero(samples: SimpleNamespace, result: Result) -> None:
    reference, train = samples.reference, samples.floor
    features = [
        fractions(s.cells, s.incident_energy[s.cell_rows]) for s in (train, reference, train)
    ]
    labels = tuple(s.incident_energy[s.cell_rows] for s in (train, reference, train))
    found = memorising(*features, labels)  # type: ignore[arg-type]
    copied = replace(train, name="copies")
    comparison = Comparison("copies", {}, details=Details(notes=Notes(memorising=found)))
    with style():
        picture = copies.training_distances(result_of(reference, [copied], [comparison]))
    assert picture is not None
    assert (
        "probability 1" in picture.caption and "rather than held-out showers 1 " in picture.caption
    )
    held_out, generated, relative = scaled_distances(found, reference, copied)
    assert relative and not generated.any() and np.median(held_out) == pytest.approx(1.0)
    assert copies.training_distances(result) is None


def test_the_nearest_shower_of_a_copy_is_the_shower_itself(samples: SimpleNamespace) -> None:
    same = replace(samples.reference, name="same")
    judged = [Comparison("same", {})]
    with style():
        picture = singles.nearest_showers(result_of(samples.reference, [same], judged))
        assert picture is not None and "1.02 GeV: 0 (same)" in picture.caption
        # Nobody gave training showers.
        assert not section(result_of(samples.reference, [same], judged), "Memorising").pictures
        none = replace(samples.reference, cells=np.zeros((0, 368)), cell_rows=np.zeros(0, int))
        assert singles.nearest_showers(result_of(none, [same], judged)) is None


def test_unrolling_keeps_the_energy_and_puts_the_centre_first() -> None:
    geometry = load_geometry("lcd")
    ecal, hcal = volumes(geometry)
    assert (len(ecal), len(hcal)) == (25, 60)
    cells = np.zeros(geometry.n_cells)
    for k in ecal:
        layer = geometry.layers[k]
        cells[geometry.slices[k].start + np.ravel_multi_index((12, 12), layer.shape)] = k + 1.0
    image = unrolled.unroll(cells, geometry, ecal)
    assert image.shape == (25, 625)
    assert np.array_equal(image[:, 0], np.arange(1.0, 26.0)) and not image[:, 1:].any()
    for name in ("ds1-photons", "calogan", "lhcb"):
        assert volumes(load_geometry(name)) == []


def test_unrolled_showers_of_lcd() -> None:
    geometry = load_geometry("lcd")
    rng = np.random.default_rng(0)
    condition = np.tile(
        [50e3 if c.name == "energy" else c.low for c in geometry.conditions], (8, 1)
    )
    cells = rng.exponential(size=(8, geometry.n_cells)).astype("f4")
    reference: Summary = summarise(Showers(cells, condition, geometry), "reference")
    with style():
        judged = [Comparison("reference", {})]
        picture = unrolled.unrolled_average(result_of(reference, [reference], judged))
    assert picture is not None
    titles = [ax.get_title(loc="left") for ax in picture.figure.axes]
    assert any(t.endswith("and 24 more") for t in titles)


def test_joint_figures_have_a_section(result: Result) -> None:
    nothing = _with(result, [Comparison("good", {}), Comparison("bad", {})])
    with style():
        shown = section(result, JOINT)
        without = section(nothing, JOINT)
    assert [p.name for p in shown.pictures] == ["joint-figures-against-energy", "prd-curves"]
    assert len(shown.tables) == 1
    assert not without.pictures and not without.tables


def test_tables_of_joint_figures(result: Result, comparisons: list[Comparison]) -> None:
    table = joint_table(result)
    assert table is not None
    rows = {row[0].text: row for row in table.rows}
    assert set(rows) == {"AUC high", "FPD ×10³ (reduced)", "precision", "PRD-AUC"}
    assert [cell.level for cell in rows["AUC high"][2:]] == ["good", "far"]
    assert rows["FPD ×10³ (reduced)"][3].text == "0.95 ± 0.009"
    assert "N\u00a0=\u00a0100" in rows["AUC high"][2].note
    assert "60 showers of each sample to train on, 20 held out" in table.note
    board = leaderboard(result)
    lines = {row[0].text: row[1:] for row in board.rows}
    assert [cell.text for cell in lines["mean rank"]] == ["1.0", "2.0"]
    assert [cell.level for cell in lines["AUC high"]] == ["good", "far"]
    figures = {"precision": Value(0.5, 0.01, 0.98, 100), "auc_high": Value(0.51, 0.1, 0.5, 100)}
    one = leaderboard(_with(result, [replace(comparisons[0], metrics=figures), comparisons[1]]))
    cell = {row[0].text: row[1] for row in one.rows}["worst metric"]
    assert (cell.text, cell.note) == ("0.5 (floor 0.98)", "precision; 49 % of the way to 0")
    histograms = [replace(c, metrics={}, details=Details()) for c in comparisons]
    assert joint_table(_with(result, histograms)) is None


def test_what_gives_a_generator_away_is_named(
    result: Result, comparisons: list[Comparison]
) -> None:
    features = Giveaway("share_1/2", 0.9, 0.01), Giveaway("width_r/1", 0.5, 0.02)
    curve = tuple(AucOfSize(0.6 + 0.1 * k, 0.01, 90 << k) for k in range(3))
    notes = BoostedNotes(curve, Auc(0.5, 0.02), features)
    less = replace(notes, curve=curve[1:], features=features[1:])
    boosted = _with(
        result,
        [
            replace(c, details=replace(c.details, notes=replace(c.details.notes, boosted=n)))
            for c, n in zip(comparisons, (notes, less), strict=True)
        ],
    )
    table = giveaway_table(boosted)
    assert table is not None and table.columns[1:] == ("good", "bad")
    first, second, alone = table.rows
    assert first[1].text == "share of the largest cell, layer 2 (middle)"
    assert first[1].note == "AUC 0.9 ± 0.01" and first[1].level == "far"
    assert first[2].text == "width in r, layer 1 (front)" and first[2].level == "good"
    assert second[2].text == "–" and alone[1].text == "0.5 ± 0.02"
    sizes = size_table(boosted)
    assert sizes is not None
    assert [row[0].text for row in sizes.rows] == ["1/4 of them", "1/2 of them", "all showers"]
    assert [row[1].text for row in sizes.rows] == ["0.6 ± 0.01", "0.7 ± 0.01", "0.8 ± 0.01"]
    assert [row[2].text for row in sizes.rows] == ["–", "0.7 ± 0.01", "0.8 ± 0.01"]
    assert sizes.rows[2][1].note == "N\u00a0=\u00a0360"
    with style():
        assert len(section(boosted, JOINT).tables) == 3
    assert "150 for 0.6, 600 for 0.55, 15\u202f000 for 0.51" in sizes.note
    # Results without them, as older ones are.
    assert giveaway_table(result) is None
    assert size_table(result) is None


def test_the_largest_of_many_features_may_be_noise(
    result: Result, comparisons: list[Comparison]
) -> None:
    """Of 100 standard normals one exceeds 3.5 with a probability of 2.3 %, as one alone does 2."""
    assert sigmas_of_largest(1) == pytest.approx(2.0)
    assert sigmas_of_largest(100) == pytest.approx(3.50, abs=0.01)
    photons = load_geometry("ds1-photons")
    assert number_of_features(result) == len(
        for_trees(
            dict.fromkeys((o.key for o in observables(photons)), np.zeros(1)),
            np.ones((1, photons.n_cells)),
            np.ones((1, 1)),
            photons,
        )
    ) - len(photons.conditions)
    levels = []
    for sigma in (3.0, 4.5):
        found = (Giveaway("width_r/1", 0.5 + 0.02 * sigma, 0.02),)
        notes = Notes(boosted=BoostedNotes((AucOfSize(0.5, 0.02, 90),), Auc(0.5, 0.02), found))
        one = replace(comparisons[0], details=Details(notes=notes))
        table = giveaway_table(_with(result, [one, comparisons[1]]))
        assert table is not None
        levels.append(table.rows[0][1].level)
    assert levels == ["good", "near"]
