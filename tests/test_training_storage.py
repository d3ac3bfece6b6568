"""Training showers kept as hits: the same batches bit for bit, in a fraction of the memory."""

import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import sample_showers

from caloforge.config import load_recipe
from caloforge.data import read_showers, sample_path
from caloforge.training import storage
from caloforge.training.dataset import TrainingSet
from caloforge.training.loop import Silent
from caloforge.training.storage import Dense, Hits, store
from caloforge.training.train import train

CPU = torch.device("cpu")


@pytest.mark.parametrize("cells", [7, 1000, 40_000])
def test_hits_give_the_same_showers_bit_for_bit(cells: int) -> None:
    rng = np.random.default_rng(0)
    energies = rng.exponential(1.0, (50, cells)).astype(np.float32)
    energies[rng.random((50, cells)) < 0.9] = 0.0
    energies[3], energies[4], energies[49] = 0.0, 1e-38, np.float32(3.4e38)  # empty and full ones
    energies[5, -1] = np.float32(1e-45)  # the smallest number there is
    dense, hits = Dense(energies, CPU), Hits(energies, CPU)
    assert len(dense) == len(hits) == 50
    for rows in (np.arange(50), rng.integers(0, 50, 200), [3], [3, 3, 4], []):
        chosen = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        first, second = dense.rows(chosen), hits.rows(chosen)
        assert first.dtype == second.dtype == torch.float32
        assert first.numpy().tobytes() == second.numpy().tobytes()


def test_blocks_join_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "BLOCK", 3)
    energies = np.random.default_rng(1).integers(0, 2, (10, 6)).astype(np.float32)
    assert np.array_equal(Hits(energies, CPU).rows(torch.arange(10)).numpy(), energies)


def test_the_size_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large and mostly empty showers are kept as hits, at 6 bytes a hit instead of 4 a cell."""
    energies = sample_showers("lcd").energies
    assert isinstance(store(energies, CPU), Dense)  # 4 MB: nothing worth saving
    monkeypatch.setattr(storage, "SMALLEST", 1 << 20)
    kept = store(energies, CPU)
    assert isinstance(kept, Hits)
    count = np.count_nonzero(energies)
    assert kept.nbytes == 6 * count + 8 * (len(energies) + 1)
    assert kept.nbytes < Dense(energies, CPU).nbytes / 4
    assert isinstance(store(energies + np.float32(1), CPU), Dense)  # full: nothing saved


def test_training_batches_do_not_depend_on_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    showers = sample_showers("lcd")
    batches = []
    for smallest in (1 << 40, 0):
        monkeypatch.setattr(storage, "SMALLEST", smallest)
        data = TrainingSet(showers, device=CPU, seed=3, augment=("reflect-x", "swap"))
        rng = torch.Generator().manual_seed(4)
        batches.append([data.draw(16, rng) for _ in range(6)])
        assert isinstance(data.energies, Hits if smallest == 0 else Dense)
    for first, second in zip(*batches, strict=True):
        assert torch.equal(first.energies, second.energies)
        assert torch.equal(first.condition, second.condition)


def test_a_training_lets_go_of_the_showers_it_was_given(tmp_path: Path) -> None:
    """What is not kept by the training set is not kept at all while the training goes on."""
    given = [read_showers(sample_path("lcd-train"))]
    array = weakref.ref(given[0].energies)
    alive = []

    class Watch(Silent):
        def log(self, step: int, numbers: dict[str, float]) -> None:
            alive.append(array() is not None)

    recipe = load_recipe("smoke-mlp-wgan", ["training.steps=5"])
    train(recipe, given.pop(), tmp_path, device="cpu", observer=Watch())
    assert alive == [False]
