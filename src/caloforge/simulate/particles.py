"""Particles by the names that people and files use for them, and the decay of neutral pions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry
from caloforge.errors import SimulationError, did_you_mean

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Particle:
    """A kind of particle: its name in Geant4, PDG code, mass in MeV, and other names of it.

    `electromagnetic` tells that Geant4's electromagnetic data suffice for its showers.
    """

    name: str
    pdg: int
    mass: float
    aliases: tuple[str, ...] = ()
    electromagnetic: bool = False


# Masses: Particle Data Group, 2024.
PARTICLES = {
    particle.name: particle
    for particle in (
        Particle("gamma", 22, 0.0, ("photon",), True),
        Particle("e-", 11, 0.51099895, ("electron", "eminus"), True),
        Particle("e+", -11, 0.51099895, ("positron", "eplus"), True),
        Particle("pi0", 111, 134.9768, (), True),
        Particle("mu-", 13, 105.6583755, ("muon",), True),
        Particle("mu+", -13, 105.6583755, (), True),
        Particle("pi+", 211, 139.57039, ("piplus",)),
        Particle("pi-", -211, 139.57039, ("piminus",)),
        Particle("kaon+", 321, 493.677, ("K+",)),
        Particle("kaon-", -321, 493.677, ("K-",)),
        Particle("proton", 2212, 938.27208816, ("p",)),
        Particle("neutron", 2112, 939.5654205, ("n",)),
        Particle("geantino", 0, 0.0, (), True),
    )
}
_BY_NAME = {alias: p for p in PARTICLES.values() for alias in (p.name, *p.aliases)}


def find_particle(name: str) -> Particle:
    """The particle with a name; raises SimulationError with the nearest name."""
    if name not in _BY_NAME:
        raise SimulationError(f"Unknown particle '{name}': {did_you_mean(name, _BY_NAME)}")
    return _BY_NAME[name]


def category_of(particle: Particle, geometry: Geometry) -> int:
    """Number of a particle in the condition with the role "particle": its place in the list
    `particles` of the geometry. Raises SimulationError for one that is not in the list.
    """
    numbers = [find_particle(name).name for name in geometry.particles]
    if particle.name not in numbers:
        raise SimulationError(
            f"'{geometry.name}' numbers the particles {', '.join(geometry.particles) or 'none'}; "
            f"{particle.name} is not among them: add it to `particles` in the geometry file."
        )
    return numbers.index(particle.name)


def decay_pi0(
    energy: Array, direction: Array, generator: np.random.Generator
) -> tuple[Array, Array]:
    """The two photons of neutral pions with total energies (N,) MeV and unit directions (N, 3).

    The decay is isotropic in the rest frame of the pion. Its other channels (1.2 %, nearly all of
    them with an e+ e- pair instead of one photon) are left out.

    Returns
    -------
    tuple
        Energies (N, 2) in MeV and unit directions (N, 2, 3). Raises SimulationError for a pion
        below its mass.
    """
    mass = PARTICLES["pi0"].mass
    if len(energy) and energy.min() <= mass:
        raise SimulationError(
            f"A neutral pion has the energy {energy.min():g} MeV; expected more than its mass, "
            f"{mass:g} MeV."
        )
    count = len(energy)
    cosine = generator.uniform(-1.0, 1.0, count)
    phi = generator.uniform(0.0, 2 * np.pi, count)
    momentum = np.sqrt(energy**2 - mass**2)
    # Components in the frame of the pion's direction, boosted along it.
    across = 0.5 * mass * np.sqrt(1 - cosine**2)
    energies = np.stack([0.5 * (energy + s * momentum * cosine) for s in (1, -1)], axis=1)
    along = np.stack([0.5 * (momentum + s * energy * cosine) for s in (1, -1)], axis=1)
    first, second = _perpendicular(direction)
    side = (across * np.cos(phi))[:, None] * first + (across * np.sin(phi))[:, None] * second
    vectors = along[:, :, None] * direction[:, None, :]
    vectors += np.stack([side, -side], axis=1)
    return energies, vectors / np.linalg.norm(vectors, axis=2, keepdims=True)


def _perpendicular(direction: Array) -> tuple[Array, Array]:
    """Two unit vectors (N, 3) that are perpendicular to a direction and to each other."""
    helper = np.where(np.abs(direction[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    first = np.cross(direction, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return first, np.cross(direction, first)
