"""A result is a folder: it is written whole, read back, and drawn without the showers."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_contributing import EXAMPLES, run

import caloforge
from caloforge.cli import app
from caloforge.data import create_showers, sample_path
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import load_geometry
from caloforge.errors import CaloForgeError, DataError
from caloforge.evaluate import draw_results, judge_files
from caloforge.judge.files import Files, judge_to_folder
from caloforge.judge.folder import RESULTS, SHOWN, TABLE, Result, read_results
from caloforge.judge.store import read_object, write_object
from caloforge.report import figures
from caloforge.report.blocks import Picture
from caloforge.report.page import write_report
from caloforge.showers import Showers


@pytest.fixture(autouse=True, scope="module")
def _coarse_pictures() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("caloforge.report.style.DPI", 40)
        yield


GEOMETRY = Geometry.from_dict(
    {
        "name": "toy",
        "layers": [
            {"id": 1, "name": "ring", "kind": "polar", "alpha_bins": 4, "r_edges": [0, 5, 9]}
        ],
        "conditions": [{"name": "energy", "unit": "MeV", "low": 100, "high": 1e5, "scale": "log"}],
    }
)


def _toy(path: Path, seed: int, scale: float = 1.0) -> Path:
    """Random cells at three energies, a third of them empty, in a file."""
    rng = np.random.default_rng(seed)
    energy = np.tile([1024.0, 4096.0, 16384.0], 50)[:, None]
    cells = rng.exponential(size=(150, GEOMETRY.n_cells)) * scale / GEOMETRY.n_cells
    cells *= (rng.random(cells.shape) > 0.3) * energy
    with create_showers(path, GEOMETRY) as writer:
        writer.append(Showers(cells.astype("f4"), energy, GEOMETRY, {}))
    return path


@pytest.fixture(scope="module")
def folders(_coarse_pictures: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two results of one reference, and one of another; the showers are gone."""
    place = tmp_path_factory.mktemp("results")
    files = {name: _toy(place / f"{name}.hdf5", k) for k, name in enumerate(("geant4", "other"))}
    made = [_toy(place / f"{name}.hdf5", 9, scale) for name, scale in (("good", 1), ("bad", 1.3))]
    page = {"title": "Toys & more", "intro": "Random cells."}
    timing = {"timing": [{"generator": "good", "ms": 0.5}]}
    judge_files(files["geant4"], [made[0]], place / "a", metrics=None, page=page, extra=timing)
    judge_files(files["geant4"], [made[1]], place / "b", metrics=None)
    named = Files(files["other"], {"bad": made[1]})
    judge_to_folder(named, place / "c", metrics=None, device="cpu")
    for file in (*files.values(), *made):
        file.unlink()
    return place


def test_a_page_is_drawn_again_without_the_showers(folders: Path) -> None:
    """The same bytes: nothing that the page shows is lost on the way through the folder."""
    page = folders / "a" / "report.html"
    first = page.read_bytes()
    assert b"Toys &amp; more" in first and b"Random cells." in first and b"ms" in first
    page.unlink()
    assert draw_results([folders / "a"]) == page
    assert page.read_bytes() == first
    assert [f.name for f in sorted((folders / "b").iterdir())] == [
        "report.html", "results.json", "results.md", "shown.npz",
    ]  # fmt: skip


def test_what_is_shown_is_small_and_holds_no_column_of_showers(folders: Path) -> None:
    with np.load(folders / "a" / SHOWN) as members:
        for name in members.files:
            if name != "layout" and "/scatter/" not in name:  # those are at most 500
                assert len(members[name]) != 150, name
    assert (folders / "a" / SHOWN).stat().st_size < 1 << 20


def test_results_are_read_back_whole(folders: Path) -> None:
    result = caloforge.read_results(folders / "a")
    assert [c.name for c in result.comparisons] == ["good"]
    plain = json.loads((folders / "a" / "results.json").read_text())
    written = plain["generators"]["good"]
    for key, value in result.comparisons[0].metrics.items():
        assert value.value == written["metrics"][key]["value"]
        assert value.floor == written["metrics"][key]["floor"]
    reference = result.shown.reference
    assert reference.counts["response"].sum() == len(reference) == 150
    assert reference.mean_cells.shape == (1 + 3, 8)
    # The mean response from the histogram of the page, and as a number.
    edges = result.shown.frame.bins["response"].edges
    centres = (edges[1:] + edges[:-1]) / 2
    mean = np.average(centres, weights=reference.counts["response"][1:-1])
    assert mean == pytest.approx(reference.mean_response, rel=0.02)


