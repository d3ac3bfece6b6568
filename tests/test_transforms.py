"""Transforms: there and back again, options, the pull's resolution, wild input, saving."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caloforge.data import read_showers, sample_names, sample_path
from caloforge.detector.geometry import Geometry, Layer
from caloforge.detector.shipped import load_geometry
from caloforge.errors import ModelError
from caloforge.showers import Showers
from caloforge.transforms import (
    TRANSFORMS,
    BalancedFraction,
    IncidentEnergy,
    IncidentFraction,
    LayerLogs,
    Transform,
    fit_transform,
    interpolate,
    transform_name,
)

# A spiral needs layers that are grids: tests/test_transforms_spiral.py.
every_transform = pytest.mark.parametrize("name", sorted(set(TRANSFORMS) - {"spiral"}))


def tensors(showers: Showers) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(showers.energies), torch.from_numpy(showers.conditions).float()


def cut_of(transform: Transform) -> float:
    return transform.floor if isinstance(transform, LayerLogs) else 0.0


@pytest.fixture(scope="module")
def tiny() -> Geometry:
    """Three layers of 4, 1 and 6 cells with the photons' conditions."""
    edges = tuple(np.linspace(-np.pi, np.pi, 3).tolist())
    ring = (-np.pi, np.pi)
    layers = (
        Layer(0, "a", "polar", ("alpha", "r"), (edges, (0.0, 1.0, 2.0))),
        Layer(1, "b", "polar", ("alpha", "r"), (ring, (0.0, 5.0))),
        Layer(2, "c", "polar", ("alpha", "r"), (edges, (0.0, 1.0, 2.0, 3.0))),
    )
    return Geometry("tiny", "tiny", layers, load_geometry("ds1-photons").conditions)


@every_transform
@settings(max_examples=60, deadline=None)
@given(
    shares=hnp.arrays(
        np.float32,
        st.tuples(st.integers(2, 12), st.just(11)),
        elements=st.just(0.0) | st.floats(0.0, 0.125, width=32) | st.floats(0, 2**-12, width=32),
    ),
    seed=st.integers(0, 99),
)
def test_there_and_back(name: str, tiny: Geometry, shares: np.ndarray, seed: int) -> None:
    energy = np.random.default_rng(seed).choice([256.0, 4096.0, 4194304.0], (len(shares), 1))
    cells = (shares * energy).astype(np.float32)
    showers = Showers(cells, energy, tiny)
    transform = fit_transform(name, showers)
    x = transform(*tensors(showers))
    assert x.shape == (len(cells), transform.size())
    assert torch.isfinite(x).all()
    back = transform.inverse(x, tensors(showers)[1]).numpy()
    expected = np.where(cells < cut_of(transform), 0, cells)
    assert (np.abs(back - expected) <= 1e-5 * energy).all()


@every_transform
def test_there_and_back_on_real_showers(name: str, photons: Showers) -> None:
    transform = fit_transform(name, photons)
    energies, condition = tensors(photons)
    back = transform.inverse(transform(energies, condition), condition)
    expected = torch.where(energies < cut_of(transform), 0.0, energies)
    incident = torch.from_numpy(photons.incident_energy).float()[:, None]
    assert ((back - expected).abs() <= 1e-5 * incident).all()
    assert ((back - expected).abs() <= 1e-4 * expected + 1e-6 * incident).all()
    assert ((back > 0) == (expected > 0)).float().mean() > 0.999999


@pytest.mark.parametrize("sample", [n for n in sample_names() if n.endswith("-train")])
@every_transform
def test_every_shipped_detector_can_be_transformed(name: str, sample: str) -> None:
    showers = read_showers(sample_path(sample))[:300]
    transform = fit_transform(name, showers)
    energies, condition = tensors(showers)
    x = transform(energies, condition)
    back = transform.inverse(x, condition)
    incident = torch.from_numpy(showers.incident_energy).float()[:, None]
    assert torch.isfinite(x).all()
    expected = torch.where(energies < cut_of(transform), 0.0, energies)
    assert ((back - expected).abs() <= 2e-5 * torch.maximum(incident, expected)).all()


def test_the_fraction_is_the_energy_over_the_incident_energy(photons: Showers) -> None:
    transform = IncidentFraction.fit(photons)
    energies, condition = tensors(photons)
    torch.testing.assert_close(transform(energies, condition), energies / condition)


