"""Files that are damaged or wrong: always one DataError sentence, never another exception."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from data_files import PHOTONS, foreign, memory_limit, quiet, refused, small
from hypothesis import assume, given
from hypothesis import strategies as st

from caloforge.data import convert, create_showers, open_showers, read_showers, sample_path
from caloforge.detector.shipped import load_geometry
from caloforge.errors import CaloForgeError, DataError
from caloforge.showers import Showers

# --- damaged ---------------------------------------------------------------------------------


@quiet
@given(cut=st.floats(0, 1, exclude_max=True), suffix=st.sampled_from([".hdf5", ".npz", ".root"]))
def test_truncated_files(tmp_path: Path, cut: float, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    if not whole.exists():
        small(whole)
    content = whole.read_bytes()
    path = tmp_path / f"part{suffix}"
    path.write_bytes(content[: int(cut * len(content))])
    try:
        read = read_showers(path)
    except CaloForgeError:
        return
    # Only bytes that hold nothing may be missing.
    assert np.array_equal(read.energies, read_showers(whole).energies)


@quiet
@given(
    places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8),
    value=st.integers(0, 255),
    suffix=st.sampled_from([".npz", ".root"]),
)
def test_flipped_bytes(tmp_path: Path, places: list[float], value: int, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    if not whole.exists():
        small(whole)
    content = bytearray(whole.read_bytes())
    for place in places:
        content[int(place * len(content))] = value
    path = tmp_path / f"flipped{suffix}"
    path.write_bytes(content)
    try:
        read = read_showers(path)
    except CaloForgeError:
        return
    assert np.isfinite(read.energies).all()


def test_flipped_bytes_in_hdf5(tmp_path: Path) -> None:
    """In a process of its own: the HDF5 library itself is in C, and must not take the tests "
    "down."""
    script = """
import sys, numpy as np
from pathlib import Path
from caloforge.data import read_showers
from caloforge.errors import CaloForgeError
whole = Path(sys.argv[1]); content = whole.read_bytes(); path = whole.with_name("flipped.hdf5")
rng = np.random.default_rng(4); refused = 0
for k in range(150):
    damaged = bytearray(content)
    reach = 4000 if k % 2 else len(content)
    for place in rng.integers(0, reach, 4): damaged[place] = rng.integers(256)
    path.write_bytes(damaged)
    try: assert np.isfinite(read_showers(path).energies).all()
    except CaloForgeError: refused += 1
print(refused)
"""
    whole = small(tmp_path / "whole.hdf5")
    done = subprocess.run(
        [sys.executable, "-c", script, str(whole)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 20


HEADS = [b"", b"PK\x03\x04", b"root", b"\x89HDF\r\n\x1a\n"]


@quiet
@given(content=st.binary(max_size=300), head=st.sampled_from(HEADS))
def test_any_bytes(tmp_path: Path, content: bytes, head: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(head + content)
    refused(path)


def test_not_there_or_not_a_file(tmp_path: Path) -> None:
    refused(tmp_path / "nothing.h5", "There is no file")
    refused(tmp_path, "is a folder")
    (tmp_path / "page.hdf5").write_text("<html>404</html>")
    refused(tmp_path / "page.hdf5", "neither HDF5 nor npz nor ROOT")
    if os.geteuid() != 0:
        locked = small(tmp_path / "locked.hdf5")
        locked.chmod(0)
        refused(locked, "Permission")


# --- wrong -----------------------------------------------------------------------------------


ENERGY = np.full((30, 1), 1024.0)


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"showers": None}, "expected also showers"),
        ({"incident_energies": None}, "expected also incident_energies"),
        ({"showers": None, "incident_energies": None}, "holds no columns"),
        ({"showers": np.ones((30, 369))}, "no shipped calochallenge geometry"),
        ({"showers": np.ones((30, 4, 92))}, "no shipped calochallenge geometry"),
        ({"showers": np.ones((30, 0))}, "no shipped calochallenge geometry"),
        ({"showers": np.ones((29, 368))}, "has the shape"),
        ({"incident_energies": np.ones((30, 2))}, "has the shape"),
        ({"incident_energies": np.ones((31, 1))}, "has the shape"),
        ({"showers": np.full((30, 368), b"x")}, "expected numbers"),
        ({"showers": np.ones((30, 368), dtype=complex)}, "expected numbers"),
        ({"showers": np.full((30, 368), np.nan)}, "NaN or infinite cell"),
        ({"showers": np.full((30, 368), 1e300)}, "NaN or infinite cell"),
        ({"showers": np.full((30, 368), -1.0)}, "expected energies >= 0"),
        ({"incident_energies": -ENERGY}, "incident energy <= 0"),
        ({"incident_energies": ENERGY * np.inf}, "NaN or infinite condition"),
    ],
)
def test_wrong_columns(tmp_path: Path, columns: dict[str, object], match: str) -> None:
    refused(foreign(tmp_path / "a.h5", **columns), match)


@quiet
@given(
    row=st.integers(0, 29),
    cell=st.integers(0, 367),
    value=st.sampled_from([np.nan, np.inf, -np.inf, -1e-3]),
)
def test_one_bad_cell_is_found_and_named(
    tmp_path: Path, row: int, cell: int, value: float
) -> None:
    energies = read_showers(sample_path("ds1-photons-test"), rows=slice(0, 30)).energies.copy()
    energies[row, cell] = value
    refused(foreign(tmp_path / "a.h5", showers=energies), f"Shower {row} ")


