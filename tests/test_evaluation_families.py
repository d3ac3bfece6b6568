"""Families of observables: closed forms, symmetries and sanity on Geant4 showers."""

import numpy as np
import pytest

from caloforge.data import read_showers
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import geometry_names, load_geometry
from caloforge.detector.symmetries import symmetry
from caloforge.errors import DataError
from caloforge.observables import clusters, impact, inclination
from caloforge.observables.features import compute
from caloforge.observables.table import FAMILIES, observables, response_edges
from caloforge.showers import Showers


def showers_of(name, *hits, conditions=None):
    """One shower with the given (layer position, cell in the layer, MeV)."""
    geometry = load_geometry(name)
    energies = np.zeros((1, geometry.n_cells))
    for layer, cell, energy in hits:
        energies[0, geometry.slices[layer].start + cell] = energy
    row = [c.high for c in geometry.conditions] if conditions is None else conditions
    return Showers(energies, np.array([row], dtype=float), geometry)


def inclined(px, py, x=0.0, y=0.0, *hits):
    """An LHCb shower with momentum (px, py, 10 GeV) and impact (x, y)."""
    geometry = load_geometry("lhcb")
    return showers_of("lhcb", *hits, conditions=[px, py, 10_000.0, x, y]), geometry.layers[0]


# --- every geometry ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", geometry_names())
def test_families_give_their_rows_and_empty_showers_are_finite(name):
    geometry = load_geometry(name)
    low = np.array([[c.low for c in geometry.conditions]] * 3)
    showers = Showers(np.zeros((3, geometry.n_cells)), low, geometry)
    known = {}
    for family in FAMILIES:
        found = family.values(showers, known)
        assert set(found) == {row.key for row in family.rows(geometry)}, family.name
        known |= found
    for row in observables(geometry):
        values = known[row.key]
        assert values.shape == (3,) and values.dtype == np.float64
        assert np.all(values == (1.0 if row.key.startswith("sparsity/") else 0.0)), row.key
        number, start, end = row.bins
        assert number > 0 and end > start and row.label and row.source


def test_limits_of_the_geometry_file_are_the_axes():
    plain = load_geometry("lhcb").to_dict()
    plain["layers"][0]["limits"] = {"centre": 50.0, "width": 20.0, "centre_r": 70.0}
    plain["limits"] = {
        "response": [0.1, 0.3],
        "response_at": [{"energy": 10, "low": 0, "high": 2}],
    }
    geometry = Geometry.from_dict(plain)
    axes = {row.key: row.bins[1:] for row in observables(geometry)}
    assert axes["centre_x/0"] == (-50, 50) and axes["width_y/0"] == (0, 20)
    assert axes["centre_r/0"] == (0, 70) and axes["width_r/0"] == (0, np.hypot(300, 300) / 2)
    assert axes["response"] == (0.1, 0.3)
    # Without an effective depth, offsets are those from the impact.
    assert "offset_along" not in axes and axes["offset_x/0"] == (-20, 20)
    spread = np.array([1.0, 3.0])
    np.testing.assert_allclose(response_edges(geometry, 20.0, spread), np.linspace(0, 2, 21))
    assert response_edges(geometry, 5.0, spread)[[0, -1]].tolist() == [-1.0, 5.0]


def test_whole_numbers_have_bins_of_equally_many_values():
    values = np.arange(0, 1001, dtype=float)
    row = next(o for o in observables(load_geometry("lhcb")) if o.key == "cells_above_1")
    edges = row.edges(values)
    counts = np.histogram(values, edges)[0]
    assert len(edges) <= 101 and counts.sum() == 1001 and set(counts[:-1]) == {11}
    assert row.edges(np.array([4.0, 6.0])).tolist() == [3.5, 4.5, 5.5, 6.5]


# --- CaloGAN -------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["calogan", "atlas-cells", "ds1-photons", "ds1-pions"])
def test_a_shower_in_one_layer(name):
    for position, layer in enumerate(load_geometry(name).layers):
        values = compute(showers_of(name, (position, 0, 70.0), (position, 1, 30.0)))
        assert values["depth"] == position and values["shower_depth"] == pytest.approx(position)
        assert values["lateral_depth"] == pytest.approx(100 * position)
        assert values["shower_depth_width"] == pytest.approx(0, abs=1e-9)
        assert values[f"fraction/{layer.id}"] == 1
        assert values[f"eratio/{layer.id}"] == pytest.approx(0.4)


