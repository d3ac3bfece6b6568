"""Writing whole or not at all, in bounded memory; splits; samples by name."""

import shutil
import subprocess
import sys
import threading
import zlib
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.data import (
    create_showers,
    deflate,
    holdout_split,
    open_showers,
    read_showers,
    resolve_data,
    sample_names,
    sample_path,
)
from caloforge.data.cut_samples import CUTS, cut_sample, spread
from caloforge.data.samples import geant4_times
from caloforge.detector.shipped import geometry_names, load_geometry
from caloforge.errors import CaloForgeError, DataError
from caloforge.showers import Showers

PHOTONS = load_geometry("ds1-photons")


def photons(count: int = 50) -> Showers:
    return read_showers(sample_path("ds1-photons-test"), rows=slice(0, count))


# --- whole or not at all ----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".root"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, DataError, SystemExit])
def test_nothing_is_left_after_an_exception(
    tmp_path: Path, suffix: str, error: type[BaseException]
) -> None:
    path = tmp_path / f"a{suffix}"
    with pytest.raises(error), create_showers(path, PHOTONS) as writer:
        writer.append(photons())
        raise error("stop")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".root"])
def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with create_showers(path, PHOTONS) as writer:
        writer.append(photons(5))
    with pytest.raises(RuntimeError), create_showers(path, PHOTONS) as writer:
        raise RuntimeError
    assert len(read_showers(path)) == 5
    with create_showers(path, PHOTONS) as writer:
        writer.append(photons(7))
        assert len(read_showers(path)) == 5
    assert len(read_showers(path)) == 7


FULL = """
import resource, signal, sys
import numpy as np
from caloforge.data import create_showers
from caloforge.errors import CaloForgeError
from caloforge.detector.shipped import load_geometry
from caloforge.showers import Showers
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
geometry = load_geometry("ds1-photons")
rng = np.random.default_rng(0)
showers = Showers(rng.random((1000, 368)), np.full((1000, 1), 512.0), geometry)
try:
    with create_showers(sys.argv[1], geometry) as writer:
        for _ in range(10):
            writer.append(showers)
except CaloForgeError as error:
    print(error)
"""


@pytest.mark.parametrize("suffix", [".hdf5", ".npz", ".root"])
def test_no_more_room(tmp_path: Path, suffix: str) -> None:
    """A limit on the size of files stands for the full disk."""
    command = [sys.executable, "-c", FULL, str(tmp_path / f"a{suffix}")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Cannot write")
    assert "Nothing of it was left" in done.stdout
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(CaloForgeError, match="is a file; expected a folder"),
        create_showers(tmp_path / "file" / "a.h5", PHOTONS),
    ):
        pass


