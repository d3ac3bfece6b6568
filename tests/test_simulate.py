"""Simulated showers without Geant4: beams, binning, blocks, and the parametric source."""

import hashlib
import json
import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import gamma as gamma_distribution

from caloforge.data import read_showers
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import load_geometry
from caloforge.errors import CaloForgeError, ConditionError, SimulationError
from caloforge.simulate import Job, Physics, simulate_file
from caloforge.simulate.beam import Request, make_beam
from caloforge.simulate.binning import Binning, Deposits
from caloforge.simulate.geant4 import deposits_of
from caloforge.simulate.medium import material, medium
from caloforge.simulate.parametric import Parametric, _profile, _steps
from caloforge.simulate.particles import PARTICLES, decay_pi0, find_particle
from caloforge.simulate.physics import load_calzone
from caloforge.simulate.run import blocks
from caloforge.simulate.side_by_side import in_processes

GAMMA, ELECTRON, PI0 = (PARTICLES[name] for name in ("gamma", "e-", "pi0"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- beams -----------------------------------------------------------------------------------
def test_pi0_decays_conserve_energy_and_momentum() -> None:
    energy = np.array([200.0, 1e3, 5e4])
    direction = np.array([[0.0, 0.0, 1.0], [0.6, 0.0, 0.8], [0.1, -0.2, np.sqrt(0.95)]])
    photons, ways = decay_pi0(energy, direction, np.random.default_rng(1))
    np.testing.assert_allclose(photons.sum(axis=1), energy)
    total = (photons[:, :, None] * ways).sum(axis=1)
    mass = np.sqrt(energy**2 - (total**2).sum(axis=1))
    np.testing.assert_allclose(mass, PI0.mass, rtol=1e-6)
    np.testing.assert_allclose(
        total / np.linalg.norm(total, axis=1, keepdims=True), direction, atol=1e-9
    )
    with pytest.raises(SimulationError, match="mass"):
        decay_pi0(np.array([100.0]), direction[:1], np.random.default_rng(1))


def test_conditions_follow_from_roles() -> None:
    """Momentum components have the energy as length; angles tell the direction; positions of two
    read-outs of one shower differ by their impacts.
    """
    lhcb = load_geometry("lhcb")
    values = {"energy": "8000", "slope_x": "0.1", "x": "-20,30"}
    beam = make_beam(Request((ELECTRON,), 50, values, seed=2), [lhcb])
    np.testing.assert_allclose(lhcb.incident_energy(beam.conditions[0]), 8000.0)
    px, py, pz = beam.conditions[0][:, :3].T
    np.testing.assert_allclose(px / pz, 0.1)
    np.testing.assert_allclose(py, 0.0)
    np.testing.assert_allclose(beam.direction[:, 0] / beam.direction[:, 2], 0.1)
    assert set(beam.entry[:, 0]) == {-20.0, 30.0}

    calogan = load_geometry("calogan")
    beam = make_beam(Request((ELECTRON,), 200, {"theta": "0.3"}, seed=2), [calogan])
    np.testing.assert_allclose(beam.direction[:, 2], np.cos(0.3))
    assert np.ptp(beam.conditions[0][:, calogan.column("phi")]) > 5.0

    both = [load_geometry(n) for n in ("ds1-photons", "atlas-cells")]
    beam = make_beam(Request((GAMMA,), 500, {}, seed=2), both)
    impact = beam.conditions[1][:, 1:3]
    np.testing.assert_array_equal(beam.shifts[1], impact)
    assert set(beam.conditions[1][:, 3]) == {0.0, 1.0, 2.0, 3.0}
    np.testing.assert_array_equal(beam.conditions[0][:, 0], beam.conditions[1][:, 0])


def test_energies_with_counts_and_kinds_of_particles() -> None:
    lcd = load_geometry("lcd")
    values = {"energy": "20000x30,50000x10"}
    beam = make_beam(Request((GAMMA, PI0), None, values, seed=2), [lcd])
    assert sorted(beam.energy) == [20000.0] * 30 + [50000.0] * 10
    np.testing.assert_array_equal(beam.conditions[0][:, 0], beam.kind)
    assert 5 < beam.kind.sum() < 35


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"enrgy": "1000"}, "did you mean 'energy'"),
        ({"energy": "1"}, "range in the geometry file"),
        ({"energy": "flat:1:2"}, "Unknown spectrum"),
        ({"energy": "2000x3"}, "same number"),
        ({"x0": "uniform:-500:0"}, "range in the geometry file"),
    ],
)
def test_wrong_values_are_answered(values: dict[str, str], words: str) -> None:
    with pytest.raises(ConditionError, match=words):
        make_beam(Request((GAMMA,), 10, values), [load_geometry("calogan")])


