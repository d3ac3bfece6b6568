"""The flagship, part by part: closed forms, symmetries, exact layer energies."""

import json
import resource
from itertools import pairwise

import numpy as np
import pytest
import torch
import zuko
from conftest import sample_showers
from scipy.special import ndtr, ndtri
from scipy.stats import kstest

from caloforge.config import load_recipe
from caloforge.detector.shipped import load_geometry
from caloforge.detector.symmetries import symmetry_group
from caloforge.errors import ModelError
from caloforge.models import make_model
from caloforge.models.base import Batch
from caloforge.models.copula.bound import SLACK
from caloforge.models.copula.by_layer import ByLayer
from caloforge.models.copula.censored import Censored, Sweeps, known
from caloforge.models.copula.check import departures
from caloforge.models.copula.core import Core
from caloforge.models.copula.correlation import Correlation, energy_groups, split
from caloforge.models.copula.frame import Frame, orbits, pair_orbits
from caloforge.models.copula.given import Given
from caloforge.models.copula.layers import Shares
from caloforge.models.copula.lowrank import LowRank
from caloforge.models.copula.model import Copula
from caloforge.models.copula.remainder import Velocity
from caloforge.models.copula.rings import find_rings, fourier
from caloforge.models.copula.scale import Scale
from caloforge.models.copula.spline import SLOPE, Spline
from caloforge.models.copula.tables import Tables, _mean_below
from caloforge.nn.normal import cdf, draw_below, mean_below, quantile, tail, wichura

EM = Sweeps(enough=10, sweeps=20, draws=4, shrink=1e-4)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(name: str, count: int | None = None) -> Batch:
    showers = sample_showers(name)[:count]
    return Batch(
        torch.from_numpy(showers.energies).float(), torch.from_numpy(showers.conditions).float()
    )


# --- normal numbers below a threshold ---------------------------------------------------------
@pytest.mark.parametrize("threshold", [-4.0, -1.0, 0.5, 3.0])
def test_numbers_below_a_threshold_have_the_mean_and_shape_of_a_cut_normal(threshold) -> None:
    level = torch.rand(20_000, generator=rng())
    drawn = draw_below(torch.full_like(level, threshold), level)
    assert (drawn <= threshold).all()
    assert kstest(ndtr(drawn.numpy()) / ndtr(threshold), "uniform").pvalue > 1e-3
    mean = float(mean_below(torch.tensor(threshold)))
    assert mean == pytest.approx(float(drawn.mean()), abs=0.02)


def test_what_onnx_is_given_for_phi_agrees_with_scipy() -> None:
    x = torch.linspace(-6, 6, 2001)
    np.testing.assert_allclose(tail(x), ndtr(-x.double().numpy()), rtol=5e-6)
    p = torch.cat([torch.logspace(-25, -0.3, 500), 1 - torch.logspace(-6, -0.3, 500)])
    np.testing.assert_allclose(wichura(p), ndtri(p.double().numpy()), atol=4e-6)
    np.testing.assert_allclose(cdf(x), ndtr(x.double().numpy()), rtol=3e-6)
    np.testing.assert_allclose(quantile(cdf(x[x < 4])), x[x < 4], atol=5e-3)


def test_what_exports_are_given_for_the_mean_below_a_threshold_agrees() -> None:
    threshold = torch.linspace(-7.9, 5, 2001)
    expected = mean_below(threshold.double()).float()
    torch.testing.assert_close(_mean_below(threshold), expected, atol=3e-6, rtol=0)


