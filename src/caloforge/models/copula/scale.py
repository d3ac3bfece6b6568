"""Cells brought to the energies of their layers without moving the edge of their spectrum.

No cell is recorded below a smallest energy e_0, the read-out's threshold. Multiplying all cells of
a layer with one number would move that edge, from shower to shower, which is seen at once. Here a
cell e becomes e_0 (e / e_0)^g with the g that gives the layer its energy, found by Newton's method
on the logarithm of the sum, which is almost straight in g; what little is missing after two steps
is multiplied.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry

NEWTON = 2
_POWERS = (0.05, 3.0)  # g is between these
_TINY = 1e-30  # how far above its threshold a filled cell is at least


class Scale(nn.Module):
    """Cells (N, V) in MeV that add up to layer energies (N, L)."""

    floor: Tensor
    member: Tensor
    padded: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.slices = geometry.slices
        layer = torch.from_numpy(geometry.layer_of_cell.copy())
        member = nn.functional.one_hot(layer, geometry.n_layers).float()
        self.register_buffer("member", member, persistent=False)
        # Numbers of the cells of each layer, its first one again where there are fewer than in the
        # largest layer.
        most = max(where.stop - where.start for where in self.slices)
        padded = [
            [k if (k := where.start + j) < where.stop else where.start for j in range(most)]
            for where in self.slices
        ]
        self.register_buffer("padded", torch.tensor(padded).flatten(), persistent=False)
        # MeV: the smallest energy of a cell that there is.
        self.register_buffer("floor", torch.tensor(1e-9))

    @torch.no_grad()
    def fit(self, energies: Tensor) -> None:
        """Set the smallest energy from the training showers."""
        self.floor.copy_(energies[energies > 0].min())

    def sums(self, cells: Tensor) -> Tensor:
        """Layer energies (N, L) of cells (N, V)."""
        return cells @ self.member

    def spread(self, layers: Tensor) -> Tensor:
        """To every cell (N, V) what its layer has (N, L)."""
        return layers @ self.member.T

    def _largest(self, cells: Tensor) -> Tensor:
        """The largest of the cells (N, V) of each layer, (N, L)."""
        if torch.compiler.is_exporting():  # one operator instead of one for each layer
            layers, padded = len(self.slices), cells.index_select(1, self.padded)
            return padded.reshape(-1, layers, len(self.padded) // layers).amax(dim=2)
        return torch.stack([cells[:, where].amax(dim=1) for where in self.slices], dim=1)

    def forward(self, logs: Tensor, above: Tensor, layers: Tensor) -> Tensor:
        """Cells from the logarithms of their energies where they are filled, from how far they are
        above their thresholds, and from the layer energies in MeV.

        A layer that has energy and no filled cell gives it to the cell that was nearest to being
        filled; one without energy is empty.
        """
        best = self._largest(above)
        edge = torch.where(best > 0, _TINY, best)
        # Arithmetic is many times faster than a choice.
        filled = ((above - self.spread(edge)).sign() + 1.0).clamp(max=1.0)
        height = (logs - self.floor.log()).clamp(min=0.0)
        goal = (layers / self.floor).clamp(min=1.0).log()
        power = torch.ones_like(layers)
        for _ in range(NEWTON):
            part = self._raised(height, power, filled)
            total = self.sums(part)
            slope = self.sums(_times(part, height)) / total
            power = (power + (goal - total.log()) / slope.clamp(min=0.1)).clamp(*_POWERS)
        cells = self._raised(height, power, filled)
        return _times(cells, self.spread(layers / self.sums(cells)))

    def _raised(self, height: Tensor, power: Tensor, filled: Tensor) -> Tensor:
        """Cells (N, V) in units of the smallest: those filled to the power of their layer."""
        logs = _times(self.spread(power), height)
        return _times(logs.exp() if torch.is_grad_enabled() else logs.exp_(), filled)


def _times(first: Tensor, second: Tensor) -> Tensor:
    """A product, in place of the first factor where no gradient needs it: faster in a cache."""
    return first * second if torch.is_grad_enabled() else first.mul_(second)
