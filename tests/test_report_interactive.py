"""Figures that answer: their samples are marked, their values lie beside them."""

import io
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from caloforge.judge.comparison import Comparison, Details
from caloforge.metrics.base import Value
from caloforge.metrics.notes import Notes
from caloforge.report.blocks import Cell, Picture, Section, Table
from caloforge.report.interactive import inline_svg, tag, values
from caloforge.report.page import (
    _Drawing,
    _few_colours,
    _image,
    _named_table,
    _reading_notes,
    write_page,
)
from caloforge.report.style import looks, style, to_bytes

SAMPLES = looks(["one", "two"])


def figure() -> Figure:
    made = Figure(figsize=(4, 3))
    ax = made.add_subplot(xscale="log", xlabel="energy [MeV]")
    ax.stairs([1.0, 2.0], [1, 10, 100], color=SAMPLES[0].color)
    ax.patches[0].errors = np.array([0.1, 0.2])  # type: ignore[attr-defined]
    ax.stairs([1.5, 2.5], [1, 10, 100], baseline=np.array([0.5, 1.5]), fill=True)
    ax.errorbar([2, 20], [3, np.nan], yerr=0.5, color=SAMPLES[1].color)
    ax.axhline(1)
    return made


def test_values_of_curves_and_histograms() -> None:
    with style():
        made = figure()
        to_bytes(made, "svg")
    (panel,) = json.loads(values(made, SAMPLES))["axes"]
    assert panel["x"][2] == 1 and panel["y"][2] == 0 and panel["l"] == "energy [MeV]"
    steps, points = panel["s"]
    assert steps == {"n": "one", "k": 0, "e": [1, 10, 100], "v": [1, 2], "d": [0.1, 0.2]}
    assert points == {"n": "two", "k": 1, "p": [2, 20], "v": [3, None], "d": [0.5, None]}
    assert all(0 <= share <= 1 for share in panel["box"])


def test_samples_are_marked_and_names_are_the_figures_own() -> None:
    with style():
        made = figure()
        tag(made, SAMPLES)
        svg = inline_svg(to_bytes(made, "svg"), 'a "quoted" <b>', 7)
    assert svg.startswith("<svg") and "<?xml" not in svg
    assert svg.count('class="s0"') == 1 and svg.count('class="s1"') >= 2
    assert 'aria-label="a &quot;quoted&quot; &lt;b>"' in svg
    ids = set(re.findall(r'\bid="([^"]+)"', svg))
    assert all(name.startswith("f7-") for name in ids)
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)
    assert {a or b for a, b in used} <= ids
    twins = [SAMPLES[0], SAMPLES[0]]
    tag(made, twins)  # of two samples in one colour neither can be hidden


def page(tmp_path: Path) -> Path:
    with style():
        picture = Picture("one", "A caption.", "Words.", figure(), "svg")
        return write_page(tmp_path / "page.html", "Title", [Section("Part", pictures=(picture,))])


def test_the_page_allows_its_own_script_alone(tmp_path: Path) -> None:
    html = page(tmp_path).read_text(encoding="utf-8")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", html)
    assert html.count("<script>") == 1 and '<script type="application/json">' in html


@pytest.mark.browser
def test_a_browser_runs_the_script(tmp_path: Path) -> None:
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    shown = subprocess.run(
        [*command, page(tmp_path).as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert re.search(r'<html[^>]*class="js"', shown.stdout)
    assert 'id="tip"' in shown.stdout


def test_the_reference_can_have_another_name() -> None:
    drawing = _Drawing(reference="Delphes")
    table = Table("t", ("Geant4", "b"), ((Cell("to Geant4"), Cell("Geant4 11")),), "As Geant4.")
    named = _named_table(table, drawing)
    assert named.columns == ("Delphes", "b") and named.note == "As Delphes."
    # What a file says of its origin stays.
    assert [cell.text for cell in named.rows[0]] == ["to Delphes", "Geant4 11"]
    with style():
        made = figure()
        made.axes[0].set_title("Geant4 against Geant4")
        _image(Picture("one", "Of Geant4.", "Words.", made, "svg"), drawing)
    assert made.axes[0].get_title(loc="left") == "Delphes against Delphes"


def test_names_of_samples_stay_where_the_reference_is_named() -> None:
    """A generator called Geant4-FTFP is no QGSP-FTFP because the reference is QGSP."""
    kept = ("Geant4-FTFP", "my Geant4 run")
    drawing = _Drawing(reference="QGSP", kept=kept)
    assert drawing.named("Geant4 against Geant4-FTFP") == "QGSP against Geant4-FTFP"
    assert drawing.named("nearest of\nGeant4-\nFTFP") == "nearest of\nGeant4-\nFTFP"
    assert drawing.named("my\nGeant4 run, Geant4") == "my\nGeant4 run, QGSP"
    with style():
        made = figure()
        made.axes[0].set_title("Geant4-FTFP − Geant4")
        _image(Picture("one", "Words.", "Words.", made, "svg"), drawing)
    assert made.axes[0].get_title(loc="left") == "Geant4-FTFP − QGSP"


def test_dollars_are_escaped_in_figures_alone() -> None:
    (look,) = looks(["a$b_$c"])
    drawing = _Drawing((look,))
    assert look.label == r"a\$b_\$c" and drawing.shown()[0].label == "a$b_$c"
    with style():
        made = Figure(figsize=(4, 3))
        made.subplots().plot([0.0, 1.0], [1.0, 2.0], color=look.color, label=look.label)
        shown = _image(Picture("one", f"Of {look.label}.", "Words.", made, "svg"), drawing)
    assert shown["caption"] == "Of a$b_$c." and '"n":"a$b_$c"' in shown["data"]


def test_a_page_explains_what_looks_wrong() -> None:
    strange = Comparison(
        "a",
        {"jsd_low": Value(-0.01, 0.02, 0.0, 100), "kpd": Value(-1e-5, 1e-4, 0.0, 100)},
        details=Details(notes=Notes(reduced=("fpd", "kpd"))),
    )
    divergence, distance, reduced = _reading_notes([strange])
    assert "Jensen–Shannon" in divergence and "kernel" in distance and "FPD, KPD" in reduced
    assert list(_reading_notes([Comparison("b", {"auc_low": Value(0.6, None, None, 9)})])) == []


def test_pixels_have_few_colours_and_look_the_same() -> None:
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.pcolormesh(np.random.default_rng(0).random((12, 12)))
    axes.plot([0, 12], [0, 12], "r-")
    png = to_bytes(figure, "png")
    few = _few_colours(png)
    assert few == _few_colours(png) and len(few) < 0.6 * len(png)
    before, after = (
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float) for data in (png, few)
    )
    assert before.shape == after.shape
    assert np.abs(before - after).mean() < 2.0  # of 255
