"""At home in a notebook: names, representations, tables, pictures, judging in memory."""

from pathlib import Path

import numpy as np
import pytest

import caloforge
from caloforge.errors import CaloForgeError, DataError
from caloforge.notebook import Compared, compare
from caloforge.plotting import plot_average, plot_shower
from caloforge.showers import Showers


def test_the_public_names_are_listed() -> None:
    assert dir(caloforge) == sorted(caloforge.__all__)
    for name in caloforge.__all__:
        assert getattr(caloforge, name) is not None


def test_names_of_what_is_shipped_stand_for_files(tmp_path: Path) -> None:
    showers = caloforge.read_showers("ds1-photons-test")
    model = caloforge.load_model("caloshowergan-photon")
    conditions = caloforge.Conditions.like("ds1-photons-test", model.model.geometry)
    made = caloforge.generate_showers("caloshowergan-photon", conditions, 3)
    assert made.geometry.hash == showers.geometry.hash
    assert caloforge.convert("lhcb-test", tmp_path / "a.hdf5") > 0
    caloforge.train("smoke-parametrisation", "ds1-photons-train", tmp_path / "run", device="cpu")
    assert caloforge.load_model(tmp_path / "run").model.geometry.name == "ds1-photons"
    with pytest.raises(DataError, match="ds1-photons-test"):
        caloforge.read_showers("ds1-photon-test")


def test_everything_has_a_short_word_and_a_table(photons: Showers) -> None:
    generator = caloforge.Generator("caloshowergan-photon", seed=3, engine="torch")
    recipe = caloforge.load_recipe("caloshowergan-photon")
    for thing in (photons, photons.geometry, generator, recipe):
        assert len(repr(thing)) < 200 and "\n" not in repr(thing)
        assert thing._repr_html_().startswith(("<table", "<pre"))
    assert "'caloshowergan-photon'" in repr(generator) and "seed 3" in repr(generator)
    assert "caloshowergan" in repr(recipe)


def test_showers_are_indexed_as_an_array(photons: Showers) -> None:
    assert len(photons[3]) == len(photons[-1]) == 1
    assert (photons[-1].energies == photons.energies[-1:]).all()
    assert (photons[np.int64(3)].energies == photons[3:4].energies).all()
    mask = photons.incident_energy > 60_000
    assert len(photons[mask]) == mask.sum()
    assert len(photons[[0, 5]]) == 2
    with pytest.raises(IndexError, match="no shower"):
        photons[len(photons)]
    assert sum(1 for _ in photons[:3]) == 3


def test_showers_become_a_table(photons: Showers) -> None:
    table = photons[:20].to_dataframe()
    layers = [f"layer_{layer.id}" for layer in photons.geometry.layers]
    assert list(table) == ["energy", "deposited", "response", *layers]
    assert np.allclose(table[layers].sum(axis=1), table["deposited"])
    assert np.allclose(table["response"] * table["energy"], table["deposited"])
    assert photons[:2].to_dataframe(cells=True)["cell_7"][1] == photons.energies[1, 7]


def test_showers_are_drawn(photons: Showers) -> None:
    single = plot_shower(photons, -1)
    assert "deposited" in single.get_suptitle()
    both = plot_average({"a": photons[:100], "b": "ds1-photons-test"})
    assert len(both.axes) == 2 * photons.geometry.n_layers + 1
    assert plot_average("lhcb-test").axes
    with pytest.raises(DataError, match="There is no shower"):
        plot_shower(photons, len(photons))
    with pytest.raises(DataError, match="read-out"):
        plot_average({"a": photons, "b": "lhcb-test"})
    with pytest.raises(DataError, match="no sample"):
        plot_average({})


def test_samples_in_memory_are_compared(photons: Showers, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="single metrics cannot be chosen"):
        compare(photons[:400], photons[400:800], metrics=["precision"])  # type: ignore[arg-type]
    found = compare(photons[:400], {"rest": photons[400:800]}, metrics=None)
    assert isinstance(found, Compared) and "rest" in repr(found)
    assert "separation/response" in found.metrics
    assert "<table" in found._repr_html_() and "metrics of" in repr(found["rest"])
    table = found.to_dataframe()
    assert set(table["sample"]) == {"rest"} and len(table) == len(found.metrics)
    figure = found.plot("separation/response")
    assert len(figure.axes) == 2
    assert len(found.plot(found.observables[0]).axes) == 2
    for wrong in ("separation/respons", "nothing"):
        with pytest.raises(CaloForgeError, match="no histogram"):
            found.plot(wrong)
    with pytest.raises(CaloForgeError, match="rest"):
        found["res"]
