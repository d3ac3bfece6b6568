"""Matrix products of training in oneDNN's hands where a measurement finds it faster than MKL.

PyTorch multiplies matrices of 32-bit numbers with MKL, which leaves half the speed of some
processors of other makers than Intel unused; oneDNN makes code for the processor it finds. On
other processors MKL is the faster of the two. `measured` decides. Gradients are made of the same
products, to any order: gradient penalties need the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from caloforge.fast import measured
from caloforge.fast.packed import packing_works

# Multiplications and additions of a product from which on the calls in Python pay.
LEAST = 2_000_000


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    return product


class Product(torch.autograd.Function):
    """a b^T of matrices (N, K) and (M, K), (N, M)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        """The product; both factors are kept."""
        ctx.save_for_backward(a, b)
        return _multiply(a, b)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """d/da = g b and d/db = g^T a: products again."""
        a, b = ctx.saved_tensors
        first, second = ctx.needs_input_grad
        return (
            product(gradient, b.t()) if first else None,
            product(gradient.t(), a.t()) if second else None,
        )


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b^T, (N, K) and (M, K) to (N, M)."""
    result: Tensor = Product.apply(a, b)  # type: ignore[no-untyped-call]
    return result


def product_operation() -> Any:
    """a b^T as an operation of PyTorch that its compiler calls and does not look into."""
    return _library()[1]


@cache
def _library() -> tuple[Any, Any]:
    """The operation lives as long as its library."""
    library_class: Any = torch.library.Library
    library = library_class("caloforge", "FRAGMENT")
    library.define("product(Tensor a, Tensor b) -> Tensor")
    library.impl("product", _multiply, "CPU")
    library.impl("product", lambda a, b: a.new_empty(len(a), len(b)), "Meta")
    return library, torch.ops.caloforge.product.default


def _dense(layer: nn.Linear, x: Tensor) -> Tensor:
    """The layer's output, with `product` inside where it is faster."""
    weight = layer.weight
    bias: Tensor | None = layer.bias  # PyTorch's types do not say that it may be None
    large = x.dtype == torch.float32 and x.numel() * len(weight) >= LEAST
    if not large or torch.is_autocast_enabled("cpu"):
        return torch.nn.functional.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    if not measured.faster(product, len(rows), *weight.shape):
        return torch.nn.functional.linear(x, weight, bias)
    result = product(rows, weight).reshape(*x.shape[:-1], len(weight))
    return result if bias is None else result + bias


@contextmanager
def fast_products(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within it, dense layers of `model` on a CPU multiply with what is fastest there; else as
    always.

    Results agree with PyTorch's own to the rounding of 32-bit numbers. The layers get another
    `forward` for the time of the context. A mode of PyTorch that looks at every operation would
    do as well, but doubles the time of small ones.
    """
    works = device.type == "cpu" and packing_works()
    layers = [
        part
        for part in (model.modules() if works else ())
        if isinstance(part, nn.Linear) and type(part).forward is nn.Linear.forward
    ]
    for layer in layers:
        layer.__dict__["forward"] = partial(_dense, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.__dict__["forward"]
