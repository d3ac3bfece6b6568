"""Compiled training: the same random numbers, losses, gradients and statistics as without."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import learners, sample_showers
from safetensors.torch import load_file
from torch import Tensor, nn

from caloforge.config import Recipe, load_recipe
from caloforge.fast import products
from caloforge.fast.compiled import Compiled, inductor
from caloforge.fast.packed import packing_works
from caloforge.fast.products import product, product_operation
from caloforge.models.base import Batch, Phase, ShowerModel
from caloforge.training.dataset import TrainingSet
from caloforge.training.gradients import Eager
from caloforge.training.loop import Run
from caloforge.training.optimisers import Player
from caloforge.training.parallel import Processes
from caloforge.training.selection import HeldOut
from caloforge.training.train import build, train, with_settings

CPU = torch.device("cpu")
# One of each kind: batch statistics and second derivatives, several critics, a loss of one phase,
# locally connected layers, a transform that two parts share. The others take longer to write down.
KINDS = ("caloshowergan", "dnncalogan", "flow-matching", "mlp-wgan", "vae")


def run_of(recipe: Recipe, model: ShowerModel, processes: Processes | None = None) -> Run:
    showers, settings = sample_showers(recipe.geometry)[:200], recipe.training
    data = TrainingSet(showers, device=CPU, seed=0, augment=settings.augment, processes=processes)
    part = model.energy_ranges()[0].model.train()
    score = HeldOut(showers[:0], settings.selection, 0)
    return Run(part, data, score, settings, Path(), {}, nullcontext)


def as_graphs(run: Run, compiler: Any = lambda graph, _: graph) -> Run:
    """The run with its players' gradients from graphs, by default not compiled further."""
    eager = [g for g in run.gradients if isinstance(g, Eager)]
    run.gradients = [Compiled(run.model, gradients, compiler) for gradients in eager]
    return run


def pair(name: str, *overrides: str, processes: Processes | None = None) -> tuple[Run, Run]:
    """The same training twice, once eager."""
    recipe = load_recipe(f"smoke-{name}", overrides)
    model = build(recipe, sample_showers(recipe.geometry)[:200])
    twin = copy.deepcopy(model)
    return run_of(recipe, model, processes), run_of(recipe, twin, processes)


def assert_same(first: Run, second: Run) -> None:
    own, other = first.model.state_dict(), second.model.state_dict()
    for key, value in own.items():
        assert torch.equal(value, other[key]), key
    assert torch.equal(first.rng.get_state(), second.rng.get_state())


@pytest.mark.parametrize("name", KINDS)
def test_the_graph_of_a_loss_is_the_loss_bit_for_bit(name: str) -> None:
    """Losses, logged numbers, weights, statistics and random numbers over two steps."""
    assert set(KINDS) <= set(learners())
    eager, graph = pair(name)
    as_graphs(graph)
    for _ in range(2):
        first, second = eager.advance(), graph.advance()
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert torch.equal(value, second[key]), key
    assert_same(eager, graph)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_clipping_averages_and_precision_are_as_without(precision: str) -> None:
    eager, graph = pair(
        "flow-matching", "training.ema=0.9", "training.gradient_clip=0.1", "training.steps=9"
    )
    for run in (eager, graph):
        bf16 = precision == "bf16-mixed"
        run.autocast = lambda bf16=bf16: torch.autocast("cpu", torch.bfloat16, enabled=bf16)
    as_graphs(graph)
    for _ in range(2):
        eager.advance(), graph.advance()
    assert_same(eager, graph)
    assert eager.average is not None and graph.average is not None
    averaged = graph.average.weights
    assert all(torch.equal(v, averaged[k]) for k, v in eager.average.weights.items())


def test_a_process_of_several_keeps_its_part_of_the_joint_numbers() -> None:
    second = Processes(rank=1, count=2)
    eager, graph = pair("flow-matching", processes=second)
    for run in (eager, graph):  # alone, there is no one to average with
        for player in run.players:
            player.processes = Processes()
    as_graphs(graph)
    eager.advance(), graph.advance()
    assert_same(eager, graph)


