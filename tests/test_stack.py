"""The stack of materials in a geometry file: what is where, and what is wrong in a sentence."""

from itertools import pairwise

import pytest

from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import geometry_names, load_geometry
from caloforge.detector.stack import Stack
from caloforge.errors import GeometryError

WITH_STACK = ("atlas-cells", "calogan", "ds1-photons", "ds1-pions", "lcd", "lhcb")
# Depths in mm by adding up the slabs by hand.
DEPTH = {
    "lhcb": 66 * 6.0,
    "calogan": 80 * 6.0,
    "lcd": 17 * 5.385 + 8 * 7.785 + 60 * 22.0,
    "ds1-photons": 150 + 11 + 20 + 74 * 6.1 + 60 + 100 + 17 * 17,
    "ds1-pions": 150 + 11 + 20 + 74 * 6.1 + 60 + 100 + 87 * 17,
}


def plain() -> dict:
    return load_geometry("lhcb").to_dict()


def test_the_shipped_stacks_are_the_ones_of_the_showers() -> None:
    assert [n for n in geometry_names() if load_geometry(n).stack] == sorted(WITH_STACK)
    for name, depth in DEPTH.items():
        stack = load_geometry(name).stack
        assert stack is not None
        assert stack.depth == pytest.approx(depth)


def test_slabs_follow_each_other_and_are_read_by_their_layers() -> None:
    geometry = load_geometry("lcd")
    stack = geometry.stack
    assert stack is not None
    placed = stack.placed
    assert all(a.back == b.front for a, b in pairwise(placed))
    assert [s.layer for s in placed if s.layer is not None] == [x.id for x in geometry.layers]
    assert {s.material for s in placed if s.layer is not None} == {"G4_Si", "G4_POLYSTYRENE"}


def test_calibration_divides_by_the_sampling_fraction() -> None:
    stack = load_geometry("ds1-photons").stack
    assert stack is not None
    tiles = [k for k, group in enumerate(stack.groups) if group.layer == 12]
    assert stack.factor(tiles[0]) == pytest.approx(1 / 0.0405)
    bare = load_geometry("lhcb").stack
    assert bare is not None
    assert bare.factor(0) == 1.0


@pytest.mark.parametrize("name", WITH_STACK)
def test_a_stack_reads_back_and_has_its_own_hash(name: str) -> None:
    geometry = load_geometry(name)
    stack = geometry.stack
    assert stack is not None
    again = Geometry.from_dict(geometry.to_dict())
    assert again.stack == stack
    assert again.stack.hash == stack.hash
    other = Geometry.from_dict(geometry.to_dict() | {"stack": {**stack.to_dict(), "width": 9e3}})
    assert other.stack is not None
    assert (other.hash, other == geometry) == (geometry.hash, True)
    assert other.stack.hash != stack.hash


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"widht": 1.0}, "did you mean 'width'"),
        ({"width": -1.0}, "width above 0"),
        ({"calibrated": 1}, "expected true or false"),
        ({"resolution": 7.1}, "between 0 and 1"),
        ({"around": "Air"}, "NIST name"),
        (
            {
                "calibrated": True,
                "groups": [
                    {
                        "layer": 0,
                        "slabs": [{"material": "G4_Pb", "thickness": 2.0, "active": True}],
                    }
                ],
            },
            "no sampling_fraction",
        ),
        ({"groups": [{"material": "G4_Pb", "thickness": 2.0}]}, "No slab in the stack"),
        ({"groups": [{"material": "G4_Pb", "thickness": 2.0, "active": True}]}, "no layer"),
        ({"groups": [{"material": "G4_Pb", "thickness": 0.0}]}, "above 0"),
        (
            {"groups": [{"material": "G4_Pb", "thickness": 1.0, "active": True, "layer": 3}]},
            "does not have",
        ),
        (
            {
                "groups": [
                    {
                        "material": "G4_Pb",
                        "thickness": 1.0,
                        "layer": 0,
                        "active": True,
                        "repeats": 500,
                    }
                ]
            },
            "outside the z",
        ),
        ({"materials": {"alloy": {"density": 8.0, "parts": {"G4_Fe": 1.0}}}}, "capital letter"),
        ({"materials": {"Alloy": {"density": 8.0, "parts": {"G4_Fe": 0.5}}}}, "add to 1"),
    ],
)
def test_what_is_wrong_is_said(change: dict, words: str) -> None:
    content = plain()
    with pytest.raises(GeometryError, match=words):
        Geometry.from_dict(content | {"stack": {**content["stack"], **change}})


def test_mixtures_and_layers_of_several_repeats() -> None:
    stack = Stack.from_dict(
        {
            "width": 100.0,
            "materials": {"Heavy": {"density": 17.8, "parts": {"G4_W": 0.95, "G4_Ni": 0.05}}},
            "groups": [
                {
                    "repeats": 5,
                    "repeats_per_layer": 2,
                    "layer": 10,
                    "slabs": [
                        {"material": "Heavy", "thickness": 2.0},
                        {"material": "G4_Si", "thickness": 0.5, "active": True},
                    ],
                }
            ],
        }
    )
    assert [s.layer for s in stack.placed if s.layer is not None] == [10, 10, 11, 11, 12]
    assert stack.groups[0].layers == [10, 11, 12]
