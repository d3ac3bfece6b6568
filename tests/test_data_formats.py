"""Every format: exact round trips of random showers, the real files, and what the field's "
"readers see."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caloforge.data import (
    FORMATS,
    convert,
    create_showers,
    describe,
    open_showers,
    read_showers,
    sample_names,
    sample_path,
)
from caloforge.data.formats import lemurs_geometry
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import geometry_names, load_geometry
from caloforge.errors import DataError
from caloforge.showers import Showers

TINY = Geometry.from_dict(
    {
        "name": "tiny",
        "conditions": [
            {"name": "energy", "unit": "MeV", "low": 1.0, "high": 1e6, "scale": "log"},
            {"name": "angle", "unit": "rad", "low": 0.0, "high": 1.0},
        ],
        "layers": [
            {"id": 0, "name": "a", "kind": "polar", "alpha_bins": 3, "r_edges": [0, 1, 4]},
            {
                "id": 7,
                "name": "b",
                "kind": "grid",
                "axes": ["x", "y"],
                "edges": [[0, 1, 2], [0, 3]],
            },
        ],
    }
)


def random_showers(geometry: Geometry, count: int, seed: int) -> Showers:
    """Sparse showers with a response near 0.5 and conditions that float32 holds exactly."""
    rng = np.random.default_rng(seed)
    conditions = np.empty((count, len(geometry.conditions)), dtype=np.float32)
    for k, c in enumerate(geometry.conditions):
        value = rng.uniform(c.low, c.high, count)
        conditions[:, k] = np.round(value) if c.scale == "category" else value
    incident = geometry.incident_energy(conditions.astype(np.float64))
    cells = rng.exponential(size=(count, geometry.n_cells)) * (rng.random(geometry.n_cells) < 0.3)
    cells[:, 0] += 1e-3
    cells *= (0.5 * incident / cells.sum(axis=1))[:, None]
    return Showers(cells, conditions, geometry, {"producer": "test", "seed": seed})


def same(a: Showers, b: Showers) -> None:
    assert a.geometry.hash == b.geometry.hash
    np.testing.assert_array_equal(a.energies, b.energies)
    # Through GeV or cm and back: exact to float32, the precision of the published files.
    np.testing.assert_array_equal(a.conditions.astype(np.float32), b.conditions.astype(np.float32))
    np.testing.assert_allclose(a.conditions, b.conditions, rtol=3e-16, atol=0)


CASES = [(name, None) for name in geometry_names() if name != "ds3"] + [
    ("tiny", "caloforge"),
    ("lhcb", "caloforge"),
    ("calogan", "caloforge"),
]


def geometry_of(name: str) -> Geometry:
    return TINY if name == "tiny" else load_geometry(name)


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".root"])
@pytest.mark.parametrize(("name", "layout"), CASES)
def test_round_trip(tmp_path: Path, name: str, layout: str | None, suffix: str) -> None:
    geometry = geometry_of(name)
    showers = random_showers(geometry, 5, 1)
    path = tmp_path / f"a{suffix}"
    with create_showers(path, geometry, format=None if suffix == ".root" else layout) as writer:
        writer.append(showers[:2])
        writer.append(showers[2:])
        assert len(writer) == 5
    with open_showers(path) as file:
        assert len(file) == 5
        assert file.geometry == geometry
        assert file.format == ("root" if suffix == ".root" else layout or geometry.format)
        assert file.provenance == showers.provenance
        same(file.read(), showers)
        same(file.read(3, 4), showers[3:4])
        same(Showers.concatenate(list(file.chunks(2))), showers)
        np.testing.assert_allclose(file.conditions(), showers.conditions, rtol=3e-16)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(["tiny", "ds1-photons", "calogan", "lhcb", "atlas-cells"]),
    suffix=st.sampled_from([".h5", ".npz", ".root"]),
    compression=st.sampled_from(["fast", "small", "none"]),
    count=st.integers(0, 40),
    pieces=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_showers_in_any_pieces(
    tmp_path: Path, name: str, suffix: str, compression: str, count: int, pieces: int, seed: int
) -> None:
    geometry = geometry_of(name)
    showers = random_showers(geometry, count, seed)
    path = tmp_path / f"b{suffix}"
    with create_showers(path, geometry, compression=compression) as writer:
        for piece in np.array_split(np.arange(count), pieces):
            writer.append(showers[piece])
    same(read_showers(path), showers)
    with open_showers(path) as file:
        start, stop = sorted(np.random.default_rng(seed).integers(0, count + 1, 2).tolist())
        same(file.read(start, stop), showers[start:stop])
        # Steps back and forth read the same.
        same(file.read(0, stop), showers[:stop])


@given(st.lists(st.floats(2.0**-10, 2.0**17, width=32), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_units_come_back_exactly(energies: list[float]) -> None:
    for name in ("calogan", "lhcb"):
        geometry = load_geometry(name)
        layout = FORMATS[name]
        gev = np.asarray(energies, dtype=np.float32)
        stored = {k: np.stack([gev] * len(labels), axis=1) for k, labels in layout.labels.items()}
        inside = layout.decode_conditions(stored, geometry)
        back = layout.encode_conditions(inside, geometry)
        for key, values in stored.items():
            np.testing.assert_array_equal(back[key].astype(np.float32), values)


def test_layouts_are_those_of_the_field(tmp_path: Path) -> None:
    """What a reader that knows nothing of CaloForge finds, in its own units."""
    expected = {
        "ds1-photons": {"incident_energies": (3, 1), "showers": (3, 368)},
        "ds1-pions": {"incident_energies": (3, 1), "showers": (3, 533)},
        "calogan": {
            "energy": (3, 1),
            "layer_0": (3, 3, 96),
            "layer_1": (3, 12, 12),
            "layer_2": (3, 12, 6),
            "theta": (3, 1),
            "phi": (3, 1),
            "x0": (3, 1),
            "y0": (3, 1),
        },
        "lcd": {"ECAL": (3, 25, 25, 25), "HCAL": (3, 4, 4, 60), "target": (3, 1, 5)},
        "atlas-cells": {
            "energy": (3, 1),
            "impact": (3, 2),
            "alignment": (3, 2),
            "layer_0": (3, 7, 3),
            "layer_1": (3, 56, 3),
            "layer_2": (3, 7, 7),
            "layer_3": (3, 4, 7),
        },
    }
    for name, shapes in expected.items():
        path = tmp_path / f"{name}.hdf5"
        geometry = load_geometry(name)
        with create_showers(path, geometry) as writer:
            writer.append(random_showers(geometry, 3, 2))
        with h5py.File(path) as file:
            assert {k: d.shape for k, d in file.items()} == shapes
            assert file.attrs["geometry_hash"] == geometry.hash
            assert file.attrs["schema_version"] == 1
            assert {d.compression for d in file.values()} == {"gzip"}


def test_units_in_the_files(tmp_path: Path) -> None:
    calogan, lcd, lhcb = (load_geometry(n) for n in ("calogan", "lcd", "lhcb"))
    for geometry, suffix in ((calogan, ".h5"), (lcd, ".h5"), (lhcb, ".npz")):
        showers = random_showers(geometry, 2, 3)
        path = tmp_path / f"{geometry.name}{suffix}"
        with create_showers(path, geometry) as writer:
            writer.append(showers)
        if geometry is calogan:
            with h5py.File(path) as file:
                np.testing.assert_allclose(file["energy"][:, 0] * 1e3, showers.condition("energy"))
                np.testing.assert_allclose(file["x0"][:, 0], showers.condition("x0"))
        elif geometry is lcd:
            with h5py.File(path) as file:
                target = file["target"][:, 0]
                np.testing.assert_allclose(target[:, 1] * 1e3, showers.condition("energy"))
                np.testing.assert_allclose(target[:, 0], showers.condition("particle"))
                # Cell order: depth layer by layer, each (x, y).
                cells = showers.energies[:, : 25**3].reshape(-1, 25, 25, 25)
                np.testing.assert_array_equal(file["ECAL"][:, 3, 7, 11], cells[:, 11, 3, 7])
        else:
            with np.load(path, allow_pickle=False) as file:
                momentum = file["ParticleMomentum"]
                np.testing.assert_allclose(momentum[:, 2] * 1e3, showers.condition("pz"))
                np.testing.assert_allclose(
                    file["ParticlePoint"][:, 1] * 10, showers.condition("y")
                )
                assert file["EnergyDeposit"].shape == (2, 30, 30, 1)
                assert (file["ParticlePDG"] == 11).all()


def test_the_root_tree_is_read_by_uproot(tmp_path: Path) -> None:
    uproot = pytest.importorskip("uproot")
    showers = random_showers(TINY, 4, 5)
    path = tmp_path / "a.root"
    with create_showers(path, TINY) as writer:
        writer.append(showers)
    with uproot.open(path) as file:
        tree = file["showers"]
        assert set(tree.keys()) == {"energy", "angle", "cells"}
        np.testing.assert_array_equal(tree["cells"].array(library="np"), showers.energies)
        np.testing.assert_array_equal(
            tree["energy"].array(library="np"), showers.condition("energy")
        )


def test_original_calogan_files_have_no_position(tmp_path: Path) -> None:
    path = tmp_path / "gamma.hdf5"
    showers = random_showers(load_geometry("calogan"), 3, 1)
    with create_showers(path, showers.geometry) as writer:
        writer.append(showers)
    with h5py.File(path, "a") as file:
        for key in ("x0", "y0", "theta", "phi"):
            del file[key]
        file["overflow"] = np.zeros((3, 3))
        file.attrs.clear()
    read = read_showers(path)
    assert (read.conditions[:, 1:] == 0).all()
    assert "no x0, y0, theta, phi" in read.provenance["note"]
    np.testing.assert_array_equal(read.energies, showers.energies)
    assert read_showers(path, load_geometry("calogan")).geometry.hash == read.geometry.hash


def test_lcd_classes_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    showers = random_showers(load_geometry("lcd"), 4, 1)
    with create_showers(path, showers.geometry) as writer:
        writer.append(showers)
    with h5py.File(path, "a") as file:
        file.attrs["class_0"], file.attrs["class_1"] = "pi0", "gamma"
    expected = 1 - showers.condition("particle")
    np.testing.assert_array_equal(read_showers(path).condition("particle"), expected)


def test_lcd_layers_that_would_be_read_as_the_published_ones_are_not_written(
    tmp_path: Path,
) -> None:
    content = load_geometry("lcd").to_dict()
    for layer in content["layers"]:
        if len(layer["edges"][0]) == 26:
            layer["edges"] = [edges[:-1] for edges in layer["edges"]]
    smaller = Geometry.from_dict({**content, "name": "smaller"})
    showers = random_showers(smaller, 4, 1)
    with (
        pytest.raises(DataError, match=r"24 x 24 cells mean 25 x 25 .* format='caloforge'"),
        create_showers(tmp_path / "a.h5", smaller),
    ):
        pass
    assert not list(tmp_path.iterdir())
    with create_showers(tmp_path / "a.h5", smaller, format="caloforge") as writer:
        writer.append(showers)
    same(read_showers(tmp_path / "a.h5"), showers)


@pytest.mark.parametrize(
    ("file", "layout", "geometry", "count"),
    [
        ("ds1_photons_train.hdf5", "calochallenge", "ds1-photons", 6896),
        ("ds1_pions_test.hdf5", "calochallenge", "ds1-pions", 1220),
        ("calogan_piplus_train.hdf5", "calogan", "calogan", 500),
        ("lcd_test.h5", "lcd", "lcd", 400),
        ("lhcb_electrons_test.npz", "lhcb", "lhcb", 1600),
        ("atlas_cells_photons_test.hdf5", "atlas-cells", "atlas-cells", 2116),
    ],
)
def test_full_files(shared: Path, file: str, layout: str, geometry: str, count: int) -> None:
    with open_showers(shared / file) as showers:
        assert (showers.format, showers.geometry.name, len(showers)) == (layout, geometry, count)
        assert len(showers.read(count - 60, count)) == 60


def test_published_lcd_events(shared: Path) -> None:
    """E - p_z is m^2 / 2E: it tells pions from photons, so what the class codes mean."""
    path = shared / "lcd_published_20.h5"
    showers = read_showers(path)
    with h5py.File(path) as file:
        target = file["target"][:, 0].astype(np.float64)
        ecal = file["ECAL"][:]
    mass_term = 0.1349768**2 / (2 * target[:, 1])
    missing = target[:, 1] - target[:, 2]
    precision = 4e-5  # of float32 at these energies
    pion = showers.condition("particle") == 1
    assert pion.sum() == 6
    assert (np.abs(missing - mass_term)[pion] < precision).all()
    assert (missing[~pion] == 0).all()
    image = showers.energies[:, : 25**3].reshape(-1, 25, 25, 25)
    np.testing.assert_array_equal(np.moveaxis(image, 1, 3)[:, :24, :24], ecal)
    assert (image[:, :, 24] == 0).all()
    response = showers.energies.sum() / showers.incident_energy.sum()
    assert 0.015 < response < 0.025


def test_conversion_keeps_every_bit(tmp_path: Path) -> None:
    source = sample_path("atlas-cells-test")
    assert convert(source, tmp_path / "a.root") == 200
    assert convert(tmp_path / "a.root", tmp_path / "b.npz", format="caloforge") == 200
    assert convert(tmp_path / "b.npz", tmp_path / "c.h5", rows=slice(50, 120)) == 70
    read = read_showers(tmp_path / "c.h5")
    same(read, read_showers(source, rows=slice(50, 120)))
    assert read.provenance["producer"] == "Geant4 11.4.0"


def test_formats_refuse_what_they_cannot_hold(tmp_path: Path) -> None:
    for layout in ("calochallenge", "lcd", "lhcb", "calogan", "atlas-cells"):
        with (
            pytest.raises(DataError, match="use format='caloforge'"),
            create_showers(tmp_path / "a.h5", TINY, format=layout),
        ):
            pass
    with (
        pytest.raises(DataError, match="did you mean 'calogan'"),
        create_showers(tmp_path / "a.h5", TINY, format="calgan"),
    ):
        pass
    with (
        pytest.raises(DataError, match="compression"),
        create_showers(
            tmp_path / "a.h5",
            TINY,
            compression="lzma",  # type: ignore[arg-type]
        ),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_given_geometry_must_fit() -> None:
    path = sample_path("ds1-photons-test")
    assert read_showers(path, load_geometry("ds1-photons"), slice(0, 3)).energies.shape == (3, 368)
    with pytest.raises(DataError, match="does not belong to the geometry 'ds1-pions'"):
        open_showers(path, load_geometry("ds1-pions"))
    with pytest.raises(DataError, match="does not belong to the geometry 'lcd'"):
        open_showers(path, load_geometry("lcd"))
    table = load_geometry("ds1-photons").to_dict()
    rings = [{"id": 0, "name": "all", "kind": "polar", "alpha_bins": 1, "r_edges": [*range(369)]}]
    bare = {k: v for k, v in table.items() if k not in ("stack", "symmetries")}
    flat = Geometry.from_dict({**bare, "name": "flat", "layers": rings})
    with pytest.raises(DataError, match="written for 'ds1-photons' with 368 cells in 5 layers"):
        open_showers(path, flat)


@pytest.mark.parametrize("name", sample_names())
def test_shipped_samples(name: str) -> None:
    summary = describe(sample_path(name))
    assert summary["showers"] >= 40
    assert 0.01 < summary["response"] < 1.1
    assert 0.05 < summary["occupancy"] < 0.7
    assert summary["geometry_hash"] == load_geometry(summary["geometry"]).hash
    assert summary["provenance"]["producer"] == "Geant4 11.4.0"
    assert sum(summary["layer_fractions"]) == pytest.approx(1)


def test_describe_a_scan_and_a_spectrum() -> None:
    scan = describe(sample_path("ds1-photons-train"))
    assert scan["energy_points"][256.0] == 750
    assert scan["energy_points"][4194304.0] == 2
    assert scan["conditions"]["energy"] == {"unit": "MeV", "low": 256.0, "high": 4194304.0}
    assert describe(sample_path("lcd-test"))["energy_points"] == {}


def test_lemurs_files_are_known_by_their_columns(tmp_path: Path) -> None:
    """r is the slowest axis there and depth the fastest; angles come with the energy."""
    path = tmp_path / "a.h5"
    cells = np.random.default_rng(1).exponential(size=(4, 9, 16, 45)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["showers"] = cells
        file["incident_energy"] = [1e3, 2e3, 3e4, 4e5]
        file["incident_theta"] = [1.0, 1.1, 1.5, 2.0]
        file["incident_phi"] = [0.0, 0.5, -0.5, 3.0]
    showers = read_showers(path)
    assert showers.geometry.name == "lemurs" and showers.geometry.format == "lemurs"
    assert showers.layer(7)[2, 5, 3] == cells[2, 3, 5, 7]  # (alpha, r) of slice 7
    assert showers.condition("theta")[3] == 2.0
    with create_showers(tmp_path / "b.h5", showers.geometry) as writer:
        writer.append(showers)
    with h5py.File(tmp_path / "b.h5") as file:
        np.testing.assert_array_equal(file["showers"][...], cells)
        assert file["incident_phi"].shape == (4,)
    same(read_showers(tmp_path / "b.h5"), showers)


def test_lemurs_files_of_other_meshes_have_cells_of_the_same_size() -> None:
    shipped, other = load_geometry("lemurs"), lemurs_geometry(18, 50, 45)
    assert lemurs_geometry(9, 16, 45) == shipped
    assert other.layers[0].shape == (50, 18) and other.n_layers == 45
    for geometry in (shipped, other):
        np.testing.assert_allclose(np.diff(geometry.layers[3].edges[1]), 4.65)
        np.testing.assert_allclose(geometry.layers[3].z, (10.2, 13.6))
    assert other.conditions == shipped.conditions


BOX = Geometry.from_dict(
    {
        "name": "box",
        "pid": 22,
        "conditions": [{"name": "energy", "unit": "MeV", "low": 1.0, "high": 1e6, "scale": "log"}],
        "layers": [
            {
                "id": 0,
                "name": "a",
                "kind": "grid",
                "copies": 3,
                "axes": ["x", "y"],
                "edges": [[0, 5, 10], [-5, 0, 5, 10]],
            }
        ],
    }
)


def test_clouds_of_points_are_summed_in_cells(tmp_path: Path) -> None:
    """A file as the library showerdata writes it: rows of x, y, layer, energy in GeV."""
    path = tmp_path / "a.h5"
    rows = np.empty(3, dtype=object)
    rows[0] = np.array([[1, -1, 2, 0.5], [2, -3, 2, 0.25], [99, 0, 0, 7]], "f4").ravel()
    rows[1] = np.array([[7, 9, 0, 0.125]], "f4").ravel()
    rows[2] = np.zeros(0, "f4")
    with h5py.File(path, "w") as file:
        showers = file.create_dataset("showers", (3,), h5py.vlen_dtype(np.dtype("f4")))
        for k, row in enumerate(rows):
            showers[k] = row
        file["num_points"] = np.array([3, 1, 0], "i4")
        file["energies"] = np.array([[1.0], [2.0], [3.0]], "f4")
        file["directions"] = np.zeros((3, 3), "f4")
        file["pdg"] = np.full(3, 22, "i4")
        file["shape"] = np.array([3, 3, 4])
    with pytest.raises(DataError, match="name the geometry"):
        read_showers(path)
    read = read_showers(path, BOX)
    assert read.layer(2)[0, 0, 0] == 750.0 and read.energies[0].sum() == 750.0
    assert read.layer(0)[1, 1, 2] == 125.0
    assert read.incident_energy.tolist() == [1e3, 2e3, 3e3]
    assert "left out" in str(read.provenance)


def test_clouds_of_points_are_written(tmp_path: Path) -> None:
    showers = random_showers(BOX, 40, 2)
    path = tmp_path / "a.h5"
    with create_showers(path, BOX, format="showerdata") as writer:
        writer.append(showers[:30])
        writer.append(showers[30:])
    with h5py.File(path) as file:
        filled = (showers.energies > 0).sum(axis=1)
        assert file["shape"][...].tolist() == [40, filled.max(), 4]
        np.testing.assert_array_equal(file["num_points"][...], filled)
        assert file["directions"][0].tolist() == [0, 0, 1] and set(file["pdg"][...]) == {22}
    again = read_showers(path)  # the geometry is in the file
    np.testing.assert_allclose(again.energies, showers.energies, rtol=1e-6)
    with (
        pytest.raises(DataError, match="HDF5"),
        create_showers(tmp_path / "a.npz", BOX, format="showerdata"),
    ):
        pass
    with (
        pytest.raises(DataError, match="points in x and y"),
        create_showers(tmp_path / "b.h5", load_geometry("ds1-photons"), format="showerdata"),
    ):
        pass
