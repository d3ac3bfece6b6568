"""Observables: the public evaluation's numbers, closed forms, symmetries, every read-out."""

import json
import time

import numpy as np
import pytest

from caloforge.data import open_showers, read_showers
from caloforge.detector.shipped import geometry_names, load_geometry
from caloforge.detector.symmetries import symmetry_group
from caloforge.errors import CaloForgeError, DataError
from caloforge.observables.features import compute
from caloforge.observables.table import observables
from caloforge.showers import Showers

PUBLISHED_NAMES = {
    "E_layer": "layer_energy",
    "EC_eta": "centre_x",
    "EC_phi": "centre_y",
    "width_eta": "width_x",
    "width_phi": "width_y",
    "sparsity": "sparsity",
    "EC_r": "centre_r",
    "width_r": "width_r",
}


def random_showers(name, number=20, seed=0):
    """Sparse showers with all layers hit and conditions inside their ranges."""
    geometry = load_geometry(name)
    rng = np.random.default_rng(seed)
    energies = rng.exponential(50.0, (number, geometry.n_cells))
    energies[rng.random(energies.shape) < 0.6] = 0
    low, high = (
        np.array([getattr(c, end) for c in geometry.conditions]) for end in ("low", "high")
    )
    conditions = rng.uniform(low, high, (number, len(low)))
    for k, condition in enumerate(geometry.conditions):
        if condition.scale == "category":
            conditions[:, k] = np.round(conditions[:, k])
    return Showers(energies, conditions, geometry)


def one_cell(geometry, cell, energy=100.0, conditions=None):
    energies = np.zeros((1, geometry.n_cells))
    energies[0, cell] = energy
    if conditions is None:
        conditions = [c.high for c in geometry.conditions]
    return Showers(energies, np.array([conditions], dtype=float), geometry)


def test_features_are_those_of_the_public_evaluation(shared, published):
    expected = json.loads((published / "evaluate_reference.json").read_text())["features"]
    showers = read_showers(shared / expected["file"], rows=slice(0, 20))
    values = compute(showers)
    np.testing.assert_allclose(values["total_energy"], expected["E_tot"], rtol=1e-12)
    compared = 0
    for name, ours in PUBLISHED_NAMES.items():
        for layer, numbers in expected[name].items():
            # 1e-9 mm: where a centre is zero by symmetry only rounding is left to compare.
            np.testing.assert_allclose(
                values[f"{ours}/{layer}"],
                numbers,
                rtol=1e-12,
                atol=1e-9,
                err_msg=f"{ours}/{layer}",
            )
            compared += 1
    assert compared == 28


@pytest.mark.parametrize("name", geometry_names())
def test_the_table_and_the_computation_have_the_same_keys(name):
    table = observables(load_geometry(name))
    showers = random_showers(name, number=3)
    values = compute(showers)
    assert {o.key for o in table} == set(values)
    assert len({o.key for o in table}) == len(table)
    for o in table:
        assert values[o.key].shape == (3,)
        edges = o.edges(values[o.key])
        assert np.all(np.diff(edges) > 0), o.key
        assert o.unit in ("MeV", "mm", "mm √MeV", "")
        assert (o.layer is None) == ("/" not in o.key)


@pytest.mark.parametrize("name", ["ds1-pions", "calogan", "atlas-cells", "lhcb", "lcd"])
def test_features_equal_the_plain_formulas(name):
    showers = random_showers(name).after_cut()
    geometry = showers.geometry
    values = compute(showers)
    for position, layer in enumerate(geometry.layers):
        w = showers.layer(position).reshape(len(showers), -1).astype(float)
        energy = w.sum(axis=1)
        np.testing.assert_allclose(values[f"layer_energy/{layer.id}"], energy, rtol=1e-12)
        np.testing.assert_allclose(values[f"sparsity/{layer.id}"], 1 - (w > 0).mean(axis=1))
        x, y = (np.broadcast_to(v, w.shape).copy() for v in layer.xy)
        names = layer.axes if layer.kind == "grid" else ("x", "y")
        if layer.shift is not None:
            moved = x if layer.shift.axis == names[0] else y
            moved += layer.shift.step * showers.condition(layer.shift.condition)[:, None]
        r = (
            np.sqrt(x**2 + y**2)
            if layer.kind == "grid"
            else np.broadcast_to(layer.centres[1], w.shape)
        )
        for axis, u in zip((*names, "r"), (x, y, r), strict=True):
            if f"centre_{axis}/{layer.id}" not in values:
                assert layer.kind == "polar" and layer.shape[0] == 1
                continue
            mean = (w * u).sum(axis=1) / (energy + 1e-16)
            variance = (w * (u - mean[:, None]) ** 2).sum(axis=1) / (energy + 1e-16)
            np.testing.assert_allclose(
                values[f"centre_{axis}/{layer.id}"], mean, rtol=1e-10, atol=1e-10
            )
            np.testing.assert_allclose(
                values[f"width_{axis}/{layer.id}"], np.sqrt(variance), rtol=1e-7, atol=1e-6
            )


