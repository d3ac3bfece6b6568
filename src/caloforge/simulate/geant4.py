"""Showers of Geant4 through calzone (Niess, https://github.com/niess/calzone)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry
from caloforge.detector.stack import Stack
from caloforge.errors import SimulationError
from caloforge.simulate.beam import Beam
from caloforge.simulate.binning import Binning, Deposits
from caloforge.simulate.particles import decay_pi0
from caloforge.simulate.physics import Physics, load_calzone
from caloforge.units import CM

Array = NDArray[Any]

# Incident energy in MeV that Geant4 is given in one go: it bounds the memory for the deposits,
# about 90 bytes a MeV in a sampling calorimeter. A single shower may have more.
AT_ONCE = 50_000.0
_BEFORE = 1e-5  # cm before the front face, where particles start


class Geant4:
    """A stack in Geant4, read out by some geometries; made once for each process.

    Parameters
    ----------
    geometries
        Read-outs of one stack, which is that of the first.
    physics
        What is simulated.
    """

    def __init__(self, geometries: tuple[Geometry, ...], physics: Physics) -> None:
        self._calzone = load_calzone(physics)
        stack = geometries[0].stack
        assert stack is not None
        self._geometries = geometries
        self._binnings = [Binning(g) for g in geometries]
        self._slabs = [_read_by(g) for g in geometries]
        try:
            geometry = self._calzone.Geometry(volumes(stack))
            self._simulation = self._calzone.Simulation(geometry)
            self._simulation.physics = self._calzone.Physics(
                physics.electromagnetic,
                default_cut=physics.cut / CM,
                had_model=None if physics.hadronic == "none" else physics.hadronic,
            )
        except (ValueError, OSError) as error:
            raise SimulationError(
                f"Geant4 does not accept the stack of '{geometries[0].name}': {error}."
            ) from error
        self._simulation.sample_deposits = "detailed"

    def __call__(self, beam: Beam, seed: int) -> list[Array]:
        """Energies (N, V) float32 MeV in every read-out, the same for the same beam and seed."""
        self._simulation.random = self._calzone.Random(seed)
        rng = np.random.Generator(np.random.Philox(key=seed))
        results: list[list[Array]] = [[] for _ in self._geometries]
        for rows in _portions(beam.energy):
            part = beam.rows(rows)
            for k, energies in enumerate(self._shower(part, rng)):
                results[k].append(energies)
        return [np.concatenate(parts) for parts in results]

    def _shower(self, beam: Beam, rng: np.random.Generator) -> list[Array]:
        particles, shower = self._primaries(beam, rng)
        try:
            record = self._simulation.run(particles).deposits
        except self._calzone.Geant4Exception as error:
            raise SimulationError(f"Geant4 stopped: {error}.") from error
        steps = deposits_of(record, shower, rng)
        results = []
        for k, geometry in enumerate(self._geometries):
            layer, factor = self._slabs[k]
            chosen = np.flatnonzero(layer[steps.layer] >= 0)
            slab = steps.layer[chosen]
            deposits = Deposits(
                steps.shower[chosen],
                layer[slab],
                steps.energy[chosen] * factor[slab],
                steps.position[chosen],
            )
            energies = self._binnings[k](deposits, beam.conditions[k], beam.shifts[k])
            assert geometry.stack is not None
            energies[energies < geometry.stack.threshold] = 0.0
            results.append(energies.astype(np.float32))
        return results

    def _primaries(self, beam: Beam, rng: np.random.Generator) -> tuple[Array, Array]:
        """Particles for Geant4, and which shower each belongs to."""
        energies, directions, pdgs, showers = [], [], [], []
        for number, particle in enumerate(beam.particles):
            rows = np.flatnonzero(beam.kind == number)
            energy, direction = beam.energy[rows], beam.direction[rows]
            if particle.name == "pi0":
                pair, ways = decay_pi0(energy, direction, rng)
                energies.append(pair.ravel())
                directions.append(ways.reshape(-1, 3))
                showers.append(np.repeat(rows, 2))
                pdgs.append(np.full(2 * len(rows), 22))
            else:
                energies.append(energy)
                directions.append(direction)
                showers.append(rows)
                pdgs.append(np.full(len(rows), particle.pdg))
        shower = np.concatenate(showers)
        order = np.argsort(shower, kind="stable")
        shower = shower[order]
        particles = self._calzone.particles(len(order), pid="gamma")
        particles["pid"] = np.concatenate(pdgs)[order]
        particles["energy"] = np.concatenate(energies)[order]
        particles["direction"] = np.concatenate(directions)[order]
        particles["position"][:, :2] = beam.entry[shower] / CM
        particles["position"][:, 2] = -_BEFORE
        return particles, shower


def volumes(stack: Stack) -> dict[str, Any]:
    """The stack as calzone describes a geometry: a world with a box for every slab.

    A slab that no layer reads, of the same material as the one before, has a box of its own too:
    the boxes are numbered as `stack.placed`.
    """
    depth, width = stack.depth / CM, stack.width / CM
    margin = 10.0
    world: dict[str, Any] = {
        "box": [width + margin, width + margin, 2 * (depth + margin)],
        "material": stack.around,
    }
    for k, slab in enumerate(stack.placed):
        front, back = slab.front / CM, slab.back / CM
        world[f"S{k}"] = {
            "box": [width, width, back - front],
            "position": [0.0, 0.0, 0.5 * (front + back)],
            "material": slab.material,
        }
        if slab.layer is not None:
            world[f"S{k}"]["role"] = "record_deposits"
    mixtures = {
        name: {"density": mixture.density, **dict(mixture.parts)}
        for name, mixture in stack.materials
    }
    return {"World": world, **({"materials": {"mixtures": mixtures}} if mixtures else {})}


def check_same_stack(geometries: tuple[Geometry, ...]) -> None:
    """Raise SimulationError unless all read-outs have a stack, with slabs at the same places, and
    the first reads every slab that another one reads.
    """
    for geometry in geometries:
        if geometry.stack is None:
            raise SimulationError(
                f"'{geometry.name}' has no stack of materials; expected [stack] in its geometry "
                "file: `caloforge geometry new` writes an example."
            )
    first = geometries[0].stack
    assert first is not None
    for geometry in geometries[1:]:
        stack = geometry.stack
        assert stack is not None
        same = len(first.placed) == len(stack.placed) and all(
            (a.material, a.front, a.back) == (b.material, b.front, b.back)
            and not (a.layer is None and b.layer is not None)
            for a, b in zip(first.placed, stack.placed, strict=True)
        )
        if not same:
            raise SimulationError(
                f"'{geometry.name}' and '{geometries[0].name}' have different stacks; expected "
                "the same slabs, of which the first reads all that the other reads: simulate "
                "them one by one."
            )


def _read_by(geometry: Geometry) -> tuple[Array, Array]:
    """For every slab the index of the layer that reads it (-1: none), and its factor."""
    stack = geometry.stack
    assert stack is not None
    index = {layer.id: k for k, layer in enumerate(geometry.layers)}
    layers = [-1 if s.layer is None else index[s.layer] for s in stack.placed]
    return np.array(layers), np.array([stack.factor(s.group) for s in stack.placed])


def _portions(energy: Array) -> list[slice]:
    """Consecutive showers whose energies add to about `AT_ONCE`, one shower at least."""
    portions, start, total = [], 0, 0.0
    for k, value in enumerate(energy.tolist()):
        if k > start and total + value > AT_ONCE:
            portions.append(slice(start, k))
            start, total = k, 0.0
        total += value
    if start < len(energy):
        portions.append(slice(start, len(energy)))
    return portions


def deposits_of(record: Any, shower: Array, rng: np.random.Generator) -> Deposits:
    """All deposits, whose `layer` is the number of their slab here; lengths in mm.

    Energy that is lost along a step lies at a point of the step, each point as probable as the
    others: one position for each deposit, as a hit of Geant4 has.
    """
    parts: list[tuple[Array, int, Array, Array]] = []
    for path, deposits in sorted((record or {}).items()):  # the same positions every time
        slab = int(path.rpartition(".S")[2])
        line, point = deposits.line, deposits.point
        start, end = line["start"][:, :2], line["end"][:, :2]
        where = start + rng.random((len(start), 1)) * (end - start)
        parts.append((line["event"], slab, line["value"], where))
        parts.append((point["event"], slab, point["value"], point["position"][:, :2]))
    if not parts:
        nothing = np.zeros(0, int)
        return Deposits(nothing, nothing, np.zeros(0), np.zeros((0, 2)))
    event = np.concatenate([p[0] for p in parts]).astype(np.int64)
    return Deposits(
        shower[event],
        np.repeat([p[1] for p in parts], [len(p[0]) for p in parts]),
        np.concatenate([p[2] for p in parts]),
        np.concatenate([p[3] for p in parts]) * CM,
    )
