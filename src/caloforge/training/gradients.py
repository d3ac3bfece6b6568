"""Loss and gradients of a player: operation by operation, or as one compiled graph.

PyTorch's compiler has no second derivatives, which gradient penalties need. Here autograd is over
before it begins: loss and gradients are computed once, every operation on the way is written down
(`make_fx`), and that list, which needs no derivatives any more, is what is compiled.

Random numbers stay outside of the graph: they are drawn before each call, with the same calls in
the same order as the loss makes them, so that a training sees the same ones compiled or not.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from caloforge.models.base import Batch, Phase
from caloforge.nn.products import product_operation

# The loss, numbers to log, and the gradients of the player's parameters.
Found = tuple[Tensor, dict[str, Tensor], Sequence[Tensor]]
Gradients = Callable[[Batch, torch.Generator], Found]
Function = Callable[..., Sequence[Tensor]]
Compiler = Callable[[fx.GraphModule, Sequence[Tensor]], Function]

# Compiled gradients may differ from the others by so much of their norm: rounding, of 16-bit
# numbers at worst. A graph that lost something differs by more.
MOST = 0.05


@dataclass(frozen=True)
class Eager:
    """Loss and gradients of a phase, operation by operation.

    `contexts` makes what the loss is computed within: precision, products, joint random numbers.
    """

    phase: Phase
    contexts: Callable[[], Sequence[AbstractContextManager[Any]]]

    def __call__(self, batch: Batch, rng: torch.Generator) -> Found:
        """At one batch."""
        loss, extra = self.loss(batch, rng)
        return loss.detach(), extra, torch.autograd.grad(loss, self.phase.parameters)

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The phase's loss within the contexts; backward passes take place outside of them."""
        with ExitStack() as stack:
            for context in self.contexts():
                stack.enter_context(context)
            return self.phase.loss(batch, rng)


class Compiled:
    """What `Eager` computes, compiled at the first batch; equal to it within rounding.

    All batches must have the size of the first, and what the loss depends on must be its batch,
    its random numbers, or parameters and buffers of the model. Where that cannot be compiled, or
    the first gradients differ, a warning says so and the player goes on as it was.

    Parameters
    ----------
    model
        The model of the phase; it stays in training mode.
    eager
        What is compiled.
    compiler
        Makes a function of a graph and of inputs like those it will get.
    """

    def __init__(self, model: nn.Module, eager: Eager, compiler: Compiler | None = None) -> None:
        self.model, self.eager, self.compiler = model, eager, compiler or inductor
        self._ready: Gradients | None = None

    def __call__(self, batch: Batch, rng: torch.Generator) -> Found:
        """At one batch."""
        if self._ready is None:
            state = rng.get_state()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # the compiler's, of itself
                    self._ready = self._compile(batch, rng)
            except Exception as error:  # the compiler raises of every kind
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
            _, extra, expected = twin.found(twin.copies(), batch, rng)
        keys = list(extra)
        rng.set_state(start)

        def draw(rng: torch.Generator) -> list[Tensor]:
            return [call(generator=rng) for call in asked.calls]

        def flat(*inputs: Tensor) -> list[Tensor]:
            size = len(twin.tensors)
            with _Given(inputs[size + 2 :]):
                loss, extra, slopes = twin.found(
                    inputs[:size], Batch(*inputs[size : size + 2]), rng
                )
            return [loss.detach(), *(extra[key].detach() for key in keys), *slopes]

        from torch.fx.experimental.proxy_tensor import make_fx

        drawn = draw(rng)
        graph = make_fx(flat, tracing_mode="fake")(*twin.copies(), *batch, *drawn)
        own = [tensor.detach() for tensor in twin.tensors]  # they share the model's memory

        with torch.no_grad():
            run = self.compiler(graph, [*own, *batch, *drawn])
            copies = [tensor.detach() for tensor in twin.copies()]
            _check(expected, run(*copies, *batch, *drawn)[1 + len(keys) :])

        @torch.no_grad()
        def gradients(batch: Batch, rng: torch.Generator) -> Found:
            loss, *others = run(*own, *batch, *draw(rng))
            return loss, dict(zip(keys, others, strict=False)), others[len(keys) :]

        return gradients


class _Twin(nn.Module):
    """Loss and gradients of a phase with other tensors in place of those of its model."""

    def __init__(self, model: nn.Module, eager: Eager) -> None:
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
        """Of all tensors of the model."""
        return [t.detach().clone().requires_grad_(t.requires_grad) for t in self.tensors]

    def found(self, tensors: Sequence[Tensor], batch: Batch, rng: torch.Generator) -> Found:
        """With `tensors` in place of the model's."""
        state = {name: tensors[self.places[id(own)]] for name, own in self.names.items()}
        called = torch.func.functional_call
        loss, extra = called(self, state, (batch, rng), tie_weights=False)
        learning = [tensors[self.places[id(own)]] for own in self.eager.phase.parameters]
        return loss, extra, torch.autograd.grad(loss, learning)

    def forward(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return self.eager.loss(batch, rng)


def _check(expected: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    pairs = zip(expected, gradients, strict=True)
    distance = nn.utils.get_total_norm([own - other for own, other in pairs])
    norm = nn.utils.get_total_norm(expected)
    if not bool(distance <= MOST * norm):
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
