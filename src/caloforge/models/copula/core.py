"""The correlation of very many cells: a matrix near the axis, a few factors elsewhere.

Where showers are dense, cells depend on their neighbours, and only a matrix holds that; in the
halo cells are rarely filled and depend on what all of the shower does. The cells nearest to the
axis are the core, with a matrix (`correlation`). The halo has common factors (`lowrank`), and its
context is, beside the layer energies, what the core does: the coordinates of its white noise along
those directions in which its cells vary most together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.models.copula.censored import Censored, Sweeps, known
from caloforge.models.copula.correlation import Correlation
from caloforge.models.copula.frame import orbits
from caloforge.models.copula.lowrank import LowRank

MODES = 48  # directions of the core that the halo is told of


class Core(nn.Module):
    """y of core and halo from white noise; the interface is `Correlation`'s, the remainder sees
    the core.

    Parameters
    ----------
    geometry
        The read-out, which says which cells are nearest to the axis.
    permutations
        The symmetries, each (V,): the identity at least.
    context
        K, how many variables y depends on.
    most
        Cells of the core at most; it is made of whole orbits of the symmetries.
    rank
        Factors of the halo.
    """

    modes: Tensor
    inner: Tensor
    outer: Tensor

    def __init__(
        self,
        geometry: Geometry,
        permutations: Sequence[NDArray[np.int64]],
        context: int,
        most: int,
        rank: int,
    ) -> None:
        super().__init__()
        inner = nearest(geometry, permutations, most)
        outer = np.setdiff1d(np.arange(geometry.n_cells), inner)
        self.core = Correlation(_within(permutations, inner), context, 1)
        self.halo = LowRank(_within(permutations, outer), context + MODES, rank)
        self.size = len(inner)
        self.group_seen = _within(permutations, inner)  # the symmetries, of what is seen
        self.register_buffer("modes", torch.zeros(self.size, MODES))
        self.register_buffer("inner", torch.from_numpy(inner), persistent=False)
        self.register_buffer("outer", torch.from_numpy(outer), persistent=False)
        order = np.argsort(np.concatenate([inner, outer]))
        self.register_buffer("order", torch.from_numpy(order), persistent=False)

    order: Tensor

    # --- use ----------------------------------------------------------------------------------
    def forward(self, w: Tensor, context: Tensor, log_energy: Tensor) -> Tensor:
        """y (N, V) from white noise w (N, V) and the context (N, K)."""
        core = w[:, self.inner]
        halo_context = torch.cat([context, core @ self.modes], dim=1)
        near = self.core(core, context, log_energy)
        far = self.halo(w[:, self.outer], halo_context, log_energy)
        return torch.cat([near, far], dim=1)[:, self.order]

    def seen(self, w: Tensor) -> Tensor:
        """What the remainder sees of white noise (N, V): that of the core."""
        return w[:, self.inner]

    def changed(self, w: Tensor, change: Tensor) -> Tensor:
        """White noise (N, V) after a change of what is seen of it."""
        return w.index_add(1, self.inner, change)

    # --- fitting ------------------------------------------------------------------------------
    @torch.no_grad()
    def fit(
        self, cells: Censored, log_energy: Tensor, rng: torch.Generator, settings: Sweeps
    ) -> tuple[Tensor, Tensor]:
        """Set both parts from cells and context, (N, V + K).

        Returns white noise of the core (N, D, ...) and contexts (N, D, K) of D draws of the empty
        cells.
        """
        count, device = len(self.order), self.order.device
        rest = torch.arange(count, cells.y.shape[1], device=device)
        near = cells.columns(torch.cat([self.inner, rest]))
        white, context = self.core.fit(near, log_energy, rng, settings)
        _, vector = torch.linalg.eigh(self.core.root[0].double())
        self.modes.copy_(vector[:, -MODES:])
        halo_context = torch.cat([context[:, 0], white[:, 0] @ self.modes.cpu()], dim=1).to(device)
        self.halo.fit(cells.columns(self.outer).beside(known(halo_context)), rng, settings.sweeps)
        return white, context


def nearest(
    geometry: Geometry, permutations: Sequence[NDArray[np.int64]], most: int
) -> NDArray[np.int64]:
    """Numbers of at most `most` cells nearest to the axis, in whole orbits of the symmetries."""
    away = []
    for layer in geometry.layers:
        slow, fast = layer.centres
        away.append(fast if layer.kind == "polar" else np.hypot(slow, fast))
    orbit = orbits(permutations)
    count = np.bincount(orbit)
    mean = np.bincount(orbit, np.concatenate(away)) / count
    order = np.argsort(mean, kind="stable")
    chosen = order[np.cumsum(count[order]) <= most]
    return np.flatnonzero(np.isin(orbit, chosen))


def _within(
    permutations: Sequence[NDArray[np.int64]], cells: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """The permutations of some cells that they leave among themselves."""
    place = np.full(len(permutations[0]), -1)
    place[cells] = np.arange(len(cells))
    return [place[p[cells]] for p in permutations]
