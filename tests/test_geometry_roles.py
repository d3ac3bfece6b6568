"""Roles of conditions, limits of observables, and descriptions from before there were any."""

import numpy as np
import pytest
import torch

from caloforge.detector.geometry import Geometry
from caloforge.detector.particle import ParticleLine, particle_line
from caloforge.detector.shipped import geometry_names, load_geometry, restore_geometry
from caloforge.errors import GeometryError


def before_limits(geometry: Geometry) -> dict[str, object]:
    """The description of a geometry as files held it before there were roles and limits."""
    plain = geometry.to_dict()
    del plain["limits"]
    new = ("role", "axis", "limits")
    for key in ("conditions", "layers"):
        plain[key] = [{k: v for k, v in entry.items() if k not in new} for entry in plain[key]]
    return plain


def one_grid(*conditions: dict[str, object]) -> Geometry:
    edges = {"low": -10.0, "high": 10.0, "bins": 4}
    cells = {"id": 0, "name": "cells", "kind": "grid", "axes": ["u", "v"], "edges": [edges] * 2}
    return Geometry.from_dict({"name": "own", "layers": [cells], "conditions": list(conditions)})


def condition(name: str, unit: str, **more: object) -> dict[str, object]:
    return {"name": name, "unit": unit, "low": 0.0, "high": 9.0, **more}


# --- old files -----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", geometry_names())
def test_old_descriptions_get_the_roles_and_limits_of_the_shipped_geometry(name: str) -> None:
    geometry = load_geometry(name)
    assert restore_geometry(before_limits(geometry)) == geometry
    renamed = restore_geometry(before_limits(geometry) | {"name": "another name"})
    assert (renamed.limits, renamed.conditions) == (geometry.limits, geometry.conditions)
    assert Geometry.from_dict(before_limits(geometry)).hash == geometry.hash


# No file of `lemurs` is older than roles. Its mesh follows the particle: its angles have none.
@pytest.mark.parametrize("name", [name for name in geometry_names() if name != "lemurs"])
def test_roles_by_name_are_those_of_the_shipped_files(name: str) -> None:
    by_name = Geometry.from_dict(before_limits(load_geometry(name)))
    assert by_name.conditions == load_geometry(name).conditions


def test_what_a_description_states_is_kept() -> None:
    plain = load_geometry("lhcb").to_dict()
    own = restore_geometry(plain | {"limits": {"effective_depth": 80.0}})
    assert own.limits.effective_depth == 80.0 and own.limits.thresholds == ()
    assert own.hash == load_geometry("lhcb").hash


# --- roles ---------------------------------------------------------------------------------------
def test_roles_by_name() -> None:
    own = one_grid(
        condition("energy", "MeV"),
        condition("u0", "mm"),
        condition("v", "mm"),
        condition("impact_v", "mm"),  # a second impact along v
        condition("pz", "mm"),  # no unit of a momentum
        condition("particle", "", scale="category"),
        condition("theta", "rad"),  # nothing without an azimuth
    )
    roles = [(c.role, c.axis) for c in own.conditions]
    assert roles[:3] == [("energy", ""), ("impact", "u"), ("impact", "v")]
    assert roles[3:] == [("other", ""), ("other", ""), ("particle", ""), ("other", "")]
    with pytest.raises(GeometryError, match="the role 'impact along z'; it has energy"):
        own.column_of("impact", "z")


def test_the_incident_energy_has_a_role() -> None:
    own = one_grid(condition("beam", "MeV", role="energy"))
    assert own.incident_energy(np.array([[7.0]])) == [7.0]
    with pytest.raises(GeometryError, match="the role 'energy'; it has E"):
        one_grid(condition("E", "MeV")).incident_energy(np.array([[7.0]]))


def test_a_short_text_for_people() -> None:
    assert repr(load_geometry("lcd")) == (
        "Geometry('lcd': 16585 cells in 85 layers, conditions: particle, energy, "
        "hash cee9b045c3f0fc95)"
    )


# --- the particle's line -------------------------------------------------------------------------
def both(line: ParticleLine, row: list[float]) -> tuple[list[float], list[float]]:
    """Impact and slopes with NumPy, after a look whether torch gives the same."""
    entry, slope = line(np.array([row]))
    tensors = line(torch.tensor([row], dtype=torch.float64))
    for array, tensor in zip((entry, slope), tensors, strict=True):
        np.testing.assert_allclose(tensor.numpy(), array, rtol=1e-15, atol=1e-15)
    return entry[0].tolist(), slope[0].tolist()


def test_the_line_of_every_kind_of_direction() -> None:
    lhcb = particle_line(load_geometry("lhcb"))
    assert both(lhcb, [300.0, -600.0, 3000.0, 5.0, 6.0]) == ([5.0, 6.0], [0.1, -0.2])
    calogan = particle_line(load_geometry("calogan"))
    entry, slope = both(calogan, [1e4, 5.0, 6.0, 0.1, np.pi / 2])
    assert entry == [5.0, 6.0]
    np.testing.assert_allclose(slope, [0.0, np.tan(0.1)], atol=1e-15)
    atlas = particle_line(load_geometry("atlas-cells"))
    assert both(atlas, [1e4, 5.0, 6.0, 1.0, 0.0]) == ([5.0, 6.0], [0.0, 0.0])
    slopes = [condition(f"t{a}", "", role="slope", axis=a) for a in "uv"]
    own = particle_line(one_grid(condition("energy", "MeV"), *slopes))
    assert both(own, [1e4, 0.3, 0.4]) == ([0.0, 0.0], [0.3, 0.4])
    assert [line.inclined for line in (lhcb, calogan, atlas, own)] == [True, True, False, True]
    assert not particle_line(load_geometry("ds1-photons")).moves and atlas.moves


def test_the_line_at_a_depth_and_particles_that_fly_out() -> None:
    line = particle_line(load_geometry("lhcb"))
    conditions = np.array([[300.0, -600.0, 3000.0, 5.0, 6.0], [1.0, 1.0, -3.0, 0.0, 0.0]])
    np.testing.assert_allclose(line.at(conditions, 100.0)[0], [15.0, -14.0])
    assert line.forward(conditions).tolist() == [True, False]
