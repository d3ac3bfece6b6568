"""Photons and pions apart: summaries of one kind, and what the LCD study draws of them."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import sample_showers

from caloforge.detector.shipped import load_geometry
from caloforge.judge.compare import compare
from caloforge.judge.folder import Result, result_of
from caloforge.judge.kinds import kinds, of_kind
from caloforge.judge.shown.layers import depth_means
from caloforge.judge.summary import Summary, summarise
from caloforge.report.contents import kind_sections
from caloforge.report.drawn import shown_note
from caloforge.report.figures import unrolled
from caloforge.report.figures.kinds import depth_curves, output_against_input
from caloforge.report.figures.shapes import of
from caloforge.report.style import style
from caloforge.showers import Showers


@pytest.fixture(scope="module")
def lcd() -> Showers:
    return sample_showers("lcd")


@pytest.fixture(scope="module")
def summary(lcd: Showers) -> Summary:
    return summarise(lcd, "reference", keep=20)


@pytest.fixture(scope="module")
def result(lcd: Showers, summary: Summary) -> Result:
    """A generator that gives every shower the same energy: it does not know the incident one."""
    total = lcd.energies.sum(axis=1, keepdims=True)
    deaf = replace(lcd, energies=lcd.energies / total * total.mean())
    generated = [summarise(deaf, "deaf", like=summary)]
    return result_of(summary, generated, compare(summary, generated))


def test_the_particles_of_a_geometry_are_named() -> None:
    assert kinds(load_geometry("lcd")) == {"gamma": 0.0, "pi0": 1.0}
    for name in ("ds1-photons", "atlas-cells", "lhcb"):
        assert kinds(load_geometry(name)) == {}


@pytest.mark.parametrize(("name", "value"), [("gamma", 0), ("pi0", 1)])
def test_a_kind_is_its_own_showers(lcd: Showers, summary: Summary, name: str, value: int) -> None:
    rows = lcd.conditions[:, 0] == value
    part = of_kind(summary, name)
    assert part is not None and len(part) == rows.sum() > 0
    mean = lcd.energies[rows].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(part.mean_cells, mean[None], rtol=1e-6)
    total = lcd.energies[rows].sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(part.observables["total_energy"], total, rtol=1e-5)
    np.testing.assert_array_equal(part.cells, lcd.energies[rows][part.cell_rows])
    assert set(part.example_conditions[:, 0]) == {float(value)}


def test_a_sample_without_a_kind_has_no_section_of_it(lcd: Showers) -> None:
    photons = summarise(lcd[lcd.conditions[:, 0] == 0], "photons")
    assert of_kind(photons, "pi0") is None
    again = [replace(photons, name="again")]
    with style():
        sections = kind_sections(result_of(photons, again, compare(photons, again)))
    assert [section.title for section in sections] == ["gamma alone"]


def test_means_against_depth_by_hand(lcd: Showers, summary: Summary) -> None:
    layers = lcd.energies[:, : 25 * 625].reshape(-1, 25, 625).astype(np.float64)
    means = depth_means(summary)
    shares = layers.sum(2) / lcd.incident_energy[:, None]
    energy = means["layer_energy"]
    np.testing.assert_allclose(energy.mean, shares.mean(0), rtol=1e-5)
    np.testing.assert_allclose(energy.error, shares.std(0) / np.sqrt(len(lcd)), rtol=1e-5)
    np.testing.assert_allclose(means["cells"].mean, (layers > 0).sum(2).mean(0), rtol=1e-5)
    x, y = lcd.geometry.layers[0].xy
    w = layers[:, 12] / layers[:, 12].sum(1, keepdims=True)
    variance = sum((w * a**2).sum(1) - (w * a).sum(1) ** 2 for a in (x, y))
    assert means["spread"].mean[12] == pytest.approx(np.sqrt(variance).mean(), rel=1e-4)


def test_what_does_not_know_the_energy_does_not_correlate(result: Result) -> None:
    with style():
        picture = output_against_input(result)
    numbers = [
        float(word) for word in picture.caption.split() if word[0].isdigit() and "." in word
    ]
    geant4, deaf = numbers[-2:]
    assert geant4 > 0.9 and abs(deaf) < 0.5


def test_every_kind_has_the_figures_of_the_study(result: Result) -> None:
    with style():
        sections = kind_sections(result)
        part = result.of_kind("pi0")
        assert depth_curves(part) is not None
        single = unrolled.unrolled_examples(part)
    assert [section.title for section in sections] == ["gamma alone", "pi0 alone"]
    for section, name in zip(sections, ("gamma", "pi0"), strict=True):
        assert [picture.name.removesuffix(f"-{name}") for picture in section.pictures] == [
            "output-against-input",
            "response",
            "longitudinal-profile",
            "depth-curves",
            "unrolled-showers",
            "unrolled-single-showers",
        ]
    assert single is not None
    labels = [text.get_text() for text in single.figure.texts]
    assert sum(label.startswith("Geant4") for label in labels) == 3


def test_a_figure_without_layers_does_not_say_which_are_shown(result: Result) -> None:
    assert "Shown are 6 of 85 layers" in shown_note(result)
    with style():
        picture = of("part")(result)
    assert picture is not None and "layers" not in picture.caption