# --- splines ----------------------------------------------------------------------------------
def test_the_splines_are_those_of_zuko() -> None:
    parameters = 2 * torch.randn(23, 500, 3, generator=rng(), dtype=torch.float64)
    x = 3 * torch.randn(500, 3, generator=rng(1), dtype=torch.float64)
    theirs = zuko.transforms.MonotonicRQSTransform(
        *(part.movedim(0, -1) for part in torch.split(parameters, [8, 8, 7])), 5.0, SLOPE
    )
    expected, slope = theirs.call_and_ladj(x)
    ours = Spline(parameters, 5.0)
    y, ladj = ours(x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(ladj, slope)
    torch.testing.assert_close(ours.inverse(y), x)


# --- correlations -----------------------------------------------------------------------------
def truth(size: int) -> torch.Tensor:
    """A correlation matrix with both signs."""
    factors = torch.randn(size, 3, generator=rng(5), dtype=torch.float64)
    matrix = factors @ factors.T + torch.eye(size, dtype=torch.float64)
    scale = matrix.diagonal().rsqrt()
    return matrix * scale[:, None] * scale


def censored(matrix: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
    """Normal variables of which up to four fifths are known only to lie below a threshold."""
    size = len(matrix)
    y = torch.randn(count, size, generator=rng(6), dtype=torch.float64)
    y = (y @ torch.linalg.cholesky(matrix).T).float()
    threshold = torch.linspace(-3, 0.8, size).expand(count, size)
    empty = y < threshold
    return torch.where(empty, threshold, y), empty, threshold


def test_a_known_copula_is_recovered_from_censored_variables() -> None:
    matrix = truth(12)
    y, empty, threshold = censored(matrix, 6000)
    assert 0.2 < empty.float().mean() < 0.6
    fitted = Correlation([np.arange(10)], 2, 1)
    white, context = fitted.fit(Censored(y, empty, threshold), torch.zeros(len(y)), rng(), EM)
    slope, root = split(matrix, 10)
    torch.testing.assert_close(fitted.slope[0].double(), slope, atol=0.09, rtol=0)
    found = fitted.root[0].double()
    torch.testing.assert_close(found @ found, root @ root, atol=0.09, rtol=0)
    # What is left is white, and the way back is the way there.
    covariance = torch.cov(white.flatten(0, 1).T)
    torch.testing.assert_close(covariance, torch.eye(10), atol=0.09, rtol=0)
    again = fitted(white[:, 0], context[:, 0], torch.zeros(len(y)))
    torch.testing.assert_close(again[~empty[:, :10]], y[:, :10][~empty[:, :10]], atol=1e-3, rtol=0)


def test_means_and_variances_of_each_energy_are_recovered_with_the_copula() -> None:
    matrix, moved, wide = truth(12), torch.linspace(-0.8, 0.8, 12), torch.linspace(0.6, 1.4, 12)
    moved[10:], wide[10:] = 0.0, 1.0  # the context
    parts = [censored(matrix, 6000) for _ in range(2)]
    pairs = [(moved, wide), (-moved, 1 / wide)]
    y, threshold = (
        torch.cat([part[k] * w + m for part, (m, w) in zip(parts, pairs, strict=True)])
        for k in (0, 2)
    )
    empty = torch.cat([part[1] for part in parts])
    log_energy = torch.tensor([0.0, 1.0]).repeat_interleave(6000)
    fitted = Correlation([np.arange(10)], 2, 2, shifts=True)
    settings = EM._replace(enough=3000)
    white, context = fitted.fit(Censored(y, empty, threshold), log_energy, rng(), settings)
    assert context.shape[2] == 2
    covariance = torch.cov(white.flatten(0, 1).T)
    torch.testing.assert_close(covariance, torch.eye(10), atol=0.09, rtol=0)
    for at, (mean, width) in enumerate(pairs):
        noise = torch.randn(20_000, 12, generator=rng(8))
        told = noise[:, 10:] @ torch.linalg.cholesky(matrix[10:, 10:]).float().T
        made = fitted(noise[:, :10], told, torch.full((20_000,), float(at)))
        torch.testing.assert_close(made.mean(dim=0), mean[:10], atol=0.06, rtol=0)
        torch.testing.assert_close(made.std(dim=0), width[:10], atol=0.08, rtol=0)
        found = torch.corrcoef(torch.cat([made, told], dim=1).T)
        torch.testing.assert_close(found.double(), matrix, atol=0.09, rtol=0)


def test_a_matrix_has_not_the_noise_of_a_single_draw() -> None:
    """Other draws of the empty cells of few showers are as white as those it was found with."""
    y, empty, threshold = censored(truth(24), 60)
    fitted = Correlation([np.arange(24)], 0, 1)
    white, _ = fitted.fit(Censored(y, empty, threshold), torch.zeros(len(y)), rng(), EM)
    assert float(white.square().mean()) == pytest.approx(1.0, abs=0.03)


def test_filling_empty_cells_independently_would_lose_correlation() -> None:
    """What the expectation maximisation is for."""
    matrix = truth(12)
    y, empty, threshold = censored(matrix, 6000)
    level = torch.rand(y.shape, generator=rng())
    naive = torch.corrcoef(torch.where(empty, draw_below(threshold, level), y).T)
    fitted = Correlation([np.arange(12)], 0, 1)
    fitted.fit(Censored(y, empty, threshold), torch.zeros(len(y)), rng(), EM)
    found = fitted.root[0] @ fitted.root[0]
    hidden = slice(7, 12)  # most of these are empty
    errors = [(m.double() - matrix)[hidden, hidden].abs().max() for m in (naive, found)]
    assert errors[1] < 0.5 * errors[0]


def test_matrices_have_the_symmetries_exactly() -> None:
    geometry = load_geometry("ds1-photons")
    group = [s.permutation for s in symmetry_group(geometry)]
    small = [p[8:168] - 8 for p in group]  # of layer 1
    fitted = Correlation(small, 0, 1)
    count = len(small[0])
    y = torch.randn(400, count, generator=rng())
    fitted.fit(known(y), torch.zeros(400), rng(), EM)
    for p in small:
        assert torch.equal(fitted.root[0][p][:, p], fitted.root[0])
    assert pair_orbits(small).max() + 1 == fitted.values.shape[1] < count**2 / 20


@pytest.mark.parametrize(
    ("name", "fixed", "rings"), [("ds1-photons", 18, 35), ("ds1-pions", 23, 51)]
)
def test_rings_and_blocks_of_polar_layers(name: str, fixed: int, rings: int) -> None:
    group = [s.permutation for s in symmetry_group(load_geometry(name))]
    pairs = pair_orbits(group)
    found = find_rings(group, pairs)
    assert found is not None
    assert (len(found.fixed), found.turned.shape) == (fixed, (10, rings))
    assert sorted(found.order) == list(range(len(pairs)))
    transform = fourier(10)
    torch.testing.assert_close(transform @ transform.T, torch.eye(10).double())


def test_without_a_turn_there_are_no_rings() -> None:
    for name in ("calogan", "lhcb"):
        group = [s.permutation for s in Frame(load_geometry(name)).symmetries()]
        assert find_rings(group, pair_orbits(group)) is None
    turn = np.array([1, 2, 3, 4, 0, 6, 7, 8, 9, 5])
    turns = [np.arange(10), turn, turn[turn], turn[turn[turn]], turn[turn[turn[turn]]]]
    # Nothing says that the second ring is the same seen from the other side.
    assert find_rings(turns, pair_orbits(turns)) is None


@pytest.mark.parametrize("knots", [1, 4])
def test_blocks_are_the_whole_matrices(knots: int) -> None:
    """One energy, some energies and a spectrum, in random order and beyond the knots."""
    group = [s.permutation for s in symmetry_group(load_geometry("ds1-photons"))]
    fitted = Correlation(group, 2, knots)
    assert fitted.rings is not None
    fitted.values.copy_(torch.randn(fitted.values.shape, generator=rng()))
    ring = orbits(group)
    fitted.slope.copy_(torch.randn(knots, ring.max() + 1, 2, generator=rng(1))[:, ring])
    fitted.unfold()
    w, context = (torch.randn(60, size, generator=rng(2)) for size in (368, 2))
    spectrum = torch.rand(60, generator=rng(3)) * (knots + 1) - 1
    for log_energy in (spectrum, spectrum.round(), torch.full((60,), 0.3), spectrum[:1]):
        noise, known = w[: len(log_energy)], context[: len(log_energy)]
        model = fitted(noise, known, log_energy)
        share = fitted.weights(log_energy) if knots > 1 else torch.ones(len(log_energy), 1)
        whole = torch.einsum("nq,qij,ni->nj", share, fitted.root, noise)
        whole += torch.einsum("nq,qjk,nk->nj", share, fitted.slope, known)
        torch.testing.assert_close(model, whole, atol=2e-4, rtol=1e-5)


def test_few_factors_are_recovered_from_censored_variables() -> None:
    size, rank = 60, 2
    loading = 0.6 * torch.randn(size, rank, generator=rng(3))
    own = 1 - loading.square().sum(dim=1)
    loading, own = loading[own > 0.2], own[own > 0.2]
    size = len(loading)
    factors = torch.randn(4000, rank, generator=rng(4))
    y = factors @ loading.T + own.sqrt() * torch.randn(4000, size, generator=rng(7))
    threshold = torch.linspace(-2, 0.5, size).expand(4000, size)
    empty = y < threshold
    censored_y = torch.where(empty, threshold, y)
    fitted = LowRank([np.arange(size)], 1, rank)
    context = torch.randn(4000, 1, generator=rng(8))  # of nothing
    fitted.fit(Censored(censored_y, empty, threshold).beside(known(context)), rng(), 40)
    drawn = fitted(torch.randn(200_000, size, generator=rng(9)), torch.zeros(200_000, 1), context)
    expected = loading @ loading.T + own.diag()
    torch.testing.assert_close(torch.cov(drawn.T), expected, atol=0.08, rtol=0)


def test_core_and_halo_of_many_cells() -> None:
    """The core is nearest to the axis in whole orbits; its noise alone is seen and changed; what
    the halo shares with the core is kept.
    """
    geometry = load_geometry("ds1-photons")
    group = [s.permutation for s in symmetry_group(geometry)]
    fitted = Core(geometry, group, 5, 150, 2)
    inside = np.isin(np.arange(368), fitted.inner.numpy())
    radius = np.concatenate([layer.centres[1] for layer in geometry.layers])
    assert 130 < inside.sum() <= 150
    assert radius[inside].max() <= radius[~inside].min() + 20
    assert all(inside[p].tolist() == inside.tolist() for p in group)
    joint = torch.randn(1500, 1, generator=rng(1))
    y = 0.6 * joint + 0.8 * torch.randn(1500, 368, generator=rng(2))
    full = torch.cat([y, torch.randn(1500, 5, generator=rng(3))], dim=1)
    settings = EM._replace(sweeps=8, draws=1)
    white, _ = fitted.fit(known(full), torch.zeros(1500), rng(), settings)
    assert white.shape == (1500, 1, inside.sum())
    w = torch.randn(4000, 368, generator=rng(4))
    drawn = fitted(w, torch.zeros(4000, 5), torch.zeros(4000))
    matrix = torch.corrcoef(drawn.T)
    for rows, columns in ((inside, inside), (~inside, ~inside), (inside, ~inside)):
        block = matrix[torch.from_numpy(rows)][:, torch.from_numpy(columns)]
        off = block[block < 0.99]
        assert float(off.mean()) == pytest.approx(0.36, abs=0.05)
    change = torch.ones(4000, int(inside.sum()))
    moved = fitted.changed(w, change)
    torch.testing.assert_close(fitted.seen(moved), fitted.seen(w) + 1)
    assert torch.equal(moved[:, torch.from_numpy(~inside)], w[:, torch.from_numpy(~inside)])


def test_energies_of_a_scan_are_groups_and_sparse_ones_join() -> None:
    energy = torch.tensor([1.0] * 50 + [2.0] * 40 + [3.0] * 5 + [4.0] * 2)
    groups = energy_groups(energy, 10, 20)
    assert [sorted(set(energy[rows].tolist())) for rows in groups] == [[1.0], [2.0, 3.0, 4.0]]
    # Few at each energy, enough together: a group of their own, not part of the one below.
    energy = torch.tensor([1.0] * 50 + [2.0] * 15 + [3.0] * 10)
    groups = energy_groups(energy, 10, 20)
    assert [sorted(set(energy[rows].tolist())) for rows in groups] == [[1.0], [2.0, 3.0]]
    spectrum = torch.rand(1000, generator=rng())
    groups = energy_groups(spectrum, 4, 20)
    assert sorted(torch.cat(groups).tolist()) == list(range(1000))
    assert all(spectrum[a].max() <= spectrum[b].min() for a, b in pairwise(groups))


# --- the particle's frame ---------------------------------------------------------------------
MOVING = ("calogan", "lhcb", "atlas-cells")


@pytest.mark.parametrize("name", MOVING)
def test_a_mirrored_shower_looks_mirrored_to_its_particle(name: str) -> None:
    """Exactly: the particle sees the same cells in the mirrored order."""
    batch, geometry = batch_of(name, 200), load_geometry(name)
    model = make_model("copula", geometry)
    model.fit_tables([batch])
    seen = {s.name: s for s in model.frame.symmetries()}
    assert len(seen) == len(symmetry_group(geometry)) > 1
    log_energy = model.given(batch.condition).log_energy
    plain = model.frame.seen(batch.energies, batch.condition, log_energy)
    assert torch.equal(model.frame.read_out(plain, batch.condition, log_energy), batch.energies)
    for mirror in symmetry_group(geometry):
        condition = batch.condition.double() @ torch.from_numpy(mirror.matrix).T
        condition = (condition + torch.from_numpy(mirror.offset)).float()
        mirrored = model.frame.seen(batch.energies[:, mirror.permutation], condition, log_energy)
        expected = plain[:, seen[mirror.name].permutation]
        assert (mirrored == expected).all(dim=1).float().mean() > 0.98  # but for lines on edges


@pytest.mark.parametrize("name", MOVING)
def test_the_crossed_cell_is_the_hottest_of_the_mean_shower(name: str) -> None:
    batch, geometry = batch_of(name), load_geometry(name)
    model = make_model("copula", geometry)
    model.fit_tables([batch])
    log_energy = model.given(batch.condition).log_energy
    mean = model.frame.seen(batch.energies, batch.condition, log_energy).mean(dim=0)
    for layer, where in zip(geometry.layers, geometry.slices, strict=True):
        middle = (layer.shape[0] // 2) * layer.shape[1] + layer.shape[1] // 2
        assert int(mean[where].argmax()) == middle, layer.name


def test_nothing_moves_where_there_is_no_impact() -> None:
    frame = Frame(load_geometry("ds1-photons"))
    assert not frame.moves
    assert len(frame.symmetries()) == 20
    cells = torch.rand(3, 368)
    assert frame.seen(cells, torch.ones(3, 1), torch.ones(3)) is cells


# --- marginals --------------------------------------------------------------------------------
def given(energy: torch.Tensor) -> Given:
    return Given(energy[:, None], energy.log(), torch.zeros(len(energy), dtype=torch.long))


def spectrum(energy: np.ndarray) -> np.ndarray:
    """A variable that is filled with probability 0.6 and grows with energy, four alike."""
    random = np.random.default_rng(1)
    value = energy[:, None] * np.exp(0.5 * random.standard_normal((len(energy), 4)))
    return np.where(random.random(value.shape) < 0.6, value, 0.0)


def test_tables_keep_spectrum_and_filling_and_have_no_seam() -> None:
    energy = np.repeat([1.0, 2.0, 4.0, 8.0], [800, 800, 800, 4])
    tables = Tables(np.zeros(4, dtype=int), 1, 6, 64)
    y = tables.fit(spectrum(energy), np.zeros(len(energy), int), np.log(energy), enough=100)
    assert y.shape == (len(energy), 4)
    normal = torch.randn(20_000, 4, generator=rng())
    for at in (1.0, 1.0001, 2.0, 3.0, 4.0, 8.0):
        logs, above = tables.decode(normal, given(torch.full((20_000,), at)))
        assert float((above > 0).float().mean()) == pytest.approx(0.6, abs=0.03)
        kept = logs[above > 0]
        # Also at 8, of which there are four showers: the line through its neighbours helps, as far
        # as it does not leave what they have.
        loose = 3 if at == 8.0 else 1
        assert float(kept.mean()) == pytest.approx(np.log(at), abs=0.07 * loose), at
        assert float(kept.std()) == pytest.approx(0.5, abs=0.05 * loose), at
    # Monotone in y, at and between the points.
    line = torch.linspace(-1, 4, 400)[:, None].expand(-1, 4)
    logs, above = tables.decode(line, given(torch.full((400,), 2.7)))
    assert (logs[1:][above[:-1] > 0] >= logs[:-1][above[:-1] > 0]).all()


def test_encoding_is_the_way_back_from_decoding() -> None:
    energy = np.repeat([1.0, 2.0, 4.0], 800)
    tables = Tables(np.zeros(4, dtype=int), 1, 4, 64)
    tables.fit(spectrum(energy), np.zeros(len(energy), int), np.log(energy), enough=100)
    at = given(torch.linspace(1, 4, 300))
    y = torch.rand(300, 4, generator=rng()) * 2
    logs, above = tables.decode(y, at)
    scores = tables.encode(torch.where(above > 0, logs.exp(), 0.0), at)
    torch.testing.assert_close(scores[above > 0], y[above > 0], atol=2e-3, rtol=0)
    assert torch.equal(scores[above <= 0], mean_below(tables.thresholds(at))[above <= 0])


@pytest.mark.parametrize("name", ["calogan", "lhcb"])
def test_no_cell_gets_more_than_any_training_shower_has_there(name) -> None:
    showers = sample_showers(name)
    energies, condition = batch_of(name)[:2]
    model = make_model("copula", showers.geometry, None, bounded=True)
    given = model.given(condition)
    model.frame.fit(energies, condition, given.log_energy)
    assert model.bound is not None
    bound = model.bound
    bound.fit(energies, given)
    logs = energies.clamp(min=1e-6).log()
    torch.testing.assert_close(bound(logs, given), logs)  # Geant4 itself is left as it is
    # A cell far from the line with all of the incident energy is cut, and others are not.
    away = model.frame.offsets(condition, given.log_energy).norm(dim=2)
    far = away.argmax(dim=1, keepdim=True)
    wild = logs.scatter(1, far, given.log_energy[:, None])
    cut = bound(wild, given)
    share = (cut - given.log_energy[:, None]).exp().gather(1, far)
    assert share.max() < 0.05 < 1.0
    assert float(share.max()) <= SLACK * float((energies / given.log_energy.exp()[:, None]).max())
    others = torch.ones_like(cut, dtype=torch.bool).scatter(1, far, False)
    torch.testing.assert_close(cut[others], logs[others])


def test_tables_over_the_energy_of_the_layer_know_a_cell_that_depends_on_nothing_else() -> None:
    """Layers of any energy, whose cells share it alike at each: y is normal at all of them."""
    generator = np.random.default_rng(0)
    layer = np.exp(generator.uniform(0, 9, 4000))
    share = generator.dirichlet([2.0, 3.0, 1.0], len(layer))
    full = generator.random((len(layer), 3)) < ndtr(np.log(layer) - 3)[:, None]
    full[np.arange(len(layer)), generator.integers(0, 3, len(layer))] = True
    x = share * full
    x *= (layer / x.sum(axis=1))[:, None]
    marginals = ByLayer(np.arange(3), (slice(0, 3),), 1, 16, 64)
    y = marginals.fit(x, np.zeros(len(x), int), np.zeros(len(x)), enough=100)
    # An incident energy that says nothing: only the layer's own energy may enter.
    given = Given(torch.zeros(len(x), 1), torch.zeros(len(x)), torch.zeros(len(x)).long())
    told, energies = torch.from_numpy(layer[:, None]).float(), torch.from_numpy(x).float()
    logs, above = marginals.decode(torch.from_numpy(y), given, told)
    filled = x > 0
    assert (above.numpy()[filled] > 0).mean() > 0.99
    error = (logs.exp() / energies).numpy()[filled] - 1
    assert np.abs(np.median(error)) < 0.02
    assert np.quantile(np.abs(error), 0.9) < 0.2
    _, threshold = marginals.place(energies, given)
    level = np.where(filled, y, threshold)
    for part in np.array_split(np.argsort(layer), 4):
        u = ndtr(np.where(filled, level, -np.inf)[part])
        low = ndtr(threshold.numpy()[part])
        # Of the filled ones, levels above the threshold are uniform.
        way = ((u - low) / (1 - low))[filled[part]]
        assert kstest(way, "uniform").statistic < 0.05


def fast_and_slow(per_energy: dict[float, int]) -> tuple[np.ndarray, np.ndarray]:
    """Energies (N, 3) and log E (N,): at the same layer energies, the first cell has nearly all
    of it where the particle is fast, and a third where it is slow.
    """
    generator = np.random.default_rng(0)
    energy = np.repeat(list(per_energy), list(per_energy.values())).astype(float)
    layer = np.exp(generator.uniform(0, 5, len(energy)))
    rest = generator.dirichlet([2.0, 2.0], len(energy))
    first = generator.beta(4, 8, len(energy))
    first[energy > 1] = generator.beta(12, 2, int((energy > 1).sum()))
    share = np.column_stack([first, (1 - first)[:, None] * rest])
    return share * layer[:, None], np.log(energy)


def test_bands_know_fast_from_slow_particles_of_the_same_layer_energy() -> None:
    x, log_energy = fast_and_slow({1.0: 1500, 4.0: 1500, 8.0: 30})
    marginals = ByLayer(np.arange(3), (slice(0, 3),), 1, 4, 64, bands=4)
    y = marginals.fit(x, np.zeros(len(x), int), log_energy, enough=200)
    layer, energies = (torch.from_numpy(a).float() for a in (x.sum(axis=1), x))
    given = Given(
        torch.zeros(len(x), 1),
        torch.from_numpy(log_energy).float(),
        torch.zeros(len(x), dtype=torch.long),
    )
    logs, _ = marginals.decode(torch.from_numpy(y), given, layer[:, None])
    error = (logs.exp() / energies - 1).abs()
    assert error.quantile(0.9) < 0.1
    # The way back, at energies of the scan and between them.
    ranks, _ = marginals.place(energies, given)
    assert (ranks - torch.from_numpy(y)).abs().median() < 0.05

    def mean_of_first(energy: float) -> float:
        noise = torch.randn(4000, 3, generator=rng(1))
        told = Given(
            torch.zeros(4000, 1),
            torch.full((4000,), float(np.log(energy))),
            torch.zeros(4000, dtype=torch.long),
        )
        logs, above = marginals.decode(noise, told, torch.full((4000, 1), 20.0))
        assert (above > 0).all()
        return float(logs[:, 0].exp().mean()) / 20

    found = [mean_of_first(energy) for energy in (0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 100.0)]
    assert found[0] == found[1] == pytest.approx(1 / 3, abs=0.02)
    assert found[1] + 0.1 < found[2] < found[3] - 0.1  # half way in log E
    # The few showers at 8 share a band with those at 4, and nothing lies beyond.
    assert found[3] == found[4] == found[5] == found[6] == pytest.approx(12 / 14, abs=0.02)


def test_an_empty_layer_has_the_thresholds_of_its_band() -> None:
    """Where the next shower of the band would begin, at its smallest layer energy."""
    x, log_energy = fast_and_slow({1.0: 600, 4.0: 600})
    generator = np.random.default_rng(3)
    x[:, 0] *= generator.random(len(x)) < np.where(log_energy > 1, 0.9, 0.3)
    x[::3] = 0.0
    marginals = ByLayer(np.arange(3), (slice(0, 3),), 1, 4, 64, bands=2)
    y = marginals.fit(x, np.zeros(len(x), int), log_energy, enough=200)
    given = Given(
        torch.zeros(len(x), 1),
        torch.from_numpy(log_energy).float(),
        torch.zeros(len(x), dtype=torch.long),
    )
    _, threshold = marginals.place(torch.from_numpy(x).float(), given)
    empty = x.sum(axis=1) == 0
    np.testing.assert_allclose(y[empty], threshold.numpy()[empty], atol=1e-5)
    assert len(np.unique(y[empty, 0])) == 2


def test_a_layer_that_few_showers_reach_has_fewer_bands() -> None:
    x, log_energy = fast_and_slow({1.0: 300, 2.0: 300, 4.0: 300})
    behind = np.where(log_energy[:, None] > 1, x, 0.0)  # 4 alone reaches it
    marginals = ByLayer(np.arange(6), (slice(0, 3), slice(3, 6)), 1, 4, 32, bands=3)
    both = np.concatenate([x, behind], axis=1)
    y = marginals.fit(both, np.zeros(len(x), int), log_energy, enough=250)
    assert np.isfinite(y).all()
    assert marginals.bands is not None
    starts = [bands.lowest.tolist() for bands in marginals.bands]
    assert starts[0] == pytest.approx(np.log([1.0, 2.0, 4.0]).tolist())
    assert starts[1] == pytest.approx([np.log(4), np.log(4) + 1, np.log(4) + 2])
    # At lower energies too: what there is at 4.
    logs = []
    for energy in (1.0, 3.0, 4.0, 50.0):
        told = Given(torch.zeros(1, 1), torch.tensor([np.log(energy)]).float(), torch.tensor([0]))
        logs.append(marginals.decode(torch.zeros(1, 6), told, torch.full((1, 2), 9.0))[0][:, 3:])
    for other in logs[1:]:
        torch.testing.assert_close(other, logs[0])


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("ds1-pions", {"bands": 3}, 'several need over = "layer"'),
        ("lcd", {"bands": 3, "over": "layer"}, "a read-out without categories"),
        ("lcd", {"shifts": True}, "expected shifts = false"),
    ],
)
def test_bands_and_shifts_are_refused_where_they_would_do_nothing(name, settings, words) -> None:
    with pytest.raises(ModelError, match=f"(?i){words}"):
        make_model("copula", load_geometry(name), None, **settings)


def test_the_marginal_network_learns_a_spectrum_that_moves_with_the_impact() -> None:
    """After some updates the levels of held-out showers are nearly uniform."""
    batch = batch_of("lhcb")
    train, rest = (Batch(*(t[part] for t in batch)) for part in (slice(0, 300), slice(300, None)))
    model = make_model("copula", load_geometry("lhcb"), marginal_width=32)
    model.fit_tables([train])
    before = departures(model, *rest, rng())[0].distance
    phase = next(p for p in model.phases() if p.name == "marginals")
    optimiser = torch.optim.Adam(phase.parameters, lr=5e-3)
    random = rng(1)
    for _ in range(250):
        loss, _ = phase.loss(train, random)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = departures(model, *rest, rng())
    assert found[0].distance < 0.12 < 0.3 < before
    assert {"px", "x", "distance from the line in mm"} <= {d.what for d in found}


# --- layers -----------------------------------------------------------------------------------
def test_response_and_shares_are_the_layer_energies() -> None:
    geometry = load_geometry("ds1-photons")
    layers = torch.rand(50, 5, generator=rng()) * torch.tensor([0.1, 0.3, 0.9, 0.01, 0.001])
    layers[layers < 0.002] = 0
    shares = Shares(geometry)
    shares.fit(layers)
    share = shares(layers)
    torch.testing.assert_close(share[:, 0], layers.sum(dim=1))
    assert ((share[:, 1:] >= 0) & (share[:, 1:] <= 1)).all()
    torch.testing.assert_close(shares.inverse(share), layers, atol=1e-7, rtol=1e-5)
    # Of a single layer there is the response alone.
    alone = Shares(load_geometry("lhcb"))
    torch.testing.assert_close(alone.inverse(alone(layers[:, :1])), layers[:, :1])


def test_cells_add_up_to_their_layers_and_none_is_below_the_threshold() -> None:
    geometry = load_geometry("ds1-photons")
    scale = Scale(geometry)
    batch = batch_of("ds1-photons", 300)
    scale.fit(batch.energies)
    above = torch.where(batch.energies > 0, 1.0, -1.0)
    wanted = scale.sums(batch.energies) * torch.exp(0.2 * torch.randn(300, 5, generator=rng()))
    above[:, 0:8] = -1.0  # no cell of the first layer is filled: one gets its energy
    above[torch.arange(300), torch.arange(300) % 8] = -0.5
    made = scale(batch.energies.clamp(min=1e-9).log(), above, wanted)
    torch.testing.assert_close(scale.sums(made), wanted, rtol=2e-6, atol=0)
    assert (made[:, :8] > 0).sum(dim=1).max() == 1
    large = wanted > 50 * scale.floor * scale.sums((above > 0).float()).clamp(min=1)
    cells = made[scale.spread(large.float()) > 0]
    assert (cells[cells > 0] >= 0.98 * scale.floor).all()


# --- remainder --------------------------------------------------------------------------------
def velocity_seen(target: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
    start = torch.randn(target.shape, generator=rng(11))
    a, b = np.cos(0.5 * np.pi * t), np.sin(0.5 * np.pi * t)
    return a * start + b * target, a * target - b * start


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_remainder_of_a_gaussian_is_zero(t: float) -> None:
    """At every place the mean velocity vanishes for a normal target, and does not for another."""
    normal = torch.randn(400_000, generator=rng(10))
    skew = (torch.randn(400_000, generator=rng(10)).exp() - 1.6487) / 2.1612
    largest = []
    for target in (normal, skew):
        w, velocity = velocity_seen(target, t)
        bins = torch.bucketize(w, torch.linspace(-1, 1, 9))
        largest.append(max(abs(float(velocity[bins == k].mean())) for k in range(1, 9)))
    assert largest[0] < 0.02 < 0.05 < largest[1]


def test_a_flow_moves_noise_to_what_it_was_shown() -> None:
    flow = Velocity(1, 1, 32, 1)
    optimiser = torch.optim.Adam(flow.parameters(), lr=3e-3)
    random = rng(2)
    for _ in range(600):
        sign = torch.randint(2, (256, 1), generator=random) * 2.0 - 1
        target = 0.9 * sign + 0.3 * torch.randn(256, 1, generator=random)
        loss = flow.loss(target, torch.zeros(256, 1), random)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        moved = flow.move(torch.randn(4000, 1, generator=rng(3)), torch.zeros(4000, 1), 20)
    assert float((moved.abs() - 0.9).abs().mean()) < 0.35  # of a normal: 0.54
    assert float(moved.abs().mean()) == pytest.approx(0.9, abs=0.1)


# --- the whole --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def closed() -> Copula:
    """The closed form of the shipped photons."""
    hyper = {**load_recipe("copula-photons").hyper(), "sweeps": 3, "draws": 1, "enough": 30}
    model = make_model("copula", load_geometry("ds1-photons"), **hyper)
    batch = batch_of("ds1-photons", 3500)
    model.fit_copula([batch], rng())
    return model.eval()


def test_layer_energies_are_kept_to_single_precision(closed: Copula) -> None:
    batch = batch_of("ds1-photons", 200)
    noise = torch.randn(200, closed.noise_size, generator=rng(1))
    with torch.inference_mode():
        known = closed.given(batch.condition)
        layers = closed.layer_energies(known, closed.particle(known), noise[:, :5])
        drawn = closed.sample(batch.condition, noise)
    torch.testing.assert_close(closed.scale.sums(drawn), layers, rtol=3e-6, atol=1e-6)


def test_the_closed_form_has_the_response_and_occupancy_of_geant4(closed: Copula) -> None:
    batch = batch_of("ds1-photons")
    low = batch.condition[:, 0] < 7e4  # enough showers
    condition = batch.condition[low].repeat(4, 1)
    noise = torch.randn(len(condition), closed.noise_size, generator=rng(1))
    with torch.inference_mode():
        drawn = closed.sample(condition, noise)
    for value in torch.unique(condition):
        real, fake = (
            batch.energies[batch.condition[:, 0] == value],
            drawn[condition[:, 0] == value],
        )
        sums = [cells.sum(dim=1) / value for cells in (real, fake)]
        error = float(sums[0].std()) / len(real) ** 0.5
        assert float(sums[1].mean()) == pytest.approx(float(sums[0].mean()), abs=4 * error)
        filled = [float((cells > 0).float().mean()) for cells in (real, fake)]
        assert filled[1] == pytest.approx(filled[0], abs=0.03)


def test_showers_do_not_depend_on_how_many_are_made_at_once(closed: Copula) -> None:
    condition = torch.logspace(2.5, 6.5, 1500)[torch.randperm(1500, generator=rng()), None]
    noise = torch.randn(1500, closed.noise_size, generator=rng(1))
    with torch.inference_mode():
        drawn = closed.sample(condition, noise)
        parts = zip(condition.split(77), noise.split(77), strict=True)
        again = torch.cat([closed.sample(c, z) for c, z in parts])
    assert float(((drawn - again).abs() / condition).max()) < 2e-6


def test_showers_turn_with_their_noise(closed: Copula) -> None:
    """The photons' symmetries are exact: the noise of the cells turned, the shower turned."""
    condition = torch.tensor([[1024.0], [16384.0]]).repeat(20, 1)
    noise = torch.randn(40, closed.noise_size, generator=rng(1))
    with torch.inference_mode():
        plain = closed.sample(condition, noise)
        for turn in symmetry_group(closed.geometry)[1::6]:
            turned = torch.cat([noise[:, :5], noise[:, 5:][:, turn.permutation]], dim=1)
            drawn = closed.sample(condition, turned)
            torch.testing.assert_close(
                drawn, plain[:, turn.permutation], atol=1e-4 * 16384, rtol=1e-3
            )


def test_networks_take_turns_one_after_the_other(smoke) -> None:
    """The log of a training: flow, then one pass; learning rates rise and fall in each turn."""
    folder = smoke("copula")
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    turns = {
        name: [line["step"] for line in lines if f"loss/{name}" in line]
        for name in ("flow", "one pass")
    }
    assert turns == {"flow": list(range(1, 15)), "one pass": list(range(15, 21))}
    assert [line["step"] for line in lines if "copula/variance" in line] == [1]


def test_orbits_number_what_symmetries_carry_into_each_other() -> None:
    group = [s.permutation for s in symmetry_group(load_geometry("ds1-photons"))]
    orbit = orbits(group)
    assert orbit.max() + 1 == 8 + 16 + 19 + 5 + 5
    assert all((orbit[p] == orbit).all() for p in group)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ds2", "ds3"])
def test_forty_thousand_voxels_are_possible(name: str) -> None:
    """Showers made up for the read-outs of data sets 2 and 3: the closed form has their occupancy,
    response and layers, in minutes and in less than 4 GB.
    """
    geometry = load_geometry(name)
    random = np.random.default_rng(0)
    energy = np.exp(random.uniform(np.log(1e3), np.log(1e6), 300))
    depth = np.linspace(0, 1, geometry.n_layers) ** 0.9
    profile = depth**2 * np.exp(-7 * depth[None] / (1 + 0.1 * random.standard_normal((300, 1))))
    profile /= profile.sum(axis=1, keepdims=True)
    radius = np.concatenate([layer.centres[1] for layer in geometry.layers])
    lateral = np.exp(-radius / radius.max() * 8)
    mean = 0.03 * energy[:, None] * profile[:, geometry.layer_of_cell] * lateral / 100
    hits = random.poisson(np.minimum(mean * 20, 1e4))
    energies = torch.from_numpy(hits * random.exponential(0.05, hits.shape)).float()
    condition = torch.from_numpy(energy[:, None]).float()
    model = make_model("copula", geometry, sweeps=8, draws=1, core=600, rank=16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.fit_copula([Batch(energies, condition)], rng())
    with torch.inference_mode():
        drawn = model.sample(condition, torch.randn(300, model.noise_size, generator=rng(1)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4e6  # kB
    filled = [float((cells > 0).float().mean()) for cells in (energies, drawn)]
    assert filled[1] == pytest.approx(filled[0], rel=0.08)  # 300 showers: 4 to 6 % too high
    response = [float((cells.sum(dim=1) / condition[:, 0]).mean()) for cells in (energies, drawn)]
    assert response[1] == pytest.approx(response[0], rel=0.01)
    layers = [model.scale.sums(cells).mean(dim=0) for cells in (energies, drawn)]
    hot = layers[0] > layers[0].max() / 50
    assert float((layers[1] / layers[0] - 1).abs()[hot].median()) < 0.15
