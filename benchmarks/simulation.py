"""Seconds of Geant4 for each GeV, beside calzone alone; two workers beside one.

    GEANT4_DATA_DIR=FOLDER python benchmarks/simulation.py [--quick]

The loop beside has the same stack, particles and deposits, and puts nothing into cells. Times are
CPU seconds, the two in turn, so that other work on the machine enters both. Two workers are
compared by the clock, so nothing else may run then.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from caloforge.detector.shipped import load_geometry
from caloforge.simulate import Job, Physics, simulate_file
from caloforge.simulate.beam import Request, make_beam
from caloforge.simulate.geant4 import Geant4, _portions
from caloforge.simulate.particles import find_particle

READ_OUTS = {"ds1-photons": "gamma", "calogan": "e+", "lhcb": "e-", "atlas-cells": "gamma"}
ENERGY = 4096.0  # MeV


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of this process for one call."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def beside_calzone(name: str, particle: str, showers: int, rounds: int) -> tuple[float, float]:
    """CPU seconds a GeV of calzone alone and of the whole engine, each the fastest round."""
    geometry, kind = load_geometry(name), (find_particle(particle),)
    beam = make_beam(Request(kind, showers, {"energy": f"{ENERGY:g}"}), [geometry])
    engine = Geant4((geometry,), Physics.suited_to(kind))
    particles, _ = engine._primaries(beam, np.random.default_rng(0))  # what Geant4 is given
    portions, simulation = _portions(beam.energy), engine._simulation

    def alone() -> None:
        simulation.random = engine._calzone.Random(1)
        for rows in portions:
            simulation.run(particles[rows])

    alone()
    times = [(cpu_seconds(alone), cpu_seconds(lambda: engine(beam, 1))) for _ in range(rounds)]
    gev = showers * ENERGY / 1e3
    return min(a for a, _ in times) / gev, min(b for _, b in times) / gev


def seconds_of(workers: int, showers: int) -> float:
    """Seconds of a whole simulation by so many workers, whose start is part of it."""
    kind = (find_particle("gamma"),)
    request = Request(kind, showers, {"energy": f"{ENERGY:g}"})
    job = Job((load_geometry("ds1-photons"),), request, "geant4", Physics.suited_to(kind))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        simulate_file(job, [Path(folder) / "showers.h5"], workers=workers)
        return time.perf_counter() - begin


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer showers and rounds")
    quick = parser.parse_args().quick
    showers, rounds = (60, 2) if quick else (240, 5)
    print("read-out, particle   calzone alone   with read-out   ratio   (CPU ms per GeV)")
    for name, particle in READ_OUTS.items():
        alone, whole = beside_calzone(name, particle, showers, rounds)
        title = f"{name}, {particle}"
        print(f"{title:20} {1e3 * alone:13.2f} {1e3 * whole:15.2f} {whole / alone:7.3f}")
    one, two = (seconds_of(workers, 4 * showers) for workers in (1, 2))
    print(f"one worker {one:.1f} s, two workers {two:.1f} s: {one / two:.2f} times as fast")


if __name__ == "__main__":
    main()
