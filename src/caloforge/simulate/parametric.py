"""Electromagnetic showers from a parametrisation (Grindhammer and Peters, hep-ex/0001020).

The source needs nothing but NumPy and SciPy. The energy along the axis follows a gamma
distribution whose two parameters fluctuate together; it is spread over spots at random distances
from the particle's line, whose distribution depends on the age of the shower.

Limits: electrons, positrons, photons and neutral pions only; no nuclear reactions; no tails beyond
those of the formulas; fewer cells with little energy than Geant4 has, since a spot is not a track;
depths in different materials join by radiation lengths and by the ratio of critical energies.
Below about 1 GeV the formulas leave the range in which they were fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

from caloforge.detector.geometry import Geometry
from caloforge.detector.stack import Group, Stack
from caloforge.errors import SimulationError
from caloforge.simulate.beam import Beam
from caloforge.simulate.binning import Binning, Deposits
from caloforge.simulate.medium import Medium, medium
from caloforge.simulate.particles import Particle, decay_pi0
from caloforge.units import GEV

Array = NDArray[Any]

STEP = 0.7  # radiation lengths that one step along the axis has at most
MOST_SPOTS = 20_000  # of a shower; more of them change nothing but the time
_CONVERSION = 9.0 / 7.0  # mean depth in radiation lengths at which a photon converts
_LEAST_LOG = 1.2  # ln(E / critical energy) below which the formulas have no solution
_SIGMA = 0.5  # largest spread of ln T and ln alpha
_PARTICLES = ("gamma", "e-", "e+", "pi0")


def check_parametric(geometries: Sequence[Geometry], particles: Sequence[Particle]) -> None:
    """Raise SimulationError for particles that the source does not know."""
    for particle in particles:
        if particle.name not in _PARTICLES:
            raise SimulationError(
                f"The parametric source makes showers of {', '.join(_PARTICLES)}, not of "
                f"{particle.name}: choose one of these, or --engine geant4."
            )
    _steps(geometries)


@dataclass(frozen=True)
class _Steps:
    """S steps along the axis: middle depth (mm), edges in radiation lengths (S + 1), Moliere
    radius (mm), constant of the fluctuation from sampling; and for each of K read-outs the index
    of the layer (-1: none) and the factor from deposited to read-out energy, (K, S).
    """

    depth: Array
    edges: Array
    moliere: Array
    resolution: Array
    layer: Array
    factor: Array
    main: Medium


@dataclass(frozen=True)
class _Profile:
    """Shape of M showers: position T of the maximum and alpha, each (M, 1); number of spots (M,),
    and factors of T and alpha for the spots.
    """

    maximum: Array
    alpha: Array
    spots: Array
    spot_factors: tuple[float, float]

    def share(self, t: Array, maximum_factor: float = 1.0, alpha_factor: float = 1.0) -> Array:
        """Share of the energy between edges at the depths t (M, S + 1), (M, S)."""
        alpha = np.maximum(self.alpha * alpha_factor, 1.1)
        maximum = np.maximum(self.maximum * maximum_factor, 0.5)
        return np.diff(gammainc(alpha, (alpha - 1) / maximum * t), axis=1)


@dataclass(frozen=True)
class _Spots:
    """What showers are made of: the energy of M particles in S steps (M, S) MeV, which number of
    spots (M, S) share equally; shower of each particle (M,); position of each spot (P, 2) mm.
    """

    deposited: Array
    number: Array
    shower: Array
    position: Array


class Parametric:
    """The source for read-outs of one stack: all of them see the same spots. Media and fluctuation
    are those of the first.
    """

    def __init__(self, geometries: tuple[Geometry, ...]) -> None:
        self._geometries = geometries
        self._binnings = [Binning(g) for g in geometries]
        self._steps = _steps(geometries)

    def __call__(self, beam: Beam, seed: int) -> list[Array]:
        """Energies (N, V) float32 MeV in every read-out, the same for the same beam and seed."""
        spots = self._spots(beam, np.random.Generator(np.random.Philox(key=seed)))
        return [self._read(k, beam, spots) for k in range(len(self._geometries))]

    def _spots(self, beam: Beam, generator: np.random.Generator) -> _Spots:
        steps = self._steps
        shower, energy, direction, photon = _primaries(beam, generator)
        profile = _profile(energy, steps.main, generator)
        slope = direction[:, :2] / direction[:, 2:]
        start = generator.exponential(_CONVERSION, len(energy)) * photon
        t = steps.edges / direction[:, 2:] - start[:, None]
        t = np.maximum(t, 0.0)
        deposited = _deposited(energy, profile.share(t), steps, generator)
        mean = profile.spots[:, None] * profile.share(t, *profile.spot_factors)
        number = np.maximum(generator.poisson(mean), 1) * (deposited > 0)
        each = number.ravel()
        age = 0.5 * (t[:, 1:] + t[:, :-1]) / profile.maximum
        core, tail, in_core = _radial(age, (energy / GEV)[:, None], steps.main)
        line = beam.entry[shower][:, None, :] + slope[:, None, :] * steps.depth[None, :, None]
        position = np.repeat(line.reshape(-1, 2), each, axis=0)
        u, v, chosen = generator.random((3, len(position)), dtype=np.float32)
        scale = np.where(
            chosen < np.repeat(in_core.ravel(), each),
            np.repeat((core * steps.moliere).ravel(), each),
            np.repeat((tail * steps.moliere).ravel(), each),
        )
        radius, phi = scale * np.sqrt(u / (1 - u)), v * np.float32(2 * np.pi)
        position[:, 0] += radius * np.cos(phi)
        position[:, 1] += radius * np.sin(phi)
        return _Spots(deposited, number, shower, position)

    def _read(self, k: int, beam: Beam, spots: _Spots) -> Array:
        """Energies (N, V) of read-out k."""
        geometry, layer, factor = self._geometries[k], self._steps.layer[k], self._steps.factor[k]
        each = spots.number.ravel()
        visible = spots.deposited * factor / np.maximum(spots.number, 1)
        of_layer = np.repeat(np.tile(layer, len(spots.shower)), each)
        chosen = np.flatnonzero(of_layer >= 0)
        deposits = Deposits(
            np.repeat(np.repeat(spots.shower, len(layer)), each)[chosen],
            of_layer[chosen],
            np.repeat(visible.ravel(), each)[chosen],
            spots.position[chosen],
        )
        energies = self._binnings[k](deposits, beam.conditions[k], beam.shifts[k])
        assert geometry.stack is not None
        energies[energies < geometry.stack.threshold] = 0.0
        return energies.astype(np.float32)


def _primaries(beam: Beam, generator: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Shower number, energy (MeV), direction and whether it is a photon, of M particles."""
    names = np.array([p.name for p in beam.particles])[beam.kind]
    pions = names == "pi0"
    rows = np.arange(len(beam))
    if not pions.any():
        return rows, beam.energy, beam.direction, names == "gamma"
    pair, ways = decay_pi0(beam.energy[pions], beam.direction[pions], generator)
    return (
        np.concatenate([rows[~pions], np.repeat(rows[pions], 2)]),
        np.concatenate([beam.energy[~pions], pair.ravel()]),
        np.concatenate([beam.direction[~pions], ways.reshape(-1, 3)]),
        np.concatenate([names[~pions] == "gamma", np.ones(2 * pions.sum(), dtype=np.bool_)]),
    )


