"""Mean lateral shapes: how the energy of a layer is shared out over its cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry, Layer
from caloforge.detector.particle import particle_line
from caloforge.detector.symmetries import symmetry_group
from caloforge.errors import ModelError
from caloforge.nn.normal import cdf

DIRECTION = ("polar-angle", "azimuth", "slope", "momentum")  # roles that tell a direction
ITERATIONS = 150  # rounds of expectation and maximisation: each takes little time
# Width of the narrowest Gaussian over the smallest cell, and of the widest over the window.
NARROWEST, WIDEST = 1 / 20, 1 / 2
LEAST_SHARE, LEAST_MEAN = 1e-12, 1e-20  # what is divided by is never as small, unless empty


class LateralShape(nn.Module):
    """Mean share of each cell in the energy of its layer, with a fixed number of weights for each
    kind of shower.
    """

    sizes: list[int]  # weights of each layer; together W

    def fit(self, energies: Tensor, condition: Tensor) -> Tensor:
        """Weights (W,) from showers (n, V) in MeV under conditions (n, C)."""
        raise NotImplementedError

    def forward(self, weights: Tensor, condition: Tensor) -> Tensor:
        """Shares (N, V), which add up to 1 in each layer, from weights (N, W)."""
        raise NotImplementedError


def lateral_shape(geometry: Geometry, gaussians: int, depths: int) -> LateralShape:
    """Gaussians about the particle's axis where the conditions tell the impact, else a share for
    each cell.

    Raises ModelError for a condition that is neither energy, impact, direction, shift of a window
    nor category.
    """
    impact = any(condition.role == "impact" for condition in geometry.conditions)
    shifts = {layer.shift.condition for layer in geometry.layers if layer.shift is not None}
    known = {"energy", "impact", *(DIRECTION if impact else ())}
    for condition in geometry.conditions:
        followed = condition.role in known or condition.name in shifts
        if not followed and condition.scale != "category":
            raise ModelError(
                f"The parametrisation cannot follow the condition '{condition.name}' of "
                f"'{geometry.name}'; expected energy, impact, direction or a category: choose "
                "another model for it."
            )
    if not impact and not shifts:
        return CellShares(geometry)
    if any(layer.kind != "grid" for layer in geometry.layers):
        raise ModelError(
            f"'{geometry.name}' has polar layers and an impact that moves in them; the "
            "parametrisation expects grids there: choose another model for it."
        )
    return AxisGaussians(geometry, gaussians, depths)


class CellShares(LateralShape):
    """A histogram over the cells, averaged over the geometry's exact symmetries."""

    layer: Tensor
    images: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.sizes = [layer.size for layer in geometry.layers]
        self.layers = geometry.n_layers
        self.register_buffer(
            "layer", torch.from_numpy(geometry.layer_of_cell.copy()), persistent=False
        )
        images = torch.stack([torch.from_numpy(s.permutation) for s in symmetry_group(geometry)])
        self.register_buffer("images", images, persistent=False)

    def fit(self, energies: Tensor, condition: Tensor) -> Tensor:
        """Share of each cell in the summed energy of its layer over all showers and images."""
        cells = energies.sum(dim=0)[self.images].mean(dim=0)
        layers = cells.new_zeros(self.layers).index_add(0, self.layer, cells)
        return cells / layers.clamp(min=LEAST_SHARE)[self.layer]

    def forward(self, weights: Tensor, condition: Tensor) -> Tensor:
        """The weights themselves."""
        return weights


