"""Loss and gradients of a player as one compiled graph.

PyTorch's compiler has no second derivatives, which gradient penalties need. Here autograd is over
before it begins: loss and gradients are computed once, every operation on the way is written down
(`make_fx`), and that list, which needs no derivatives any more, is what is compiled.

Random numbers stay outside of the graph: they are drawn before each call, with the same calls in
the same order as the loss makes them, so that a training sees the same ones compiled or not.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from caloforge.fast.products import product_operation
from caloforge.models.base import Batch, Phase

# The loss, numbers to log, and the gradients of the player's parameters.
LossAndGradients = tuple[Tensor, dict[str, Tensor], Sequence[Tensor]]
Gradients = Callable[[Batch, torch.Generator], LossAndGradients]
Function = Callable[..., Sequence[Tensor]]
Compiler = Callable[[fx.GraphModule, Sequence[Tensor]], Function]

# Share of their norm by which compiled gradients may differ from the others: rounding, at worst
# of 16-bit numbers. A graph that lost something differs by more.
LARGEST_DIFFERENCE = 0.05


class Differentiated(Protocol):
    """The loss of a phase and its gradients, operation by operation: what is compiled."""

    @property
    def phase(self) -> Phase:
        """The phase whose loss it is."""

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and numbers to log."""

    def __call__(self, batch: Batch, rng: torch.Generator) -> LossAndGradients:
        """Loss, numbers to log and gradients at one batch."""


class Compiled:
    """Loss and gradients of a player, compiled at the first batch; equal to those operation by
    operation within rounding.

    All batches must have the size of the first, and what the loss depends on must be its batch,
    its random numbers, or parameters and buffers of the model. Where that cannot be compiled, or
    the first gradients differ, a warning says so and the player goes on as it was.

    Parameters
    ----------
    model
        The model of the phase; it stays in training mode.
    eager
        What is compiled: the same operation by operation.
    compiler
        Makes a function of a graph and of inputs like those it will get; default: `inductor`.
    """

    def __init__(
        self, model: nn.Module, eager: Differentiated, compiler: Compiler | None = None
    ) -> None:
        self.model, self.eager, self.compiler = model, eager, compiler or inductor
        self._ready: Gradients | None = None

    def __call__(self, batch: Batch, rng: torch.Generator) -> LossAndGradients:
        """Loss, numbers to log and gradients at one batch."""
        if self._ready is None:
            state = rng.get_state()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # the compiler warns of itself
                    self._ready = self._compile(batch, rng)
            except Exception as error:  # the compiler raises errors of every kind
                reason = str(error).strip().splitlines() or [type(error).__name__]
                warnings.warn(
                    f"PyTorch cannot compile the player '{self.eager.phase.name}' here: "
                    f"{reason[0][:200]}; it is trained without.",
                    stacklevel=2,
                )
                self._ready = self.eager
            rng.set_state(state)
        return self._ready(batch, rng)

    def _compile(self, batch: Batch, rng: torch.Generator) -> Gradients:
        twin = _Twin(self.model, self.eager)
        # On copies: what a loss does to buffers, such as batch statistics, must not be done twice.
        start = rng.get_state()
        with _Asked() as asked:
            _, extra, expected = twin.gradients(twin.copies(), batch, rng)
        keys = list(extra)
        rng.set_state(start)

        def draw(rng: torch.Generator) -> list[Tensor]:
            return [call(generator=rng) for call in asked.calls]

        def flat(*inputs: Tensor) -> list[Tensor]:
            size = len(twin.tensors)
            with _Given(inputs[size + 2 :]):
                loss, extra, slopes = twin.gradients(
                    inputs[:size], Batch(*inputs[size : size + 2]), rng
                )
            return [loss.detach(), *(extra[key].detach() for key in keys), *slopes]

        from torch.fx.experimental.proxy_tensor import make_fx

        drawn = draw(rng)
        graph = make_fx(flat, tracing_mode="fake")(*twin.copies(), *batch, *drawn)
        weights = [tensor.detach() for tensor in twin.tensors]  # they share the model's memory

        with torch.no_grad():
            run = self.compiler(graph, [*weights, *batch, *drawn])
            copies = [tensor.detach() for tensor in twin.copies()]
            _check(expected, run(*copies, *batch, *drawn)[1 + len(keys) :])

        @torch.no_grad()
        def gradients(batch: Batch, rng: torch.Generator) -> LossAndGradients:
            loss, *others = run(*weights, *batch, *draw(rng))
            return loss, dict(zip(keys, others, strict=False)), others[len(keys) :]

        return gradients


class _Twin(nn.Module):
    """Loss and gradients of a phase with other tensors in place of those of its model."""

    def __init__(self, model: nn.Module, eager: Differentiated) -> None:
        super().__init__()
        self.model, self.eager = model, eager
        # A tensor may have several names, a part of a model too.
        self.names = {
            f"{prefix}.{name}": tensor
            for prefix, part in self.named_modules()
            for name, tensor in chain(
                part.named_parameters(recurse=False), part.named_buffers(recurse=False)
            )
        }
        self.tensors = list({id(tensor): tensor for tensor in self.names.values()}.values())
        self.places = {id(tensor): place for place, tensor in enumerate(self.tensors)}

    def copies(self) -> list[Tensor]:
        """Copies of all tensors of the model."""
        return [t.detach().clone().requires_grad_(t.requires_grad) for t in self.tensors]

    def gradients(
        self, tensors: Sequence[Tensor], batch: Batch, rng: torch.Generator
    ) -> LossAndGradients:
        """Loss, numbers and gradients with `tensors` in place of the model's."""
        state = {name: tensors[self.places[id(tensor)]] for name, tensor in self.names.items()}
        called = torch.func.functional_call
        loss, extra = called(self, state, (batch, rng), tie_weights=False)
        learning = [tensors[self.places[id(tensor)]] for tensor in self.eager.phase.parameters]
        return loss, extra, torch.autograd.grad(loss, learning)

    def forward(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return self.eager.loss(batch, rng)


def _check(expected: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    pairs = zip(expected, gradients, strict=True)
    distance = nn.utils.get_total_norm([wanted - other for wanted, other in pairs])
    norm = nn.utils.get_total_norm(expected)
    if not bool(distance <= LARGEST_DIFFERENCE * norm):
        raise ValueError(f"its gradients differ by {float(distance / norm):.2g} of their norm")


class _Asked(TorchFunctionMode):
    """Writes down which random numbers are drawn: calls that still want a generator."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[..., Tensor]] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        others = dict(kwargs or {})
        if others.pop("generator", None) is not None:
            if any(isinstance(value, Tensor) for value in (*args, *others.values())):
                raise ValueError("its random numbers depend on what it computes")
            self.calls.append(partial(function, *args, **others))
        return function(*args, **(kwargs or {}))


class _Given(TorchFunctionMode):
    """Takes the random numbers from those given, in turn."""

    def __init__(self, drawn: Sequence[Tensor]) -> None:
        super().__init__()
        self.drawn = iter(drawn)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if (kwargs or {}).get("generator") is not None:
            return next(self.drawn)
        return function(*args, **(kwargs or {}))


def inductor(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Function:
    """PyTorch's own compiler. It takes oneDNN's products for constant weights only: by a name of
    ours they are called as they are.
    """
    import torch._inductor

    for node in graph.graph.nodes:
        if node.target is torch.ops.mkldnn._linear_pointwise.default:
            node.target, node.args = product_operation(), node.args[:2]
    graph.recompile()
    compiled: Function = torch._inductor.compile(graph, list(inputs))
    return compiled