def _steps(geometries: Sequence[Geometry]) -> _Steps:
    """Steps along the axis of at most `STEP` radiation lengths, none across two layers of a
    read-out.
    """
    stack = geometries[0].stack
    assert stack is not None
    media = [medium(stack, group) for group in stack.groups]
    main = _main(stack, media)
    rows: list[tuple[float, ...]] = []
    reads: list[_Read] = []
    edges, front, slab = [0.0], 0.0, 0
    for group, local in zip(stack.groups, media, strict=True):
        at_most = max(1, int(STEP * local.x0 / local.thickness))
        size = len(group.slabs)
        read = [_read_by(geometries, group, slab + k * size) for k in range(group.repeats)]
        slab += group.repeats * size
        repeat = 0
        while repeat < group.repeats:
            count = min(at_most, group.repeats - repeat)
            while read[repeat + count - 1] != read[repeat]:
                count -= 1
            # Energy for each radiation length is proportional to the critical energy.
            factor = local.critical / main.critical * local.visible
            reads.append(tuple((layer, factor * scale) for layer, scale in read[repeat]))
            middle = front + 0.5 * count * local.thickness
            rows.append((middle, local.moliere, local.resolution))
            front += count * local.thickness
            edges.append(edges[-1] + count * local.thickness / local.x0)
            repeat += count
    depth, moliere, resolution = np.array(rows).T
    layers, factors = np.moveaxis(np.array(reads), 2, 0).swapaxes(1, 2)
    return _Steps(
        depth, np.array(edges), moliere, resolution, layers.astype(np.int64), factors, main
    )


_Read = tuple[tuple[int, float], ...]  # of each read-out: index of a layer, and a factor


def _read_by(geometries: Sequence[Geometry], group: Group, first: int) -> _Read:
    """Which layer of each read-out (-1: none) reads the active slabs of one repeat of a group,
    whose slabs begin with number `first`, and what their energy is multiplied by to be calibrated.

    Raises SimulationError where a read-out parts them: a repeat is one medium here.
    """
    read = []
    for geometry in geometries:
        stack = geometry.stack
        assert stack is not None
        index = {layer.id: k for k, layer in enumerate(geometry.layers)}
        slabs = [stack.placed[first + k] for k, slab in enumerate(group.slabs) if slab.active]
        found = {
            (-1, 0.0) if s.layer is None else (index[s.layer], stack.factor(s.group))
            for s in slabs
        }
        if len(found) > 1:
            raise SimulationError(
                f"'{geometry.name}' reads slabs of {group.words} apart that "
                f"'{geometries[0].name}' reads together; expected one layer, because the "
                "parametric source knows no single slabs: simulate them one by one, or with "
                "--engine geant4."
            )
        read.append(found.pop() if found else (-1, 0.0))
    return tuple(read)


