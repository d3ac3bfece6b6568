"""Dense layers as fast as the processor allows, for generating: weights packed for oneDNN, batch
normalisation folded in, the activation done while the result is still in the caches.

PyTorch hands products of 32-bit numbers to MKL, which uses half of what other processors than
Intel's have to offer; oneDNN makes code for the processor it finds.
"""

from __future__ import annotations

import copy
import platform
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

# Activations that oneDNN applies to a product before it leaves the registers.
_FUSED: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.SiLU: "swish"}


def packing_works() -> bool:
    """Whether this PyTorch has oneDNN's dense layer, and the processor is one it is made for."""
    return (
        platform.machine() in ("x86_64", "AMD64")
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


class PackedLinear(nn.Module):
    """A dense layer whose weights cannot be trained any more: (..., n_in) to (..., n_out).

    `follow` names the activation that is applied to the result: "none", "relu" or "swish".
    """

    def __init__(self, dense: nn.Linear) -> None:
        super().__init__()
        self.follow = "none"
        bias: Tensor | None = dense.bias  # torch's types do not say that it may be None
        self.bias = None if bias is None else bias.detach()
        self.packed_weight = torch.ops.mkldnn._reorder_linear_weight(dense.weight.detach())
        self._product: Any = torch.ops.mkldnn._linear_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        """x W^T + b and the activation."""
        return self._product(x, self.packed_weight, self.bias, self.follow, [], "")


def packed(model: nn.Module) -> nn.Module:
    """A copy of `model` (float32, on the CPU, in evaluation mode) that only generates, faster.

    Results agree to the rounding of 32-bit numbers. Layers of other kinds than `nn.Linear`, and
    subclasses of it, stay as they are.
    """
    copied = copy.deepcopy(model).requires_grad_(False)
    return _pack(copied) if packing_works() else copied


def _pack(module: nn.Module) -> nn.Module:
    if type(module) is nn.Sequential:
        return _pack_sequence(module)
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, PackedLinear(child))
        elif type(child) is nn.ModuleList:
            setattr(module, name, nn.ModuleList(_pack_one(part) for part in child))
        else:
            setattr(module, name, _pack(child))
    return module


def _pack_one(module: nn.Module) -> nn.Module:
    return PackedLinear(module) if type(module) is nn.Linear else _pack(module)


def _pack_sequence(sequence: nn.Sequential) -> nn.Sequential:
    """Normalisation and activations become part of the dense layer before them."""
    folded: list[nn.Module] = []
    for part in sequence:
        before = folded[-1] if folded else None
        if type(part) is nn.BatchNorm1d and type(before) is nn.Linear:
            folded[-1] = fuse_linear_bn_eval(before, part)
        elif type(part) is nn.BatchNorm2d and type(before) is nn.Conv2d:
            folded[-1] = fuse_conv_bn_eval(before, part)
        else:
            folded.append(part)
    parts: list[nn.Module] = []
    for part in folded:
        before = parts[-1] if parts else None
        kind = _FUSED.get(type(part))
        if kind and isinstance(before, PackedLinear) and before.follow == "none":
            before.follow = kind
        else:
            parts.append(_pack_one(part))
    return nn.Sequential(*parts)
