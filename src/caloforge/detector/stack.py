"""The materials of a calorimeter along its axis: slabs, what is read out of them, and what is
divided out.

The stack is what a simulation needs and a trained model does not. It therefore has a hash of its
own and changes nothing of the geometry's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from caloforge.detector.checks import MOST_LAYERS, check_keys, whole_number
from caloforge.detector.layers import Layer
from caloforge.errors import GeometryError, did_you_mean

# Front and back of a layer and of its active slabs, in the file, may differ by rounding (mm).
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Slab:
    """A plate perpendicular to the axis.

    Parameters
    ----------
    material
        NIST name of Geant4 such as "G4_Pb", or the name of a mixture of the stack.
    thickness
        Thickness in mm.
    active
        Whether the energy in it is read out.
    """

    material: str
    thickness: float
    active: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.thickness < float("inf"):
            raise GeometryError(
                f"A slab of {self.material} has the thickness {self.thickness:g} mm; expected a "
                "number above 0."
            )


@dataclass(frozen=True)
class Group:
    """Slabs that follow each other, repeated.

    Parameters
    ----------
    slabs
        The slabs from front to back.
    repeats
        How often they follow each other.
    layer
        Id of the layer that reads the active slabs; None for slabs that are not read out.
    repeats_per_layer
        After so many repeats the next layer begins, whose id is one higher. By default one layer
        reads all repeats.
    sampling_fraction
        Mean share of the energy in the group that is in its active slabs. None: the parametric
        source estimates it, and nothing can be divided by it.
    """

    slabs: tuple[Slab, ...]
    repeats: int = 1
    layer: int | None = None
    repeats_per_layer: int | None = None
    sampling_fraction: float | None = None

    def __post_init__(self) -> None:
        active = any(slab.active for slab in self.slabs)
        if not self.slabs:
            raise GeometryError("A group of the stack has no slabs; expected at least one.")
        if active != (self.layer is not None):
            got = "active slabs and no layer" if active else f"the layer {self.layer} and no slab"
            raise GeometryError(
                f"A group of the stack ({self.words}) has {got}{'' if active else ' is active'}; "
                "expected both or neither: state `layer`, or `active = true` for a slab."
            )
        if self.sampling_fraction is not None and not 0 < self.sampling_fraction <= 1:
            raise GeometryError(
                f"The sampling fraction of {self.words} is {self.sampling_fraction:g}; expected a "
                "number above 0 and at most 1."
            )

    @property
    def words(self) -> str:
        """The slabs in words: "2 mm G4_Pb + 4 mm G4_lAr"."""
        return " + ".join(f"{slab.thickness:g} mm {slab.material}" for slab in self.slabs)

    @property
    def layers(self) -> list[int]:
        """Ids of the layers that the group fills."""
        if self.layer is None:
            return []
        step = self.repeats_per_layer or self.repeats
        return [self.layer + k for k in range(-(-self.repeats // step))]

    def layer_of(self, repeat: int) -> int | None:
        """Id of the layer that reads the active slabs of one repeat."""
        if self.layer is None:
            return None
        return self.layer + repeat // (self.repeats_per_layer or self.repeats)


@dataclass(frozen=True)
class PlacedSlab:
    """A slab of the stack where it stands: from `front` to `back`, mm behind the front face.

    `layer` is the id of the layer that reads it, None where it is not read out; `group` is the
    number of its group.
    """

    material: str
    front: float
    back: float
    layer: int | None
    group: int


@dataclass(frozen=True)
class Mixture:
    """A material that Geant4 does not know.

    Parameters
    ----------
    density
        Its density in g/cm3.
    parts
        Mass fractions of materials that Geant4 knows ("G4_W") in it.
    """

    density: float
    parts: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        total = sum(share for _, share in self.parts)
        if not self.density > 0 or abs(total - 1) > 1e-3 or any(w <= 0 for _, w in self.parts):
            raise GeometryError(
                f"A mixture has the density {self.density:g} g/cm3 and mass fractions with the "
                f"sum {total:g}; expected a density above 0 and positive fractions that add to 1."
            )


@dataclass(frozen=True)
class Stack:
    """All slabs of a calorimeter from front to back; the front face is at z = 0.

    Parameters
    ----------
    groups
        Groups of slabs in order.
    width
        Size of the slabs along both transverse axes, mm.
    threshold
        Energy in MeV below which a cell is set to 0, after the division by the sampling fraction.
    calibrated
        Whether the energy in a layer is divided by its sampling fraction.
    around
        Material around the calorimeter.
    resolution
        Stochastic constant c of the resolution c / sqrt(E in GeV), which the parametric source
        uses. None: it estimates it.
    materials
        Mixtures by name.
    """

    groups: tuple[Group, ...]
    width: float
    threshold: float = 0.0
    calibrated: bool = False
    around: str = "G4_Galactic"
    resolution: float | None = None
    materials: tuple[tuple[str, Mixture], ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if not 0 < self.width < float("inf") or self.threshold < 0:
            raise GeometryError(
                f"The stack has the width {self.width:g} mm and the threshold {self.threshold:g} "
                "MeV; expected a width above 0 and a threshold of at least 0."
            )
        if self.resolution is not None and not 0 < self.resolution < 1:
            raise GeometryError(
                f"The stack has the resolution {self.resolution:g}; expected a number between 0 "
                "and 1: c in c / sqrt(E in GeV)."
            )
        mixtures = dict(self.materials)
        names = {s.material for g in self.groups for s in g.slabs} | {self.around}
        names |= {part for mixture in mixtures.values() for part, _ in mixture.parts}
        for name in sorted(names - mixtures.keys()):
            if not name.startswith("G4_"):
                raise GeometryError(
                    f"The stack uses the material '{name}'; expected a NIST name of Geant4 such "
                    f"as G4_Pb, or a mixture of [stack.materials]: {did_you_mean(name, mixtures)}"
                    if mixtures
                    else f"The stack uses the material '{name}'; expected a NIST name of Geant4 "
                    "such as G4_Pb, or a mixture that [stack.materials] describes."
                )
        for name in mixtures:
            if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name):
                raise GeometryError(
                    f"A mixture of the stack has the name '{name}'; expected letters and digits "
                    "with a capital letter first, such as HeavyAlloy."
                )
        for group in self.groups:
            if self.calibrated and group.layer is not None and group.sampling_fraction is None:
                raise GeometryError(
                    f"The stack is calibrated, but {group.words} has no sampling_fraction; state "
                    "it, or set calibrated = false."
                )

    @cached_property
    def placed(self) -> tuple[PlacedSlab, ...]:
        """Every slab where it stands, from front to back."""
        result, front = [], 0.0
        for number, group in enumerate(self.groups):
            for repeat in range(group.repeats):
                layer = group.layer_of(repeat)
                for slab in group.slabs:
                    back = round(front + slab.thickness, 9)  # 1081.4, not 1081.4000000000008
                    read_by = layer if slab.active else None
                    result.append(PlacedSlab(slab.material, front, back, read_by, number))
                    front = back
        return tuple(result)

    @property
    def depth(self) -> float:
        """Depth of the whole stack in mm."""
        return self.placed[-1].back

    def factor(self, group: int) -> float:
        """What the energy in active slabs of a group is multiplied by to be calibrated."""
        fraction = self.groups[group].sampling_fraction
        return 1.0 / fraction if self.calibrated and fraction is not None else 1.0

    @cached_property
    def hash(self) -> str:
        """Sixteen hex digits that change when anything in the stack changes."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def check_layers(self, layers: Sequence[Layer], what: str) -> None:
        """Raise GeometryError unless the active slabs and the layers of a read-out fit.

        Every layer is read from one slab at least, every active slab belongs to a layer, and where
        a layer states its depth, its active slabs lie inside.
        """
        ids = [layer.id for layer in layers]
        for group in self.groups:
            unknown = [number for number in group.layers if number not in ids]
            if unknown:
                raise GeometryError(
                    f"The stack of {what} reads {group.words} in the layer {unknown[0]}, which "
                    f"the geometry does not have; it has {_numbers(ids)}: correct `layer`, "
                    "`repeats` or `repeats_per_layer`."
                )
        for layer in layers:
            slabs = [slab for slab in self.placed if slab.layer == layer.id]
            if not slabs:
                raise GeometryError(
                    f"No slab in the stack of {what} is read out by the layer {layer.id} "
                    f"({layer.name}); give a group `layer = {layer.id}` and an active slab."
                )
            if layer.z is None:
                continue
            front, back = slabs[0].front, slabs[-1].back
            if front < layer.z[0] - TOLERANCE or back > layer.z[1] + TOLERANCE:
                raise GeometryError(
                    f"The active slabs of the layer {layer.id} ({layer.name}) of {what} lie "
                    f"from z = {front:g} to {back:g} mm, outside the z = [{layer.z[0]:g}, "
                    f"{layer.z[1]:g}] that the layer states: correct the slabs or `z`."
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able description; `Stack.from_dict` reads it back."""
        return {
            "width": self.width,
            "threshold": self.threshold,
            "calibrated": self.calibrated,
            "around": self.around,
            **({} if self.resolution is None else {"resolution": self.resolution}),
            "groups": [
                {
                    "slabs": [vars(slab) for slab in group.slabs],
                    **{
                        key: value
                        for key, value in vars(group).items()
                        if key != "slabs" and value is not None
                    },
                }
                for group in self.groups
            ],
            "materials": {
                name: {"density": mixture.density, "parts": dict(mixture.parts)}
                for name, mixture in self.materials
            },
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Stack:
        """Build from the table `stack` of a geometry file. Raises GeometryError that names what is
        wrong.
        """
        check_keys(plain, [f.name for f in fields(cls)], "stack")
        for key in ("groups", "width"):
            if key not in plain:
                raise GeometryError(
                    f"The stack lacks the key '{key}'; `caloforge geometry new` writes an example."
                )
        optional = {"resolution": float(plain["resolution"])} if "resolution" in plain else {}
        return cls(
            groups=tuple(_group(entry) for entry in plain["groups"]),
            width=float(plain["width"]),
            threshold=float(plain.get("threshold", 0.0)),
            calibrated=_truth(plain.get("calibrated", False), "calibrated"),
            around=str(plain.get("around", "G4_Galactic")),
            materials=tuple(_mixture(*item) for item in plain.get("materials", {}).items()),
            **optional,
        )


def _group(entry: Any) -> Group:
    """A group of a geometry file: with a list of slabs, or itself one slab."""
    keys = [f.name for f in fields(Group)]
    slab_keys = [f.name for f in fields(Slab)]
    single = isinstance(entry, dict) and "material" in entry
    check_keys(entry, [*keys, *slab_keys] if single else keys, "group of slabs")
    plain_slabs = [{k: entry[k] for k in slab_keys if k in entry}] if single else entry["slabs"]
    slabs = []
    for plain in plain_slabs:
        check_keys(plain, slab_keys, "slab")
        active = _truth(plain.get("active", False), "active")
        slabs.append(Slab(str(plain["material"]), float(plain["thickness"]), active))
    repeats = whole_number(entry.get("repeats", 1), "repeats of a group", MOST_LAYERS)
    each = entry.get("repeats_per_layer")
    fraction = entry.get("sampling_fraction")
    return Group(
        slabs=tuple(slabs),
        repeats=repeats,
        layer=int(entry["layer"]) if entry.get("layer") is not None else None,
        repeats_per_layer=None if each is None else whole_number(each, "repeats", repeats),
        sampling_fraction=None if fraction is None else float(fraction),
    )


def _mixture(name: str, entry: dict[str, Any]) -> tuple[str, Mixture]:
    check_keys(entry, ("density", "parts"), "mixture")
    parts = tuple((str(part), float(share)) for part, share in entry["parts"].items())
    return str(name), Mixture(float(entry["density"]), parts)


def _truth(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise GeometryError(f"The stack has {key} = {value}; expected true or false.")
    return value


def _numbers(ids: Sequence[int]) -> str:
    """Ids in words: all of few, the ends of many."""
    if len(ids) <= 8:
        return "the layers " + ", ".join(str(k) for k in ids)
    return f"{len(ids)} layers from {ids[0]} to {ids[-1]}"