def test_particles_are_known_by_their_usual_names() -> None:
    assert find_particle("eplus").pdg == -11
    with pytest.raises(SimulationError, match="did you mean 'proton'"):
        find_particle("protn")


# --- binning ---------------------------------------------------------------------------------
def test_energy_lies_along_its_step() -> None:
    count = 20000
    place = [("start", "f8", 3), ("end", "f8", 3)]
    line = np.zeros(count, [("event", "i8"), ("value", "f8"), *place])
    line["value"], line["start"], line["end"] = 1.0, (-1.5, 0.5, 0.0), (2.5, 0.5, 0.1)  # cm
    point = np.zeros(1, [("event", "i8"), ("value", "f8"), ("position", "f8", 3)])
    point["value"], point["position"] = 5.0, (-0.5, -0.5, 0.0)
    record = {"stack.S0": SimpleNamespace(line=line, point=point)}
    deposits = deposits_of(record, np.zeros(1, int), np.random.default_rng(0))
    image = Binning(load_geometry("lhcb"))(deposits, np.zeros((1, 5)), np.zeros((1, 2)))
    image = image.reshape(30, 30)  # cells of 20 mm; x edges at -20, 0, 20, 40
    shares = np.array([15.0, 20.0, 5.0]) / 40
    error = np.sqrt(shares * (1 - shares) / count)
    assert (np.abs(image[14:17, 15] / count - shares) < 4 * error).all()
    assert image[14, 14] == 5.0
    assert image.sum() == count + 5.0


@pytest.mark.parametrize("name", ["ds1-photons", "atlas-cells", "lcd"])
def test_every_cell_gets_what_lies_at_its_centre(name: str) -> None:
    """In windows that move with the alignment, too; what lies beside all cells is lost."""
    geometry = load_geometry(name)
    conditions = np.array([[c.high for c in geometry.conditions]])
    layer = geometry.layer_of_cell
    points = []
    for item in geometry.layers:
        slow, fast = item.centres
        if item.kind == "polar":
            slow, fast = fast * np.cos(slow), fast * np.sin(slow)
        position = np.stack([slow, fast], axis=1)
        if item.shift is not None:
            column = item.axes.index(item.shift.axis)
            position[:, column] += (
                item.shift.step * conditions[0, geometry.column(item.shift.condition)]
            )
        points.append(position)
    at = np.concatenate(points) - 3.0  # the read-out's impact lies 3 mm off on both axes
    energy = np.arange(1.0, geometry.n_cells + 1)
    deposits = Deposits(np.zeros(len(at), int), layer, energy, at)
    binned = Binning(geometry)(deposits, conditions, np.full((1, 2), 3.0))
    np.testing.assert_allclose(binned[0], energy)
    far = Deposits(np.zeros(len(at), int), layer, energy, at + 1e5)
    assert Binning(geometry)(far, conditions, np.zeros((1, 2))).sum() == 0.0


# --- blocks and workers ----------------------------------------------------------------------
def dies_once(argument: tuple[str, int]) -> int:
    """Kills its own process the first time that it is asked for the number 3."""
    folder, number = argument
    mark = Path(folder) / "died"
    if number == 3 and not mark.exists():
        mark.touch()
        os._exit(9)
    return number**2


def always_dies(number: int) -> int:
    if multiprocessing.parent_process() is not None:
        os._exit(9)
    return number


def test_a_killed_worker_takes_nothing_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caloforge.simulate.side_by_side.STRIKES", 2)
    items = [(str(tmp_path), k) for k in range(8)]
    assert dict(in_processes(dies_once, items, 2)) == {k: k**2 for k in range(8)}
    assert (tmp_path / "died").exists()
    with pytest.raises(SimulationError, match="--resume"):
        list(in_processes(always_dies, [1, 2], 2))