def test_depth_of_two_layers():
    values = compute(showers_of("calogan", (0, 5, 30.0), (2, 7, 10.0)))
    assert values["depth"] == 2 and values["lateral_depth"] == 20
    assert values["shower_depth"] == 0.5
    assert values["shower_depth_width"] == pytest.approx(np.sqrt(4 * 0.25 - 0.25))
    assert [values[f"fraction/{k}"][0] for k in range(3)] == [0.75, 0.0, 0.25]


def test_eratio_is_one_for_a_single_cell_and_zero_for_two_equal_ones():
    assert compute(showers_of("calogan", (1, 5, 3.0)))["eratio/1"] == 1
    assert compute(showers_of("calogan", (1, 5, 3.0), (1, 140, 3.0)))["eratio/1"] == 0


# --- ATLAS ---------------------------------------------------------------------------------------
CENTRE = 3 * 7 + 3


def test_windows_of_the_middle_layer():
    # 8 in the centre, 4 two cells aside in phi, 2 three cells aside in phi, 2 two aside in eta.
    hits = [(2, CENTRE, 8.0), (2, CENTRE + 2, 4.0), (2, CENTRE - 3, 2.0), (2, CENTRE + 14, 2.0)]
    values = compute(showers_of("atlas-cells", *hits))
    assert values["r_eta"] == pytest.approx(14 / 16)
    assert values["r_phi"] == pytest.approx(8 / 14)
    assert values["w_eta2"] == 0
    pair = compute(showers_of("atlas-cells", (2, CENTRE + 7, 5.0), (2, CENTRE - 7, 5.0)))
    assert pair["w_eta2"] == pytest.approx(0.025)


def test_strip_variables():
    strips = np.zeros((5, 56, 3))
    strips[0, 20, 1] = 5.0
    strips[1, 20:23, 0] = 2.0, 3.0, 1.0
    strips[2, [10, 30], [0, 2]] = 4.0
    strips[3, [10, 11, 12, 13], 1] = 8.0, 7.0, 1.0, 2.0  # 7 is a shoulder, 2 a maximum
    values = clusters.strip_variables(strips)
    assert values["w_eta1"].tolist() == pytest.approx([0, np.sqrt(0.5), 0, np.sqrt(7 / 15), 0])
    assert values["eratio_maxima"].tolist() == pytest.approx([1, 1, 0, 0.6, 0])
    mirrored = clusters.strip_variables(strips[:, ::-1])
    for key, numbers in values.items():
        np.testing.assert_allclose(mirrored[key], numbers)


def test_offsets_follow_the_impact_and_its_reflection(shared):
    showers = read_showers(shared / "atlas_cells_photons_test.hdf5")
    values = compute(showers)
    hit = showers.incident_energy > 8000
    for key in ("offset_eta/1", "offset_eta/2", "offset_phi/2"):
        offset = values[key][hit]
        assert abs(offset.mean()) < 5 * offset.std() / np.sqrt(hit.sum()), key
        assert offset.std() < 6
    assert 0.9 < values["r_eta"].mean() < 1 and 0.9 < values["r_phi"].mean() < 1
    assert 0.009 < values["w_eta2"].mean() < 0.013 and 0.5 < values["w_eta1"].mean() < 0.7
    element = symmetry(showers.geometry, "reflect-eta")
    mirrored = compute(
        Showers(
            showers.energies[:, element.permutation],
            showers.conditions @ element.matrix.T + element.offset,
            showers.geometry,
        )
    )
    for key in ("offset_eta/1", "offset_eta/3", "average_eta"):
        np.testing.assert_allclose(mirrored[key], -values[key], atol=1e-6)
    for key in ("w_eta2", "r_eta", "r_phi", "offset_phi/1", "depth"):
        np.testing.assert_allclose(mirrored[key], values[key], rtol=1e-9, atol=1e-9)


# --- S-shape -------------------------------------------------------------------------------------
def test_profile_is_mean_and_error():
    profile = impact.profile([0.1, 0.2, 0.9, 2.0, 5.0], [1.0, 3.0, 7.0, 5.0, 9.0], [0, 0.5, 1, 2])
    assert profile.count.tolist() == [2, 1, 1] and profile.centres.tolist() == [0.25, 0.75, 1.5]
    assert profile.mean.tolist() == [2, 7, 5]
    assert profile.error[0] == pytest.approx(1.0) and np.isnan(profile.error[1])
    with pytest.raises(DataError, match="one \\(N,\\) for both"):
        impact.profile([1.0], [1.0, 2.0], [0, 1])
    with pytest.raises(DataError, match="increase"):
        impact.profile([1.0], [1.0], [1, 0])