def test_only_showers_of_the_same_read_out(tmp_path: Path) -> None:
    other = load_geometry("lhcb")
    with (
        pytest.raises(DataError, match="write them to a file of their own"),
        create_showers(tmp_path / "a.h5", other) as writer,
    ):
        writer.append(photons())
    with (
        pytest.raises(DataError, match="provenance cannot be stored"),
        create_showers(tmp_path / "a.h5", PHOTONS, provenance={"model": object()}),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_provenance_of_numpy_numbers(tmp_path: Path) -> None:
    given = {"seed": np.int64(3), "loss": np.float32(0.5), "who": "me", "path": Path("/x/y.h5")}
    with create_showers(tmp_path / "a.h5", PHOTONS, provenance=given) as writer:
        writer.append(photons(2))
    expected = {"seed": 3, "loss": 0.5, "who": "me", "path": "y.h5"}
    assert read_showers(tmp_path / "a.h5").provenance == expected


def test_same_showers_same_bytes(tmp_path: Path) -> None:
    for suffix in (".h5", ".npz"):
        for name in ("a", "b"):
            with create_showers(tmp_path / f"{name}{suffix}", PHOTONS) as writer:
                writer.append(photons())
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


# --- compression ------------------------------------------------------------------------------
@pytest.mark.parametrize("compression", ["fast", "small", "none"])
@pytest.mark.parametrize("threads", [1, 3])
def test_any_hdf5_reads_it_and_threads_change_nothing(
    tmp_path: Path, compression: str, threads: int
) -> None:
    showers = photons(2700)  # some chunks, the last of them filled in part
    path, alone = tmp_path / "a.h5", tmp_path / "b.h5"
    for target, used in ((path, threads), (alone, 1)):
        with create_showers(target, PHOTONS, compression=compression, threads=used) as writer:
            for start in range(0, 2700, 700):
                writer.append(showers[start : start + 700])
    assert path.read_bytes() == alone.read_bytes()
    with h5py.File(path) as file:
        dataset = file["showers"]
        assert np.array_equal(dataset[:], showers.energies)
        assert np.array_equal(file["incident_energies"][:], showers.conditions)
        assert dataset.compression == (None if compression == "none" else "gzip")
        assert dataset.id.get_num_chunks() == -(-2700 // dataset.chunks[0]) > 2


def test_without_the_fast_compressor_zlib_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)  # importing it raises ImportError
    deflate._fast.cache_clear()
    try:
        assert deflate._fast() is zlib.compress
        with create_showers(tmp_path / "a.h5", PHOTONS) as writer:
            writer.append(photons())
    finally:
        deflate._fast.cache_clear()
    assert np.array_equal(read_showers(tmp_path / "a.h5").energies, photons().energies)


def test_no_thread_outlives_a_file(tmp_path: Path) -> None:
    before = threading.active_count()
    with create_showers(tmp_path / "a.h5", PHOTONS, threads=4) as writer:
        writer.append(photons(2000))
    with pytest.raises(KeyError), create_showers(tmp_path / "b.h5", PHOTONS, threads=4) as writer:
        writer.append(photons(2000))
        raise KeyError
    assert threading.active_count() == before


# --- bounded memory ---------------------------------------------------------------------------

FLAT = """
import resource, sys
from pathlib import Path
import numpy as np
from caloforge.data import convert, create_showers, describe
from caloforge.detector.shipped import load_geometry
from caloforge.showers import Showers
folder, suffix = Path(sys.argv[1]), sys.argv[2]
geometry = load_geometry("lhcb")
rng = np.random.default_rng(0)
energies = np.zeros((5000, 900), dtype=np.float32)
energies[:, rng.integers(0, 900, 30)] = 5.0
showers = Showers(energies, np.tile([1.0, 1.0, 1000.0, 0.0, 0.0], (5000, 1)), geometry)
def run(pieces):
    with create_showers(folder / f"a{suffix}", geometry) as writer:
        for _ in range(pieces):
            writer.append(showers)
    convert(folder / f"a{suffix}", folder / "b.h5")
    assert describe(folder / "b.h5")["showers"] == pieces * len(showers)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
small = run(5)
print(run(25) - small)
"""


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix: str) -> None:
    """Write, convert and describe 450 MB of showers: at most 60 MB more than for 90 MB of them."""
    command = [sys.executable, "-c", FLAT, str(tmp_path), suffix]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60


def test_chunks_are_small_for_large_geometries() -> None:
    with open_showers(sample_path("lcd-train")) as file:
        assert file.block_rows() * file.geometry.n_cells * 4 <= 64 << 20
        assert sum(len(c) for c in file.chunks(7)) == len(file)


# --- splits -----------------------------------------------------------------------------------


@given(
    count=st.integers(2, 400),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
    points=st.integers(0, 6),
)
@settings(max_examples=100, deadline=None)
def test_split_is_a_stratified_partition(
    count: int, fraction: float, seed: int, points: int
) -> None:
    rng = np.random.default_rng(seed)
    energy = 2.0 ** rng.integers(8, 8 + points, count) if points else rng.random(count)
    train, held = holdout_split(energy, fraction, seed)
    assert np.array_equal(np.sort(np.concatenate([train, held])), np.arange(count))
    assert (np.diff(train) > 0).all()
    assert (np.diff(held) > 0).all()
    assert len(held) == min(count - 1, max(1, round(fraction * count)))
    # Below any energy lies the same share of both, to within two showers.
    for energy_point in np.unique(energy)[:20]:
        below = (energy <= energy_point).sum()
        assert abs((energy[held] <= energy_point).sum() - below * len(held) / count) <= 2
    again = holdout_split(energy, fraction, seed)
    assert np.array_equal(held, again[1])


