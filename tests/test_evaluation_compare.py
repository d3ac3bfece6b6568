"""Summary, comparison and results: streaming, floors, every read-out, bad input."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from caloforge.data import read_showers
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import load_geometry
from caloforge.errors import DataError
from caloforge.judge import summary as summary_module
from caloforge.judge.compare import compare
from caloforge.judge.comparison import Floor
from caloforge.judge.pairs import How
from caloforge.judge.results import markdown_table, to_json, write_results
from caloforge.judge.shown.content import measure
from caloforge.judge.summary import Summary, summarise
from caloforge.metrics.notes import Notes
from caloforge.observables.table import observables
from caloforge.showers import Showers


def toy(number=1200, seed=0, scale=1.0, spectrum=False):
    """Photon-like showers: a falling profile in every layer, total energy smeared by 10 %."""
    geometry = load_geometry("ds1-photons")
    rng = np.random.default_rng(seed)
    scan = 2.0 ** (10 + np.arange(number) % 4)
    incident = 10 ** rng.uniform(3, 5, number) if spectrum else scan
    profile = rng.gamma(0.5, 1.0, (number, geometry.n_cells))
    profile /= profile.sum(axis=1, keepdims=True)
    energies = profile * (incident * scale * rng.normal(1, 0.1, number))[:, None]
    return Showers(energies, incident[:, None], geometry, {"producer": "toy", "seed": seed})


@pytest.fixture(scope="module")
def reference() -> Summary:
    return summarise(toy(), "reference")


def test_a_layer_without_voxels_is_left_out() -> None:
    """Binning files of the CaloChallenge have such layers."""
    rings = {"kind": "polar", "alpha_bins": 2, "r_edges": [0, 5, 10]}
    table = {
        "name": "hollow",
        "particles": ["e-"],
        "conditions": [{"name": "energy", "unit": "MeV", "low": 1e3, "high": 1e5}],
        "layers": [
            {"id": 0, "name": "front", **rings},
            {"id": 1, "name": "void", "kind": "polar", "alpha_bins": 1, "r_edges": [0]},
            {"id": 2, "name": "back", **rings},
        ],
    }
    geometry = Geometry.from_dict(table)
    rng = np.random.default_rng(0)
    incident = np.repeat([[1e3], [5e4]], 100, axis=0)
    parts = [
        Showers(rng.gamma(1, 0.1 * incident, (200, geometry.n_cells)), incident, geometry, {})
        for _ in range(2)
    ]
    first = summarise(parts[0], "first")
    second = summarise(parts[1], "second", like=first)
    (found,) = compare(first, [second])
    assert "correlations" in found.metrics
    shown = measure(first, [second])
    assert shown.frame.layers == (0, 2)
    assert shown.reference.profiles[0].mean[1] == 0


def test_energies_in_two_roundings_have_one_mean_shower() -> None:
    """As in a file joined of parts in single and in double precision."""
    exact = toy(number=400)
    exact = replace(exact, conditions=exact.conditions / 3)
    rounded = replace(exact, conditions=exact.conditions.astype(np.float32).astype(float))
    joined, alone = summarise(Showers.concatenate([exact, rounded])), summarise(exact)
    assert len(joined.points) == len(alone.points) == 4
    np.testing.assert_allclose(joined.mean_cells, alone.mean_cells, rtol=1e-6)


def same(first: Summary, second: Summary) -> None:
    for key, values in first.observables.items():
        np.testing.assert_allclose(second.observables[key], values, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(second.mean_cells, first.mean_cells, rtol=1e-12)
    for name in (
        "conditions",
        "incident_energy",
        "points",
        "cell_spectrum",
        "cell_separation_edges",
        "cell_separation_counts",
        "examples",
        "example_conditions",
    ):
        np.testing.assert_array_equal(getattr(second, name), getattr(first, name), err_msg=name)


# --- summary -------------------------------------------------------------------------------------
def test_summary_of_showers():
    showers = toy()
    cut = showers.after_cut().energies.astype(float)
    summary = summarise(showers)
    assert len(summary) == 1200 and summary.name == "showers"
    np.testing.assert_array_equal(summary.points, [1024, 2048, 4096, 8192])
    np.testing.assert_allclose(summary.mean_cells[0], cut.mean(axis=0), rtol=1e-10)
    at_2048 = cut[showers.incident_energy == 2048]
    np.testing.assert_allclose(summary.mean_cells[2], at_2048.mean(axis=0), rtol=1e-10)
    assert summary.cell_spectrum.sum() == np.count_nonzero(cut)
    for k, where in enumerate(showers.geometry.slices):
        assert summary.cell_spectrum[k].sum() == np.count_nonzero(cut[:, where])
    # Every cell is counted once, the empty ones as underflow.
    assert summary.cell_separation_counts.sum() == cut.size
    assert summary.cell_separation_counts[:, 0].sum() == np.count_nonzero(cut == 0)
    assert summary.cell_separation_counts[:, -1].sum() == 0
    for k in (0, 7):
        one = np.histogram(cut[k], bins=summary.cell_separation_edges)[0]
        np.testing.assert_array_equal(summary.cell_separation_counts[k, 1:-1], one)


def test_summary_cell_spectrum_is_a_histogram():
    showers = toy(100)
    summary = summarise(showers)
    cut = showers.after_cut().energies.astype(float)
    expected = np.histogram(cut[cut > 0], bins=summary.cell_spectrum_edges)[0]
    # The bin is found in float32: a cell within rounding of an edge may move to the next bin.
    assert np.abs(summary.cell_spectrum.sum(axis=0) - expected).sum() <= 4


def test_the_size_of_the_chunks_does_not_matter(monkeypatch):
    showers = toy(500)
    whole = summarise(showers)
    monkeypatch.setattr(summary_module, "CHUNK_BYTES", 37 * 4 * 368)
    same(whole, summarise(showers))


def test_a_spectrum_has_no_points():
    summary = summarise(toy(500, spectrum=True))
    assert len(summary.points) == 0 and summary.mean_cells.shape == (1, 368)


def test_a_spectrum_found_late_is_a_spectrum(monkeypatch):
    """Chunks of ten energies each look like scans; together they are none."""
    showers = toy(200, spectrum=True)
    monkeypatch.setattr(summary_module, "CHUNK_BYTES", 10 * 4 * 368)
    summary = summarise(showers)
    assert len(summary.points) == 0
    np.testing.assert_allclose(
        summary.mean_cells[0], showers.after_cut().energies.mean(axis=0, dtype=float), rtol=1e-10
    )


def test_examples_are_spread_over_energy():
    summary = summarise(toy())
    energies = summary.example_conditions[:, 0]
    assert np.all(np.diff(energies) >= 0) and summary.examples.shape == (32, 368)
    assert [np.count_nonzero(energies == p) for p in summary.points] == [8, 8, 8, 8]


def test_summary_of_a_file_equals_that_of_its_showers(shared, monkeypatch):
    path = shared / "ds1_pions_test.hdf5"
    monkeypatch.setattr(summary_module, "CHUNK_BYTES", 200 * 4 * 533)
    ticks = []
    from_file = summarise(path, progress=lambda done, total: ticks.append((done, total)))
    same(summarise(read_showers(path)), from_file)
    assert from_file.name == "ds1_pions_test"
    assert from_file.provenance["file"] == "ds1_pions_test.hdf5"
    assert ticks[-1] == (2440, 2440) and len(ticks) == 14


def test_summary_refuses_nothing_and_silence(reference):
    geometry = load_geometry("ds1-photons")
    with pytest.raises(DataError, match="no showers"):
        summarise(Showers(np.zeros((0, 368)), np.zeros((0, 1)), geometry), "empty")
    with pytest.raises(DataError, match="deposits any energy above the cut of 1 MeV"):
        summarise(Showers(np.full((5, 368), 0.5), np.full((5, 1), 256.0), geometry))
    calogan = load_geometry("calogan")
    other = Showers(np.ones((5, 504)), np.tile([2000.0, 0, 0, 0.1, 0.1], (5, 1)), calogan)
    with pytest.raises(DataError, match="expected the same read-out"):
        summarise(other, like=reference)
    with pytest.raises(DataError, match="read-out"):
        summarise(other, geometry=geometry)


# --- comparison ----------------------------------------------------------------------------------
def test_a_sample_against_itself(reference):
    (result,) = compare(reference, [replace(reference, name="copy")])
    for key, value in result.metrics.items():
        assert value.value == 0, key
        assert value.n == 1200
        assert value.floor is not None and value.floor >= 0
    assert result.name == "copy" and not result.details.warnings
    floor = replace(result.details.floor, notes=Notes())
    assert floor == Floor("halves of the reference", n_reference=600, n=600)


def test_the_contract_of_the_keys(reference):
    (result,) = compare(reference, [summarise(toy(seed=1), "good", like=reference)])
    keys = [o.key for o in observables(reference.geometry)]
    expected = {"chi2_ndf_energy", "correlations", "response_bias"}
    expected |= {"separation/voxel_energy", "separation_with_flow/voxel_energy"}
    for family in ("separation", "separation_with_flow", "wasserstein"):
        expected |= {f"{family}/{key}" for key in keys}
    assert set(result.metrics) == expected
    assert set(result.details.at_floor_size) == expected
    assert list(result.per_energy) == [1024, 2048, 4096, 8192]
    point = result.per_energy[2048]
    assert point.separation_response.n == 300
    assert point.ndf > 20 and point.n_generated == 300
    # Value and floor are made with the same number of showers: half of the reference's.
    value = point.metrics["separation_with_flow/response"]
    assert value.n == 150 and value.floor is not None
    assert point.reference.resolution == pytest.approx(0.1, rel=0.15)
    assert result.details.resolution_fit_generated.constant == pytest.approx(0.1, rel=0.2)


def test_good_showers_sit_on_the_floor_and_bad_ones_above(reference):
    good, bad = compare(
        reference,
        [
            summarise(toy(seed=1), "good", like=reference),
            summarise(toy(seed=2, scale=1.1), "bad", like=reference),
        ],
        floor=summarise(toy(seed=3), "second", like=reference),
    )
    for key in ("chi2_ndf_energy", "separation/response", "wasserstein/response"):
        assert abs(good.metrics[key].value - good.metrics[key].floor) < 5 * good.metrics[key].error
        assert bad.metrics[key].value > bad.metrics[key].floor + 3 * bad.metrics[key].error
    assert good.details.floor.kind == "second reference sample 'second'"
    assert not good.details.at_floor_size


def test_the_floor_has_the_size_of_the_generated_sample(reference):
    small = summarise(toy(300, seed=1), "small", like=reference)
    big = summarise(toy(2400, seed=3), "second", like=reference)
    (result,) = compare(reference, [small], floor=big)
    assert result.details.floor.n == 300
    (result,) = compare(reference, [small])
    assert result.details.floor.n == 300
    (result,) = compare(reference, [big], floor=small)
    assert result.details.floor.n == 300
    assert result.details.at_floor_size["separation/response"].n == 300
    # Fewer showers, more chance separation.
    at_floor = result.details.at_floor_size["separation/response"].value
    assert at_floor > result.metrics["separation/response"].value


def test_compare_is_reproducible_and_its_seed_matters(reference):
    generated = [summarise(toy(seed=1), like=reference)]
    first, again, other = (compare(reference, generated, how=How(seed=s)) for s in (0, 0, 1))
    assert first == again
    key = "separation/response"
    assert first[0].metrics[key].floor != other[0].metrics[key].floor
    assert first[0].metrics[key].value == other[0].metrics[key].value


def test_warnings_say_what_makes_figures_hard_to_read(reference):
    showers = toy(seed=1)
    generated = summarise(showers[showers.incident_energy > 2000], "other mixture")
    (result,) = compare(reference, [generated])
    assert "separation/voxel_energy" not in result.metrics
    mixture, voxels = result.details.warnings
    assert "mixtures" in mixture and "like=reference" in voxels
    few = summarise(toy(40, seed=1), "few", like=reference)
    (result,) = compare(reference, [few])
    assert "chi2_ndf_energy" not in result.metrics
    sizes, left_out = result.details.warnings
    assert "40 generated showers meet 1200" in sizes and "Chi-square" in left_out
    assert len(result.details.chi2_left_out) == 4


def test_compare_refuses_other_read_outs_and_single_showers(reference):
    geometry = load_geometry("calogan")
    conditions = np.tile([2000.0, 0, 0, 0.1, 0.1], (5, 1))
    other = summarise(Showers(np.ones((5, 504)), conditions, geometry), "calogan showers")
    with pytest.raises(DataError, match="'calogan showers' has the read-out 'calogan'"):
        compare(reference, [other])
    with pytest.raises(DataError, match="expected the same read-out"):
        compare(reference, [reference], floor=other)
    single = summarise(toy(1), "single", like=reference)
    with pytest.raises(DataError, match="'single' holds 1 showers; expected at least 4"):
        compare(reference, [single])
    with pytest.raises(DataError, match="'single' holds 1 showers"):
        compare(single, [reference])


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("ds1_photons_train.hdf5", "ds1_photons_test.hdf5"),
        ("ds1_pions_train.hdf5", "ds1_pions_test.hdf5"),
        ("calogan_eplus_train.hdf5", "calogan_eplus_test.hdf5"),
        ("atlas_cells_photons_train.hdf5", "atlas_cells_photons_test.hdf5"),
        ("lhcb_electrons_train.npz", "lhcb_electrons_test.npz"),
        pytest.param("lcd_train.h5", "lcd_test.h5", marks=pytest.mark.slow),
    ],
)
def test_geant4_sits_on_its_floor_in_every_read_out(shared, tmp_path, train, test):
    reference = summarise(shared / train)
    judged = summarise(shared / test, like=reference)
    (result,) = compare(reference, [judged])
    chi2 = result.metrics["chi2_ndf_energy"]
    print(f"{test}: chi2/ndf {chi2.value:.3f} +- {chi2.error:.3f}, floor {chi2.floor:.3f}")
    assert abs(chi2.value - 1) < 4 * chi2.error
    figures = {k: v for k, v in result.metrics.items() if k.startswith("separation/")}
    above = [
        key
        for key, v in result.details.at_floor_size.items()
        if key in figures and v.error is not None and v.value > v.floor + 5 * v.error + 1e-9
    ]
    assert len(above) <= 0.02 * len(figures), above
    fit = result.details.resolution_fit_reference
    # The 1000 LCD showers make two slices, too few for two terms.
    assert fit is None if train.startswith("lcd") else fit.stochastic > 0.001
    write_results(tmp_path / "results.json", reference, [result])
    back = json.loads((tmp_path / "results.json").read_text())
    assert back["reference"]["n"] == len(reference)


# --- results -------------------------------------------------------------------------------------
def test_results_are_json_without_nan(reference, tmp_path):
    comparisons = compare(reference, [summarise(toy(300, seed=1), "a|b", like=reference)])
    path = tmp_path / "results.json"
    extra = {"timing": {"cpu": np.float64(0.5), "gpu": float("nan")}, "array": np.arange(2)}
    write_results(path, reference, comparisons, extra)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    results = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert results == to_json(reference, comparisons, extra)
    assert results["schema"] == {"name": "caloforge-results", "version": 1}
    assert results["reference"]["geometry_hash"] == reference.geometry.hash
    assert results["timing"] == {"cpu": 0.5, "gpu": None} and results["array"] == [0, 1]
    figure = results["generators"]["a|b"]["metrics"]["separation/response"]
    assert set(figure) == {"value", "error", "floor", "n", "floor_error"}
    assert figure["value"] == comparisons[0].metrics["separation/response"].value
    assert set(results["generators"]["a|b"]["per_energy"]) == {"1024", "2048", "4096", "8192"}


def test_results_refuse_two_of_one_name(reference):
    (one,) = compare(reference, [reference])
    with pytest.raises(DataError, match="one name"):
        to_json(reference, [one, one])
    with pytest.raises(DataError, match="already have a key 'schema'"):
        to_json(reference, [one], {"schema": 2})


def test_the_leaderboard_gives_every_figure_its_floor(reference):
    comparisons = compare(
        reference,
        [
            summarise(toy(seed=1), "good", like=reference),
            summarise(toy(seed=2, scale=1.1), "a|b"),
        ],
    )
    lines = markdown_table(comparisons).splitlines()
    assert lines[0].startswith("| generator | N | χ²/NDF of E_tot |")
    good = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    value = comparisons[0].details.at_floor_size["chi2_ndf_energy"]
    assert good[0] == "good" and good[1] == "600"
    assert good[2] == f"{value.value:.3g} ± {value.error:.1g} ({value.floor:.3g})"
    assert all("(" in cell for cell in good[2:-1])
    assert lines[0].endswith("| mean rank |") and good[-1] == "1.2"  # one tie
    assert lines[3].startswith(r"| a\|b |") and re.search(
        r"\| – \| 1\.\d \|$|\| – \| 2\.0 \|$", lines[3]
    )
    # One generator has no rank.
    assert "mean rank" not in markdown_table(comparisons[:1])