def test_nobody_keeps_the_own_impact():
    values = np.arange(50)
    dealt = impact.of_another(values, np.random.default_rng(0))
    assert sorted(dealt) == values.tolist() and not np.any(dealt == values)


def test_the_strips_have_eight_bumps_a_middle_cell(shared):
    showers = read_showers(shared / "atlas_cells_photons_train.hdf5")
    values = compute(showers)
    # The core: a shower with an energetic straggler is an outlier of several strips.
    core = (showers.incident_energy > 4000) & (np.abs(values["offset_eta/1"]) < 3)

    def curve(layer, **options):
        data = {key: numbers[core] for key, numbers in values.items()}
        return impact.s_shape(showers.geometry, showers.conditions[core], data, layer, **options)

    bumps = curve(1, minus_impact=True)
    waves = np.abs(np.fft.rfft(bumps.mean))
    assert len(bumps.mean) == 64 and waves[1:20].argmax() + 1 == 8
    middle = curve(2, bins=16)
    assert np.corrcoef(middle.centres, middle.mean)[0, 1] > 0.95
    assert abs(curve(2, bins=16, minus_impact=True).mean[0]) > 3 * 0.5  # S: off at the edges
    control = curve(2, bins=16, control=np.random.default_rng(0))
    assert np.abs(control.mean).max() < 6 * np.nanmax(control.error)
    with pytest.raises(DataError, match="does not know the impact"):
        curve(2, axis="r")


# --- LCD -----------------------------------------------------------------------------------------
def test_lcd_parts_and_spread():
    geometry = load_geometry("lcd")
    hits = [(3, 12 * 25 + 11, 5.0), (3, 12 * 25 + 13, 5.0), (40, 5, 2.0)]
    values = compute(showers_of("lcd", *hits))
    assert values["ecal_energy"] == 10 and values["hcal_energy"] == 2
    assert values["ecal_cells"] == 2 and values["hcal_cells"] == 1 and values["occupancy"] == 3
    assert values["ecal_response"] == pytest.approx(10 / geometry.conditions[1].high)
    assert values["spread/3"] == pytest.approx(5.1)
    assert values["spread_printed/3"] == pytest.approx(5.1 * np.sqrt(10))
    turned = showers_of("lcd", (3, 11 * 25 + 12, 5.0), (3, 13 * 25 + 12, 5.0))
    assert compute(turned)["spread/3"] == pytest.approx(5.1)


def test_the_printed_spread_grows_with_the_energy():
    rng = np.random.default_rng(0)
    hits = [(0, cell, energy) for cell, energy in enumerate(rng.exponential(size=600))]
    once = compute(showers_of("lcd", *hits))
    twice = compute(showers_of("lcd", *((a, b, 4 * c) for a, b, c in hits)))
    assert twice["spread/0"] == pytest.approx(once["spread/0"], rel=1e-5)
    assert twice["spread_printed/0"] == pytest.approx(2 * once["spread_printed/0"], rel=1e-5)


# --- LHCb ----------------------------------------------------------------------------------------
def plain(showers):
    """Asymmetries and profile widths of one shower, cell by cell."""
    px, py, pz, x0, y0 = showers.conditions[0]
    depth = showers.geometry.limits.effective_depth
    n = np.array([px, py]) / np.hypot(px, py) if px or py else np.array([1.0, 0.0])
    origin = np.array([x0 + depth * px / pz, y0 + depth * py / pz])
    layer = showers.geometry.layers[0]
    result = {}
    for way, a, b in (("along", n, [-n[1], n[0]]), ("across", [-n[1], n[0]], n)):
        ahead = total = 0.0
        us, ws = [], []
        for x, y, w in zip(*layer.xy, showers.energies[0].astype(float), strict=True):
            u, v = np.dot(a, [x, y] - origin), np.dot(b, [x, y] - origin)
            total += w
            ahead += w * np.sign(u)
            corners = [np.dot(b, [i, j]) for i in (-10, 10) for j in (-10, 10)]
            if min(corners) <= v <= max(corners):
                us.append(u)
                ws.append(w)
        mean = np.average(us, weights=ws)
        result[f"asymmetry_{way}"] = ahead / total
        result[f"width_{way}"] = np.sqrt(np.average((us - mean) ** 2, weights=ws))
    return result


