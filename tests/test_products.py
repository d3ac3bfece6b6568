"""oneDNN's products in training: the values and gradients of PyTorch's own, to second order."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from caloforge.fast import measured, products
from caloforge.fast.packed import packing_works
from caloforge.fast.products import fast_products, product
from caloforge.training.train import resolve_precision

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


@pytest.fixture
def cache_file(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """The file of answers, empty, and no answers remembered by this process."""
    monkeypatch.setattr(measured, "_file", lambda: tmp_path / "products.json")
    measured._faster.cache_clear()
    yield tmp_path / "products.json"
    measured._faster.cache_clear()


def answers(monkeypatch, usual: float, ours: float) -> list[tuple[int, ...]]:
    """Let every measurement find these seconds; returns the list of what is measured."""
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        measured, "_times", lambda *shape: asked.append(shape[1:]) or (usual, ours)
    )
    return asked


@needs_onednn
@pytest.mark.parametrize("shape", [(64, 300), (4, 16, 300)])
def test_dense_layers_use_them_where_they_are_faster(
    monkeypatch, cache_file: Path, shape: tuple[int, ...]
) -> None:
    """With a penalty on the gradient, as critics have."""
    answers(monkeypatch, 2.0, 1.0)
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

    with fast_products(network, CPU):
        fast = gradients()
    assert calls
    calls.clear()
    for own, other in zip(fast, gradients(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-7)
    assert not calls


@needs_onednn
def test_small_layers_and_mixed_precision_stay_as_they_are(monkeypatch, cache_file: Path) -> None:
    answers(monkeypatch, 2.0, 1.0)
    monkeypatch.setattr(products, "product", lambda a, b: pytest.fail("used"))
    small, large = nn.Linear(8, 8), nn.Linear(512, 512)
    few, many = torch.randn(4, 8), torch.randn(64, 512)
    with fast_products(nn.Sequential(small, large), CPU):
        inside = small(few)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = large(many)
    assert torch.equal(inside, small(few)) and mixed.dtype == torch.bfloat16


@needs_onednn
def test_nothing_changes_where_they_are_not_clearly_faster(monkeypatch, cache_file: Path) -> None:
    answers(monkeypatch, 1.0, 0.95)
    x, dense = torch.randn(64, 512), nn.Linear(512, 512)
    with fast_products(dense, CPU):
        inside = dense(x)
    assert torch.equal(inside, dense(x))


@needs_onednn
def test_each_shape_is_measured_once_on_a_machine(monkeypatch, cache_file: Path) -> None:
    """A later process, too, takes the answer of the first: its showers stay the same bits."""
    asked = answers(monkeypatch, 2.0, 1.0)
    assert measured.faster(product, 100, 512, 512) and measured.faster(product, 128, 512, 512)
    assert asked == [(128, 512, 512)]
    measured._faster.cache_clear()  # as in another process
    answers(monkeypatch, 1.0, 2.0)
    assert measured.faster(product, 128, 512, 512)
    assert not measured.faster(product, 128, 256, 512)


@pytest.mark.parametrize(
    ("capable", "seconds", "precision"),
    [("avx512_bf16", 0.5, "bf16-mixed"), ("amx_bf16", 2.0, "32-true"), ("avx2", 0.5, "32-true")],
)
def test_precision_is_mixed_where_that_is_faster(
    monkeypatch, cache_file: Path, capable: str, seconds: float, precision: str
) -> None:
    """A processor that multiplies in 16 bits may be slower in them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capable: True})
    asked = answers(monkeypatch, 1.0, seconds)
    assert resolve_precision("auto") == precision
    assert len(asked) == (capable != "avx2")
    assert resolve_precision("bf16-mixed") == "bf16-mixed"


def test_each_way_has_an_answer_of_its_own(monkeypatch, cache_file: Path) -> None:
    answers(monkeypatch, 2.0, 1.0)
    assert measured.bf16_pays()
    answers(monkeypatch, 1.0, 2.0)
    assert not measured.faster(product, 256, 512, 512)
    assert measured.bf16_pays()


@needs_onednn
@pytest.mark.parametrize("content", ["{", "[1]", '{"x": 1}', '{"x": {"128 x 512 x 512": 3}}'])
def test_a_damaged_memory_is_measured_anew(monkeypatch, cache_file: Path, content: str) -> None:
    cache_file.write_text(content)
    answers(monkeypatch, 2.0, 1.0)
    assert measured.faster(product, 128, 512, 512)
    assert "128 x 512 x 512" in cache_file.read_text()


@needs_onednn
def test_a_measurement_takes_both_ways(cache_file: Path) -> None:
    """Nothing is pretended here: real products are timed, inside 16-bit precision as well."""
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        usual, ours = measured._times(product, 64, 256, 256)
    assert usual > 0 and ours > 0
