"""A file of simulated showers: blocks with seeds of their own, done side by side, kept as they are
done, and put together at the end.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caloforge import __version__
from caloforge.data import create_showers
from caloforge.detector.geometry import Geometry
from caloforge.errors import SimulationError, did_you_mean
from caloforge.files import atomic_path, make_folder, write_text
from caloforge.showers import Showers
from caloforge.simulate.beam import Beam, Request, make_beam
from caloforge.simulate.geant4 import Geant4, check_same_stack
from caloforge.simulate.parametric import Parametric, check_parametric
from caloforge.simulate.physics import Physics, data_versions, load_calzone
from caloforge.simulate.side_by_side import in_processes

Array = NDArray[Any]
Engine = Literal["geant4", "parametric"]
ENGINES = ("geant4", "parametric")

# A block ends when its showers have so much incident energy together (MeV), or are so many. Geant4
# takes about a second for a block.
BLOCK_ENERGY = {"geant4": 100_000.0, "parametric": 10_000_000.0}
BLOCK_SHOWERS = 256


@dataclass(frozen=True)
class Job:
    """Everything that determines a file of simulated showers.

    Parameters
    ----------
    geometries
        The read-out, and others that see the same showers.
    request
        Which particles come in.
    engine
        "geant4" or "parametric".
    physics
        What Geant4 simulates.
    """

    geometries: tuple[Geometry, ...]
    request: Request
    engine: Engine = "geant4"
    physics: Physics = field(default_factory=Physics)

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise SimulationError(
                f"Unknown engine '{self.engine}': {did_you_mean(self.engine, ENGINES)}"
            )
        check_same_stack(self.geometries)

    def settings(self) -> dict[str, Any]:
        """What determines the showers, as plain values."""
        request, plain = self.request, {}
        if self.engine == "geant4":
            plain = {f"physics_{key}": value for key, value in vars(self.physics).items()}
        return {
            "caloforge": __version__,
            "engine": self.engine,
            **plain,
            "particles": ", ".join(p.name for p in request.particles),
            **{f"values_{name}": text for name, text in sorted(request.values.items())},
            "number": request.number,
            "seed": request.seed,
            "read_outs": ", ".join(f"{g.name} {g.hash}" for g in self.geometries),
            "stacks": ", ".join(g.stack.hash for g in self.geometries if g.stack is not None),
        }

    def provenance(self) -> dict[str, Any]:
        """What is written into the files. Raises SimulationError without Geant4."""
        settings = self.settings()
        settings = {k: v for k, v in settings.items() if k not in ("read_outs", "number")}
        if self.engine == "parametric":
            producer = "parametric showers after Grindhammer and Peters (hep-ex/0001020)"
            return {"producer": producer, **settings}
        calzone = load_calzone(self.physics)
        producer = f"Geant4 {calzone.GEANT4_VERSION} through calzone {calzone.VERSION}"
        return {"producer": producer, "geant4_data": data_versions(), **settings}


@dataclass(frozen=True)
class Block:
    """Some showers of a job, to be simulated: a function of its content alone."""

    geometries: tuple[Geometry, ...]
    engine: Engine
    physics: Physics
    beam: Beam
    seed: int


Sparse = dict[str, Array]
# How blocks are done: a function that gives number and result of each, in any order.
Spread = Callable[[Callable[[Block], Sparse], Sequence[Block]], Iterable[tuple[int, Sparse]]]


def simulate_file(
    job: Job,
    outs: Sequence[str | Path],
    *,
    workers: int = 1,
    resume: bool = False,
    spread: Spread | None = None,
    progress: Callable[[float, float], None] = lambda done, total: None,
) -> list[int]:
    """Simulate showers into one file for each read-out. Returns how many each holds.

    The files depend on the job alone, not on how many workers there are nor on what happens to
    them. Another read-out than the first holds those showers whose conditions it knows.

    Parameters
    ----------
    job
        What to simulate.
    outs
        Files to write, one for each geometry of the job.
    workers
        Number of processes.
    resume
        Whether to go on with what an earlier call has begun. What is done lies in a folder beside
        the first file until the files are written.
    spread
        How blocks are done; by default in `workers` processes of this machine.
    progress
        Function that is called with the incident energy (MeV) done since its last call, and with
        that of all showers.

    Raises
    ------
    SimulationError
        When there is no stack, no Geant4, a file that exists or stands for two read-outs, or
        something to resume and no wish to, or the other way round.
    """
    paths = [Path(out) for out in outs]
    for path in paths:
        if path.exists():
            raise SimulationError(
                f"{path} exists; expected the name of a new file: delete it or choose another."
            )
        if [other.absolute() for other in paths].count(path.absolute()) > 1:
            raise SimulationError(
                f"Two read-outs are to be written to {path}; expected a file for each: give "
                "--also GEOMETRY=FILE."
            )
    if job.engine == "parametric":
        check_parametric(job.geometries, job.request.particles)
    provenance = job.provenance()
    beam = make_beam(job.request, job.geometries)
    folder = paths[0].with_name(paths[0].name + ".blocks")
    _open_folder(folder, job, resume)
    slices = blocks(beam.energy, job.engine)
    total = float(beam.energy.sum())
    todo = []
    for k, rows in enumerate(slices):
        if _block_path(folder, k).exists():
            progress(float(beam.energy[rows].sum()), total)
        else:
            todo.append(k)
    tasks = [_block(job, beam, slices[k], k) for k in todo]
    make = spread or (lambda function, items: in_processes(function, items, workers))
    for position, result in make(simulate_block, tasks):
        k = todo[position]
        with atomic_path(_block_path(folder, k)) as path:
            np.savez(path, allow_pickle=False, **result)
        progress(float(beam.energy[slices[k]].sum()), total)
    counts = [
        _put_together(k, path, job, beam, provenance, folder) for k, path in enumerate(paths)
    ]
    shutil.rmtree(folder)
    return counts


def blocks(energy: Array, engine: Engine) -> list[slice]:
    """The showers of each block, from their energies (N,) MeV."""
    most = BLOCK_ENERGY[engine]
    result, start, total = [], 0, 0.0
    for k, value in enumerate(energy.tolist()):
        if k > start and (total + value > most or k - start == BLOCK_SHOWERS):
            result.append(slice(start, k))
            start, total = k, 0.0
        total += value
    return [*result, slice(start, len(energy))]


def _block(job: Job, beam: Beam, rows: slice, number: int) -> Block:
    seed = np.random.SeedSequence([job.request.seed, number]).generate_state(1, np.uint64)[0]
    return Block(job.geometries, job.engine, job.physics, beam.rows(rows), int(seed))


# Geant4 takes seconds to begin, so each process keeps what it used last.
_LAST: dict[str, tuple[tuple[Any, ...], Geant4 | Parametric]] = {}


def simulate_block(block: Block) -> Sparse:
    """Showers of a block as the cells above 0: for read-out k their number in the flattened array
    (`cells_k`) and their energies (`energies_k`).
    """
    key = (*((g.hash, g.stack and g.stack.hash) for g in block.geometries), block.physics)
    key = (block.engine, *key)
    if "engine" not in _LAST or _LAST["engine"][0] != key:
        if block.engine == "parametric":
            _LAST["engine"] = (key, Parametric(block.geometries))
        else:
            _LAST["engine"] = (key, Geant4(block.geometries, block.physics))
    showers = _LAST["engine"][1](block.beam, block.seed)
    result: Sparse = {}
    for k, energies in enumerate(showers):
        cells = np.flatnonzero(energies)
        result[f"cells_{k}"] = cells
        result[f"energies_{k}"] = energies.ravel()[cells]
    return result


def _block_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.npz"


def _open_folder(folder: Path, job: Job, resume: bool) -> None:
    """The folder of finished blocks, new or of the same job."""
    file, settings = folder / "job.json", job.settings()
    if not file.exists():
        make_folder(folder)
        write_text(file, json.dumps(settings, indent=1))
        return
    if not resume:
        raise SimulationError(
            f"{folder} holds a simulation that was not finished; go on with --resume, or delete "
            "the folder."
        )
    before = json.loads(file.read_text(encoding="utf-8"))
    for key in sorted(before.keys() | settings.keys()):
        if before.get(key) != settings.get(key):
            raise SimulationError(
                f"The simulation in {folder} was begun with {key} = {before.get(key)}, now it is "
                f"{settings.get(key)}; go on with the same settings, or delete the folder."
            )


def _put_together(
    k: int, path: Path, job: Job, beam: Beam, provenance: dict[str, Any], folder: Path
) -> int:
    """Write the file of read-out k. Returns its number of showers."""
    geometry, conditions = job.geometries[k], beam.conditions[k]
    kept = np.ones(len(beam), dtype=np.bool_) if k == 0 else _known(geometry, conditions)
    with create_showers(path, geometry, provenance=provenance) as writer:
        for energies, rows in _showers(folder, k, geometry, blocks(beam.energy, job.engine)):
            chosen = kept[rows]
            if chosen.any():
                showers = Showers(energies[chosen], conditions[rows][chosen], geometry)
                writer.append(replace(showers, provenance=provenance))
        return len(writer)


def _showers(
    folder: Path, k: int, geometry: Geometry, slices: list[slice]
) -> Iterator[tuple[Array, slice]]:
    for number, rows in enumerate(slices):
        with np.load(_block_path(folder, number)) as block:
            flat = np.zeros((rows.stop - rows.start) * geometry.n_cells, dtype=np.float32)
            flat[block[f"cells_{k}"]] = block[f"energies_{k}"]
        yield flat.reshape(-1, geometry.n_cells), rows


def _known(geometry: Geometry, conditions: Array) -> NDArray[np.bool_]:
    """Which showers have all conditions inside the ranges of a read-out, (N,)."""
    low = np.array([c.low for c in geometry.conditions])
    high = np.array([c.high for c in geometry.conditions])
    inside: Array = (conditions >= low) & (conditions <= high)
    return np.asarray(inside.all(axis=1))
