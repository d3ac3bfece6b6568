"""Conditions: grids, spectra, tables of particles, and all of them together."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from caloforge.detector.shipped import load_geometry
from caloforge.errors import ConditionError
from caloforge.generate import Conditions, Generator, Spectrum, check_range, parse_values
from caloforge.models.file import load_model
from caloforge.noise import BLOCK, normals, uniforms

CALOGAN = load_geometry("calogan")  # energy, x0, y0, theta, phi
PHOTONS = load_geometry("ds1-photons")
MIDDLE = {"energy": 5e4, "x0": 0.0, "y0": 0.0, "theta": 0.1, "phi": 0.0}

# Each spectrum beside SciPy's distribution of the same meaning.
SPECTRA = {
    "uniform:2:10": stats.uniform(2, 8),
    "log-uniform:100:100000": stats.loguniform(100, 100000),
    "power:2.7:1000:50000": stats.truncpareto(1.7, 50, scale=1000),
    "power:1:100:100000": stats.loguniform(100, 100000),
    "power:-1:1:3": stats.triang(1, loc=1, scale=2),  # density x: compared below
    "power:-100:500:200000": stats.powerlaw(101, scale=200000),  # LOW is 0 to it
    "power:500:500:2000": stats.pareto(499, scale=500),  # HIGH is infinite to it
    "normal:50:10:20:55": stats.truncnorm(-3, 0.5, loc=50, scale=10),
    # Far above the mean a normal distribution falls like an exponential: 1/MPV of the tail.
    "normal:1000:100:2000:3000": stats.truncnorm(10, 20, loc=1000, scale=100),
    "normal:65000:1000:500:2000": stats.truncnorm(-64.5, -63, loc=65000, scale=1000),
}


# --- spectra ---------------------------------------------------------------------------------
@pytest.mark.parametrize("text", SPECTRA)
def test_a_spectrum_has_its_distribution(text: str) -> None:
    energies = Conditions.of(PHOTONS, {"energy": text}).rows(0, 20_000, 1)[:, 0]
    cumulative = SPECTRA[text].cdf
    if text == "power:-1:1:3":
        cumulative = lambda x: (x**2 - 1) / 8  # noqa: E731  # the integral of x from 1 to 3
    assert stats.kstest(energies, cumulative).pvalue > 1e-3
    low, high = (float(number) for number in text.split(":")[-2:])
    assert low <= energies.min() < energies.max() <= high


@pytest.mark.parametrize(
    ("text", "mean"),
    [
        # In its tail, t sigma from the mean, a normal distribution falls off by e within
        # sigma / t, less a share of 1 / t^2.
        ("normal:1000:100:2000:3000", 2000 + 100 / 10 * (1 - 2 / 10**2)),
        ("normal:65000:1000:500:2000", 2000 - 1000 / 63 * (1 - 2 / 63**2)),
        # A steep power x^-k has the mean LOW (k - 1) / (k - 2), or HIGH (1 - k) / (2 - k).
        ("power:500:500:2000", 500 * 499 / 498),
        ("power:-100:500:200000", 200000 * 101 / 102),
    ],
)
def test_a_spectrum_far_from_its_middle_lies_at_the_end_that_is_probable(
    text: str, mean: float
) -> None:
    energies = Conditions.of(PHOTONS, {"energy": text}).rows(0, 20_000, 1)[:, 0]
    assert len(np.unique(energies)) > 19_000
    error = energies.std() / np.sqrt(len(energies))
    assert energies.mean() == pytest.approx(mean, abs=5 * error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("normal:1000:1e-300:2000:3000", 2000),
        ("normal:5000:1e-300:2000:3000", 3000),
        ("power:1e308:500:2000", 500),
        ("power:-1e308:500:2000", 2000),
    ],
)
def test_a_spectrum_too_narrow_for_a_float_is_its_probable_end(text: str, value: float) -> None:
    energies = Conditions.of(PHOTONS, {"energy": text}).rows(0, 100, 1)[:, 0]
    np.testing.assert_allclose(energies, value, rtol=1e-12)


@settings(max_examples=200, deadline=None)
@example(index=0.0, mean=8506376.4, sigma=637869264.0, low=501024.25, factor=10679.0)
@given(
    index=st.floats(-1e4, 1e4),
    mean=st.floats(-1e7, 1e7),
    sigma=st.floats(1e-9, 1e9),
    low=st.floats(1e-3, 1e6),
    factor=st.floats(1.001, 1e6),
)
def test_every_spectrum_is_finite_and_rises_with_its_uniform_number(
    index: float, mean: float, sigma: float, low: float, factor: float
) -> None:
    u = np.array([0.0, 1e-300, 1e-9, 0.1, 0.5, 0.9, 1 - 2**-53])
    for kind, numbers in (("power", (index,)), ("normal", (mean, sigma))):
        values = Spectrum(kind, (*numbers, low, low * factor)).values(u)
        assert np.isfinite(values).all()
        assert (np.diff(values) >= -1e-12 * max(abs(mean), low * factor)).all()


@settings(max_examples=50, deadline=None)
@given(
    start=st.integers(0, 3 * BLOCK), length=st.integers(1, 2 * BLOCK), cut=st.integers(0, BLOCK)
)
def test_the_condition_of_a_shower_is_the_same_in_any_batch(
    start: int, length: int, cut: int
) -> None:
    conditions = Conditions.of(
        CALOGAN, {**MIDDLE, "energy": "log-uniform:1000:100000", "x0": [1.0, 2.0, 3.0]}
    )
    whole = conditions.rows(start, start + length, 7)
    middle = start + min(cut, length)
    parts = [conditions.rows(start, middle, 7), conditions.rows(middle, start + length, 7)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_spectra_are_independent_of_each_other_of_noise_and_of_seeds() -> None:
    both = {**MIDDLE, "x0": "uniform:-60:60", "y0": "uniform:-60:60"}
    rows = Conditions.of(CALOGAN, both).rows(0, 20_000, 3)
    x, y = rows[:, 1], rows[:, 2]
    other = Conditions.of(CALOGAN, both).rows(0, 20_000, 4)[:, 1]
    noise = normals(3, 0, 20_000, 2)
    for left, right in ((x, y), (x, other), (x, noise[:, 0]), (y, noise[:, 1])):
        assert abs(np.corrcoef(left, right)[0, 1]) < 5 / np.sqrt(20_000)
    # A spectrum stays what it is when another condition gets or loses one.
    alone = Conditions.of(CALOGAN, {**MIDDLE, "y0": "uniform:-60:60"}).rows(0, 20_000, 3)
    assert np.array_equal(alone[:, 2], y)


def test_uniform_numbers_are_frozen() -> None:
    """The same conditions must come from the same seed in any release."""
    expected = np.random.Generator(np.random.Philox(key=9, counter=[0, 1, 2, 0])).random((1, 3))
    assert np.array_equal(uniforms(9, 2 * BLOCK, 2 * BLOCK + 1, 3), expected)
    frozen = [0.21185954403345741, 0.21554582036140135]
    np.testing.assert_allclose(uniforms(0, 0, 1, 2)[0], frozen, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a number"),
        ("a,b", "expected a number"),
        ("uniform:1:x", "expected a number"),
        ("gauss:1:2", "Unknown spectrum 'gauss'"),
        ("log-uniform:1", "log-uniform:LOW:HIGH"),
        ("log-uniform:0:10", "LOW above 0"),
        ("power:2:-1:10", "LOW above 0"),
        ("normal:5:0:1:10", "SIGMA > 0"),
        ("uniform:1:inf", "LOW < HIGH"),
        ("uniform:nan:1", "LOW < HIGH"),
    ],
)
def test_what_is_no_condition_gets_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ConditionError, match=said):
        parse_values("energy", text)


# --- grids -----------------------------------------------------------------------------------
def test_a_grid_is_every_combination_with_the_last_named_fastest() -> None:
    given = {**MIDDLE, "energy": "1000,2000", "phi": [0.0, 1.0, 2.0]}
    table = Conditions.of(CALOGAN, given).table
    energy, phi = CALOGAN.column("energy"), CALOGAN.column("phi")
    assert table[:, energy].tolist() == [1000.0] * 3 + [2000.0] * 3
    assert table[:, phi].tolist() == [0.0, 1.0, 2.0] * 2
    assert (table[:, CALOGAN.column("theta")] == 0.1).all()


def test_grids_and_spectra_mix() -> None:
    given = {**MIDDLE, "energy": "1000,2000", "x0": Spectrum("uniform", (-5.0, 5.0))}
    rows = Conditions.of(CALOGAN, given).rows(0, 100, 0)
    assert rows[:, 0].tolist() == [1000.0, 2000.0] * 50
    assert len(np.unique(rows[:, CALOGAN.column("x0")])) == 100


def test_a_grid_too_large_and_an_empty_one() -> None:
    many = [float(k) for k in range(1, 102)]
    with pytest.raises(ConditionError, match="The grid has"):
        Conditions.of(CALOGAN, dict.fromkeys(MIDDLE, many))
    with pytest.raises(ConditionError, match="Got no value for energy"):
        Conditions.of(PHOTONS, {"energy": []})


@pytest.mark.parametrize("extrapolate", [False, True])
def test_a_category_is_a_whole_number(extrapolate: bool, smoke) -> None:
    """Which particle it is: half a photon was made like any other."""
    file = load_model(smoke("mlp-wgan"))
    for text, said in (
        ("0,0.5", r"particle = 0\.5 cannot be; expected a whole number from 0 to 1"),
        ("uniform:0:1", "draws other than whole numbers"),
    ):
        given = Conditions.of(file.model.geometry, {"energy": 1e5, "particle": text})
        with pytest.raises(ConditionError, match=said):
            check_range(file, given, extrapolate=extrapolate)
    generator = Generator(file, engine="torch", extrapolate=extrapolate)
    with pytest.raises(ConditionError, match="expected a whole number"):
        generator.one(energy=1e5, particle=0.5)
    assert np.isfinite(generator.one(energy=1e5, particle=1)).all()


# --- particles -------------------------------------------------------------------------------
ROWS = np.array([[1000.0, -3.5], [2000.0, 0.0], [4000.5, 12.25]])


@pytest.mark.parametrize("kind", ["csv", "commented.csv", "tsv", "h5", "columns.h5"])
def test_a_list_of_particles(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"particles.{kind}"
    if kind.endswith("h5"):
        with h5py.File(path, "w") as file:
            shape = (3, 1) if kind == "columns.h5" else (3,)
            file["energy"], file["x0"] = (ROWS[:, k].reshape(shape) for k in (0, 1))
    else:
        comma = "\t" if kind == "tsv" else ","
        head = ("# " if kind == "commented.csv" else "") + f"energy{comma}x0\n"
        lines = [comma.join(str(value) for value in row) for row in ROWS]
        path.write_text(head + "\n".join(lines) + "\n\n", encoding="utf-8")
    rest = {name: MIDDLE[name] for name in ("y0", "theta")}
    conditions = Conditions.of(CALOGAN, {**rest, "phi": "0,1"}, path)
    columns = [CALOGAN.column(name) for name in ("energy", "x0")]
    assert np.array_equal(conditions.table[::2][:, columns], ROWS)  # each with phi 0 and phi 1
    assert conditions.table[:, CALOGAN.column("phi")].tolist() == [0.0, 1.0] * 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("energy\n", "holds no particles"),
        ("", "holds no particles|no condition"),
        ("energy\n1000\nhot\n", "is no table of particles"),
        ("energy,x0\n1,2\n3\n", "is no table of particles"),
        ("energy\n1,2\n", "1 names above 2 columns"),
        ("enrgy\n1000\n", "did you mean 'energy'"),
        ("energy,energy\n1,2\n", "given twice"),
        ("x0\n1\n", "no condition 'x0'"),
    ],
)
def test_what_is_no_list_of_particles_gets_a_sentence(
    tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(content)
    with pytest.raises(ConditionError, match=said):
        Conditions.of(PHOTONS, {}, path)


def test_hdf5_that_points_elsewhere_or_holds_showers(tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["energy"] = [1000.0]
    cases = {
        "external": h5py.ExternalLink("secret.h5", "energy"),
        "soft": h5py.SoftLink("/other"),
    }
    for name, link in cases.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["energy"] = link
        with pytest.raises(ConditionError, match="link to another place"):
            Conditions.of(PHOTONS, {}, tmp_path / f"{name}.h5")
    layout = h5py.VirtualLayout((1,), "f8")
    layout[:] = h5py.VirtualSource(secret, "energy", (1,))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("energy", layout)
    with pytest.raises(ConditionError, match="lies in another file"):
        Conditions.of(PHOTONS, {}, tmp_path / "virtual.h5")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("energy")
    with h5py.File(tmp_path / "showers.h5", "w") as file:
        file["energy"] = np.ones((3, 2))
    (tmp_path / "damaged.h5").write_bytes(secret.read_bytes()[:500])
    for name in ("group", "showers", "damaged"):
        with pytest.raises(ConditionError, match=r"no table of particles|Cannot read"):
            Conditions.of(PHOTONS, {}, tmp_path / f"{name}.h5")
    with pytest.raises(ConditionError, match="Cannot read"):
        Conditions.of(PHOTONS, {}, tmp_path / "nothing.csv")
