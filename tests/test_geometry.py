"""Geometries: sizes, exact symmetries, frozen hashes, and files that make no sense."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import geometry_names, load_geometry
from caloforge.detector.symmetries import symmetry, symmetry_group
from caloforge.errors import CaloForgeError, GeometryError

# A changed hash orphans every model and file written so far: these may only ever be added to.
HASHES = {
    "atlas-cells": "744c0a33a2bf72c0",
    "calogan": "4c4c019508712c58",
    "ds1-photons": "9959c765ff8cc4df",
    "ds1-pions": "f037be849a58d035",
    "ds2": "dbefc5dcc4ef4f4c",
    "ds3": "b3e6d26f338dc0c6",
    "lcd": "cee9b045c3f0fc95",
    "lemurs": "e3ded272c1efefd4",
    "lhcb": "09878f9917a84af9",
    "par04": "868c452a745ab4b8",
}
CELLS = {
    "atlas-cells": (4, 266),
    "calogan": (3, 504),
    "ds1-photons": (5, 368),
    "ds1-pions": (7, 533),
    "ds2": (45, 6480),
    "ds3": (45, 40500),
    "lcd": (85, 16585),
    "lemurs": (45, 6480),
    "lhcb": (1, 900),
    "par04": (15, 720),
}


def test_sizes() -> None:
    found = {n: (load_geometry(n).n_layers, load_geometry(n).n_cells) for n in geometry_names()}
    assert found == CELLS


def test_hashes_never_change() -> None:
    assert {n: load_geometry(n).hash for n in geometry_names()} == HASHES


@pytest.mark.parametrize("name", geometry_names())
def test_plain_description_reads_back(name: str) -> None:
    geometry = load_geometry(name)
    again = Geometry.from_dict(geometry.to_dict())
    assert again == geometry
    assert again.hash == geometry.hash


def test_hash_is_of_read_out_and_conditions_only() -> None:
    plain = load_geometry("lhcb").to_dict()
    original = load_geometry("lhcb").hash
    for key, value in (("note", "x"), ("title", "y"), ("name", "z"), ("cut", 3.0)):
        assert Geometry.from_dict(plain | {key: value}).hash == original
    thicker = {**plain["stack"], "width": 700.0}
    assert Geometry.from_dict(plain | {"stack": thicker}).hash == original
    fewer = {"conditions": plain["conditions"][:-1], "symmetries": []}
    assert Geometry.from_dict(plain | fewer).hash != original


@pytest.mark.parametrize("name", [n for n in geometry_names() if n != "ds3"])
def test_cells_are_where_the_edges_say(name: str) -> None:
    geometry = load_geometry(name)
    for layer, where in zip(geometry.layers, geometry.slices, strict=True):
        assert where.stop - where.start == layer.size
        x, y = layer.xy
        assert x.shape == y.shape == layer.area.shape == (layer.size,)
        if layer.kind == "polar":
            total = np.pi * (layer.edges[1][-1] ** 2 - layer.edges[1][0] ** 2)
            if layer.shape[0] > 1:
                np.testing.assert_allclose(np.hypot(x, y), layer.centres[1])
        else:
            total = np.prod([e[-1] - e[0] for e in layer.edges])
        assert layer.area.sum() == pytest.approx(total)


@pytest.mark.parametrize("name", [n for n in geometry_names() if n not in ("ds2", "ds3")])
def test_symmetries_form_a_group_of_moves_that_keep_size_and_radius(name: str) -> None:
    geometry = load_geometry(name)
    group = symmetry_group(geometry)
    assert (group[0].permutation == np.arange(geometry.n_cells)).all()
    radius = np.concatenate([np.hypot(*layer.xy) for layer in geometry.layers])
    area = np.concatenate([layer.area for layer in geometry.layers])
    members = {g.permutation.tobytes() for g in group}
    assert len(members) == len(group)
    for element in group:
        p = element.permutation
        assert (np.sort(p) == np.arange(geometry.n_cells)).all()
        assert (geometry.layer_of_cell[p] == geometry.layer_of_cell).all()
        np.testing.assert_allclose(area[p], area)
        if name != "atlas-cells":  # its windows move with the alignment, not its cells alone
            np.testing.assert_allclose(radius[p], radius, atol=1e-9)
        assert np.argsort(p).tobytes() in members  # the inverse is there too


def test_order_of_the_groups() -> None:
    sizes = {"ds1-photons": 20, "ds1-pions": 20, "lcd": 8, "lhcb": 8, "calogan": 4}
    for name, size in sizes.items():
        assert len(symmetry_group(load_geometry(name))) == size


@pytest.mark.parametrize("name", geometry_names())
def test_reflections_undo_themselves(name: str) -> None:
    geometry = load_geometry(name)
    rng = np.random.default_rng(0)
    conditions = rng.normal(size=(5, len(geometry.conditions)))
    for operation, _ in geometry.symmetries:
        if operation == "rotate-alpha":
            continue
        once = symmetry(geometry, operation)
        assert (once.permutation[once.permutation] == np.arange(geometry.n_cells)).all()
        moved = conditions @ once.matrix.T + once.offset
        np.testing.assert_allclose(moved @ once.matrix.T + once.offset, conditions, atol=1e-12)


def test_a_reflection_moves_cells_as_it_moves_the_impact() -> None:
    """Reflect x: a cell at (x, y) takes the energy of the cell at (-x, y), as x0 becomes -x0."""
    for name, where in (("lhcb", "x"), ("calogan", "x0")):
        geometry = load_geometry(name)
        move = symmetry(geometry, "reflect-x")
        x = np.concatenate([layer.xy[0] for layer in geometry.layers])
        y = np.concatenate([layer.xy[1] for layer in geometry.layers])
        np.testing.assert_allclose(x[move.permutation], -x, atol=1e-9)
        np.testing.assert_allclose(y[move.permutation], y, atol=1e-9)
        assert move.matrix[geometry.column(where), geometry.column(where)] == -1


def test_incident_energy() -> None:
    assert load_geometry("ds1-photons").incident_energy(np.array([[512.0]])) == [512.0]
    momentum = np.array([[3.0, 0.0, 4.0, 1.0, 2.0]])
    np.testing.assert_allclose(load_geometry("lhcb").incident_energy(momentum), [5.0])


def layer(**changes: object) -> dict[str, object]:
    return {"id": 0, "name": "a", "kind": "polar", "alpha_bins": 2, "r_edges": [0, 1], **changes}


def grid(**changes: object) -> dict[str, object]:
    cells = {"axes": ["x", "y"], "edges": [[0, 1], [0, 1]]}
    return {"id": 0, "name": "a", "kind": "grid", **cells, **changes}


def shift(axis: str, condition: str) -> dict[str, object]:
    return {"axis": axis, "condition": condition, "step": 1.0}


def move(target: str, source: str) -> dict[str, object]:
    return {"operation": "reflect-alpha", "conditions": {target: {source: 1.0}}}


def energy(**changes: object) -> dict[str, object]:
    return {"name": "energy", "unit": "MeV", "low": 1.0, "high": 2.0, "scale": "log", **changes}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"layer": 1}, "Unknown geometry key 'layer': did you mean 'layers'"),
        ({"name": None, "layers": []}, "no cells"),
        ({"layers": [layer(r_edges=[0])]}, "no cells"),
        ({"layers": [layer(r_edges=[0, 2, 1])]}, "increasing"),
        ({"layers": [layer(r_edges=[0, float("nan")])]}, "increasing"),
        ({"layers": [layer(r_edges=[-1, 1])]}, "r >= 0"),
        ({"layers": [layer(r_edges="ab")]}, "cannot be read"),
        ({"layers": [layer(alpha_bins=0)]}, "Got 0 alpha bins"),
        ({"layers": [layer(alpha_bins=10**12)]}, "alpha bins"),
        ({"layers": [layer(alpha_bins=2.5)]}, "alpha bins"),
        ({"layers": [layer(alpha_bins=float("inf"))]}, "cannot be read"),
        ({"layers": [layer(copies=10**9)]}, "copies"),
        ({"layers": [layer(r_edges={"low": 0, "high": 1, "bins": 10**12})]}, "bins"),
        ({"layers": [layer(kind="cube")]}, "expected 'polar' or 'grid'"),
        ({"layers": [grid(axes=[])]}, "cannot be read"),
        ({"layers": [layer(kind="grid")]}, "of the kind 'grid' and has the key 'alpha_bins'"),
        ({"layers": [layer(kind="grids")]}, "'polar' or 'grid': did you mean 'grid'"),
        ({"layers": [grid(edges=[{"low": 0, "high": 1, "bin": 2}] * 2)]}, "did you mean 'bins'"),
        ({"layers": [grid(shift={"axes": "x"})]}, "Unknown shift key 'axes': did you mean 'axis'"),
        ({"layers": [grid(shift=shift("z", "energy"))]}, "shifted along 'z'; expected x or y"),
        ({"layers": [grid(shift=shift("x", "enrgy"))]}, "did you mean 'energy'"),
        ({"layers": [layer(limits={"center": 1})]}, "layer limit key .* did you mean 'centre'"),
        ({"layers": [layer(limits={"centre": -1})]}, "'centre' is -1; expected a number above 0"),
        ({"layers": [layer(limits=[1])]}, "for a layer limit; expected a table"),
        ({"limits": {"treshold": [1]}}, "Unknown limit key 'treshold': did you mean 'thresholds'"),
        ({"limits": {"response": [1, 1]}}, "two increasing numbers"),
        ({"limits": {"response_at": [{"from": 1}]}}, "Unknown range of the response key 'from'"),
        ({"symmetries": [{"operator": "swap"}]}, "did you mean 'operation'"),
        ({"symmetries": [{"operation": "reflect-alfa"}]}, "did you mean 'reflect-alpha'"),
        ({"symmetries": [move("energi", "energy")]}, "did you mean 'energy'"),
        ({"symmetries": [move("energy", "offsett")]}, "no condition 'offsett'"),
        ({"layers": [layer(colour="red")]}, "Unknown layer key"),
        ({"layers": [layer(), layer()]}, "layer id twice"),
        ({"layers": [{}]}, "lacks the key"),
        ({"layers": 3}, "cannot be read"),
        ({"conditions": [energy(), energy()]}, "condition twice"),
        ({"conditions": [energy(unit="GeV")]}, "expected MeV, mm, rad"),
        ({"conditions": [energy(low=3.0)]}, "low < high"),
        ({"conditions": [energy(low=0.0)]}, "low > 0"),
        ({"conditions": [{"name": "energy"}]}, "cannot be read"),
        ({"conditions": [energy(scale="logarithmic")]}, "did you mean 'log'"),
        ({"conditions": [energy(unit="Mev")]}, "expected MeV.* did you mean 'MeV'"),
        ({"conditions": [energy(lable="E")]}, "condition key 'lable': did you mean 'label'"),
        ({"conditions": [energy(role="energie")]}, "did you mean 'energy'"),
        ({"conditions": [energy(role="impact", axis="x")]}, "the unit 'MeV'; expected 'mm'"),
        ({"conditions": [energy(role="momentum")]}, "expected the name of an axis"),
        ({"conditions": [energy(axis="x", role="energy")]}, "expected no axis for this role"),
        ({"conditions": [energy(role="energy"), energy(name="E", role="energy")]}, "a role twice"),
    ],
)
def test_descriptions_that_make_no_sense(changes: dict[str, object], match: str) -> None:
    plain: dict[str, object] = {"name": "x", "layers": [layer()], "conditions": [energy()]}
    with pytest.raises(GeometryError, match=match):
        Geometry.from_dict(plain | changes)


json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "name", "kind", "axes", "unit"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(
    key=st.sampled_from(["layers", "conditions", "symmetries", "limits", "cut", "particles"]),
    value=json,
)
@settings(max_examples=200, deadline=None)
def test_any_json_is_a_geometry_or_an_error(key: str, value: object) -> None:
    plain: dict[str, object] = {"name": "x", "layers": [layer()], "conditions": [energy()]}
    try:
        Geometry.from_dict(plain | {key: value})
    except CaloForgeError as error:
        assert str(error)


@pytest.mark.parametrize("change", ["kind", "alpha_bins", "r_edges", "id", "name", "limits"])
@given(value=json)
@settings(max_examples=60, deadline=None)
def test_any_json_is_a_layer_or_an_error(change: str, value: object) -> None:
    try:
        Geometry.from_dict({"name": "x", "layers": [layer(**{change: value})], "conditions": []})
    except CaloForgeError as error:
        assert str(error)


def test_files(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="did you mean 'ds1-photons'"):
        load_geometry("ds1-photon")
    with pytest.raises(GeometryError, match="Cannot read"):
        load_geometry(tmp_path / "none.toml")
    for content in (b"name = ", b"\xff\xfe", b"name = 1\n[[layers]"):
        (tmp_path / "a.toml").write_bytes(content)
        with pytest.raises(GeometryError, match="not valid TOML"):
            load_geometry(tmp_path / "a.toml")


def test_names_that_do_not_exist() -> None:
    geometry = load_geometry("calogan")
    with pytest.raises(GeometryError, match="no condition 'tetha': did you mean 'theta'"):
        geometry.column("tetha")
    with pytest.raises(GeometryError, match="no symmetry 'swap'"):
        symmetry_group(geometry, ["swap"])


def small(symmetries: list[str], *layers: dict[str, object]) -> Geometry:
    """A read-out of these layers, whose particle has an azimuth."""
    angles = [
        {"name": "energy", "unit": "MeV", "low": 1e3, "high": 1e5},
        {"name": "phi", "unit": "rad", "low": -3.2, "high": 3.2, "scale": "angle"},
    ]
    mirror = {"operation": "reflect-alpha", "conditions": {"phi": {"phi": -1.0}}}
    listed = [mirror if s == "reflect-alpha" else {"operation": s} for s in symmetries]
    numbered = [{"id": k, "name": f"layer {k}", **layer} for k, layer in enumerate(layers)]
    return Geometry.from_dict(
        {"name": "g", "conditions": angles, "layers": numbered, "symmetries": listed}
    )


RING: dict[str, object] = {"kind": "polar", "alpha_bins": 1, "r_edges": [0, 5]}
UNEVEN: dict[str, object] = {
    "kind": "grid",
    "axes": ["x", "y"],
    "edges": [[0, 10, 40, 100], [-1, 1]],
}


def test_symmetries_that_the_cells_do_not_have() -> None:
    """Cells would change places in a way that no shower knows."""
    for name in ("rotate-alpha", "reflect-alpha"):
        with pytest.raises(GeometryError, match=r"Layer 1 has no angle alpha"):
            symmetry(small([name], RING, UNEVEN), name)
    with pytest.raises(GeometryError, match=r"layer 0 have other widths .* 'reflect-x'"):
        symmetry(small(["reflect-x"], UNEVEN), "reflect-x")


def test_a_reflection_that_moves_no_cell_still_turns_the_conditions() -> None:
    """A ring about the axis is its own mirror image, the particle's azimuth is not."""
    group = symmetry_group(small(["reflect-alpha"], RING))
    assert [element.matrix[1, 1] for element in group] == [1, -1]
