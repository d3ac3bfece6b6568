"""The auto-encoder's likelihood against closed forms, and the flow of its latent numbers."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import nn

from caloforge.detector.shipped import load_geometry
from caloforge.errors import ModelError
from caloforge.models.base import Batch
from caloforge.models.vae import VAE, InverseAutoregressive, VAEHyper
from caloforge.noise import normals
from caloforge.transforms import IncidentFraction, LayerLogs


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=rng(seed))


@pytest.fixture
def flow() -> InverseAutoregressive:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = InverseAutoregressive(5, 2, layers=3, hidden=16)
        for parameter in flow.parameters():  # far from the identity
            parameter.data += 0.3 * torch.randn(parameter.shape)
    return flow


@pytest.fixture
def vae() -> VAE:
    geometry = load_geometry("atlas-cells")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        small = VAEHyper(latent=3, encoder=(16,), decoder=(16,))
        return VAE(geometry, LayerLogs(geometry, 0.1), small)


# --- the flow --------------------------------------------------------------------------------
def test_the_flow_is_inverted(flow: InverseAutoregressive) -> None:
    noise, labels = numbers(50, 5), numbers(50, 2, 1)
    with torch.no_grad():
        latent = flow(noise, labels)
        back, _ = flow.noise(latent, labels)
    assert (latent - noise).abs().max().item() > 0.1
    torch.testing.assert_close(back, noise, rtol=1e-3, atol=1e-4)


def test_the_volume_is_that_of_the_jacobian(flow: InverseAutoregressive) -> None:
    flow = flow.double()
    noise, labels = numbers(4, 5).double(), numbers(4, 2, 1).double()
    _, volume = flow.noise(flow(noise, labels), labels)
    for row in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda e, row=row: flow(e[None], labels[row : row + 1])[0], noise[row]
        )
        assert float(torch.linalg.slogdet(jacobian).logabsdet) == pytest.approx(
            float(volume[row].detach()), rel=1e-6
        )


def test_sampling_takes_one_pass_a_layer_and_density_one_a_number(
    flow: InverseAutoregressive,
) -> None:
    passes = []
    for layer in flow.layers:
        layer.hyper.register_forward_hook(lambda *_: passes.append(1))
    latent = flow(numbers(8, 5), numbers(8, 2))
    assert len(passes) == 3
    passes.clear()
    flow.noise(latent, numbers(8, 2))
    assert len(passes) == 3 * (5 + 1)  # one more for the volume


def test_a_trained_flow_turns_a_bent_cloud_into_a_gaussian() -> None:
    """z2 = z1^2 - 1 + noise: neither number nor pair is normal; what the flow makes of it is."""

    def cloud(count: int, seed: int) -> torch.Tensor:
        first, second = numbers(count, 2, seed).unbind(dim=1)
        return torch.stack([first, first.square() - 1 + 0.3 * second], dim=1)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow = InverseAutoregressive(2, 1, layers=3, hidden=32)
    optimiser = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for step in range(150):
        noise, volume = flow.noise(cloud(256, step), torch.zeros(256, 1))
        loss = (0.5 * noise.square().sum(dim=1) + volume).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    test = cloud(4000, 10_000)
    with torch.no_grad():
        noise, _ = flow.noise(test, torch.zeros(4000, 1))
        drawn = flow(numbers(4000, 2, 7), torch.zeros(4000, 1))
    distance = [kstest(v[:, 1].numpy() / v[:, 1].std().item(), "norm").statistic
                for v in (test, noise)]  # fmt: skip
    assert distance[0] > 0.1 > 0.05 > distance[1]
    square = noise[:, 0] ** 2 - 1
    assert abs(np.corrcoef(square, noise[:, 1])[0, 1]) < 0.2
    assert np.corrcoef(test[:, 0] ** 2, test[:, 1])[0, 1] > 0.9
    assert np.corrcoef(drawn[:, 0] ** 2, drawn[:, 1])[0, 1] > 0.8


# --- the bound -------------------------------------------------------------------------------
def toy(vae: VAE, count: int = 6) -> Batch:
    energies = torch.rand(count, vae.geometry.n_cells, generator=rng(3))
    energies = torch.where(energies < 0.5, 0.0, 50 * energies)
    condition = torch.tensor([[4096.0, 1.0, 2.0, 3.0, 1.0]]).expand(count, -1)
    return Batch(energies, condition)


def test_the_misfit_of_one_number_is_a_hurdle(vae: VAE) -> None:
    """Empty with probability 1 - p, else normal: all else equal, the misfits differ by the ratio
    of (1 - p) to the density p exp(-pull^2 / 2) / (sigma sqrt(2 pi)).
    """
    batch = toy(vae, 1)
    labels, latent = vae.labels(batch.condition), numbers(1, 3)
    x = vae.transform(batch.energies, batch.condition)
    with torch.no_grad():
        mean, log_width, odds = (part[0, 7] for part in vae.decode(latent, labels))
        p, width = torch.sigmoid(odds), log_width.exp()
        vae.empty[7] = -30.0  # well below any value tried
        for pull in (0.0, 1.5):
            filled, empty = x.clone(), x.clone()
            filled[0, 7] = mean + pull * width
            density = p * np.exp(-0.5 * pull**2) / (width * np.sqrt(2 * np.pi))
            found = -vae._misfit(filled, latent, labels)
            empty[0, 7] = -30.0
            found += vae._misfit(empty, latent, labels)
            assert float(found) == pytest.approx(float((density / (1 - p)).log()), abs=1e-3)


def test_the_bound_with_an_idle_flow_is_the_closed_form(vae: VAE) -> None:
    """A flow that does nothing gives the divergence of the standard normal prior, on average."""
    batch = toy(vae)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        vae.flow = InverseAutoregressive(3, vae.labels.size, layers=2, hidden=8)
    for parameter in vae.flow.parameters():
        parameter.data.zero_()
    drawn = [float(vae.loss(batch, rng(k))[1]["divergence"]) for k in range(100)]
    vae.flow = None
    closed = float(vae.loss(batch, rng())[1]["divergence"])
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert closed > 0
    assert abs(np.mean(drawn) - closed) < 4 * error


# --- sampling --------------------------------------------------------------------------------
def test_numbers_are_empty_as_often_as_the_decoder_says(vae: VAE) -> None:
    size = vae.numbers
    last = vae.decoder[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
        last.bias[:size] = 3.0
        last.bias[2 * size :] = torch.linspace(-4, 4, size)
    noise = torch.from_numpy(normals(0, 0, 4000, vae.noise_size))
    condition = torch.tensor([[4096.0, 1.0, 2.0, 3.0, 1.0]]).expand(4000, -1)
    with torch.no_grad():
        cells = vae.sample(condition, noise)
    filled = (cells > 0).double().mean(dim=0)
    cells_at = 1 + vae.geometry.n_layers
    odds = torch.linspace(-4, 4, size)[cells_at:].double()
    own = vae.geometry.layer_of_cell == 2  # a layer whose own number is nearly always filled
    error = (filled - torch.sigmoid(odds))[own].abs()
    layer = torch.sigmoid(torch.linspace(-4, 4, size)[1 + 2].double())
    scaled = (filled - torch.sigmoid(odds) * layer)[own].abs()
    assert float(torch.minimum(error, scaled).max()) < 0.04


def test_without_draw_the_decoder_is_all(vae: VAE) -> None:
    geometry = vae.geometry
    small = VAEHyper(latent=3, encoder=(16,), decoder=(16, 8), likelihood="gaussian", draw=False)
    plain = VAE(geometry, IncidentFraction(geometry, 0.0, 0), small)
    assert plain.noise_size == 3
    assert all(isinstance(part, nn.Linear | nn.SiLU) for part in plain.decoder)
    condition = torch.tensor([[4096.0, 1.0, 2.0, 3.0, 1.0]])
    with torch.no_grad():
        cells = plain.sample(condition, torch.ones(1, 3))
        inputs = torch.cat([torch.ones(1, 3), plain.labels(condition)], dim=1)
        outputs = plain.decoder(inputs)[:, : geometry.n_cells]
    torch.testing.assert_close(cells, outputs.clamp(min=0) * 4096.0)


def test_empty_numbers_need_a_transform_that_knows_them() -> None:
    geometry = load_geometry("atlas-cells")
    with pytest.raises(ModelError, match='expected the transform "layer-logs"'):
        VAE(geometry, IncidentFraction(geometry, 0.0, 0))
