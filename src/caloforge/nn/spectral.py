"""Spectral normalisation without hidden state: a weight divided by its largest singular value."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

SQUARINGS = 10  # 2^10 power iterations: what is left of a nearly equal second value is below 1e-3


class SpectralNorm(nn.Module):
    """W / sigma(W), with W seen as a matrix (out, rest) (T. Miyato et al. 2018,
    arXiv:1802.05957, Eq. 8).

    torch.nn.utils.parametrizations.spectral_norm keeps a running vector that each forward moves:
    the same weights and noise then give another shower the next time. Here the power iteration
    starts anew, and squares the matrix: k squarings are 2^k iterations. There is nothing to save,
    and the largest singular value is 1 from the first step on.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """The normalised weight; gradients flow through sigma = u W v at fixed u and v, Eq. 11."""
        matrix = weight.flatten(1)
        with torch.autocast(weight.device.type, enabled=False):
            with torch.no_grad():
                left, right = leading_vectors(matrix.detach().float())
            sigma = torch.dot(left, torch.mv(matrix, right))
            return weight / sigma.clamp(min=1e-12)


def leading_vectors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Left (M,) and right (K,) singular vectors of the largest singular value of (M, K)."""
    if matrix.shape[0] > matrix.shape[1]:
        right, left = leading_vectors(matrix.T)
        return left, right
    power = matrix @ matrix.T
    for k in range(SQUARINGS):
        # Divided by its norm, a matrix of M rows has a largest value of at least M^(-1/2), which
        # three squarings bring to M^(-4): far from the smallest number of single precision.
        if k % 3 == 0:
            power = power / power.norm().clamp(min=1e-30)
        power = power @ power
    # The longest column is the one least orthogonal to the leading vector.
    left = power.index_select(1, power.square().sum(dim=0).argmax()[None])[:, 0]
    left = left / left.norm().clamp(min=1e-30)
    right = matrix.T @ left
    return left, right / right.norm().clamp(min=1e-30)


def spectral_norm(module: nn.Module, skip: type[nn.Module] | tuple[()] = ()) -> nn.Module:
    """Normalise the weights of every convolution and dense layer in `module`, in place, but for
    those inside parts of the kind `skip`.
    """
    for part in list(module.children()):
        if not isinstance(part, skip):
            spectral_norm(part, skip)
    if isinstance(module, nn.Conv2d | nn.Linear):
        parametrize.register_parametrization(module, "weight", SpectralNorm())
    return module


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """State of `module` with the normalised weights in place of the free ones: what the same
    network without normalisation needs to be the same function.
    """
    state = {k: v for k, v in module.state_dict().items() if ".parametrizations." not in k}
    for name, part in module.named_modules():
        if parametrize.is_parametrized(part, "weight"):
            state[f"{name}.weight"] = part.weight.detach()
    return state
