"""The mean end of a path against Bayes' rule by brute force; empty cells come out empty."""

import numpy as np
import pytest
import torch

from caloforge.detector.shipped import load_geometry
from caloforge.models.flowmatching import FlowMatching, FlowMatchingHyper, mean_end
from caloforge.transforms import LayerLogs


def posterior_mean(x, t, p, mean, variance, empty):
    """E[x_1 | x_t = x] from many draws of x_1, weighted with the density of x given x_1."""
    rng = np.random.default_rng(0)
    ends = rng.normal(mean, np.sqrt(variance), 400_000)
    ends[rng.random(len(ends)) > p] = empty
    weight = np.exp(-0.5 * ((x - t * ends) / (1 - t)) ** 2)
    return float((weight * ends).sum() / weight.sum())


@pytest.mark.parametrize("t", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("x", [-1.5, 0.2, 1.4])
def test_mean_end_is_the_posterior_mean(x, t):
    p, mean, variance, empty = 0.35, 1.2, 0.3, -0.8
    numbers = [torch.tensor([[v]]) for v in (x, t, np.log(p / (1 - p)), mean)]
    got = mean_end(*(n.float() for n in numbers), torch.tensor([variance]), torch.tensor([empty]))
    assert float(got) == pytest.approx(posterior_mean(x, t, p, mean, variance, empty), abs=0.01)


def test_at_the_end_x_itself_decides():
    """Just before t = 1 a number near that of an empty cell goes there exactly, others stay."""
    x, time = torch.tensor([[-0.8, 1.0]]), torch.tensor([[0.999]])
    odds, mean = torch.zeros(1, 2), torch.full((1, 2), 1.2)
    got = mean_end(x, time, odds, mean, torch.full((2,), 0.3), torch.full((2,), -0.8))
    assert got[0, 0] == pytest.approx(-0.8, abs=1e-3)
    assert got[0, 1] == pytest.approx(1.0, abs=2e-2)


def test_a_network_sure_of_empty_cells_makes_empty_showers():
    geometry = load_geometry("ds1-photons")
    model = FlowMatching(
        geometry, LayerLogs(geometry, floor=1.0), FlowMatchingHyper(hidden=8, blocks=1)
    )
    with torch.no_grad():
        for parameter in model.mixture.parameters():
            parameter.zero_()
        model.mixture.skip.bias[: geometry.n_cells + 1 + geometry.n_layers] = -100.0
    noise = torch.randn(16, model.noise_size, generator=torch.Generator().manual_seed(0))
    showers = model.sample(torch.full((16, 1), 65536.0), noise)
    assert float(showers.detach().abs().max()) == 0.0
