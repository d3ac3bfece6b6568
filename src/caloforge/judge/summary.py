"""What is kept of a set of showers to judge and draw it, read in flat memory.

All metrics of the judge start from `Summary`: per-shower observables, average showers and cell
spectra. A file larger than memory is read in chunks; what grows with the file are the (N, F)
observables, the (N, C) conditions and the numbers of cells in 49 bins of energy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry
from caloforge.detector.same import check_same_read_out
from caloforge.errors import DataError
from caloforge.judge.examples import Examples
from caloforge.judge.kinds import is_kind, kinds
from caloforge.observables.features import compute
from caloforge.observables.table import VOXEL_EDGES, log_edges
from caloforge.showers import MOST_POINTS, Showers, energy_points

Array = NDArray[Any]
Progress = Callable[[int, int], None]

CHUNK_BYTES = 16 << 20
# Cell spectra for drawing: ten bins a decade from 0.1 keV to 10 TeV; what lies outside enters the
# end bins.
SPECTRUM_EDGES = np.logspace(-4, 7, 111)
CHOICE_SEED = 1  # of the showers kept whole
DIGEST_SEED = 2


@dataclass(frozen=True)
class Summary:
    """What judging needs of N showers with V cells in L layers, K energy points and C conditions.

    Cells below the geometry's cut count as zero throughout.

    Parameters
    ----------
    name
        Name in tables and legends.
    geometry
        The read-out.
    conditions, incident_energy
        (N, C) and (N,), MeV, mm, rad.
    observables
        Key of `caloforge.observables.table.observables` -> (N,) float64.
    points
        (K,) energy points of a scan in MeV; empty for a spectrum.
    mean_cells
        (1 + K, V) average shower in MeV: over all showers, then per energy point.
    cell_spectrum, cell_spectrum_edges
        (L, B) numbers of cells with energy per layer, in bins with the edges (B + 1,) in MeV.
    cell_separation_edges, cell_separation_counts
        Edges (B' + 1,) in MeV of the voxel distribution, set by the reference, and numbers of
        cells of each shower (N, B' + 2) with under- (empty cells too) and overflow.
    digests
        (N,) numbers that are equal for showers whose cells are equal to the last bit, and differ
        otherwise; 0 for a shower without energy.
    filled
        (V,) numbers of showers that have energy in a cell.
    examples, example_conditions
        (M, V) MeV and (M, C): up to 64 showers spread evenly over the octaves of incident energy,
        in order of energy, drawn with a fixed seed.
    cells, cell_rows
        (K', V) float32 MeV, cut applied, and (K',): showers kept whole for the metrics that look
        at all cells together, and their rows, increasing; drawn with a fixed seed. None were
        kept unless `summarise` was asked to.
    provenance
        What the file says about its origin, and its name.
    kind_cells
        Name of each kind of particle among the showers -> average shower (V,) in MeV; see
        `caloforge.judge.kinds`.
    """

    name: str
    geometry: Geometry
    conditions: Array
    incident_energy: Array
    observables: dict[str, Array]
    points: Array
    mean_cells: Array
    cell_spectrum: Array
    cell_spectrum_edges: Array
    cell_separation_edges: Array
    cell_separation_counts: Array
    digests: Array
    filled: Array
    examples: Array
    example_conditions: Array
    cells: Array
    cell_rows: Array
    provenance: dict[str, Any] = field(default_factory=dict)
    kind_cells: dict[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.incident_energy)


class _Source(Protocol):
    """What is read: an open file, or showers in memory."""

    @property
    def geometry(self) -> Geometry: ...
    @property
    def provenance(self) -> dict[str, Any]: ...
    def __len__(self) -> int: ...
    def chunks(self, size: int) -> Iterator[Showers]: ...


def summarise(
    source: Path | str | Showers,
    name: str | None = None,
    geometry: Geometry | None = None,
    progress: Progress | None = None,
    *,
    like: Summary | None = None,
    keep: int = 0,
    keep_bytes: int | None = None,
) -> Summary:
    """Summary of a file of showers (read in chunks) or of showers in memory.

    Parameters
    ----------
    source
        A file that `caloforge.data.open_showers` reads, or `Showers`.
    name
        The name in tables and legends; by default the file's name without its ending.
    geometry
        The read-out, where the file does not say it.
    progress
        It is called with (showers done, showers to do) after every chunk.
    like
        The reference this sample will be compared with: its edges of the voxel distribution are
        used, which are needed for that one metric. Without it a first pass finds the largest cell.
    keep, keep_bytes
        How many showers to keep whole, at most, and in how much memory.

    Raises
    ------
    DataError
        For no showers, showers without any energy, or a read-out other than that of `like`.
    """
    with _open(source, geometry) as reader:
        number = len(reader)
        label = name or (Path(source).stem if not isinstance(source, Showers) else "showers")
        if number == 0:
            raise DataError(f"'{label}' holds no showers; expected at least one to judge.")
        if like is not None:
            check_same_read_out(
                reader.geometry,
                like.geometry,
                (f"'{label}' has the read-out", f"the reference '{like.name}' has"),
                "compare showers of one calorimeter",
                DataError,
            )
        size = max(1, CHUNK_BYTES // (4 * reader.geometry.n_cells))
        passes = 1 if like is not None else 2
        tick = _Ticker(progress, passes * number)
        if like is not None:
            edges = like.cell_separation_edges
        else:
            edges = _voxel_edges(reader, size, tick)
        if keep_bytes is not None:
            keep = min(keep, keep_bytes // (4 * reader.geometry.n_cells))
        collector = _Collector(reader.geometry, number, edges, keep)
        for chunk in reader.chunks(size):
            collector.add(chunk)
            tick(len(chunk))
        provenance = dict(reader.provenance)
        if not isinstance(source, Showers):
            provenance["file"] = Path(source).name
        return collector.finish(label, provenance)


@dataclass(frozen=True)
class _InMemory:
    showers: Showers

    @property
    def geometry(self) -> Geometry:
        return self.showers.geometry

    @property
    def provenance(self) -> dict[str, Any]:
        return self.showers.provenance

    def __len__(self) -> int:
        return len(self.showers)

    def chunks(self, size: int) -> Iterator[Showers]:
        for start in range(0, len(self), size):
            yield self.showers[start : start + size]


@contextmanager
def _open(source: Path | str | Showers, geometry: Geometry | None) -> Iterator[_Source]:
    if not isinstance(source, Showers):
        from caloforge.data import open_showers

        with open_showers(source, geometry) as reader:
            yield reader
        return
    if geometry is not None and geometry.hash != source.geometry.hash:
        raise DataError(
            f"The showers have the read-out '{source.geometry.name}', not '{geometry.name}'; "
            "leave the geometry out or give theirs."
        )
    yield _InMemory(source)


class _Ticker:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, more: int) -> None:
        self.done += more
        if self.progress is not None:
            self.progress(self.done, self.total)


def _voxel_edges(reader: _Source, size: int, tick: _Ticker) -> Array:
    """Edges of the voxel distribution, from the cut to the largest cell.

    Without a cut they begin at the smallest cell above 0.
    """
    cut = reader.geometry.cut
    low, high = np.float32(np.inf), np.float32(0)
    for chunk in reader.chunks(size):
        high = np.maximum(high, chunk.energies.max())
        if cut <= 0:
            low = np.min(chunk.energies, initial=low, where=chunk.energies > 0)
        tick(len(chunk))
    ends = np.array([low, high] if np.isfinite(low) else [high], dtype=np.float32)
    return log_edges(ends, cut, VOXEL_EDGES)


class _Collector:
    """Sums over chunks; arrays as in `Summary`."""

    def __init__(self, geometry: Geometry, number: int, edges: Array, keep: int) -> None:
        self.geometry, self.number, self.edges = geometry, number, edges
        order = np.random.default_rng(CHOICE_SEED).permutation(number)
        self.rows = np.sort(order[:keep])
        self.whole = np.empty((len(self.rows), geometry.n_cells), dtype=np.float32)
        self.done = 0
        self.conditions = np.empty((number, len(geometry.conditions)))
        self.observables: dict[str, Array] = {}
        self.total = np.zeros(geometry.n_cells)
        self.per_kind = {kind: np.zeros(geometry.n_cells) for kind in kinds(geometry)}
        # Sums per incident energy as long as there are few, None once it is a spectrum.
        self.per_point: dict[float, tuple[int, Array]] | None = {}
        self.spectrum = np.zeros((geometry.n_layers, len(SPECTRUM_EDGES) - 1), dtype=np.int64)
        narrow = np.uint16 if geometry.n_cells <= np.iinfo(np.uint16).max else np.uint32
        self.voxels = np.zeros((number, len(edges) + 1), dtype=narrow)
        self.digests = np.zeros(number, dtype=np.uint64)
        self.filled = np.zeros(geometry.n_cells, dtype=np.int64)
        self.examples = Examples()

    def add(self, chunk: Showers) -> None:
        start, stop = self.done, self.done + len(chunk)
        if stop > self.number:
            raise DataError(
                f"Got more than the announced {self.number} showers; re-read the file."
            )
        self.conditions[start:stop] = chunk.conditions
        for key, values in compute(chunk).items():
            self.observables.setdefault(key, np.empty(self.number))[start:stop] = values
        energies = chunk.energies
        keep = energies >= self.geometry.cut if self.geometry.cut > 0 else energies > 0
        energies = np.where(keep, energies, np.float32(0))
        self._averages(energies, chunk.incident_energy)
        for kind, total in self.per_kind.items():
            rows = is_kind(self.geometry, chunk.conditions, kind)
            total += energies[rows].sum(axis=0, dtype=np.float64)
        kept = slice(*np.searchsorted(self.rows, (start, stop)))
        self.whole[kept] = energies[self.rows[kept] - start]
        self._cells(energies, keep, start)
        self.examples.add(energies, keep, chunk.conditions, chunk.incident_energy)
        self.done = stop

    def _averages(self, energies: Array, incident: Array) -> None:
        points = np.unique(incident)
        # A point may come in a few roundings, which are put together at the end.
        most = 4 * MOST_POINTS
        if self.per_point is not None and len({*self.per_point, *points.tolist()}) > most:
            self.per_point = None
        if self.per_point is None:
            self.total += energies.sum(axis=0, dtype=np.float64)
            return
        for point in points.tolist():
            rows = energies[incident == point]
            count, total = self.per_point.get(point, (0, np.zeros(self.geometry.n_cells)))
            more = rows.sum(axis=0, dtype=np.float64)
            self.total += more
            self.per_point[point] = (count + len(rows), total + more)

    def _cells(self, energies: Array, keep: Array, start: int) -> None:
        rows, columns = np.nonzero(keep)
        hit = energies[rows, columns]
        bins = len(SPECTRUM_EDGES) - 1
        step = (np.log10(SPECTRUM_EDGES[-1]) - np.log10(SPECTRUM_EDGES[0])) / bins
        position = (np.log10(hit) - np.float32(np.log10(SPECTRUM_EDGES[0]))) / np.float32(step)
        index = np.clip(position.astype(np.int64), 0, bins - 1)
        flat = self.geometry.layer_of_cell[columns] * bins + index
        self.spectrum += np.bincount(flat, minlength=self.spectrum.size).reshape(
            self.spectrum.shape
        )
        voxel = np.searchsorted(self.edges, hit, side="right")
        voxel[hit == self.edges[-1]] = len(self.edges) - 1  # the last bin is closed
        width, number = len(self.edges) + 1, len(energies)
        counts = np.bincount(rows * width + voxel, minlength=number * width)
        counts = counts.reshape(number, width)
        counts[:, 0] += energies.shape[1] - counts.sum(axis=1)
        self.voxels[start : start + number] = counts
        self.digests[start : start + number] = _digests(energies)
        self.filled += keep.sum(axis=0)

    def finish(self, name: str, provenance: dict[str, Any]) -> Summary:
        if self.done != self.number:
            raise DataError(
                f"Got {self.done} showers where {self.number} were announced; the file is damaged."
            )
        if not self.total.any():
            cut = f" above the cut of {self.geometry.cut:g} MeV" if self.geometry.cut else ""
            raise DataError(
                f"None of the {self.number} showers of '{name}' deposits any energy{cut}; "
                "expected cell energies in MeV."
            )
        incident = self.geometry.incident_energy(self.conditions)
        scan = energy_points(incident) if self.per_point is not None else np.empty(0)
        counts, sums = np.zeros(len(scan)), np.zeros((len(scan), self.geometry.n_cells))
        for energy, (count, total) in (self.per_point or {}).items() if len(scan) else ():
            k = np.searchsorted(scan, energy, side="right") - 1
            counts[k] += count
            sums[k] += total
        means = [self.total / self.number, *(sums / counts[:, None])]
        examples, conditions = self.examples.finish()
        return Summary(
            name=name,
            geometry=self.geometry,
            conditions=self.conditions,
            incident_energy=incident,
            observables=self.observables,
            points=scan,
            mean_cells=np.stack(means),
            cell_spectrum=self.spectrum,
            cell_spectrum_edges=SPECTRUM_EDGES,
            cell_separation_edges=self.edges,
            cell_separation_counts=self.voxels,
            digests=self.digests,
            filled=self.filled,
            examples=examples,
            example_conditions=conditions,
            cells=self.whole,
            cell_rows=self.rows,
            provenance=provenance,
            kind_cells={
                kind: total / max(int(is_kind(self.geometry, self.conditions, kind).sum()), 1)
                for kind, total in self.per_kind.items()
            },
        )


def _digests(energies: Array) -> Array:
    """One number for the bits of each shower's cells (n, V) float32: (n,) uint64, 0 for no energy.

    It is a sum of the cells' bits with random odd factors: two given showers that differ in one
    cell never have the same number, and others with a probability of 2^-63.
    """
    factors = np.random.default_rng(DIGEST_SEED).integers(
        2**63, size=energies.shape[1], dtype=np.uint64
    )
    bits = np.ascontiguousarray(energies, dtype=np.float32).view(np.uint32)
    sums: Array = bits.astype(np.uint64) @ (2 * factors + 1)
    return sums
