"""CaloChallenge binning files."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caloforge.detector.binning import add_layers
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import load_geometry, read_binning
from caloforge.detector.symmetries import symmetry_group
from caloforge.errors import CaloForgeError, GeometryError

PHOTONS = """<Bins>
  <Bin pid="22" etaMin="20" etaMax="25" name="photon">
    <Layer id="0" r_edges="0,5,10,30,50,100,200,400,600" n_bin_alpha="1" />
    <Layer id="1" r_edges="0,2,4,6,8,10,12,15,20,30,40,50,70,90,120,150,200" n_bin_alpha="10" />
    <Layer id="2" r_edges="0,2,5,10,15,20,25,30,40,50,60,80,100,130,160,200,250,300,350,400"
           n_bin_alpha="10" />
    <Layer id="3" r_edges="0,50,100,200,400,600" n_bin_alpha="1" />
    <Layer id="4" r_edges="0" n_bin_alpha="1" />
    <Layer id="12" r_edges="0, 100, 200, 400, 1000, 2000" n_bin_alpha="1" />
    <Layer id="13" r_edges="0" n_bin_alpha="1" />
  </Bin>
</Bins>"""
LAYER = '<Layer id="0" r_edges="0,1,2" n_bin_alpha="3"/>'
TWO = (
    f'<Bins><Bin pid="22" name="photon">{LAYER}</Bin>'
    '<Bin pid="211" name="pion"><Layer id="4" r_edges="0,1" n_bin_alpha="2"/></Bin></Bins>'
)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def write_geometry(geometry: Geometry, path: Path) -> None:
    """A binning file with the voxels of a geometry."""
    root = ElementTree.Element("Bins")
    attributes = {"pid": str(geometry.pid), "name": geometry.particles[0]}
    add_layers(ElementTree.SubElement(root, "Bin", attributes), geometry)
    write(path, ElementTree.tostring(root, encoding="unicode"))


def one(layer: str, attributes: str = 'pid="22" name="photon"') -> str:
    return f"<Bins><Bin {attributes}>{layer}</Bin></Bins>"


@pytest.mark.parametrize(
    ("name", "cells"),
    [("ds1-photons", 368), ("ds1-pions", 533), ("ds2", 6480), ("ds3", 40500)],
)
def test_shipped_geometries_come_back(tmp_path: Path, name: str, cells: int) -> None:
    geometry = load_geometry(name)
    write_geometry(geometry, tmp_path / "a.xml")
    again = load_geometry(tmp_path / "a.xml")
    assert again.n_cells == cells
    assert again.hash == geometry.hash


def test_layers_with_a_single_edge_hold_no_voxels(tmp_path: Path) -> None:
    geometry = read_binning(write(tmp_path / "a.xml", PHOTONS))
    assert geometry.n_cells == 368
    assert geometry.hash == load_geometry("ds1-photons").hash


def test_own_voxels(tmp_path: Path) -> None:
    geometry = read_binning(write(tmp_path / "mine.xml", TWO), "photon")
    assert geometry.name == "mine-photon"
    assert geometry.layers[0].shape == (3, 2)
    np.testing.assert_allclose(geometry.layers[0].edges[0], np.linspace(-np.pi, np.pi, 4))
    assert geometry.layers[0].edges[1] == (0, 1, 2)
    assert geometry.pid == 22
    assert len(symmetry_group(geometry)) == 6
    write_geometry(geometry, tmp_path / "mine.xml")
    assert read_binning(tmp_path / "mine.xml").hash == geometry.hash


def test_own_voxels_take_the_limits_of_the_same_particle(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.xml", TWO)
    photons, pions = read_binning(path, "photon"), read_binning(path, "pion")
    assert photons.limits == load_geometry("ds1-photons").limits
    assert photons.layers[0].limits == load_geometry("ds1-photons").layers[0].limits
    assert pions.limits == load_geometry("ds1-pions").limits
    assert pions.layers[0].limits.centre == 100.0  # a layer that no shipped geometry has
    electrons = read_binning(write(path, one(LAYER, 'pid="11" name="electron"')))
    assert electrons.limits == load_geometry("ds2").limits
    assert electrons.layers[0].limits.width == 30.0


def test_one_of_several_particles(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xml", TWO)
    assert read_binning(path, "pion").n_cells == read_binning(path, 211).n_cells == 2
    with pytest.raises(GeometryError, match=r"photon \(pid 22\), pion \(pid 211\); name one"):
        read_binning(path)
    with pytest.raises(GeometryError, match="holds 0 bins for 'kaon'"):
        read_binning(path, "kaon")


LAUGHS = """<?xml version="1.0"?><!DOCTYPE Bins [<!ENTITY a "ha">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><Bins><Bin pid="1" name="&b;"/></Bins>"""
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE Bins [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<Bins><Bin pid="1" name="x">&x;</Bin></Bins>"""


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not valid XML"),
        ("<Bins>", "not valid XML"),
        (b"\xff\xfe\x00", "not valid XML"),
        ('<?xml version="1.0" encoding="nonsense"?><Bins/>', "not valid XML"),
        (LAUGHS, "never resolved"),
        (OUTSIDE, "never resolved"),
        ('<!DOCTYPE Bins SYSTEM "http://127.0.0.1/x.dtd"><Bins/>', "never resolved"),
        ("<Binning/>", "root element"),
        ("<Bins/>", "no <Bin>"),
        (one(""), "0 voxels"),
        (one('<Layer id="0" r_edges="0" n_bin_alpha="1"/>'), "0 voxels"),
        (one(LAYER, 'name="x"'), "pid=None; expected a whole number"),
        (one('<Layer id="a" r_edges="0,1" n_bin_alpha="1"/>'), "id='a'"),
        (one('<Layer id="0" r_edges="0,x" n_bin_alpha="1"/>'), "expected numbers in mm"),
        (one('<Layer id="0" n_bin_alpha="1"/>'), "expected numbers in mm"),
        (one('<Layer id="0" r_edges="0,2,1" n_bin_alpha="1"/>'), "increasing"),
        (one('<Layer id="0" r_edges="0,nan" n_bin_alpha="1"/>'), "increasing"),
        (one('<Layer id="0" r_edges="-1,1" n_bin_alpha="1"/>'), "r >= 0"),
        (one('<Layer id="0" r_edges="0,1" n_bin_alpha="0"/>'), "0 alpha bins"),
        (one('<Layer id="0" r_edges="0,1" n_bin_alpha="1000000000000"/>'), "alpha bins"),
        (one(LAYER + LAYER), "layer id twice"),
    ],
)
def test_files_that_make_no_sense(tmp_path: Path, text: str | bytes, match: str) -> None:
    with pytest.raises(GeometryError, match=match) as caught:
        read_binning(write(tmp_path / "a.xml", text))
    assert "root:" not in str(caught.value)


def test_files_that_are_not_there_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="No such file"):
        read_binning(tmp_path / "none.xml")
    with pytest.raises(GeometryError, match="expected at most"):
        read_binning(write(tmp_path / "a.xml", b"<Bins>" + b" " * (5 << 20)))


def test_only_voxels_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="keep this geometry as TOML"):
        write_geometry(load_geometry("lhcb"), tmp_path / "a.xml")
    assert list(tmp_path.iterdir()) == []


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(start=st.integers(0, len(PHOTONS)), length=st.integers(0, 40), text=st.text(max_size=5))
def test_edited_files_are_read_or_refused(
    tmp_path: Path, start: int, length: int, text: str
) -> None:
    edited = PHOTONS[:start] + text + PHOTONS[start + length :]
    try:
        geometry = read_binning(write(tmp_path / "a.xml", edited.encode(errors="replace")))
    except CaloForgeError as error:
        assert str(error)
    else:
        assert geometry.n_cells > 0
