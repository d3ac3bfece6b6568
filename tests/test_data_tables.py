"""Showers of one's own: arrays, and tables with named columns."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from caloforge import Showers
from caloforge.config import load_recipe, suited_to
from caloforge.data import convert, read_showers
from caloforge.detector.shipped import load_geometry
from caloforge.errors import DataError, GeometryError
from caloforge.training.train import build

LHCB = load_geometry("lhcb")


def arrays(n: int = 5) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    generator = np.random.default_rng(1)
    conditions = {
        c.name: generator.uniform(max(c.low, -1e4), min(c.high, 1e4), n) for c in LHCB.conditions
    }
    share = generator.dirichlet(np.full(900, 0.1), n)
    energy = np.sqrt(sum(conditions[name] ** 2 for name in ("px", "py", "pz")))
    return (0.175 * energy[:, None] * share).astype(np.float32), conditions


def test_from_arrays_takes_names_shapes_and_geometry_names() -> None:
    energies, conditions = arrays()
    one = Showers.from_arrays(
        energies.reshape(5, 30, 30, 1), conditions, "lhcb", {"producer": "me"}
    )
    assert one.geometry == LHCB
    np.testing.assert_array_equal(one.energies, energies)
    np.testing.assert_array_equal(one.condition("x"), conditions["x"])
    again = Showers.from_arrays(energies, one.conditions, LHCB)
    np.testing.assert_array_equal(again.conditions, one.conditions)
    photons = Showers.from_arrays(np.ones((2, 368)), np.array([512.0, 1024.0]), "ds1-photons")
    assert photons.incident_energy.tolist() == [512.0, 1024.0]
    with pytest.raises(DataError, match="expected px, py, pz, x, y"):
        Showers.from_arrays(energies, {"px": conditions["px"]}, LHCB)
    with pytest.raises(DataError, match="expected one for each shower"):
        Showers.from_arrays(energies, {**conditions, "x": np.zeros(3)}, LHCB)
    with pytest.raises(GeometryError, match="did you mean 'lhcb'"):
        Showers.from_arrays(energies, conditions, "lhbc")


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".tsv", ".npy", ".npz", ".parquet"])
def test_tables_with_named_columns_are_read(suffix: str, tmp_path: Path) -> None:
    energies, conditions = arrays()
    path = tmp_path / f"mine{suffix}"
    columns = {"event": np.arange(5.0), **conditions}
    columns |= {f"cell_{k}": energies[:, k] for k in range(900)}
    if suffix == ".npz":
        np.savez(path, cells=energies, **conditions)
    elif suffix == ".npy":
        kinds = [(name, "f8") for name in conditions] + [("cells", "f4", 900)]
        table = np.zeros(5, dtype=kinds)
        table["cells"] = energies
        for name, values in conditions.items():
            table[name] = values
        np.save(path, table)
    elif suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(columns), path)
    else:
        delimiter = "\t" if suffix == ".tsv" else ","
        head = delimiter.join(columns)
        rows = np.stack(list(columns.values()), axis=1)
        np.savetxt(path, rows, delimiter=delimiter, header=head, comments="", fmt="%.9g")
    showers = read_showers(path, LHCB)
    np.testing.assert_allclose(showers.energies, energies, rtol=1e-6)
    np.testing.assert_allclose(showers.condition("px"), conditions["px"], rtol=1e-6)
    target = tmp_path / "copy.h5"
    assert convert(path, target, geometry=LHCB) == 5
    assert read_showers(target).geometry == LHCB


def test_tables_that_make_no_sense(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("energy,cell_0,cell_2\n1000,1,2\n")
    with pytest.raises(DataError, match="without a gap"):
        read_showers(path, LHCB)
    path.write_text("energy,cell_0,cell_1\n1000,1\n")
    with pytest.raises(DataError, match=r"3 names above 2 columns"):
        read_showers(path, LHCB)
    path.write_text("energy,cell_0,cell_1\n")
    with pytest.raises(DataError, match="has names and no rows"):
        read_showers(path, LHCB)
    path.write_text("energy,energy,cell_1\n1000,1,2\n")
    with pytest.raises(DataError, match="twice"):
        read_showers(path, LHCB)
    path.write_text("energy,cell_0,cell_1\n1000,1,2\n")
    with pytest.raises(DataError, match="has no column"):
        read_showers(path, LHCB)
    np.save(tmp_path / "b.npy", np.ones((3, 900)))
    with pytest.raises(DataError, match="named columns"):
        read_showers(tmp_path / "b.npy", LHCB)


def test_a_recipe_without_a_geometry_takes_that_of_the_showers() -> None:
    """It drops the symmetries that the read-out lacks; other recipes stay as they are."""
    recipe = load_recipe("copula")
    assert recipe.geometry is None
    assert suited_to(recipe, LHCB).training.augment == ("reflect-x", "reflect-y", "swap")
    assert suited_to(recipe, load_geometry("lcd")).training.augment == ("reflect-x", "swap")
    assert suited_to(recipe, load_geometry("ds1-photons")).training.augment == ()
    named = load_recipe("copula-lhcb")
    assert suited_to(named, load_geometry("ds1-photons")) is named
    energies, conditions = arrays(40)
    smoke = load_recipe("smoke-mlp-wgan", ["training.steps=1"]).model_copy(
        update={"geometry": None}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = build(smoke, Showers.from_arrays(energies, conditions, LHCB))
    assert model.geometry == LHCB
