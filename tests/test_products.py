"""oneDNN's products in training: the values and gradients of PyTorch's own, to second order."""

import pytest
import torch
from torch import nn

from caloforge.nn import products
from caloforge.nn.packed import packing_works
from caloforge.nn.products import fast_products, product

CPU = torch.device("cpu")
needs_onednn = pytest.mark.skipif(not packing_works(), reason="needs oneDNN on x86-64")


@needs_onednn
def test_products_and_their_gradients() -> None:
    rng = torch.Generator().manual_seed(0)
    a = torch.randn(33, 20, generator=rng, requires_grad=True)
    b = torch.randn(17, 20, generator=rng, requires_grad=True)
    torch.testing.assert_close(product(a, b), a @ b.T, rtol=1e-5, atol=1e-5)
    found = []
    for made in (product(a, b), a @ b.T):
        slope = torch.autograd.grad(made.pow(3).sum(), (a, b), create_graph=True)
        second = torch.autograd.grad(sum(s.square().sum() for s in slope), (a, b))
        found.append([g.detach() for g in (*slope, *second)])
    for own, other in zip(*found, strict=True):
        most = float(other.abs().max())
        torch.testing.assert_close(own / most, other / most, rtol=1e-4, atol=1e-5)


@needs_onednn
@pytest.mark.parametrize("shape", [(64, 300), (4, 16, 300)])
def test_dense_layers_use_them(monkeypatch, shape: tuple[int, ...]) -> None:
    """With a penalty on the gradient, as critics have."""
    monkeypatch.setattr(products, "_is_intel", lambda: False)
    calls = []
    true_product = products.product
    monkeypatch.setattr(
        products, "product", lambda a, b: calls.append(a.shape) or true_product(a, b)
    )
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(300, 200), nn.Tanh(), nn.Linear(200, 120, bias=False))
    x = torch.randn(shape, requires_grad=True)

    def gradients() -> tuple[torch.Tensor, ...]:
        (slope,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().mean(), [p for p in network.parameters()][:1])

    with fast_products(CPU):
        fast = gradients()
    assert calls
    calls.clear()
    for own, other in zip(fast, gradients(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-7)
    assert not calls


@needs_onednn
def test_small_layers_and_mixed_precision_stay_as_they_are(monkeypatch) -> None:
    monkeypatch.setattr(products, "_is_intel", lambda: False)
    monkeypatch.setattr(products, "product", lambda a, b: pytest.fail("used"))
    with fast_products(CPU):
        nn.Linear(8, 8)(torch.randn(4, 8))
        with torch.autocast("cpu", torch.bfloat16):
            nn.Linear(512, 512)(torch.randn(64, 512))


def test_nothing_changes_where_mkl_is_at_home(monkeypatch) -> None:
    monkeypatch.setattr(products, "_is_intel", lambda: True)
    x, dense = torch.randn(64, 512), nn.Linear(512, 512)
    with fast_products(CPU):
        inside = dense(x)
    assert torch.equal(inside, dense(x))