def test_blocks_cover_all_showers_once() -> None:
    energy = np.full(3000, 2000.0)
    slices = blocks(energy, "geant4")
    assert [s.start for s in slices[1:]] == [s.stop for s in slices[:-1]]
    assert (slices[0].start, slices[-1].stop) == (0, 3000)
    assert max(s.stop - s.start for s in slices) == 50  # 100 GeV
    assert len(blocks(np.array([1e6, 1e6]), "geant4")) == 2


def job(n: int = 700, **values: str) -> Job:
    geometries = (load_geometry("ds1-photons"), load_geometry("atlas-cells"))
    values = {"energy": "512,1024", **values}
    return Job(geometries, Request((GAMMA,), n, values, seed=5), engine="parametric")


def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole = [tmp_path / "a.h5", tmp_path / "b.h5"]
    counts = simulate_file(job(), whole)
    assert counts[0] == 700
    assert 200 < counts[1] < 500  # the cells begin at 1.024 GeV
    parts = [tmp_path / "c.h5", tmp_path / "d.h5"]
    seen = []

    def stop_after_one(done: float, total: float) -> None:
        seen.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_file(job(), parts, progress=stop_after_one)
    folder = tmp_path / "c.h5.blocks"
    assert len(list(folder.glob("*.npz"))) == 1
    assert not parts[0].exists()
    with pytest.raises(SimulationError, match="--resume"):
        simulate_file(job(), parts)
    with pytest.raises(SimulationError, match="begun with number = 700"):
        simulate_file(job(600), parts, resume=True)
    simulate_file(job(), parts, resume=True)
    assert [digest(p) for p in parts] == [digest(p) for p in whole]
    assert not folder.exists()
    with pytest.raises(SimulationError, match="exists"):
        simulate_file(job(), parts)


def test_two_workers_write_the_same_file(tmp_path: Path) -> None:
    simulate_file(job(), [tmp_path / "a.h5", tmp_path / "b.h5"])
    simulate_file(job(), [tmp_path / "c.h5", tmp_path / "d.h5"], workers=2)
    assert digest(tmp_path / "a.h5") == digest(tmp_path / "c.h5")
    provenance = read_showers(tmp_path / "a.h5").provenance
    assert provenance["seed"] == 5
    assert "Grindhammer" in provenance["producer"]
    assert load_geometry("ds1-photons").stack.hash in provenance["stacks"]
    assert json.dumps(provenance)


def test_what_cannot_be_simulated_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    photons, other = load_geometry("ds1-photons"), load_geometry("lhcb")
    request = Request((GAMMA,), 1)
    with pytest.raises(SimulationError, match="no stack"):
        Job((load_geometry("ds2"),), request)
    with pytest.raises(SimulationError, match="different stacks"):
        Job((photons, other), request)
    with pytest.raises(SimulationError, match=r"Two read-outs .*a\.h5; .*GEOMETRY=FILE"):
        simulate_file(job(), [tmp_path / "a.h5", tmp_path / "a.h5"])
    with pytest.raises(SimulationError, match="did you mean 'parametric'"):
        Job((photons,), request, engine="parametrc")
    with pytest.raises(SimulationError, match="--engine geant4"):
        pions = Request((PARTICLES["pi+"],), 1)
        simulate_file(Job((photons,), pions, "parametric"), [tmp_path / "a.h5"])
    monkeypatch.setenv("GEANT4_DATA_DIR", str(tmp_path))
    with pytest.raises(SimulationError, match=r"2 GB.*GEANT4_DATA_DIR"):
        load_calzone(Physics())
    (tmp_path / "G4EMLOW8.8").mkdir()
    with pytest.raises(SimulationError, match="no cross sections of hadrons"):
        load_calzone(Physics.suited_to([PARTICLES["pi+"]]))
    with pytest.raises(CaloForgeError, match="did you mean 'option4'"):
        Physics("option5x4")


# --- the parametric source -------------------------------------------------------------------
def test_media_are_those_of_the_tables() -> None:
    """Radiation lengths and Moliere radii of the Particle Data Group (liquid argon 14.0 cm, lead
    0.5612 cm, lead tungstate 0.8903 and 1.959 cm, polystyrene 41.3 cm).
    """
    lengths = {"G4_Pb": 0.5612, "G4_lAr": 14.0, "G4_PbWO4": 0.8903, "G4_POLYSTYRENE": 41.3}
    for name, centimetres in lengths.items():
        matter = material(name, {})
        assert matter.x0 / matter.density == pytest.approx(centimetres, rel=0.02)
    stack = load_geometry("lhcb").stack
    assert stack is not None
    local = medium(stack, stack.groups[0])
    assert local.sampled
    assert local.visible == 0.175
    # By the radiation lengths of both slabs.
    assert local.thickness / local.x0 == pytest.approx(2 / 5.612 + 4 / 413, rel=0.01)
    with pytest.raises(SimulationError, match="did you mean 'G4_PbWO4'"):
        material("G4_PbWO", {})