def _main(stack: Stack, media: list[Medium]) -> Medium:
    """The medium of the group that is read out and has most of the first 25 radiation lengths:
    its properties give the shape of the shower.
    """
    best, most, depth = None, -1.0, 0.0
    for group, local in zip(stack.groups, media, strict=True):
        length = group.repeats * local.thickness / local.x0
        inside = max(0.0, min(length, 25.0 - depth))
        depth += length
        if group.layer is not None and inside > most:
            best, most = local, inside
    assert best is not None
    return best


def _profile(energy: Array, main: Medium, generator: np.random.Generator) -> _Profile:
    """Fluctuating shapes of showers with energies (M,) MeV."""
    log_y = np.maximum(np.log(energy / main.critical), _LEAST_LOG)
    maximum = log_y - 0.812
    alpha = 0.81 + (0.458 + 2.26 / main.z) * log_y
    if main.sampled:
        inverse = 1.0 / main.sampling_frequency
        maximum = maximum - 0.55 * inverse - 0.69 * (1 - main.e_hat)
        alpha = alpha - 0.476 * inverse
        spread = (_sigma(-2.5 + 1.25 * log_y), _sigma(-0.82 + 0.79 * log_y))
        correlation = 0.784 - 0.023 * log_y
        spots = 10.3 / main.resolution * (energy / GEV) ** 0.959
        factors = (0.813 + 0.0019 * main.z, 0.844 + 0.0026 * main.z)
    else:
        spread = (_sigma(-1.4 + 1.26 * log_y), _sigma(-0.58 + 0.86 * log_y))
        correlation = 0.705 - 0.023 * log_y
        spots = 93.0 * np.log(main.z) * (energy / GEV) ** 0.876
        factors = (0.698 + 0.00212 * main.z, 0.639 + 0.00334 * main.z)
    first, second = generator.standard_normal((2, len(energy)))
    plus, minus = np.sqrt(0.5 * (1 + correlation)), np.sqrt(0.5 * (1 - correlation))
    log_t = np.log(np.maximum(maximum, 1.0)) + spread[0] * (plus * first + minus * second)
    log_a = np.log(np.maximum(alpha, 1.1)) + spread[1] * (plus * first - minus * second)
    return _Profile(
        np.maximum(np.exp(log_t), 1.0)[:, None],
        np.maximum(np.exp(log_a), 1.1)[:, None],
        np.minimum(spots, MOST_SPOTS),
        factors,
    )


def _sigma(inverse: Array) -> Array:
    """The spread of a logarithm from its inverse, at most `_SIGMA`."""
    return 1.0 / np.maximum(inverse, 1.0 / _SIGMA)


def _deposited(
    energy: Array, share: Array, steps: _Steps, generator: np.random.Generator
) -> Array:
    """Energy of each shower in each step that is read out, (M, S) MeV, with the fluctuation from
    sampling: the first read-out reads all that another one reads.
    """
    read = steps.layer[0] >= 0
    deposited = energy[:, None] * share * read
    square = np.square(steps.resolution)
    sampled = np.flatnonzero((square > 0) & read)
    if len(sampled):
        scale = square[sampled] * GEV
        deposited[:, sampled] = generator.gamma(deposited[:, sampled] / scale) * scale
    return deposited


def _radial(age: Array, energy: Array, main: Medium) -> tuple[Array, Array, Array]:
    """Radii of core and tail in Moliere radii, and the share of the core, each (M, S) float32, at
    ages tau (M, S) of showers with energies (M, 1) GeV.
    """
    log_e = np.log(energy)
    tau = np.minimum(age, 6.0)  # far behind the maximum the formulas grow without limit
    core = 0.0251 + 0.00319 * log_e + (0.1162 - 0.000381 * main.z) * tau
    k1, k2, k3 = 0.659 - 0.00309 * main.z, 0.645, -2.59
    k4 = 0.3585 + 0.0421 * log_e
    tail = k1 * (np.exp(k3 * (tau - k2)) + np.exp(k4 * (tau - k2)))
    ratio = (0.401 + 0.00187 * main.z - tau) / (1.313 - 0.0686 * log_e)
    in_core = (2.632 - 0.00094 * main.z) * np.exp(ratio - np.exp(ratio))
    if main.sampled:
        inverse, lack = 1.0 / main.sampling_frequency, 1 - main.e_hat
        fading = np.exp(-tau)
        core = core - 0.0203 * lack + 0.0397 * inverse * fading
        tail = tail - 0.14 * lack - 0.495 * inverse * fading
        in_core = in_core + lack * (0.348 - 0.642 * inverse * np.exp(-np.square(tau - 1)))
    single = np.float32
    return (
        np.maximum(core, 0.005).astype(single),
        np.maximum(tail, 0.05).astype(single),
        in_core.astype(single),
    )
