"""The real showers as white noise: what the remainder is trained on, kept with a checkpoint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_NAMES = ("cells", "layers", "context", "condition")


class Bank(nn.Module):
    """White noise of the cells (N, D, V) and of the layers (N, D, L), the contexts of the cells
    (N, D, L), and conditions (N, C): D draws of what each empty cell may be.
    """

    cells: Tensor
    layers: Tensor
    context: Tensor
    condition: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in _NAMES:
            self.register_buffer(name, torch.zeros(0))

    def put(self, **values: Tensor) -> None:
        """Keep these instead."""
        for name in _NAMES:
            setattr(self, name, values[name].to(getattr(self, name).device))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        # Its sizes are those of the training set: a checkpoint brings them.
        for name in _NAMES:
            if prefix + name in state_dict:
                own = getattr(self, name)
                setattr(self, name, own.new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *others)
