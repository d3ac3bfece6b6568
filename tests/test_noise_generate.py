"""Noise by counter; generation independent of batches, bounded in memory, in whole files only."""

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from caloforge.data import create_showers, open_showers, read_showers, sample_path
from caloforge.detector.shipped import load_geometry
from caloforge.errors import CaloForgeError, ConditionError, ModelError
from caloforge.generate import (
    Conditions,
    Generator,
    check_range,
    default_batch,
    generate_file,
    generate_showers,
    middle_condition,
    stream,
)
from caloforge.generate.engines import BATCH_BYTES
from caloforge.models.file import ModelFile, load_model
from caloforge.noise import BLOCK, normals
from caloforge.showers import Showers


@pytest.fixture
def gan(smoke) -> ModelFile:
    return load_model(smoke("caloshowergan") / "model.safetensors")


@pytest.fixture
def at_65gev(gan: ModelFile) -> Conditions:
    return Conditions.of(gan.model.geometry, {"energy": 65536.0})


# --- noise -----------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    start=st.integers(0, 5 * BLOCK) | st.integers(0, 2**48),
    length=st.integers(0, 3 * BLOCK),
    cut=st.integers(0, 3 * BLOCK),
    size=st.integers(1, 5),
)
def test_noise_of_a_shower_is_the_same_in_any_batch(
    seed: int, start: int, length: int, cut: int, size: int
) -> None:
    whole = normals(seed, start, start + length, size)
    assert whole.shape == (length, size)
    assert whole.dtype == np.float32
    middle = start + min(cut, length)
    parts = [normals(seed, start, middle, size), normals(seed, middle, start + length, size)]
    assert np.array_equal(np.concatenate(parts), whole)
    if length:
        assert np.array_equal(
            normals(seed, start + length - 1, start + length, size)[0], whole[-1]
        )


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    x = normals(7, 0, 50_000, 4).astype(np.float64)
    error = 1 / np.sqrt(len(x))
    assert (np.abs(x.mean(axis=0)) < 5 * error).all()
    assert (np.abs(x.var(axis=0) - 1) < 5 * np.sqrt(2) * error).all()
    assert stats.kstest(x.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(x.T) - np.eye(4)).max() < 5 * error
    for lag in (1, BLOCK):  # neither from shower to shower nor from block to block
        assert abs(np.mean(x[:-lag] * x[lag:])) < 5 / np.sqrt(x.size)


def test_seeds_and_blocks_differ() -> None:
    first = normals(0, 0, 2 * BLOCK, 3)
    assert not np.array_equal(first[:BLOCK], first[BLOCK:])
    assert not np.array_equal(first, normals(1, 0, 2 * BLOCK, 3))
    assert len(np.unique(first, axis=0)) == 2 * BLOCK


