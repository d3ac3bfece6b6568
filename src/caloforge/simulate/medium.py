"""Effective media of groups of slabs, for the parametric source.

Lengths are in mm here and radiation lengths in g/cm2 where a name says so. The formulas are those
of Grindhammer and Peters (hep-ex/0001020), section 2.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from caloforge.detector.stack import Group, Mixture, Slab, Stack
from caloforge.errors import SimulationError, did_you_mean

_ES = 21.2  # MeV: the scale of multiple scattering in the Moliere radius
_PER_CM = 10.0  # mm


@dataclass(frozen=True)
class Material:
    """Density in g/cm3, atomic number Z and mass A, radiation length (g/cm2), critical energy
    (MeV) and smallest ionisation loss (MeV cm2/g).
    """

    density: float
    z: float
    a: float
    x0: float
    critical: float
    loss: float


@dataclass(frozen=True)
class Medium:
    """A group of slabs as one medium.

    Parameters
    ----------
    thickness
        One repeat, mm.
    x0, moliere
        Radiation length and Moliere radius, mm.
    critical
        Critical energy, MeV.
    z
        Effective atomic number.
    sampled
        Whether only part of the slabs is active.
    sampling_frequency
        F_S, radiation lengths over one repeat.
    e_hat
        Ratio of the responses to electrons and to minimum ionising particles.
    visible
        Share of the energy that lies in the active slabs.
    resolution
        Constant c of the fluctuation c / sqrt(E in GeV) from sampling.
    """

    thickness: float
    x0: float
    moliere: float
    critical: float
    z: float
    sampled: bool
    sampling_frequency: float
    e_hat: float
    visible: float
    resolution: float


@cache
def _tables() -> dict[str, Any]:
    file = resources.files("caloforge") / "simulate" / "materials.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def material(name: str, mixtures: dict[str, Mixture]) -> Material:
    """A material by its NIST name or that of a mixture of the stack. Raises SimulationError for
    one that the parametric source does not know.
    """
    tables = _tables()
    if name in mixtures:
        mixture = mixtures[name]
        parts = [(material(part, mixtures), share) for part, share in mixture.parts]
        return _mixed(mixture.density, parts)
    if name in tables["compounds"]:
        entry = tables["compounds"][name]
        elements = [(_element(symbol), share) for symbol, share in entry["parts"].items()]
        return _mixed(entry["density"], elements)
    symbol = name.removeprefix("G4_")
    if symbol not in tables["elements"]:
        known = [*tables["compounds"], *(f"G4_{key}" for key in tables["elements"])]
        raise SimulationError(
            f"The parametric source does not know the material {name}: "
            f"{did_you_mean(name, known)} A mixture in [stack.materials] works, too."
        )
    return _element(symbol)


def check_materials(stack: Stack) -> None:
    """Raise SimulationError for a material that neither Geant4 knows nor a mixture of the stack
    describes; one that the parametric source alone does not know is none.
    """
    mixtures = dict(stack.materials)
    known = [f"G4_{name}" for name in _tables()["geant4"]["names"].split()]
    used = [stack.around, *(slab.material for group in stack.groups for slab in group.slabs)]
    used += [part for mixture in mixtures.values() for part, _ in mixture.parts]
    for name in used:
        if name not in mixtures and name not in known:
            near = did_you_mean(name, known)
            hint = f" {near}" if near.startswith("did you mean") else ""
            raise SimulationError(
                f"Geant4 has no material {name};{hint or ' expected one of its NIST materials.'} "
                "A mixture in [stack.materials] works, too."
            )


def _element(symbol: str) -> Material:
    entry = _tables()["elements"][symbol]
    z, a, x0 = float(entry["Z"]), entry["A"], entry["X0"]
    critical = entry.get("critical", 2.66 * (x0 * z / a) ** 1.1)
    return Material(entry["density"], z, a, x0, critical, entry["loss"])


def _mixed(density: float, parts: Sequence[tuple[Material, float]]) -> Material:
    """A material from mass fractions."""
    x0 = 1.0 / sum(w / m.x0 for m, w in parts)
    return Material(
        density,
        sum(w * m.z for m, w in parts),
        sum(w * m.a for m, w in parts),
        x0,
        x0 * sum(w * m.critical / m.x0 for m, w in parts),
        sum(w * m.loss for m, w in parts),
    )


def medium(stack: Stack, group: Group) -> Medium:
    """The effective medium of a group of a stack."""
    mixtures = dict(stack.materials)
    slabs = [(slab, material(slab.material, mixtures)) for slab in group.slabs]
    mass = np.array([m.density * s.thickness / _PER_CM for s, m in slabs])  # g/cm2
    thickness = sum(s.thickness for s, _ in slabs)
    density = mass.sum() / (thickness / _PER_CM)
    effective = _mixed(
        density, [(m, w) for (_, m), w in zip(slabs, mass / mass.sum(), strict=True)]
    )
    active = np.array([slab.active for slab, _ in slabs])
    sampled = bool(active.any() and not active.all())
    e_hat, visible, resolution = 1.0, float(active.any()), 0.0
    x0 = effective.x0 / density * _PER_CM
    if sampled:
        z = [_mean_z(slabs, mass, chosen) for chosen in (~active, active)]
        e_hat = 1.0 / (1.0 + 0.007 * (z[0] - z[1]))
        loss = mass * np.array([m.loss for _, m in slabs])
        ionising = float(loss[active].sum() / loss.sum())
        visible = group.sampling_fraction or ionising * e_hat
        gap = sum(slab.thickness for slab, _ in slabs if slab.active)
        # Livan, Vercesi and Wigmans (CERN 95-02): 2.7 % sqrt(gap in mm / sampling fraction).
        resolution = stack.resolution or 0.027 * float(np.sqrt(gap / ionising))
    return Medium(
        thickness=thickness,
        x0=x0,
        moliere=_ES / effective.critical * x0,
        critical=effective.critical,
        z=effective.z,
        sampled=sampled,
        sampling_frequency=x0 / thickness,
        e_hat=e_hat,
        visible=visible,
        resolution=resolution,
    )


def _mean_z(slabs: list[tuple[Slab, Material]], mass: Any, chosen: Any) -> float:
    z = np.array([m.z for _, m in slabs])
    return float((mass * z)[chosen].sum() / mass[chosen].sum())
