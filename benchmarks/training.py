"""Steps a second of CaloForge's training loop against a plain eager PyTorch loop, and the floor.

The recipe is `caloshowergan-photon`. The plain loop below has the same networks, losses and
optimisers, on showers divided by the incident energy beforehand; it does not turn and mirror them,
so CaloForge is measured both as in the recipe and with rotated and mirrored copies.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import torch
from common import Product, arguments, begin, best, products, ratio, side_by_side, table
from lightning_fabric import Fabric
from torch import Tensor, nn

from caloforge.config import load_recipe
from caloforge.data import read_showers, sample_path
from caloforge.showers import Showers
from caloforge.training.dataset import TrainingSet
from caloforge.training.loop import Run
from caloforge.training.selection import HeldOut
from caloforge.training.train import build

RECIPE = "caloshowergan-photon"
SAMPLE = "ds1-photons-train"
BATCHES = (1024, 128)
PRECISIONS = ("32-true", "bf16-mixed")
LATENT, GENERATOR, CRITIC = 100, (101, 100, 200, 400, 368), (369, 368, 368, 368, 1)
PENALTY, CRITIC_STEPS = 3.0, 8
COPIES = 'training.augment=["rotate-alpha","reflect-alpha"]'


def ours(
    showers: Showers, batch: int, precision: str, *, augment: bool = False, compiled: bool = False
) -> Callable[[], object]:
    """One step of CaloForge's loop, made as `caloforge train` makes it."""
    overrides = [f"training.batch_size={batch}", f"training.precision={precision}"]
    overrides.append(f"training.compile={compiled}")
    recipe = load_recipe(RECIPE, [*overrides, COPIES] if augment else overrides)
    settings = recipe.training
    fabric = Fabric(accelerator="cpu", devices=1, precision=settings.precision)
    model = build(recipe, showers).train()
    data = TrainingSet(
        showers, device=torch.device("cpu"), seed=settings.seed, augment=settings.augment
    )
    score = HeldOut(showers, settings.selection, settings.seed)
    return Run(model, data, score, settings, Path(), {}, fabric.autocast).advance


class PlainLoop:
    """The same training written by hand, with nothing around it."""

    def __init__(self, showers: Showers, batch: int, precision: str) -> None:
        energy = torch.from_numpy(showers.incident_energy).float()[:, None]
        low, high = showers.geometry.conditions[0].low, showers.geometry.conditions[0].high
        self.label = (energy / low).log() / torch.tensor(high / low).log()
        self.showers = torch.from_numpy(showers.energies) / energy
        self.batch, self.precision = batch, precision
        self.generator, self.critic = plain_generator(), plain_critic()
        self.adam_g = torch.optim.Adam(
            self.generator.parameters(), lr=1e-4, betas=(0.5, 0.999), fused=True
        )
        self.adam_c = torch.optim.Adam(
            self.critic.parameters(), lr=1e-4, betas=(0.9, 0.999), fused=True
        )
        self.order, self.cursor = torch.randperm(len(self.showers)), 0

    def draw(self) -> tuple[Tensor, Tensor]:
        if self.cursor + self.batch > len(self.order):
            self.order, self.cursor = torch.randperm(len(self.showers)), 0
        rows = self.order[self.cursor : self.cursor + self.batch]
        self.cursor += self.batch
        return self.showers[rows], self.label[rows]

    def fake(self, label: Tensor) -> Tensor:
        noise = 0.5 + 0.5 * torch.randn(self.batch, LATENT)
        return self.generator(torch.cat([noise, label], dim=1))

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16-mixed")

    def step(self) -> None:
        for _ in range(CRITIC_STEPS):
            real, label = self.draw()
            with self.autocast():
                with torch.no_grad():
                    fake = self.fake(label).float()
                both = torch.cat([torch.cat([real, fake]), torch.cat([label, label])], dim=1)
                score_real, score_fake = self.critic(both).chunk(2)
                mixed = torch.lerp(fake, real, torch.rand(self.batch, 1)).requires_grad_(True)
                score = self.critic(torch.cat([mixed, label], dim=1)).sum()
                (slope,) = torch.autograd.grad(score, mixed, create_graph=True)
                penalty = (slope.norm(dim=1) - 1).square().mean()
                loss = score_fake.mean() - score_real.mean() + PENALTY * penalty
            self.adam_c.zero_grad()
            loss.backward(inputs=list(self.critic.parameters()))
            self.adam_c.step()
        _, label = self.draw()
        with self.autocast():
            loss = -self.critic(torch.cat([self.fake(label), label], dim=1)).mean()
        self.adam_g.zero_grad()
        loss.backward(inputs=list(self.generator.parameters()))
        self.adam_g.step()


