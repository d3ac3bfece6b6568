"""`caloforge geometry`: list, show, check, draw and new."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from caloforge.cli import app
from caloforge.detector.shipped import geometry_names, load_geometry
from caloforge.errors import CaloForgeError, GeometryError, SimulationError
from caloforge.simulate.medium import _tables

RUN = CliRunner()


def said(*arguments: object) -> str:
    done = RUN.invoke(app, ["geometry", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0
    return " ".join(done.output.split())


def test_list_and_show_name_what_there_is() -> None:
    text = said("list")
    assert all(name in text for name in geometry_names())
    text = said("show", "lhcb")
    assert load_geometry("lhcb").hash in text
    assert "396 mm deep" in text
    assert "2 mm G4_Pb + (4 mm G4_POLYSTYRENE)" in text
    assert "No stack of materials" in said("show", "ds2")


def test_new_writes_a_file_that_is_sound(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    said("new", file)
    assert "'mine' is sound: 3630 cells in 30 layer(s)" in said("check", file)
    geometry = load_geometry(file)
    assert geometry.stack is not None
    assert geometry.stack.depth == pytest.approx(135.0)
    with pytest.raises(CaloForgeError, match="exists"):
        RUN.invoke(app, ["geometry", "new", str(file)], catch_exceptions=False)


@pytest.mark.parametrize("name", geometry_names())
def test_every_shipped_geometry_is_sound(name: str) -> None:
    assert f"'{name}' is sound" in said("check", name)


def test_check_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    said("new", file)
    file.write_text(file.read_text().replace("thickness = 3.0", "thicknes = 3.0"))
    with pytest.raises(GeometryError, match="did you mean 'thickness'"):
        RUN.invoke(app, ["geometry", "check", str(file)], catch_exceptions=False)


@pytest.mark.parametrize(
    ("old", "new", "answer"),
    [
        ("G4_W", "G4_Unobtainium", "Geant4 has no material G4_Unobtainium"),
        ("G4_W", "G4_SILICON_DIOXID", "did you mean 'G4_SILICON_DIOXIDE'"),
        ('name = "mine"', 'name = "../../x"', "name of a geometry"),
        ('name = "energy"', 'name = "../../x"', "name of a condition"),
        ('name = "energy"', 'name = "a=b"', "name of a condition"),
    ],
)
def test_check_refuses_names_that_nothing_can_use(
    old: str, new: str, answer: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    said("new", file)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(CaloForgeError, match=answer):
        said("check", file)


def test_check_accepts_a_material_of_geant4_that_the_parametric_source_lacks(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.toml"
    said("new", file)
    file.write_text(file.read_text().replace("G4_W", "G4_GLASS_LEAD"))
    assert "is sound" in said("check", file)


def test_geant4_knows_every_material_of_the_parametric_source() -> None:
    tables = _tables()
    known = set(tables["geant4"]["names"].split())
    assert known >= tables["elements"].keys()
    assert known >= {name.removeprefix("G4_") for name in tables["compounds"]}


def test_a_file_of_another_kind_is_not_called_an_unknown_geometry(tmp_path: Path) -> None:
    (tmp_path / "x.h5").touch()
    with pytest.raises(GeometryError, match=r"x\.h5 is no geometry file by its ending"):
        said("check", tmp_path / "x.h5")
    with pytest.raises(GeometryError, match="Unknown geometry"):
        said("check", tmp_path / "y.h5")


@pytest.mark.parametrize("name", ["ds1-photons", "ds2"])
def test_draw_makes_a_picture(name: str, tmp_path: Path) -> None:
    said("draw", name, "--out", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SimulationError, match="ends in"):
        arguments = ["geometry", "draw", name, "--out", str(tmp_path / "a.txt")]
        RUN.invoke(app, arguments, catch_exceptions=False)
