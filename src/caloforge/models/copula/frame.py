"""The cells as the particle sees them: every layer is shifted, by whole cells, until the cell that
the particle's line crosses lies in the middle.

Correlations of cells move with the particle; seen from it they stay the same, so that one matrix
describes showers of every impact and direction. Cells that are shifted out on one side come in
again on the other: a shift is a permutation, and no cell is lost. In a read-out without impact and
direction nothing is shifted.

With the line at depth z, (x0 + t_x z, y0 + t_y z), u is the place where it crosses the layer, in
cells from the layer's lower edge; a = floor(u) is the crossed cell and u - a - 1/2 its place in
there. The depth of a layer is fitted to the showers' barycentres, and grows with log E.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry, Layer
from caloforge.detector.particle import particle_line
from caloforge.detector.symmetries import Symmetry, closure, symmetry

_STEEP = 1e-3  # mean squared slope below which no depth can be told from it


class Frame(nn.Module):
    """The cells counted from the particle's line, and where they lie in mm.

    Shapes: conditions (N, C), logarithms of the incident energy (N,), cells (N, V).
    """

    depth: Tensor
    reach: Tensor
    origin: Tensor
    width: Tensor
    counts: Tensor
    step: Tensor
    layer: Tensor
    first: Tensor
    place: Tensor
    centre: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry, self.line = geometry, particle_line(geometry)
        self.moves = self.line.moves and all(_even(layer) for layer in geometry.layers)
        layers = geometry.n_layers
        # Depth in mm at the mean of log E, its growth with log E, and that mean.
        middle = [sum(layer.z) / 2 if layer.z else 0.0 for layer in geometry.layers]
        start = torch.tensor([[z, 0.0, 0.0] for z in middle])
        self.register_buffer("depth", start)
        self.register_buffer("reach", torch.tensor(1.0))
        if not self.moves:
            return
        shapes = [layer.shape for layer in geometry.layers]
        edges = [layer.edges for layer in geometry.layers]
        size = [[(e[-1] - e[0]) / (len(e) - 1) for e in pair] for pair in edges]
        self.column = [
            [
                geometry.column(s.condition) if (s := x.shift) and s.axis == a else -1
                for a in x.axes
            ]
            for x in geometry.layers
        ]
        step = [[x.shift.step if x.shift and x.shift.axis == a else 0.0 for a in x.axes]
                for x in geometry.layers]  # fmt: skip
        place = np.concatenate([np.indices(shape).reshape(2, -1).T for shape in shapes])
        fixed = {
            "origin": torch.tensor([[e[0] for e in pair] for pair in edges]),
            "width": torch.tensor(size),
            "counts": torch.tensor(shapes),
            "step": torch.tensor(step),
            "layer": torch.from_numpy(geometry.layer_of_cell.copy()),
            "first": torch.tensor([where.start for where in geometry.slices]),
            "place": torch.from_numpy(place),
        }
        for name, value in fixed.items():
            self.register_buffer(name, value, persistent=False)
        layer = self.layer
        centre = self.origin[layer] + (self.place + 0.5) * self.width[layer]
        self.register_buffer("centre", centre, persistent=False)
        assert self.depth.shape == (layers, 3)

    # --- where the line crosses ---------------------------------------------------------------
    def crossing(self, condition: Tensor, log_energy: Tensor) -> Tensor:
        """Where the line crosses each layer, in mm from the layer's own origin of coordinates,
        (N, L, 2).
        """
        impact, slope = self.line(condition)
        at, growth, mean = self.depth.unbind(dim=1)
        depth = at + growth * (log_energy[:, None] - mean)
        moved = torch.stack(
            [
                torch.stack([c * 0 if k < 0 else condition[:, k] for k in pair], dim=1)
                for pair in self.column
                for c in [condition[:, 0]]
            ],
            dim=1,
        )
        return impact[:, None] + slope[:, None] * depth[..., None] - moved * self.step

    def crossed(self, condition: Tensor, log_energy: Tensor) -> tuple[Tensor, Tensor]:
        """The crossed cell of each layer along both axes (the nearest one for a line outside), and
        the place of the line in there from -1/2 to 1/2, both (N, L, 2).
        """
        u = (self.crossing(condition, log_energy) - self.origin) / self.width
        cell = torch.minimum(u.floor().clamp(min=0), self.counts - 1.0)
        return cell.long(), u - cell - 0.5

    def offsets(self, condition: Tensor, log_energy: Tensor) -> Tensor:
        """Centres of the cells from the line in mm, (N, V, 2)."""
        return self.centre - self.crossing(condition, log_energy)[:, self.layer]

    # --- permutations -------------------------------------------------------------------------
    def seen(self, cells: Tensor, condition: Tensor, log_energy: Tensor) -> Tensor:
        """Cells as the particle sees them."""
        return cells.gather(1, self._index(condition, log_energy, 1)) if self.moves else cells

    def read_out(self, cells: Tensor, condition: Tensor, log_energy: Tensor) -> Tensor:
        """Cells back in the order of the read-out."""
        return cells.gather(1, self._index(condition, log_energy, -1)) if self.moves else cells

    def _index(self, condition: Tensor, log_energy: Tensor, sign: int) -> Tensor:
        cell, _ = self.crossed(condition, log_energy)
        shift = (cell - self.counts // 2)[:, self.layer]
        row, column = torch.remainder(self.place + sign * shift, self.counts[self.layer]).unbind(
            dim=2
        )
        return self.first[self.layer] + row * self.counts[self.layer, 1] + column

    def symmetries(self) -> list[Symmetry]:
        """The geometry's symmetries with their permutations of the cells as the particle sees
        them: a reflection leaves the crossed cell where it is.
        """
        generators = [symmetry(self.geometry, name) for name, _ in self.geometry.symmetries]
        if self.moves:
            generators = [
                Symmetry(g.name, self._mirrored(g.name), g.matrix, g.offset) for g in generators
            ]
        return closure(self.geometry, generators)

    def _mirrored(self, name: str) -> NDArray[np.int64]:
        pieces = []
        for layer, where in zip(self.geometry.layers, self.geometry.slices, strict=True):
            index = np.arange(where.start, where.stop).reshape(layer.shape)
            if name == "swap":
                pieces.append(index.T.ravel())
                continue
            axis, count = (a := layer.axes.index(name.removeprefix("reflect-"))), layer.shape[a]
            mirror = (2 * (count // 2) - np.arange(count)) % count
            pieces.append(np.take(index, mirror, axis=axis).ravel())
        return np.concatenate(pieces)

    # --- fitting ------------------------------------------------------------------------------
    @torch.no_grad()
    def fit(self, energies: Tensor, condition: Tensor, log_energy: Tensor) -> None:
        """Set the depths of the layers, by least squares of barycentres against slopes weighted
        with their energies, and the lateral reach: the mean distance of energy from the line.

        Showers that leave a layer sideways pull the barycentre back: no depth lies outside of
        the layer.
        """
        if not self.moves:
            return
        self.depth[:, 2] = log_energy.mean()
        _, slope = self.line(condition)
        if slope.square().mean() > _STEEP:
            grown = log_energy - log_energy.mean()
            for number, where in enumerate(self.geometry.slices):
                part = energies[:, where]
                total = part.sum(dim=1)
                centre = part @ self.centre[where] / total.clamp(min=1e-6)[:, None]
                self.depth[number, :2] = 0.0
                passing = self.crossing(condition, log_energy)[:, number]  # at depth zero
                design = torch.stack([slope, slope * grown[:, None]], dim=-1).double()
                weight = total.sqrt()[:, None, None].double()
                solution = torch.linalg.lstsq(
                    (design * weight).reshape(-1, 2),
                    ((centre - passing)[..., None] * weight).double().reshape(-1, 1),
                ).solution[:, 0]
                self.depth[number, :2] = solution.float()
                if (z := self.geometry.layers[number].z) is not None:
                    self.depth[number, 0].clamp_(*z)
        away = self.offsets(condition, log_energy).norm(dim=2)
        self.reach.copy_((away * energies).sum() / energies.sum())


def _even(layer: Layer) -> bool:
    """Whether the layer is a grid of equal cells."""
    return layer.kind == "grid" and all(
        np.allclose(np.diff(e), (e[-1] - e[0]) / (len(e) - 1)) for e in layer.edges
    )


def orbits(permutations: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The number of the set of cells that the permutations carry each cell into, (V,)."""
    least = np.min(np.stack(permutations), axis=0)
    number: NDArray[np.int64] = np.unique(least, return_inverse=True)[1]
    return number


def pair_orbits(permutations: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The number of the set that each pair of cells is carried into, either way round, (V, V):
    a matrix with these symmetries has one value for each number.
    """
    count = len(permutations[0])
    least = np.full((count, count), np.iinfo(np.int64).max)
    for p in permutations:
        number = p[:, None].astype(np.int64) * count + p[None, :]
        np.minimum(least, number, out=least)
        np.minimum(least, number.T, out=least)
    return np.unique(least, return_inverse=True)[1].reshape(count, count)