def test_a_picture_is_a_function_and_a_line(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture of CONTRIBUTING.md, in its section, and once more in a section of its own."""
    cumulative = SimpleNamespace(**run("src/caloforge/report/figures/cumulative.py"))
    names = {"Line": figures.Line, "cumulative": cumulative}
    line = eval(EXAMPLES["the line in FIGURES"].strip(), names)

    def again(result: Result) -> Picture:
        return replace(cumulative.cumulative(result), name="again")

    more = [figures.Line("New section", lambda result: None), figures.Line("New section", again)]
    monkeypatch.setattr(figures, "FIGURES", [*figures.FIGURES, line, *more])
    html = draw_results([folders / "b"], folders / "extended").read_text(encoding="utf-8")
    assert "a smaller energy response, for Geant4 and bad." in html
    places = [f'id="{name}"' for name in ("response", "cumulative-response", "layers")]
    assert [html.index(place) for place in places] == sorted(map(html.index, places))
    places = [f'id="{name}"' for name in ("new-section", "again", "details")]
    assert [html.index(place) for place in places] == sorted(map(html.index, places))


def test_generators_of_several_folders_stand_beside_each_other(folders: Path) -> None:
    html = draw_results([folders / "a", folders / "b"], folders / "both").read_text("utf-8")
    single = (folders / "b" / "report.html").read_text("utf-8")
    assert html.count("<img ") == single.count("<img ")
    assert '<th scope="col">good</th><th scope="col">bad</th>' in html
    assert "mean rank" in html and "mean rank" not in single


def test_the_command_draws_a_page(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "FIGURES", figures.FIGURES[:6])
    words = ["report", str(folders / "a"), str(folders / "b"), "--out", str(folders / "command")]
    app(words, standalone_mode=False)
    assert "report.html" in capsys.readouterr().out.replace("\n", "")
    assert (folders / "command" / "report.html").stat().st_size > 50_000


def test_folders_that_do_not_belong_together_are_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(CaloForgeError, match="other reference showers"):
        draw_results([folders / "a", folders / "c"], tmp_path)
    lhcb = Files(sample_path("lhcb-test"), {"{train}": sample_path("lhcb-train")})
    judge_to_folder(lhcb, tmp_path / "lhcb", metrics=None, device="cpu")
    assert sorted(f.name for f in (tmp_path / "lhcb").iterdir()) == sorted([RESULTS, TABLE, SHOWN])
    with pytest.raises(CaloForgeError, match="read-out 'lhcb"):
        draw_results([folders / "a", tmp_path / "lhcb"], tmp_path)
    with pytest.raises(CaloForgeError, match="--out"):
        draw_results([folders / "a", folders / "b"])
    with pytest.raises(CaloForgeError, match="rename a folder"):
        draw_results([folders / "a", folders / "a"], tmp_path)
    with pytest.raises(CaloForgeError, match="at least one"):
        draw_results([])


def test_a_folder_without_a_result_gets_one_sentence(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no results\.json"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(DataError, match="not a result"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text((folders / "a" / "results.json").read_text())
    with pytest.raises(DataError, match="judge the showers again"):
        read_results(tmp_path)
    (tmp_path / SHOWN).write_bytes((folders / "a" / SHOWN).read_bytes()[:5000])
    with pytest.raises(DataError, match="damaged"):
        read_results(tmp_path)


# --- files of dataclasses ------------------------------------------------------------------------
@dataclass(frozen=True)
class Part:
    values: np.ndarray
    name: str = "part"


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    by_energy: dict[float, Part]
    pair: tuple[float, int]
    geometry: Geometry
    nothing: Part | None = None
    number: float | None = None


def test_a_dataclass_comes_back_as_it_was(tmp_path: Path) -> None:
    arrays = [np.arange(3), np.zeros((0, 4), np.float32), np.array([np.nan, np.inf])]
    whole = Whole(
        tuple(Part(a, f"ä/{k}") for k, a in enumerate(arrays)),
        {0.1: Part(arrays[2])},
        (1 / 3, 7),
        load_geometry("lcd"),
        number=2.5,
    )
    write_object(tmp_path / "w.npz", whole, "toy-1")
    again = read_object(tmp_path / "w.npz", Whole, "toy-1")
    for first, second in zip(whole.parts, again.parts, strict=True):
        assert first.name == second.name and first.values.dtype == second.values.dtype
        assert np.array_equal(first.values, second.values, equal_nan=second.values.dtype == "f8")
    assert list(again.by_energy) == [0.1] and again.pair == whole.pair
    assert again.geometry == whole.geometry and again.nothing is None and again.number == 2.5
    with np.load(tmp_path / "w.npz") as members:
        assert np.array_equal(members["parts/0/values"], arrays[0])
    before = (tmp_path / "w.npz").read_bytes()
    write_object(tmp_path / "w.npz", again, "toy-1")
    assert (tmp_path / "w.npz").read_bytes() == before
    with pytest.raises(DataError, match="expected 'toy-2'"):
        read_object(tmp_path / "w.npz", Whole, "toy-2")


def test_a_file_of_another_shape_is_refused(tmp_path: Path) -> None:
    write_object(tmp_path / "p.npz", Part(np.zeros(2)), "toy-1")
    with pytest.raises(DataError, match="judge the showers again"):
        read_object(tmp_path / "p.npz", Whole, "toy-1")
    with pytest.raises(DataError, match="no file"):
        read_object(tmp_path / "none.npz", Part, "toy-1")
    with pytest.raises(TypeError, match="'name' is a set"):
        write_object(tmp_path / "q.npz", Part(np.zeros(2), {1}), "toy-1")  # type: ignore[arg-type]
    assert [f.name for f in tmp_path.iterdir()] == ["p.npz"]


def test_everything_that_is_shown_has_a_type_that_is_read_back(folders: Path) -> None:
    """Fields of the result's own classes come back as those classes, not as plain dictionaries."""
    shown = read_results(folders / "a").shown
    for part in (shown, shown.frame, shown.reference, shown.generated[0], shown.floor):
        for f in fields(part):
            assert not isinstance(getattr(part, f.name), list), f.name
    assert shown.generated[0].fit is None or shown.generated[0].fit.ndf > 0
    write_report(folders / "again" / "report.html", read_results(folders / "b"))
    assert (folders / "again" / "report.html").read_bytes() == (
        folders / "b" / "report.html"
    ).read_bytes()
