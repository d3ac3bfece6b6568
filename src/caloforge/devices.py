"""The device that a computation runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caloforge.errors import CaloForgeError, did_you_mean

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")


def find_device(name: str) -> torch.device:
    """Torch device by name; "auto" is a GPU where there is one.

    Raises
    ------
    CaloForgeError
        For an unknown name, or "cuda" where there is none.
    """
    import torch

    if name not in DEVICES:
        raise CaloForgeError(f"Unknown device '{name}': {did_you_mean(name, DEVICES)}")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise CaloForgeError("There is no CUDA device here; give --device cpu or auto.")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
