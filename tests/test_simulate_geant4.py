"""Geant4 through calzone. Skipped where calzone or Geant4's data are missing."""

import os
from pathlib import Path

import numpy as np
import pytest

from caloforge.data import read_showers
from caloforge.detector.shipped import load_geometry
from caloforge.simulate import Job, Physics, simulate_file
from caloforge.simulate.beam import Request, make_beam
from caloforge.simulate.geant4 import Geant4, volumes
from caloforge.simulate.medium import _tables
from caloforge.simulate.particles import PARTICLES
from caloforge.simulate.physics import VARIABLE

# A small set for the tests may lie beside the repository; the variable names a user's own.
NEAR = Path(__file__).parents[2] / "shared" / "geant4-data"


@pytest.fixture(autouse=True)
def geant4(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("calzone")
    if not os.environ.get(VARIABLE):
        if not NEAR.is_dir():
            pytest.skip(f"{VARIABLE} names no Geant4 data")
        monkeypatch.setenv(VARIABLE, str(NEAR))


def request(particle: str, n: int, **values: str) -> Request:
    return Request((PARTICLES[particle],), n, values, seed=3)


def test_geant4_knows_the_materials_that_are_said_to_be_its_own() -> None:
    import calzone

    for name in _tables()["geant4"]["names"].split():
        calzone.Geometry({"A": {"box": 10.0, "material": f"G4_{name}"}})
    with pytest.raises(ValueError, match="undefined"):
        calzone.Geometry({"A": {"box": 10.0, "material": "G4_Unobtainium"}})


def test_volumes_are_the_slabs() -> None:
    stack = load_geometry("lhcb").stack
    assert stack is not None
    world = volumes(stack)["World"]
    boxes = [v for k, v in world.items() if k.startswith("S")]
    assert len(boxes) == 132
    assert sum(b["box"][2] for b in boxes) == pytest.approx(39.6)
    assert sum(b.get("role") == "record_deposits" for b in boxes) == 66


def test_response_of_the_shashlik() -> None:
    """Sampling fraction 0.175 and resolution 7.1 % / sqrt(E), as in the reference showers."""
    geometry = load_geometry("lhcb")
    beam = make_beam(request("e-", 60, energy="2000"), [geometry])
    (energies,) = Geant4((geometry,), Physics())(beam, seed=1)
    total = energies.sum(axis=1) / 2000.0
    error = total.std() / np.sqrt(len(total))
    assert total.mean() == pytest.approx(0.175, abs=max(3 * error, 0.002))
    assert 0.03 < total.std() / total.mean() < 0.075  # 0.050 expected
    assert energies[energies > 0].min() >= 0.001


def test_a_geantino_leaves_nothing_and_a_muon_crosses_the_cells_on_its_line() -> None:
    geometry = load_geometry("calogan")
    values = {"energy": "5000", "x0": "50", "y0": "-30", "theta": "0.2", "phi": "0"}
    beam = make_beam(request("geantino", 3, **values), [geometry])
    engine = Geant4((geometry,), Physics())
    assert engine(beam, seed=1)[0].sum() == 0.0
    beam = make_beam(request("mu-", 10, **values), [geometry])
    (energies,) = engine(beam, seed=1)
    layer = geometry.layers[1]
    middle = energies[:, geometry.slices[1]].sum(axis=0).reshape(layer.shape)
    # At the middle of the layer, z = 264 mm, the line is at x = 50 + 264 tan(0.2) = 103.5 mm.
    i, j = np.unravel_index(middle.argmax(), middle.shape)
    low, high = layer.edges[0][i], layer.edges[0][i + 1]
    assert low - 40 < 103.5 < high + 40
    assert layer.edges[1][j] <= -30 < layer.edges[1][j + 1]
    # Ionisation of lead and argon over 480 mm / cos(0.2), about 1.4 and 0.21 MeV/mm.
    assert energies.sum(axis=1).mean() == pytest.approx(490 * (1.37 / 3 + 0.23 * 2 / 3), rel=0.3)


def test_blocks_give_the_same_bytes_in_one_and_in_two_processes(tmp_path: Path) -> None:
    geometries = (load_geometry("ds1-photons"), load_geometry("atlas-cells"))
    job = Job(geometries, request("gamma", 160, energy="1024"))
    simulate_file(job, [tmp_path / "a.h5", tmp_path / "b.h5"])
    simulate_file(job, [tmp_path / "c.h5", tmp_path / "d.h5"], workers=2)
    for one, two in (("a", "c"), ("b", "d")):
        assert (tmp_path / f"{one}.h5").read_bytes() == (tmp_path / f"{two}.h5").read_bytes()
    voxels, cells = read_showers(tmp_path / "a.h5"), read_showers(tmp_path / "b.h5")
    assert len(voxels) == len(cells) == 160
    # The same showers: nearly all energy lies in the first four layers and in the window.
    total, in_cells = voxels.energies.sum(axis=1), cells.energies.sum(axis=1)
    assert np.corrcoef(total, in_cells)[0, 1] > 0.9
    assert 0.8 < np.median(in_cells / total) <= 1.0
    assert "calzone" in voxels.provenance["producer"]