def test_noise_is_frozen() -> None:
    """Numbers of NumPy's Philox: the same shower must come from the same seed in any release."""
    expected = [
        [0.059911035, 0.015559634, -1.1644385, -0.13264713],
        [-0.51522493, -0.74114513, 0.48362231, -0.81115186],
    ]
    found = [normals(0, 0, 1, 4)[0], normals(42, 1000, 1001, 4)[0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("seed", [-1, 2**64, 2**200])
def test_a_seed_that_is_no_key_gets_a_sentence(seed: int) -> None:
    with pytest.raises(ConditionError, match="Got the seed"):
        normals(seed, 0, 1, 1)


# --- generation ------------------------------------------------------------------------------
@pytest.mark.parametrize("model", ["caloshowergan", "caloshowergan-split", "flow-matching"])
@pytest.mark.parametrize("batch", [1, 7, 256, 1000])
def test_showers_do_not_depend_on_the_batch(smoke, model: str, batch: int) -> None:
    file = load_model(smoke(model) / "model.safetensors")
    conditions = Conditions.like(sample_path("ds1-photons-test"), file.model.geometry)
    count = 300 if batch > 1 else 40
    whole = generate_showers(file, conditions, count, seed=3)
    parts = generate_showers(file, conditions, count, seed=3, batch=batch)
    assert np.array_equal(whole.conditions, conditions.table[:count])
    assert np.array_equal(parts.conditions, whole.conditions)
    difference = np.abs(parts.energies - whole.energies).max(axis=1)
    assert (difference <= 1e-5 * whole.incident_energy).all()


def test_showers_of_a_large_read_out_do_not_depend_on_the_default_batch(smoke) -> None:
    file = load_model(smoke("mlp-wgan") / "model.safetensors")
    conditions = Conditions.of(file.model.geometry, middle_condition(file))
    count = 2 * default_batch(file.model) + 20  # the last batch is a part of one
    parts = generate_showers(file, conditions, count, seed=3)
    whole = generate_showers(file, conditions, count, seed=3, batch=count)
    difference = np.abs(parts.energies - whole.energies).max(axis=1)
    assert (difference <= 1e-5 * whole.incident_energy).all()
    assert len(np.unique(parts.energies, axis=0)) == count


def test_same_seed_same_file_and_another_seed_other_showers(
    gan: ModelFile, at_65gev: Conditions, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate_file(gan, at_65gev, tmp_path / f"{name}.hdf5", 50, seed=seed)
    a, b, c = (read_showers(tmp_path / f"{name}.hdf5") for name in "abc")
    assert np.array_equal(a.energies, b.energies)
    assert not np.array_equal(a.energies, c.energies)
    memory = generate_showers(gan, at_65gev, 50, seed=1)
    assert np.array_equal(a.energies, memory.energies)
    assert a.provenance["seed"] == memory.provenance["seed"] == 1
    assert "caloshowergan" in str(a.provenance["producer"])
    assert a.provenance["recipe"] == "smoke-caloshowergan"


def test_conditions_repeat_from_the_top(gan: ModelFile) -> None:
    table = np.array([[256.0], [4096.0], [65536.0]])
    made = generate_showers(gan, Conditions(gan.model.geometry, table), 8)
    assert made.conditions[:, 0].tolist() == [256.0, 4096.0, 65536.0] * 2 + [256.0, 4096.0]
    assert len(generate_showers(gan, Conditions(gan.model.geometry, table))) == 3


def test_progress_counts_every_shower(gan: ModelFile, at_65gev, tmp_path: Path) -> None:
    done: list[int] = []
    seconds = generate_file(gan, at_65gev, tmp_path / "x.hdf5", 25, batch=10, progress=done.append)
    assert done == [10, 10, 5]
    assert seconds > 0


def test_what_is_no_number_or_no_model_gets_a_sentence(gan: ModelFile) -> None:
    generator = Generator(gan, engine="torch")
    good = {"energy": 65536.0}
    for call, said in (
        (lambda: generator.one(energy="x"), "expected a number for each"),
        (lambda: generator.showers(good, 2.5), "Got 2.5 showers to make; expected a whole number"),
        (lambda: generator.showers("energy", 5), "Got 'energy' for the conditions"),
        (lambda: Generator(None), "Got None for a model"),
    ):
        with pytest.raises(CaloForgeError, match=said):
            call()
    assert np.array_equal(generator.one(0, energy="65536"), generator.one(0, **good))


# --- conditions ------------------------------------------------------------------------------
def test_unknown_and_missing_conditions_are_named(gan: ModelFile) -> None:
    geometry = gan.model.geometry
    with pytest.raises(ConditionError, match="no condition 'enrgy': did you mean 'energy'"):
        Conditions.of(geometry, {"enrgy": 5.0})
    with pytest.raises(ConditionError, match="lacks energy"):
        Conditions.of(geometry, {})
    lhcb = load_geometry("lhcb")
    with pytest.raises(ConditionError, match="lacks py, pz"):
        Conditions.of(
            lhcb, {name: 1.0 for name in lhcb.condition_names if name not in ("py", "pz")}
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300, 0.0, -5.0])
@pytest.mark.parametrize("extrapolate", [False, True])
def test_impossible_energies_are_refused_even_when_extrapolating(
    gan: ModelFile, value: float, extrapolate: bool
) -> None:
    conditions = Conditions.of(gan.model.geometry, {"energy": value})
    with pytest.raises(ConditionError, match="energy"):
        generate_showers(gan, conditions, 3, extrapolate=extrapolate)


def test_trained_range_and_extrapolation(gan: ModelFile, tmp_path: Path) -> None:
    low, high = gan.condition_range["energy"]
    for inside in (low, high, low * (1 + 1e-7), np.sqrt(low * high)):
        check_range(gan, Conditions.of(gan.model.geometry, {"energy": inside}))
    for outside in (0.99 * low, 1.01 * high):
        conditions = Conditions.of(gan.model.geometry, {"energy": outside})
        with pytest.raises(ConditionError, match=r"outside the trained range .*--extrapolate"):
            generate_file(gan, conditions, tmp_path / "x.hdf5", 3)
        assert len(generate_showers(gan, conditions, 3, extrapolate=True)) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_test_sample_may_reach_a_little_beyond_the_training_sample(gan: ModelFile) -> None:
    """5 % of the trained range, and not where the geometry itself ends."""
    narrow = {"condition_range": {"energy": [1024.0, 65536.0]}}  # six octaves
    partly = ModelFile(gan.model, {**gan.about, **narrow})
    for inside in (1024 * 2**-0.29, 65536 * 2**0.29):
        check_range(partly, Conditions.of(gan.model.geometry, {"energy": inside}))
    for outside in (1024 * 2**-0.31, 65536 * 2**0.31):
        with pytest.raises(ConditionError, match="outside the trained range"):
            check_range(partly, Conditions.of(gan.model.geometry, {"energy": outside}))


def test_showers_of_another_detector_are_refused(gan: ModelFile) -> None:
    with pytest.raises(ConditionError, match=r"'ds1-pions', the model makes 'ds1-photons'"):
        Conditions.like(sample_path("ds1-pions-test"), gan.model.geometry)


def test_a_file_without_showers_has_no_conditions(gan: ModelFile, tmp_path: Path) -> None:
    with create_showers(tmp_path / "none.hdf5", gan.model.geometry):
        pass
    with pytest.raises(ConditionError, match="holds no showers"):
        Conditions.like(tmp_path / "none.hdf5", gan.model.geometry)


@pytest.mark.parametrize("batch", [0, -5])
def test_a_batch_of_nothing_is_refused(
    gan: ModelFile, at_65gev, tmp_path: Path, batch: int
) -> None:
    with pytest.raises(ConditionError, match="--batch"):
        generate_file(gan, at_65gev, tmp_path / "x.hdf5", 3, batch=batch)
    assert list(tmp_path.iterdir()) == []


def test_a_model_file_that_hides_its_ranges_is_refused(gan: ModelFile, at_65gev) -> None:
    about = {k: v for k, v in gan.about.items() if k != "condition_range"}
    with pytest.raises(ModelError, match="does not say on which conditions"):
        generate_showers(ModelFile(gan.model, about), at_65gev, 3)


# --- files and memory ------------------------------------------------------------------------
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_generation_leaves_nothing(
    gan: ModelFile, at_65gev, tmp_path: Path, error: BaseException
) -> None:
    def stop(_: int) -> None:
        raise error

    with pytest.raises((KeyboardInterrupt, CaloForgeError)):
        generate_file(gan, at_65gev, tmp_path / "x.hdf5", 30, batch=10, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_generation_keeps_the_older_file(
    gan: ModelFile, at_65gev, tmp_path: Path
) -> None:
    path = tmp_path / "x.hdf5"
    generate_file(gan, at_65gev, path, 5)
    before = path.read_bytes()

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_file(gan, at_65gev, path, 30, batch=10, progress=stop)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_gets_a_sentence(gan: ModelFile, at_65gev, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(CaloForgeError, match="Cannot write"):
            generate_file(gan, at_65gev, tmp_path / "x.hdf5", 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def resident() -> int:
    """Bytes of memory in use now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


@pytest.mark.parametrize("count", [0, -4])
def test_no_showers_are_an_error(
    count: int, gan: ModelFile, at_65gev: Conditions, tmp_path: Path
) -> None:
    for make in (
        lambda: generate_showers(gan, at_65gev, count),
        lambda: next(stream(gan, at_65gev, count)),
        lambda: generate_file(gan, at_65gev, tmp_path / "none.hdf5", count),
    ):
        with pytest.raises(ConditionError, match=f"Got {count} showers to make; expected a"):
            make()
    assert not (tmp_path / "none.hdf5").exists()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat(gan: ModelFile, at_65gev: Conditions) -> None:
    """300 000 showers are 440 MB; the stream holds one batch of 6 MB at a time."""
    used: list[int] = []
    count = 0
    for showers in stream(gan, at_65gev, 300_000):
        count += len(showers)
        used.append(resident())
    assert count == 300_000
    assert max(used) - used[2] < 60e6


@pytest.mark.parametrize(
    ("model", "batch"),
    [("caloshowergan", 1024), ("calogan", 256), ("mlp-wgan", 128), ("lagan", 128), ("rnn", 128)],
)
def test_the_default_batch_follows_the_read_out(smoke, model: str, batch: int) -> None:
    """16 MB of energies at most in a call; the noise of a block is shared by whole batches."""
    file = load_model(smoke(model) / "model.safetensors")
    assert default_batch(file.model) == batch
    assert batch % BLOCK == 0 or BLOCK % batch == 0
    assert 4 * batch * file.model.geometry.n_cells <= BATCH_BYTES


def test_a_long_file_is_written_in_order(gan: ModelFile, tmp_path: Path) -> None:
    conditions = Conditions(gan.model.geometry, np.geomspace(256, 4194304, 5000)[:, None])
    path = tmp_path / "long.hdf5"
    before = resident()
    generate_file(gan, conditions, path, 20_000, seed=4)
    assert resident() - before < 150e6
    with open_showers(path) as source:
        assert len(source) == 20_000
        part = source.read(12_000, 12_010)
    assert np.array_equal(part.conditions[:, 0], np.geomspace(256, 4194304, 5000)[2000:2010])
    alone = gan.model.sample(
        torch.from_numpy(part.conditions).float(),
        torch.from_numpy(normals(4, 12_000, 12_010, gan.model.noise_size)),
    )
    expected = Showers(alone.detach().numpy(), part.conditions, part.geometry)
    difference = np.abs(part.energies - expected.energies).max(axis=1)
    assert (difference <= 1e-5 * part.incident_energy).all()