@quiet
@given(
    shape=st.lists(st.integers(0, 5), min_size=0, max_size=4),
    kind=st.sampled_from(["f4", "i8", "U3", "c8", "?"]),
    key=st.sampled_from(["EnergyDeposit", "ParticleMomentum", "ParticlePoint"]),
)
def test_wrong_members_of_npz(tmp_path: Path, shape: list[int], kind: str, key: str) -> None:
    members = {
        "EnergyDeposit": np.ones((3, 30, 30, 1), dtype=np.float32),
        "ParticleMomentum": np.ones((3, 3)),
        "ParticlePoint": np.ones((3, 2)),
    }
    # Three impacts at the origin are what a file of three showers may hold.
    assume(not (key == "ParticlePoint" and shape == [3, 2] and kind in ("f4", "i8")))
    members[key] = np.zeros(shape, dtype=kind)
    np.savez(tmp_path / "a.npz", **members)  # type: ignore[arg-type]
    refused(tmp_path / "a.npz")


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("name", ["ds1-photons-test", "ds1-pions-test", "lcd-test", "lhcb-test"])
def test_energies_in_a_wrong_unit(tmp_path: Path, name: str, factor: float) -> None:
    showers = read_showers(sample_path(name))
    path = tmp_path / "a.hdf5"
    with create_showers(path, showers.geometry) as writer:
        scaled = Showers(showers.energies * factor, showers.conditions, showers.geometry)
        writer.append(scaled)
    assert len(read_showers(path)) == len(showers)  # a file of ours says its units
    with h5py.File(path, "a") as file:
        file.attrs.clear()
    refused(path, "look like")


def test_everything_in_gev(tmp_path: Path) -> None:
    showers = read_showers(sample_path("ds1-photons-test"))
    path = foreign(
        tmp_path / "a.h5",
        showers=showers.energies / 1e3,
        incident_energies=showers.conditions / 1e3,
    )
    refused(path, "look like GeV or TeV")


@pytest.mark.parametrize(
    ("key", "factor", "match"),
    [
        ("theta", 180 / np.pi, "looks like degrees"),
        ("x0", 1e3, "looks like another unit"),
    ],
)
def test_conditions_in_a_wrong_unit(tmp_path: Path, key: str, factor: float, match: str) -> None:
    path = tmp_path / "a.h5"
    convert("calogan-eplus-test", path)
    with h5py.File(path, "a") as file:
        file.attrs.clear()  # a file of another program
        file[key][...] = factor * file[key][...]
    with pytest.raises(DataError, match=f"The condition {key} in .* {match}"):
        read_showers(path)


def test_a_kind_of_particle_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    convert("lcd-test", path)
    with h5py.File(path, "a") as file:
        file.attrs.clear()
        file["target"][0, 0, 0] = 7
    with pytest.raises(DataError, match=r"particle in .* is 0 to 7; expected whole numbers"):
        read_showers(path)


def test_blocks_that_were_never_written(tmp_path: Path) -> None:
    """A job that made room for its showers and was stopped: zeros would be read for them."""
    showers = read_showers("ds1-photons-test", rows=slice(0, 400))
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["incident_energies"] = showers.conditions
        cells = file.create_dataset("showers", (400, 368), "f4", chunks=(100, 368))
        cells[:200] = showers.energies[:200]
    with pytest.raises(DataError, match="has 2 of its 4 blocks"):
        read_showers(path)


def test_rows_that_are_not_there() -> None:
    with open_showers(sample_path("lhcb-test")) as file:
        for start, stop in ((-1, 3), (5, 3), (0, 201)):
            with pytest.raises(DataError, match="holds 200 showers"):
                file.read(start, stop)
        with pytest.raises(DataError, match="1 or more"):
            next(file.chunks(0))
    with pytest.raises(DataError, match="step of 1"):
        read_showers(sample_path("lhcb-test"), rows=slice(0, 10, 2))


# --- embedded metadata -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schema_version": 99}, "update CaloForge"),
        ({"schema_version": "one"}, "schema version"),
        ({"geometry": "{"}, "Cannot read"),
        ({"geometry": "[1]"}, "not a JSON object"),
        ({"geometry": '{"name": "x"}'}, "lacks the key"),
        ({"geometry_hash": "0" * 16}, "one of them was edited"),
        ({"provenance": "{"}, "Cannot read"),
    ],
)
def test_edited_metadata(tmp_path: Path, change: dict[str, object], match: str) -> None:
    path = small(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs.update(change)
    refused(path, match)


@pytest.mark.parametrize("bins", [10**12, -1, 0])
def test_a_geometry_that_claims_too_much(tmp_path: Path, bins: int) -> None:
    path = small(tmp_path / "a.hdf5")
    plain = PHOTONS.to_dict()
    plain["layers"][0]["alpha_bins"] = bins
    with h5py.File(path, "a") as file:
        file.attrs["geometry"] = json.dumps(plain)
    with memory_limit():
        refused(path, "alpha bins")


def test_a_file_of_another_geometry_inside(tmp_path: Path) -> None:
    path = small(tmp_path / "a.hdf5")
    pions = load_geometry("ds1-pions")
    with h5py.File(path, "a") as file:
        file.attrs["geometry"] = json.dumps(pions.to_dict())
        file.attrs["geometry_hash"] = pions.hash
    refused(path, "has the shape")


def test_names_out_of_files_stay_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["two\nlines\x1b[31m"] = np.ones(3)
    refused(path, r"two lines\?\[31m")
    assert str(CaloForgeError("a\ud800b")) == "a?b"


def test_a_root_branch_that_gives_fewer_rows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged keys of baskets make uproot return no rows without a word."""
    import uproot

    path = small(tmp_path / "a.root")
    whole = uproot.TBranch.array
    monkeypatch.setattr(uproot.TBranch, "array", lambda *a, **k: whole(*a, **k)[:0])
    refused(path, "gives 0 of the rows 0 to 30")