def test_profile_is_a_gamma_distribution_with_its_maximum_at_t() -> None:
    steps = _steps([load_geometry("lhcb")])
    profile = _profile(np.array([1e4]), steps.main, np.random.default_rng(3))
    t = np.linspace(0.0, 30.0, 301)
    share = profile.share(t[None])[0]
    alpha, maximum = float(profile.alpha[0, 0]), float(profile.maximum[0, 0])
    scale = maximum / (alpha - 1)
    np.testing.assert_allclose(share, np.diff(gamma_distribution.cdf(t, alpha, scale=scale)))
    assert t[share.argmax()] == pytest.approx(maximum, abs=0.15)


def test_steps_end_where_layers_end_and_add_to_the_depth() -> None:
    geometry = load_geometry("lcd")
    steps = _steps([geometry])
    assert list(dict.fromkeys(steps.layer[0])) == list(range(85))
    assert geometry.stack is not None
    # Radiation lengths of the ECAL: tungsten 3.504 mm, silicon 93.7 mm.
    ecal = (17 * 2.4 + 8 * 4.8) / 3.504 + 25 * 0.385 / 93.7
    assert steps.edges[25] == pytest.approx(ecal, rel=0.01)
    assert steps.depth[-1] < geometry.stack.depth


def test_every_read_out_sees_the_same_spots() -> None:
    """A read-out with one cell a layer holds what the cells of the first hold together, shower by
    shower, and the first is what it is on its own. A layer may be calibrated otherwise.
    """
    first = load_geometry("ds1-photons")
    wide = first.to_dict() | {"name": "wide", "symmetries": []}
    for layer in wide["layers"]:
        layer |= {"alpha_bins": 1, "r_edges": [layer["r_edges"][0], layer["r_edges"][-1]]}
    group = next(g for g in wide["stack"]["groups"] if g.get("layer") == 3)
    group["sampling_fraction"] = 0.5 * group["sampling_fraction"]
    second = Geometry.from_dict(wide)
    beam = make_beam(Request((GAMMA,), 30, {"energy": "16384"}, 1), (first, second))
    voxels, layers = Parametric((first, second))(beam, 7)
    alone = make_beam(Request((GAMMA,), 30, {"energy": "16384"}, 1), (first,))
    assert np.array_equal(voxels, Parametric((first,))(alone, 7)[0])
    for k, part in enumerate(first.slices):
        total = voxels[:, part].sum(axis=1) * (2 if k == 3 else 1)
        np.testing.assert_allclose(
            layers[:, second.slices[k]].sum(axis=1), total, rtol=1e-3, atol=0.5
        )


@pytest.mark.parametrize(
    ("name", "particle", "response", "resolution"),
    # The Geant4 showers of these read-outs: README of the reference files.
    [("lhcb", ELECTRON, 0.175, 0.071), ("ds1-photons", GAMMA, 0.98, 0.075)],
)
def test_response_and_resolution_are_about_those_of_geant4(
    name: str, particle: object, response: float, resolution: float, tmp_path: Path
) -> None:
    geometry = load_geometry(name)
    request = Request((particle,), 500, {"energy": "8192"}, seed=1)
    simulate_file(Job((geometry,), request, "parametric"), [tmp_path / "a.h5"])
    showers = read_showers(tmp_path / "a.h5")
    total = showers.energies.sum(axis=1) / showers.incident_energy
    assert total.mean() == pytest.approx(response, rel=0.04)
    assert total.std() / total.mean() * np.sqrt(8.192) == pytest.approx(resolution, rel=0.25)
    assert 0.02 < (showers.energies > 0).mean() < 0.9
    if name == "lhcb":  # perpendicular, so centred on the impact
        x, _ = geometry.layers[0].xy
        centre = (showers.energies * x).sum(axis=1) / showers.energies.sum(axis=1)
        assert np.corrcoef(centre, showers.condition("x"))[0, 1] > 0.98
