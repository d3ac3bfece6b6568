"""The real showers as white noise: what the remainder is trained on, kept with a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.detector.symmetries import Symmetry

_NAMES = ("cells", "layers", "context", "condition")


class Drawn(NamedTuple):
    """Real showers as they are trained on: white noise of cells and layers, normal variables of
    the layer energies, and conditions.
    """

    cells: Tensor
    layers: Tensor
    ranks: Tensor
    condition: Tensor


class Bank(nn.Module):
    """White noise of the cells (N, D, V) and of the layers (N, D, L), the contexts of the cells
    (N, D, L), and conditions (N, C): D draws of what each empty cell may be.

    Parameters
    ----------
    symmetries
        The symmetries of the read-out, which say what becomes of the conditions.
    permutations
        What becomes of the white noise of the cells under each symmetry, (V,).
    """

    cells: Tensor
    layers: Tensor
    context: Tensor
    condition: Tensor

    permutation: Tensor
    matrix: Tensor
    offset: Tensor

    def __init__(
        self, symmetries: Sequence[Symmetry], permutations: Sequence[NDArray[np.int64]]
    ) -> None:
        super().__init__()
        for name in _NAMES:
            self.register_buffer(name, torch.zeros(0))
        for name, parts in (
            ("permutation", permutations),
            ("matrix", [s.matrix.astype(np.float32) for s in symmetries]),
            ("offset", [s.offset.astype(np.float32) for s in symmetries]),
        ):
            self.register_buffer(name, torch.from_numpy(np.stack(parts)), persistent=False)

    def put(self, **values: Tensor) -> None:
        """Keep these showers in place of those that are there."""
        for name in _NAMES:
            setattr(self, name, values[name].to(getattr(self, name).device))

    def draw(self, count: int, rng: torch.Generator) -> Drawn:
        """Random showers, draws of their empty cells, and symmetries that they are put through."""

        def whole(below: int) -> Tensor:
            return torch.randint(below, (count,), generator=rng, device=self.cells.device)

        row, draw = whole(len(self.cells)), whole(self.cells.shape[1])
        element = whole(len(self.permutation))
        turned = torch.einsum("bij,bj->bi", self.matrix[element], self.condition[row])
        return Drawn(
            self.cells[row, draw].float().gather(1, self.permutation[element]),
            self.layers[row, draw].float(),
            self.context[row, draw].float(),
            turned + self.offset[element],
        )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        # Its sizes are those of the training set: a checkpoint brings them.
        for name in _NAMES:
            if prefix + name in state_dict:
                buffer = getattr(self, name)
                setattr(self, name, buffer.new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *others)
