"""Slices of a calorimeter unrolled along a spiral from the hot cell, cropped to the middle.

Reference: C. Guthrie, I. Malkin, A. Pine, "Generative Models for High Energy Physics
Calorimeters", 2017 (section "Unrolling to Two Dimensions", Fig. 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.detector.geometry import Geometry, Layer
from caloforge.detector.spiral import central_cell, spiral, stacks
from caloforge.errors import ModelError, did_you_mean
from caloforge.showers import Showers
from caloforge.transforms.base import BLOCK, IncidentEnergy, Transform, blocks

SCALINGS = ("std", "fraction", "log", "none")


def window(layer: Layer, cells: int, start: tuple[int, int]) -> NDArray[np.int64]:
    """Numbers of the first `cells` cells of a slice on the spiral from `start`, (cells,).

    `cells` is m^2 for an m x m square around `start`, which reaches one cell further to the low
    side where m is even; or all cells of the slice. Raises ModelError for anything else.
    """
    rows, columns = layer.shape
    if cells == layer.size:
        return spiral((rows, columns), start)
    side = math.isqrt(max(cells, 0))
    low = [k - side // 2 for k in start]
    fits = all(a >= 0 and a + side <= n for a, n in zip(low, (rows, columns), strict=True))
    if side < 1 or side**2 != cells or not fits:
        raise ModelError(
            f"Got {cells} cells of a slice of {rows} x {columns} around {start}; expected a "
            f"square number whose square fits, or all {layer.size}."
        )
    i, j = np.divmod(spiral((side, side), (side // 2, side // 2)), side)
    return (i + low[0]) * columns + j + low[1]


def slices_of(geometry: Geometry) -> list[int]:
    """Positions of the layers that are the slices: the run of equal layers with most cells.

    Raises ModelError for a geometry without a grid.
    """
    groups = stacks(geometry)
    if not groups:
        raise ModelError(
            f"Geometry '{geometry.name}' has polar layers alone; a spiral needs a grid (such as "
            "lcd)."
        )
    return max(groups, key=lambda g: len(g) * geometry.layers[g[0]].size)


class Spiral(Transform):
    """Cells of D equal slices as D rows, each in the order of a spiral from the hot cell outwards.

    x (N, D cells + R): slice by slice, x[:, : D cells].reshape(N, D, cells) is the unrolled image;
    then R scaled cells of the other layers, if they are kept. The slices are the largest run of
    layers with the same cells (the ECAL of `lcd`). What is not kept is zero after `inverse`;
    `settings` tell how much of the training showers' energy that is: `lost_around` (the slices'
    outer cells) and `lost_behind` (the other layers), shares of all energy.

    Attributes
    ----------
    depth, cells, others
        D, cells kept of each slice, R.
    shape
        Rows and columns of the kept part of a slice: x[..., image] has its cells row by row, and
        [..., rolled] brings them back into the order of the spiral.
    slice_cells, kept
        Cells of a whole slice, and which of them are kept, (cells,).
    profile
        The mean training shower in model space, (D cells + R,), where it is asked for: something
        for a model to start from.
    """

    LARGEST = 20.0  # logarithm of a cell: keeps an untrained model's output finite
    std: Tensor
    profile: Tensor | None
    order: Tensor
    back: Tensor
    image: Tensor
    rolled: Tensor
    kept: Tensor

    def __init__(
        self,
        geometry: Geometry,
        *,
        cells: int = 0,
        scaling: str = "std",
        unit: float = 1.0,
        others: bool = False,
        start: Sequence[int] = (),
        profile: bool = False,
        lost: tuple[float | None, float | None] = (None, None),
    ) -> None:
        super().__init__()
        if scaling not in SCALINGS:
            raise ModelError(f"Unknown scaling '{scaling}': {did_you_mean(scaling, SCALINGS)}")
        if not unit > 0 or len(start) not in (0, 2):
            raise ModelError(
                f"Got unit = {unit} MeV and start = {list(start)}; expected a unit above 0 and "
                "the row and column of a cell, or [] for the central one."
            )
        positions = slices_of(geometry)
        layer = geometry.layers[positions[0]]
        first = (int(start[0]), int(start[1])) if len(start) else central_cell(layer)
        order = window(layer, cells or layer.size, first)
        slices = [geometry.slices[k] for k in positions]
        self.depth, self.cells = len(positions), len(order)
        side = math.isqrt(len(order))
        self.slice_cells, self.first = layer.size, slices[0].start
        self.shape = layer.shape if len(order) == layer.size else (side, side)
        self.layers, self.total = slices, geometry.n_cells
        self.scaling, self.unit = scaling, unit
        self.incident = IncidentEnergy(geometry)
        self._keep_orders(order, others)
        self.register_buffer("std", torch.ones(()))
        self.register_buffer("profile", torch.ones(self.size()) if profile else None)
        self.settings = {
            "cells": self.cells,
            "scaling": scaling,
            "unit": unit,
            "others": others,
            "start": list(first),
            "profile": profile,
            "lost_around": lost[0],
            "lost_behind": lost[1],
        }

    def _keep_orders(self, order: NDArray[np.int64], others: bool) -> None:
        """Where each cell of model space is in the shower, and the way back."""
        kept = np.concatenate([part.start + order for part in self.layers])
        inside = np.zeros(self.total, bool)
        for part in self.layers:
            inside[part] = True
        rest = np.flatnonzero(~inside) if others else np.empty(0, np.int64)
        self.others = len(rest)
        kept = np.concatenate([kept, rest])
        # Cells that are not kept are read from a column of zeros behind the others.
        back = np.full(self.total, len(kept))
        back[kept] = np.arange(len(kept))
        image = np.argsort(order)
        orders = {"image": image, "rolled": np.argsort(image), "kept": order, "order": kept}
        for name, numbers in {**orders, "back": back}.items():
            self.register_buffer(name, torch.from_numpy(numbers), persistent=False)

    @classmethod
    def fit(  # type: ignore[override]  # every transform names its own settings
        cls,
        showers: Showers,
        *,
        cells: int = 0,
        scaling: str = "std",
        unit: float = 1.0,
        others: bool = False,
        start: Sequence[int] = (),
        profile: bool = False,
    ) -> Self:
        """Measures the energy that is lost and, for "std" and "fraction", the spread of the cells.

        Parameters
        ----------
        cells
            Cells kept of each slice: m^2 for a square around the hot cell, 0 for all.
        scaling
            "std": cells over the standard deviation of all kept cells, as in the MLP WGAN;
            "fraction": the same, of fractions of the incident energy; "log": log(1 + E / unit), as
            in the recurrent network; "none": MeV.
        unit
            Energy in MeV that "log" counts in.
        others
            Whether the cells of the other layers (the HCAL of `lcd`) are kept behind the slices.
        start
            Row and column of the hot cell; the one that holds (0, 0) mm unless given.
        profile
            Whether to keep the mean shower.
        """
        options: dict[str, Any] = {
            "cells": cells,
            "scaling": scaling,
            "unit": unit,
            "others": others,
            "start": start,
            "profile": profile,
        }
        transform = cls(showers.geometry, **options)
        transform._measure(showers)
        if transform.profile is not None:
            transform.profile.copy_(transform._mean(showers))
        return transform

    def _measure(self, showers: Showers) -> None:
        """Set the energy that is lost, and the spread of the cells where they are scaled by it."""
        kept, in_slices, everything, scaled, squares = 0.0, 0.0, 0.0, 0.0, 0.0
        order = self.order.numpy()
        for begin in range(0, len(showers), BLOCK):
            block = showers.energies[begin : begin + BLOCK]
            chosen = block[:, order].astype(np.float64)
            kept += chosen[:, : self.depth * self.cells].sum()
            if self.scaling == "fraction":
                chosen /= showers.incident_energy[begin : begin + BLOCK, None]
            scaled += chosen.sum()
            squares += np.square(chosen).sum()
            in_slices += sum(block[:, part].sum(dtype=np.float64) for part in self.layers)
            everything += block.sum(dtype=np.float64)
        behind = everything - in_slices
        total = everything or 1.0
        lost = {
            "lost_around": (in_slices - kept) / total,
            "lost_behind": 0.0 if self.settings["others"] else behind / total,
        }
        self.settings |= {k: round(float(v), 6) for k, v in lost.items()}
        if self.scaling in ("std", "fraction"):
            count = max(len(showers) * len(order), 1)
            variance = squares / count - (scaled / count) ** 2
            self.std.fill_(math.sqrt(variance) if variance > 0 else 1.0)

    def _mean(self, showers: Showers) -> Tensor:
        """The mean shower in model space, (X,)."""
        total = torch.zeros(self.size(), dtype=torch.float64)
        for energies, condition in blocks(showers):
            total += self(energies, condition).sum(dim=0, dtype=torch.float64)
        return total / max(len(showers), 1)

    @classmethod
    def restore(cls, geometry: Geometry, settings: dict[str, Any]) -> Self:
        """See `Transform.restore`."""
        options = dict(settings)
        lost = (options.pop("lost_around", None), options.pop("lost_behind", None))
        return cls(geometry, **options, lost=lost)

    def size(self) -> int:
        """D cells + R."""
        return len(self.order)

    def notes(self) -> list[str]:
        """What is kept, and the energy that is not; nothing before it was measured."""
        lost = [self.settings["lost_around"], self.settings["lost_behind"]]
        if None in lost:
            return []
        around, behind = (f"{100 * share:.2f} %" for share in lost)
        return [
            f"{self.cells} cells of each of {self.depth} slices are modelled; {around} of the "
            "training showers' energy lies in other cells of the slices, which stay empty.",
            f"{self.others} cells of other layers are modelled; {behind} of the energy lies in "
            "other layers, which stay empty.",
        ]

    def put_slices(self, energies: Tensor, slices: Tensor) -> Tensor:
        """Showers (N, V) with their first K slices replaced by `slices` (N, K, slice_cells)."""
        given = slices.flatten(1)
        before, behind = energies[:, : self.first], energies[:, self.first + given.shape[1] :]
        return torch.cat([before, given, behind], dim=1)

    def forward(self, energies: Tensor, condition: Tensor) -> Tensor:
        """MeV to scaled cells, (N, D cells + R)."""
        x = energies[:, self.order]
        if self.scaling == "log":
            return (x / self.unit).log1p()
        return x / self._scale(condition)

    def _scale(self, condition: Tensor) -> Tensor:
        """MeV of a cell that is 1 in model space, (N, 1) or ()."""
        if self.scaling == "fraction":
            return self.std * self.incident(condition)
        return self.std

    def inverse(self, x: Tensor, condition: Tensor) -> Tensor:
        """Scaled cells to MeV; what is below zero becomes zero, what is not kept is zero."""
        if self.scaling == "log":
            energies = x.clamp(0.0, self.LARGEST).expm1() * self.unit
        else:
            energies = x.clamp(min=0) * self._scale(condition)
        return torch.cat([energies, torch.zeros_like(energies[:, :1])], dim=1)[:, self.back]