def test_a_training_of_graphs_resumes_exactly(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("caloforge.fast.compiled.inductor", lambda graph, _: graph)
    recipe = load_recipe("smoke-flow-matching", ["training.compile=true"])
    showers = sample_showers(recipe.geometry)[:200]
    states = []
    for parts in ((4,), (2, 4)):
        folder = tmp_path / f"{len(parts)}"
        for steps in parts:
            shorter = with_settings(recipe, steps=steps)
            train(shorter, showers, folder, resume=steps > parts[0], device="cpu")
        states.append(load_file(folder / "checkpoints" / "step-00000004.safetensors"))
    whole, resumed = states
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


# --- the compiler --------------------------------------------------------------------------
@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """PyTorch's compiler in this process, with an empty cache; skips where there is none."""
    config = pytest.importorskip("torch._inductor.config")
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("needs a C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(config, "compile_threads", 1)
    return inductor


class Small(nn.Module):
    """A critic with a penalty on its slope, behind a batch normalisation, and random numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(6)
        self.critic = nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 1))

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        noise = torch.randn(len(batch.energies), 1, generator=rng)
        x = torch.cat([self.norm(batch.energies), batch.condition, noise], dim=1)
        x = x.detach().requires_grad_(True)
        score = self.critic(x)
        (slope,) = torch.autograd.grad(score.sum(), x, create_graph=True)
        penalty = (slope.norm(dim=1) - 1).square().mean()
        return score.mean() + penalty, {"penalty": penalty.detach()}

    def phase(self) -> Phase:
        return Phase("critic", list(self.critic.parameters()), self.loss)


@pytest.mark.slow
def test_compiled_gradients_agree_to_rounding(compiler: Any) -> None:
    """With the derivative of a derivative, over several batches and weights."""
    batches = torch.rand(3, 32, 7, generator=torch.Generator().manual_seed(1))
    told = []
    for compiled in (False, True):
        model, rng = Small(), torch.Generator().manual_seed(2)
        eager = Eager(model.phase(), lambda: [])
        gradients = Compiled(model, eager, compiler) if compiled else eager
        player = Player(model.phase(), 0.0)
        for batch in batches:
            found = gradients(Batch(batch[:, :6], batch[:, 6:]), rng)
            told.append([found[0], found[1]["penalty"], *found[2]])
            player.take(found[2])
        told.append([*model.state_dict().values(), rng.get_state()])
    for own, other in zip(told[:4], told[4:], strict=True):
        for a, b in zip(own, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not packing_works(), reason="needs oneDNN on x86-64")
def test_products_are_an_operation_of_their_own() -> None:
    a, b = torch.rand(4, 3), torch.rand(5, 3)
    assert torch.equal(product_operation()(a, b), product(a, b))
    made = product_operation()(a.to("meta"), b.to("meta"))
    assert made.shape == (4, 5)
    assert products._library() is products._library()


# --- what cannot be compiled ---------------------------------------------------------------
def refused(model: Small, compiler: Any, says: str) -> None:
    """A warning, and then what `Eager` gives."""
    batch = Batch(torch.rand(8, 6), torch.rand(8, 1))
    eager = Eager(model.phase(), lambda: [])
    rngs = [torch.Generator().manual_seed(3) for _ in range(2)]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    gradients = Compiled(model, eager, compiler)
    with pytest.warns(UserWarning, match=f"cannot compile the player 'critic' here: .*{says}"):
        found = gradients(batch, rngs[0])
    model.load_state_dict(state)
    expected = eager(batch, rngs[1])
    assert torch.equal(found[0], expected[0])
    for own, other in zip(found[2], expected[2], strict=True):
        assert torch.equal(own, other)
    gradients(batch, rngs[0])  # warns once


def test_a_training_goes_on_without_a_compiler() -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    refused(Small(), broken, "No working C")


def test_a_wrong_graph_is_noticed() -> None:
    def wrong(graph: Any, _: Any) -> Any:
        return lambda *inputs: [2 * made for made in graph(*inputs)]

    refused(Small(), wrong, "its gradients differ by 1 of their norm")


def test_a_loss_that_looks_at_its_values_is_refused() -> None:
    class Looking(Small):
        def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
            loss, extra = super().loss(batch, rng)
            return (loss if float(loss.detach()) > 0 else 2 * loss), extra

    refused(Looking(), lambda graph, _: graph, "")


def test_random_numbers_made_of_weights_are_refused() -> None:
    class Drawing(Small):
        def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
            loss, extra = super().loss(batch, rng)
            return loss + torch.bernoulli(loss.detach().sigmoid(), generator=rng), extra

    refused(Drawing(), lambda graph, _: graph, "random numbers depend")


# --- the optimiser -------------------------------------------------------------------------
def test_a_gradient_in_another_order_of_memory_is_the_same_gradient() -> None:
    """Fused Adam takes the numbers as they lie in memory."""
    after = []
    for turned in (False, True):
        parameter = nn.Parameter(torch.ones(2, 3))
        player = Player(Phase("p", [parameter], lambda *_: (torch.zeros(()), {})), 0.0)
        for k in (1.0, 2.0):
            gradient = torch.arange(6.0).reshape(2, 3) ** k
            player.take([gradient.T.contiguous().T if turned else gradient])
        after.append(parameter.detach())
    assert torch.equal(*after)
