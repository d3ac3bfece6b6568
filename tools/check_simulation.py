"""Simulated showers beside reference showers of the same conditions: response, resolution, width,
occupancy and layer fractions, with errors. Prints the table of docs/simulation.md.

    python tools/check_simulation.py REFERENCE GEOMETRY [--particle e-] [--low 1000] [--high 20000]
        [-n 300] [--engine geant4] [--seed 1]

Every simulated shower has the conditions of one reference shower, so that spectra and impacts
cancel. The resolution is half of the central 68 % of the response. A row passes when the response
agrees within 1 %, the resolution within 10 %, and the layer
fractions, the width and the occupancy within 5 % of themselves, or each within 3 standard errors.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from caloforge.data import read_showers
from caloforge.detector.geometry import Geometry
from caloforge.detector.particle import particle_line
from caloforge.detector.shipped import load_geometry
from caloforge.showers import Showers
from caloforge.simulate.beam import beam_of
from caloforge.simulate.geant4 import Geant4
from caloforge.simulate.parametric import Parametric
from caloforge.simulate.particles import find_particle
from caloforge.simulate.physics import Physics

Array = NDArray[np.float64]


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reference", help="file of reference showers")
    parser.add_argument("geometry", help="geometry with a stack")
    parser.add_argument("--particle", default=None, help="default: the first of the geometry")
    parser.add_argument("--low", type=float, default=1000.0, help="lowest energy, MeV")
    parser.add_argument("--high", type=float, default=20000.0, help="highest energy, MeV")
    parser.add_argument("-n", type=int, default=300, help="simulated showers")
    parser.add_argument("--bins", type=int, default=2, help="bins of energy, of equal numbers")
    parser.add_argument("--engine", choices=("geant4", "parametric"), default="geant4")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def chosen(reference: Showers, low: float, high: float, particle: str) -> Showers:
    """Reference showers in the range of energies, of the particle where the conditions tell it."""
    energy = reference.incident_energy
    keep = (energy >= low) & (energy <= high)
    column = reference.geometry.find("particle")
    if column is not None:
        names = [find_particle(name).name for name in reference.geometry.particles]
        keep &= reference.conditions[:, column] == names.index(particle)
    return reference[keep]


def simulated(geometry: Geometry, conditions: Array, arguments: argparse.Namespace) -> Array:
    """Energies (N, V) under the conditions (N, C)."""
    particles = (find_particle(arguments.particle),)
    beam = beam_of([geometry], [conditions], particles, np.zeros(len(conditions), int))
    if arguments.engine == "parametric":
        return Parametric((geometry,))(beam, arguments.seed)[0]
    return Geant4((geometry,), Physics.suited_to(particles))(beam, arguments.seed)[0]


def width(geometry: Geometry, energies: Array, conditions: Array) -> Array:
    """Mean distance of the energy from the particle's line in mm, of each shower, (N,)."""
    line = particle_line(geometry)
    distance = np.zeros(energies.shape)
    for layer, where in zip(geometry.layers, geometry.slices, strict=True):
        if layer.kind == "polar":
            distance[:, where] = layer.centres[1]
            continue
        x, y = (axis[None, :] for axis in layer.xy)
        depth = 0.0 if layer.z is None else 0.5 * sum(layer.z)
        at = line.at(conditions, depth)
        moved = np.zeros_like(at)
        if layer.shift is not None:
            column = geometry.column(layer.shift.condition)
            moved[:, layer.axes.index(layer.shift.axis)] = conditions[:, column] * layer.shift.step
        off = at - moved
        distance[:, where] = np.hypot(x - off[:, :1], y - off[:, 1:])
    return (energies * distance).sum(axis=1) / total(energies)


def total(energies: Array) -> Array:
    """Energy of each shower in MeV, (N,); 1 keV for one that left nothing, so that it divides."""
    return np.maximum(energies.sum(axis=1, dtype=np.float64), 1e-3)