def test_split_frozen_and_seeded() -> None:
    energy = np.repeat(2.0 ** np.arange(8, 12), 10)
    held = holdout_split(energy, 0.1, 0)[1]
    assert np.bincount(held // 10).tolist() == [1, 1, 1, 1]
    assert held.tolist() == [7, 17, 25, 31]
    assert not np.array_equal(held, holdout_split(energy, 0.1, 1)[1])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_split_fractions_that_make_no_sense(fraction: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        holdout_split(np.ones(10), fraction)


def test_split_needs_energies() -> None:
    for energy in (np.ones(1), np.ones((5, 1)), np.array([1.0, np.nan])):
        with pytest.raises(DataError, match="at least two finite"):
            holdout_split(energy)


# --- samples ----------------------------------------------------------------------------------


def test_samples_by_name_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(sample_names()) == {cut.target.rsplit(".")[0] for cut in CUTS}
    assert resolve_data("lhcb-test") == sample_path("lhcb-test")
    Path("lhcb-test").write_text("mine")
    assert resolve_data("lhcb-test") == Path("lhcb-test")
    with pytest.raises(DataError, match="did you mean 'lhcb-train'"):
        sample_path("lhcb-trian")
    with pytest.raises(DataError, match="neither a file nor a shipped sample: did you mean"):
        resolve_data("lcd-tets")
    with pytest.raises(DataError, match="There is no file"):
        resolve_data("folder/a.h5")


def test_samples_fit_in_the_package() -> None:
    assert sum(sample_path(name).stat().st_size for name in sample_names()) <= 12e6


def test_samples_are_cut_as_documented(shared: Path, tmp_path: Path) -> None:
    for cut in CUTS:
        if cut.target.startswith(("lhcb-test", "atlas-cells-test", "calogan-eplus-test")):
            cut_sample(shared, tmp_path, cut)
            shipped = sample_path(cut.target.rsplit(".")[0])
            made, kept = read_showers(tmp_path / cut.target), read_showers(shipped)
            np.testing.assert_array_equal(made.energies, kept.energies)
            np.testing.assert_array_equal(made.conditions, kept.conditions)
            assert made.provenance == kept.provenance


def test_times_of_geant4_are_of_shipped_read_outs_and_grow_with_energy() -> None:
    timed = [name for name in geometry_names() if geant4_times(name)]
    assert timed == ["atlas-cells", "calogan", "ds1-photons", "ds1-pions", "lcd", "lhcb"]
    photons = geant4_times("ds1-photons")
    assert [time.particle for time in photons] == ["photon"] * 4
    for low, high in pairwise(photons):  # a shower's tracks grow in proportion to its energy
        assert 0.8 < (high.seconds / low.seconds) / (high.energy / low.energy) < 1.25
    assert geant4_times("ds3") == []


def test_spread_is_even() -> None:
    scan = np.repeat([1.0, 2.0, 4.0], [100, 50, 3])
    chosen = scan[spread(scan, 33)]
    assert [(chosen == e).sum() for e in (1.0, 2.0, 4.0)] == [15, 15, 3]
    spectrum = np.random.default_rng(0).random(1000)
    picked = np.sort(spectrum[spread(spectrum, 100)])
    np.testing.assert_allclose(picked, np.linspace(0, 1, 100), atol=0.06)
    assert spread(scan, 1000).tolist() == list(range(153))


def test_a_sample_cannot_be_cut_from_too_few(tmp_path: Path) -> None:
    cut = next(c for c in CUTS if c.target == "lhcb-train.npz")
    shutil.copy(sample_path("lhcb-test"), tmp_path / cut.source)
    with pytest.raises(DataError, match="expected at least 400"):
        cut_sample(tmp_path, tmp_path / "out", cut)