class AxisGaussians(LateralShape):
    """A radial density about the particle's axis, integrated over the cells.

    The density is a sum of two-dimensional Gaussians of fixed widths, from a twentieth of a
    layer's smallest cell to half its window, at fixed depths along the axis; their weights, none
    below 0, are fitted by maximum likelihood (expectation and maximisation) to the energy in
    cells. The integral over a cell is a product of two differences of error functions, so cells of
    any size, windows that shift and any impact are exact. Each Gaussian counts inside the window
    only.
    """

    def __init__(self, geometry: Geometry, gaussians: int, depths: int) -> None:
        super().__init__()
        self.line = particle_line(geometry)
        self.shifts = [_shift(geometry, layer) for layer in geometry.layers]
        self.depths = [self._depths(geometry, layer, depths) for layer in geometry.layers]
        for number, (layer, at) in enumerate(zip(geometry.layers, self.depths, strict=True)):
            edges = [torch.tensor(e, dtype=torch.float32) for e in layer.edges]
            low = min(float(e.diff().min()) for e in edges) * NARROWEST
            high = max(float(e[-1] - e[0]) for e in edges) * WIDEST
            widths = torch.logspace(0, 1, gaussians, base=high / low) * low
            self.register_buffer(f"slow{number}", edges[0], persistent=False)
            self.register_buffer(f"fast{number}", edges[1], persistent=False)
            self.register_buffer(f"widths{number}", widths.repeat(len(at)), persistent=False)
        self.sizes = [gaussians * len(at) for at in self.depths]
        self.gaussians = gaussians

    def _depths(self, geometry: Geometry, layer: Layer, depths: int) -> list[float]:
        if not self.line.inclined:
            return [0.0]
        if layer.z is None:
            raise ModelError(
                f"Layer {layer.id} of '{geometry.name}' states no depth z; expected it for the "
                "axis of an inclined shower: add it to the geometry."
            )
        front, back = layer.z
        return [front + (back - front) * (k + 0.5) / depths for k in range(depths)]

    def _parts(self, number: int, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Share of each Gaussian in the rows (N, M, H) and the columns (N, M, W) of a layer."""
        along = []
        at = torch.tensor(self.depths[number], device=condition.device)
        widths = getattr(self, f"widths{number}")
        impact, slope = self.line(condition)
        for axis, name in enumerate(("slow", "fast")):
            edges = getattr(self, f"{name}{number}").expand(condition.shape[0], -1)
            shift = self.shifts[number]
            if shift is not None and shift[0] == axis:
                edges = edges + shift[2] * condition[:, shift[1] : shift[1] + 1]
            centre = impact[:, axis : axis + 1] + slope[:, axis : axis + 1] * at
            centre = centre.repeat_interleave(self.gaussians, dim=1)
            reached = cdf((edges[:, None, :] - centre[:, :, None]) / widths[:, None])
            share = reached.diff(dim=2)
            along.append(share / share.sum(dim=2, keepdim=True).clamp(min=LEAST_SHARE))
        return along[0], along[1]

    def fit(self, energies: Tensor, condition: Tensor) -> Tensor:
        """Weights by expectation and maximisation: w_m <- w_m sum_i x_i p_mi / (x_tot mu_i)."""
        fitted = []
        sizes = [s * f for s, f in self._shapes()]
        for number, cells in enumerate(torch.split(energies, sizes, dim=1)):
            rows = cells.sum(dim=1) > 0
            weights = cells.new_full((self.sizes[number],), 1 / self.sizes[number])
            if rows.any():
                slow, fast = self._parts(number, condition[rows])
                grid = cells[rows].reshape(len(slow), slow.shape[2], fast.shape[2])
                grid = grid / grid.sum()
                for _ in range(ITERATIONS):
                    mean = torch.einsum("m,nmh,nmw->nhw", weights, slow, fast).clamp(
                        min=LEAST_MEAN
                    )
                    weights = weights * torch.einsum("nhw,nmh,nmw->m", grid / mean, slow, fast)
            fitted.append(weights / weights.sum())
        return torch.cat(fitted)

    def forward(self, weights: Tensor, condition: Tensor) -> Tensor:
        """See `LateralShape.forward`."""
        shares = []
        for number, heights in enumerate(torch.split(weights, self.sizes, dim=1)):
            slow, fast = self._parts(number, condition)
            shares.append(torch.einsum("nm,nmh,nmw->nhw", heights, slow, fast).flatten(1))
        return torch.cat(shares, dim=1)

    def _shapes(self) -> Sequence[tuple[int, int]]:
        return [
            (len(getattr(self, f"slow{k}")) - 1, len(getattr(self, f"fast{k}")) - 1)
            for k in range(len(self.sizes))
        ]


def _shift(geometry: Geometry, layer: Layer) -> tuple[int, int, float] | None:
    """Axis (0 slow, 1 fast), column of the condition and step in mm of a window that moves."""
    if layer.shift is None:
        return None
    axis = layer.axes.index(layer.shift.axis)
    return axis, geometry.column(layer.shift.condition), layer.shift.step