def mean(values: Array) -> tuple[float, float]:
    """Mean and its error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def spread(values: Array) -> tuple[float, float]:
    """Half of the central 68 % over the median, and its error from 200 resamplings.

    A few showers lose much energy to nuclear reactions. The standard deviation of some hundred
    showers would tell how many of these there happen to be.
    """

    def core(sample: Array) -> Array:
        low, middle, high = np.quantile(sample, [0.16, 0.5, 0.84], axis=-1)
        return 0.5 * (high - low) / middle

    pick = np.random.default_rng(0).integers(len(values), size=(200, len(values)))
    return float(core(values)), float(core(values[pick]).std())


def compared(a: tuple[float, float], b: tuple[float, float], within: float) -> tuple[str, bool]:
    """Ratio b/a with its error, and whether it is near enough to 1."""
    ratio = b[0] / a[0]
    error = abs(ratio) * np.hypot(a[1] / a[0], b[1] / b[0])
    return f"{ratio:.3f} ± {error:.3f}", abs(ratio - 1) < max(within, 3 * error)


def row(geometry: Geometry, one: Showers, two: Showers) -> tuple[list[str], bool]:
    """Cells of one row of the table, and whether it passes."""
    words, good = [], True
    totals = [s.energies.sum(axis=1) / s.incident_energy for s in (one, two)]
    for measure, within in ((mean, 0.01), (spread, 0.10)):
        text, near = compared(measure(totals[0]), measure(totals[1]), within)
        words.append(text)
        good &= near
    widths = [width(geometry, s.energies, s.conditions) for s in (one, two)]
    filled = [(s.energies > 0).mean(axis=1) for s in (one, two)]
    for values in (widths, filled):
        text, near = compared(mean(values[0]), mean(values[1]), 0.05)
        words.append(text)
        good &= near
    worst = 0.0
    parts = [
        np.stack([s.energies[:, k].sum(axis=1) for k in geometry.slices], axis=1)
        / total(s.energies)[:, None]
        for s in (one, two)
    ]
    for k in range(geometry.n_layers):
        a, b = mean(parts[0][:, k]), mean(parts[1][:, k])
        error = np.hypot(a[1], b[1])
        if error > 0 and abs(b[0] - a[0]) > 0.05 * a[0]:
            worst = max(worst, abs(b[0] - a[0]) / error)
    # Among many layers one lies beyond 3 standard errors by chance: 1 in 370 does.
    most = 3.0 if geometry.n_layers < 10 else 4.0
    return [*words, f"{worst:.1f}"], good and worst < most


def main() -> None:
    """Simulate, compare, and print."""
    arguments = options()
    geometry = load_geometry(arguments.geometry)
    arguments.particle = find_particle(arguments.particle or geometry.particles[0]).name
    reference = read_showers(arguments.reference)
    reference = chosen(reference, arguments.low, arguments.high, arguments.particle)
    pick = np.random.default_rng(arguments.seed).integers(len(reference), size=arguments.n)
    conditions = reference.conditions[pick]
    energies = simulated(geometry, conditions, arguments)
    made = Showers(energies, conditions, geometry)
    edges = np.quantile(reference.incident_energy, np.linspace(0, 1, arguments.bins + 1))
    edges[-1] += 1.0
    print(
        "| read-out, particle | energy (GeV) | showers | response | resolution | width "
        "| occupancy | layer fractions, largest deviation (σ) | |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for low, high in pairwise(edges):
        one, two = (
            s[(s.incident_energy >= low) & (s.incident_energy < high)] for s in (reference, made)
        )
        if len(one) < 10 or len(two) < 10:
            continue
        words, good = row(geometry, one, two)
        cells = [
            f"{geometry.name}, {arguments.particle}",
            f"{low / 1e3:.3g} to {high / 1e3:.3g}",
            f"{len(two)} / {len(one)}",
            *words,
            "agrees" if good else "**differs**",
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