@pytest.mark.parametrize("momentum", [(900.0, 300.0), (-400.0, 700.0), (0.0, 0.0), (0.0, -800.0)])
def test_lhcb_statistics_equal_the_plain_formulas(momentum):
    energies = np.random.default_rng(3).exponential(size=900)
    hits = [(0, k, e) for k, e in enumerate(energies)]
    showers, _ = inclined(*momentum, 13.0, -27.0, *hits)
    values = inclination.inclined(showers)
    for key, number in plain(showers).items():
        assert values[key][0] == pytest.approx(number, rel=1e-6), key


def test_an_image_symmetric_about_its_point_has_no_asymmetry():
    # Impact at the corner of four cells; point symmetry, so neither way has more on one side.
    geometry = load_geometry("lhcb")
    x, y = geometry.layers[0].xy
    energies = np.exp(-np.hypot(x, y) / 15.0)[None]
    for direction in ((0.0, 0.0), (1e-9, 2e-9)):
        showers = Showers(energies, np.array([[*direction, 10_000.0, 0.0, 0.0]]), geometry)
        values = inclination.inclined(showers)
        for way in inclination.WAYS:
            assert values[f"asymmetry_{way}"][0] == pytest.approx(0, abs=1e-6)
            assert values[f"offset_{way}"][0] == pytest.approx(0, abs=1e-3)


def test_asymmetry_along_a_straight_and_an_inclined_line():
    cell = 20 * 30 + 15  # its centre lies at (110, 10) mm
    for momentum, along, across in (((1e-6, 0.0), 1, 1), ((-1e-6, 0.0), -1, -1)):
        showers, _ = inclined(*momentum, 0.0, 0.0, (0, cell, 50.0))
        values = compute(showers)
        assert values["asymmetry_along"] == along and values["asymmetry_across"] == across
        assert values["width_along"] == 0 and values["spread_along"] == 0
        assert values["offset_along"] == pytest.approx(110 * along)


def test_reflections_and_rotation_of_real_electrons(shared):
    showers = read_showers(shared / "lhcb_electrons_test.npz", rows=slice(0, 300))
    geometry, values = showers.geometry, compute(showers)
    for name, flips in (("reflect-x", True), ("reflect-y", True), ("swap", True)):
        element = symmetry(geometry, name)
        mirrored = compute(
            Showers(
                showers.energies[:, element.permutation],
                showers.conditions @ element.matrix.T + element.offset,
                geometry,
            )
        )
        # A mirror keeps what is along the momentum and turns left into right.
        for key in ("width_along", "width_across", "spread_across", "asymmetry_along"):
            np.testing.assert_allclose(mirrored[key], values[key], atol=1e-6, err_msg=name)
        for key in ("asymmetry_across", "offset_across"):
            np.testing.assert_allclose(mirrored[key], -values[key], atol=1e-6, err_msg=name)
        assert flips
    assert abs(values["offset_across"].mean()) < 0.5 and values["offset_along"].std() < 5
    counts = [values[f"cells_above_{t:g}"] for t in geometry.limits.thresholds]
    assert np.all(values["occupancy"] >= counts[0]) and np.all(counts[0] >= counts[1])


def test_the_hottest_cell_at_the_edge():
    first = showers_of("lhcb", (0, 0, 3.0), (0, 29, 7.0), (0, 31, 50.0), (0, 899, 2.0))
    assert inclination.edge_cell(first).tolist() == [7.0]
    inside = showers_of("lhcb", (0, 31, 50.0), (0, 0, load_geometry("lhcb").cut / 2))
    assert compute(inside)["edge_cell"].tolist() == [0.0]


def test_the_default_depth_is_that_of_the_data(shared):
    depth = inclination.effective_depth(read_showers(shared / "lhcb_electrons_train.npz"))
    assert depth.depth == pytest.approx(load_geometry("lhcb").limits.effective_depth, abs=0.1)
    assert 0.2 < depth.error < 1
    with pytest.raises(DataError, match="no momentum"):
        inclination.effective_depth(showers_of("calogan", (0, 0, 1.0)))
    with pytest.raises(DataError, match="no inclined shower"):
        inclination.effective_depth(inclined(0.0, 0.0, 0.0, 0.0, (0, 5, 1.0))[0])


def test_order_of_showers_does_not_matter(shared):
    for file in ("lhcb_electrons_test.npz", "atlas_cells_photons_test.hdf5"):
        showers = read_showers(shared / file, rows=slice(0, 400))
        order = np.random.default_rng(1).permutation(len(showers))
        straight, shuffled = compute(showers), compute(showers[order])
        for key, numbers in straight.items():
            np.testing.assert_allclose(shuffled[key], numbers[order], rtol=1e-9, atol=1e-6)