def test_low_cut_empties_cells_both_ways(photons: Showers) -> None:
    transform = IncidentFraction.fit(photons, low_cut=2.0)
    energies, condition = tensors(photons)
    x = transform(energies, condition)
    assert ((x > 0) == (energies >= 2.0)).all()
    back = transform.inverse(energies / condition, condition)
    assert float(back[back > 0].min()) >= 2.0 * (1 - 1e-6)
    assert float(back.sum()) == pytest.approx(float(energies[energies >= 2].sum()), rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "settings"), [(IncidentFraction, {"energy_scale": True}), (BalancedFraction, {})]
)
def test_what_is_cut_is_not_fitted_either(
    kind: type[IncidentFraction], settings: dict[str, bool], photons: Showers
) -> None:
    kept = replace(photons, energies=np.where(photons.energies < 5, 0, photons.energies))
    cutting = kind.fit(photons, low_cut=5.0, **settings).state_dict()
    for key, value in kind.fit(kept, **settings).state_dict().items():
        torch.testing.assert_close(cutting[key], value)


def test_one_shower_is_enough_for_a_fit(photons: Showers) -> None:
    fitted = LayerLogs.fit(photons[:1])
    assert torch.isfinite(fitted(*tensors(photons[:1]))).all()


def test_energy_scale_takes_the_mean_response_out(photons: Showers) -> None:
    """Divided by the mean response, the summed fractions have the mean 1 at every energy."""
    transform = IncidentFraction.fit(photons, energy_scale=True)
    plain = IncidentFraction.fit(photons)
    energies, condition = tensors(photons)
    scaled = transform(energies, condition).sum(dim=1)
    fractions = plain(energies, condition).sum(dim=1)
    for point in condition.unique():
        rows = condition[:, 0] == point
        assert float(scaled[rows].mean()) == pytest.approx(1.0, abs=1e-4), float(point)
        assert float(fractions[rows].mean()) != pytest.approx(1.0, abs=1e-4)
    between = torch.tensor([[3000.0]])  # not a point of the scan: between its neighbours
    low, high = (float(transform.scale(torch.tensor([[e]]))[0, 0]) / e for e in (2048.0, 4096.0))
    assert min(low, high) <= float(transform.scale(between)[0, 0]) / 3000.0 <= max(low, high)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_balanced_cells_have_a_size_between_their_own_and_one(
    power: float, photons: Showers
) -> None:
    """Root mean square of x: size^(1 - power). With power 0 nothing is balanced."""
    energies, condition = tensors(photons)
    plain, balanced = IncidentFraction.fit(photons), BalancedFraction.fit(photons, power=power)
    sizes = plain(energies, condition).square().mean(dim=0).sqrt()
    found = balanced(energies, condition).square().mean(dim=0).sqrt()
    alive = sizes > 0
    torch.testing.assert_close(found[alive], sizes[alive] ** (1 - power), rtol=1e-4, atol=1e-7)
    if power == 0.0:
        assert torch.equal(balanced(energies, condition), plain(energies, condition))


def test_a_balance_that_cannot_be_is_an_error(photons: Showers) -> None:
    with pytest.raises(ModelError, match=r"Got power = 1\.5; expected 0 to 1"):
        BalancedFraction.fit(photons, power=1.5)


def test_the_pull_is_a_standard_normal_at_every_energy(photons: Showers) -> None:
    transform = LayerLogs.fit(photons)
    x = transform(*tensors(photons))
    pull = x[:, 0] * transform.std[0] + transform.mean[0]
    points, counts = np.unique(photons.incident_energy, return_counts=True)
    for point, count in zip(points, counts, strict=True):
        values = pull[torch.from_numpy(photons.incident_energy == point)]
        assert abs(float(values.mean())) < 0.01, point
        if count >= 100:  # three parameters describe the resolution at all energies
            assert 0.75 < float(values.std()) < 1.25, point
    assert float(pull.std()) == pytest.approx(1.0, abs=0.05)


def test_standardised_on_the_training_showers(photons: Showers) -> None:
    transform = LayerLogs.fit(photons)
    x = transform(*tensors(photons))
    assert x.mean(dim=0).abs().max() < 1e-3
    spread = x.std(dim=0)
    alive = transform.std != 1.0
    torch.testing.assert_close(spread[alive], torch.ones_like(spread[alive]), rtol=1e-3, atol=0)