def plain_generator() -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(GENERATOR):
        last = n_out == GENERATOR[-1]
        norm = nn.BatchNorm1d(n_out, eps=1e-3, momentum=0.01)
        layers += [nn.Linear(n_in, n_out), norm, nn.ReLU() if last else nn.SiLU()]
    return nn.Sequential(*layers)


def plain_critic() -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(CRITIC):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def forward(batch: int, sizes: Sequence[int]) -> list[Product]:
    return [Product(batch, a, b) for a, b in pairwise(sizes)]


def to_inputs(batch: int, sizes: Sequence[int], skip: int = 0) -> list[Product]:
    """Gradients with respect to the inputs of all dense layers but the first `skip`."""
    return [Product(batch, p.n, p.k) for p in forward(batch, sizes)[skip:]]


def to_weights(batch: int, sizes: Sequence[int]) -> list[Product]:
    return [Product(p.k, p.m, p.n) for p in forward(batch, sizes)]


def step_products(batch: int) -> list[Product]:
    """The matrix products that one step of WGAN-GP needs, by mathematics alone.

    Critic: the generator forward; real and fake forward, backward to weights and to hidden layers;
    the mixture forward and backward to its input, which is the slope. The penalty's gradient walks
    that backward pass in reverse: as many products to the weights, and one less to its signals,
    since the first of them is 1. (The slope of a ReLU has no slope: nothing flows further back.)
    Generator: both networks forward, the critic backward to its input, the generator backward.
    """
    critic = forward(batch, GENERATOR)
    critic += forward(2 * batch, CRITIC) + to_weights(2 * batch, CRITIC)
    critic += to_inputs(2 * batch, CRITIC, skip=1)
    critic += forward(batch, CRITIC) + to_inputs(batch, CRITIC)
    critic += to_weights(batch, CRITIC) + forward(batch, CRITIC)[:-1]
    generator = forward(batch, GENERATOR) + forward(batch, CRITIC) + to_inputs(batch, CRITIC)
    generator += to_weights(batch, GENERATOR) + to_inputs(batch, GENERATOR, skip=1)
    return CRITIC_STEPS * critic + generator


def measure(
    showers: Showers, batch: int, precision: str, options: argparse.Namespace
) -> dict[str, list[float]]:
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    functions = {
        "plain": PlainLoop(showers, batch, precision).step,
        "ours": ours(showers, batch, precision),
        "ours, copies": ours(showers, batch, precision, augment=True),
        "floor": products(step_products(batch), dtype),
    }
    if options.compile:
        functions["compiled"] = ours(showers, batch, precision, compiled=True)
    return side_by_side(
        functions,
        seconds=0.05,
        rounds=5 if options.quick else 40,
    )


def row(showers: Showers, batch: int, precision: str, options: argparse.Namespace) -> list[str]:
    times = measure(showers, batch, precision, options)
    flops = sum(product.flops for product in step_products(batch))
    return [
        f"{precision}, {batch}",
        f"{1 / best(times['plain']):.2f}",
        f"{1 / best(times['ours']):.2f}",
        f"{ratio(times['ours'], times['plain']):.3f}",
        f"{ratio(times['ours, copies'], times['plain']):.3f}",
        f"{flops / 1e9:.2f}",
        f"{flops / best(times['floor']) / 1e9:.0f}",
        f"{1e3 * best(times['floor']):.1f}",
        f"{ratio(times['ours'], times['floor']):.2f}",
        f"{ratio(times['compiled'], times['plain']):.3f}" if options.compile else "-",
    ]


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--batch", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--precision", nargs="*", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument(
        "--compile", action="store_true", help="also training.compile=true: takes some minutes"
    )
    options = parser.parse_args()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    begin(options, f"Training, {RECIPE} (the goal: at most 1.05 x the plain loop)")
    showers = read_showers(sample_path(SAMPLE))
    rows = [row(showers, b, p, options) for p in options.precision for b in options.batch]
    head = ["precision, batch", "plain steps/s", "ours steps/s", "ours/plain", "with copies"]
    table(
        [*head, "GFLOP/step", "products GFLOP/s", "floor ms", "ours/floor", "compiled/plain"], rows
    )
    print("  a step is 8 critic updates and 1 generator update; ratios are of times, 1 is equal;")
    print("  floor: the step's matrix products alone, measured here, in the precision's type")


if __name__ == "__main__":
    main()