@pytest.mark.parametrize("name", ["ds1-photons", "ds2", "calogan", "atlas-cells", "lcd", "lhcb"])
def test_a_one_cell_shower_has_no_width(name):
    geometry = load_geometry(name)
    for position, where in enumerate(geometry.slices):
        layer = geometry.layers[position]
        for cell in {0, layer.size // 3, layer.size - 1}:
            values = compute(one_cell(geometry, where.start + cell, energy=123.4567))
            widths = {k: v for k, v in values.items() if k.startswith("width_")}
            assert widths and all(v == 0 for v in widths.values()), (layer.name, cell)
            assert values[f"sparsity/{layer.id}"] == pytest.approx(1 - 1 / layer.size)


def test_positions_follow_a_moving_window():
    """A strip cell lies where its edges, moved by the alignment, say."""
    geometry = load_geometry("atlas-cells")
    strips = geometry.layers[1]
    cell = 20 * 3 + 2
    for phase in range(4):
        showers = one_cell(
            geometry, geometry.slices[1].start + cell, conditions=[4096.0, 0.0, 0.0, phase, 0]
        )
        values = compute(showers)
        eta = strips.centres[0][cell]
        phi = strips.centres[1][cell] - 36.8 * phase
        assert values["centre_phi/1"][0] == pytest.approx(phi)
        assert values["centre_eta/1"][0] == pytest.approx(eta)
        assert values["centre_r/1"][0] == pytest.approx(np.hypot(eta, phi))


def test_moving_windows_bring_the_centre_to_the_impact(shared):
    """In the ATLAS-like file the strips see the impact in phi only with the window's motion."""
    showers = read_showers(shared / "atlas_cells_photons_test.hdf5")
    values = compute(showers)
    back = showers.condition("alignment_eta")
    residual = values["centre_eta/3"] - showers.condition("impact_eta")
    hit = values["layer_energy/3"] > 50
    means = [residual[hit & (back == phase)].mean() for phase in (0, 1)]
    # A wrong sign of the motion would part the two by 75.6 mm.
    assert abs(means[0] - means[1]) < 20


def test_cells_below_the_cut_do_not_count():
    geometry = load_geometry("ds1-photons")
    energies = np.zeros((1, geometry.n_cells))
    energies[0, :3] = [0.999, 1.0, 2.0]
    values = compute(Showers(energies, np.array([[256.0]]), geometry))
    assert values["total_energy"][0] == 3.0
    assert values["sparsity/0"][0] == 1 - 2 / 8


def test_rotation_turns_centres_and_leaves_radii():
    showers = random_showers("ds1-photons")
    geometry = showers.geometry
    quarter = symmetry_group(geometry, ["rotate-alpha"])
    assert len(quarter) == 10
    before = compute(showers)
    angle_of_step = {}
    for element in quarter[1:]:
        after = compute(
            Showers(showers.energies[:, element.permutation], showers.conditions, geometry)
        )
        for layer in geometry.layers:
            for family in ("layer_energy", "centre_r", "width_r", "sparsity"):
                key = f"{family}/{layer.id}"
                np.testing.assert_allclose(after[key], before[key], rtol=1e-9)
        for layer in (1, 2):
            z1 = before[f"centre_x/{layer}"] + 1j * before[f"centre_y/{layer}"]
            z2 = after[f"centre_x/{layer}"] + 1j * after[f"centre_y/{layer}"]
            turn = z2 / z1
            np.testing.assert_allclose(turn, turn[0], rtol=1e-9)
            assert abs(turn[0]) == pytest.approx(1)
            angle_of_step[round(float(np.angle(turn[0])) / (np.pi / 5)) % 10] = True
            assert (float(np.angle(turn[0])) / (np.pi / 5)) % 1 == pytest.approx(0, abs=1e-9) or (
                float(np.angle(turn[0])) / (np.pi / 5)
            ) % 1 == pytest.approx(1, abs=1e-9)
    assert sorted(angle_of_step) == list(range(1, 10))


@pytest.mark.parametrize("name", ["ds1-photons", "atlas-cells"])
def test_the_order_and_the_company_of_showers_do_not_matter(name):
    showers = random_showers(name, number=3000 if name == "ds1-photons" else 500)
    order = np.random.default_rng(1).permutation(len(showers))
    straight, shuffled, few = (
        compute(showers),
        compute(showers[order]),
        compute(showers[order[:7]]),
    )
    for key, values in straight.items():
        np.testing.assert_allclose(shuffled[key], values[order], rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(few[key], values[order[:7]], rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize(
    "file",
    [
        "calogan_eplus_test.hdf5",
        "atlas_cells_photons_test.hdf5",
        "lhcb_electrons_test.npz",
        "lcd_test.h5",
        "ds1_pions_test.hdf5",
    ],
)
def test_real_showers_lie_on_the_axes(shared, file):
    """For every read-out the fixed axes hold nearly all hit layers of real showers."""
    with open_showers(shared / file) as reader:
        showers = next(iter(reader.chunks(400)))
    values = compute(showers)
    for o in observables(showers.geometry):
        assert np.isfinite(values[o.key]).all()
        edges = o.edges(values[o.key])
        hit = values["total_energy"] > 0
        if o.layer is not None:
            hit &= values[f"layer_energy/{showers.geometry.layers[o.layer].id}"] > 0
        if o.log:
            hit &= values[o.key] > 0
        if hit.sum() < 20:
            continue
        x = values[o.key][hit]
        assert ((x >= edges[0]) & (x <= edges[-1])).mean() > 0.75, o.key


def test_no_showers_and_bad_showers_are_one_sentence():
    geometry = load_geometry("ds1-photons")
    with pytest.raises(DataError, match="at least one"):
        compute(Showers(np.zeros((0, 368)), np.zeros((0, 1)), geometry))
    with pytest.raises(CaloForgeError, match="NaN"):
        Showers(np.full((1, 368), np.nan), np.array([[256.0]]), geometry)


def test_all_features_are_fast():
    """Ten thousand photon showers in under the 0.3 s that 3 s for 100 000 allow."""
    showers = random_showers("ds1-photons", number=10_000)
    times = []
    for _ in range(5):  # the machine may be busy: the best of five
        start = time.perf_counter()
        compute(showers)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3