def test_layer_logs_fit_a_spectrum_with_repeated_energies(tiny: Geometry) -> None:
    """One energy makes up most of a spectrum: quantiles repeat, each mean stays with its knot."""
    rng = np.random.default_rng(0)
    energy = np.concatenate([np.full(2000, 65536.0), np.geomspace(256, 4194304, 400)])[:, None]
    response = 0.2 + 0.08 * np.log(energy / 256)
    share = rng.dirichlet(np.full(11, 50.0), len(energy))
    showers = Showers((share * response * energy).astype(np.float32), energy, tiny)
    for transform, mean in (
        (LayerLogs.fit(showers, floor=1e-3), lambda t, e: t._mean_response(e)),
        (IncidentFraction.fit(showers, energy_scale=True), lambda t, e: t.scale(e) / e),
    ):
        probe = torch.tensor([[1024.0], [16384.0], [65536.0], [1048576.0]])
        expected = 0.2 + 0.08 * (probe / 256).log()
        torch.testing.assert_close(mean(transform, probe), expected, rtol=0.03, atol=0)


@every_transform
@pytest.mark.parametrize("fill", [0.0, 1e-30, 1.0, 1e3, 1e30, -1e30, -1.0])
def test_wild_output_of_a_network_is_still_energies(
    name: str, fill: float, photons: Showers
) -> None:
    transform = fit_transform(name, photons[:500])
    condition = tensors(photons)[1][:20]
    x = torch.full((20, transform.size()), fill)
    energies = transform.inverse(x, condition)
    assert torch.isfinite(energies).all()
    assert (energies >= 0).all()
    rng = torch.Generator().manual_seed(0)
    noisy = transform.inverse(torch.randn(x.shape, generator=rng) * max(1, abs(fill)), condition)
    assert torch.isfinite(noisy).all()
    assert (noisy >= 0).all()


def test_layer_logs_give_the_total_the_pull_asks_for(photons: Showers) -> None:
    transform = LayerLogs.fit(photons)
    energies, condition = tensors(photons[:50])
    x = transform(energies, condition)
    x[:, 1:] += 0.1 * torch.randn(x[:, 1:].shape, generator=torch.Generator().manual_seed(0))
    total = transform.inverse(x, condition).sum(dim=1)
    wanted = torch.where(energies < transform.floor, 0.0, energies).sum(dim=1)
    torch.testing.assert_close(total, wanted, rtol=1e-3, atol=0)


@every_transform
@pytest.mark.parametrize("options", [{}, "all"])
def test_restored_with_its_buffers_it_is_the_same(
    name: str, options: object, photons: Showers
) -> None:
    chosen = {
        "balanced-fraction": {"power": 0.7, "low_cut": 1.0},
        "incident-fraction": {"low_cut": 1.0, "energy_scale": True},
        "layer-logs": {"floor": 2.5},
        "log-energy": {"low_cut": 1.0},
    }[name]
    transform = fit_transform(name, photons, **(chosen if options == "all" else {}))
    again = TRANSFORMS[name].restore(photons.geometry, transform.settings)
    again.load_state_dict(transform.state_dict())
    assert transform_name(again) == name
    assert again.settings == transform.settings
    energies, condition = tensors(photons)
    x = transform(energies, condition)
    assert torch.equal(again(energies, condition), x)
    assert torch.equal(again.inverse(x, condition), transform.inverse(x, condition))


def test_incident_energy_from_either_kind_of_condition() -> None:
    photons = IncidentEnergy(load_geometry("ds1-photons"))
    assert photons(torch.tensor([[256.0]])).tolist() == [[256.0]]
    lhcb = load_geometry("lhcb")
    condition = torch.zeros(1, len(lhcb.conditions))
    for axis, value in (("px", 3.0), ("py", 4.0), ("pz", 12.0)):
        condition[0, lhcb.column(axis)] = value
    assert IncidentEnergy(lhcb)(condition).tolist() == [[13.0]]


def test_interpolation() -> None:
    knots, values = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([5.0, 7.0, 3.0])
    x = torch.tensor([[-9.0], [0.0], [0.5], [1.0], [2.0], [3.0], [99.0]])
    expected = torch.tensor([[5.0], [5.0], [6.0], [7.0], [5.0], [3.0], [3.0]])
    torch.testing.assert_close(interpolate(x, knots, values), expected)
