"""Files that are damaged, wrong or hostile: always one DataError, never a crash, a hang or a "
"huge allocation."""

import io
import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caloforge.data import create_showers, open_showers, read_showers, sample_path
from caloforge.errors import CaloForgeError, DataError
from caloforge.geometry import Geometry, load_geometry
from caloforge.showers import Showers

PHOTONS = load_geometry("ds1-photons")
quiet = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SAMPLES = {
    ".hdf5": "ds1-photons-test",
    ".npz": "lhcb-test",
}


def small(path: Path, name: str = "ds1-photons-test", count: int = 30) -> Path:
    """A valid file of `count` real showers."""
    showers = read_showers(sample_path(name), rows=slice(0, count))
    with create_showers(path, showers.geometry) as writer:
        writer.append(showers)
    return path


def foreign(path: Path, **columns: object) -> Path:
    """An HDF5 file without anything of ours; 30 real photon showers where not said otherwise."""
    showers = read_showers(sample_path("ds1-photons-test"), rows=slice(0, 30))
    standard: dict[str, object] = {
        "incident_energies": showers.conditions,
        "showers": showers.energies,
    }
    with h5py.File(path, "w") as file:
        for key, value in {**standard, **columns}.items():
            if value is not None:
                file[key] = value
    return path


def refused(path: Path, match: str | None = None) -> None:
    """Reading fails with one sentence."""
    with pytest.raises(DataError, match=match) as caught:
        read_showers(path)
    assert "\n" not in str(caught.value)


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


# --- hostile ---------------------------------------------------------------------------------


@contextmanager
def memory_limit(extra: int = 1 << 30) -> Iterator[None]:
    """Let the process grow by at most `extra` bytes, so that a huge allocation fails the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("rows", [10**7, 10**12])
def test_hdf5_that_claims_rows_it_does_not_hold(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("incident_energies", (rows, 1), chunks=(100, 1), dtype="f4")
        file.create_dataset("showers", (rows, 368), chunks=(100, 368), dtype="f4")
    assert path.stat().st_size < 10_000
    with memory_limit():
        refused(path, "claims")


def test_hdf5_with_a_giant_chunk(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["incident_energies"] = np.ones((400_000, 1))
        data = file.create_dataset(
            "showers", (400_000, 368), chunks=(400_000, 368), dtype="f4", compression="gzip"
        )
        data.id.write_direct_chunk((0, 0), np.random.default_rng(0).bytes(600_000))
    with memory_limit():
        refused(path, "smaller chunks")


def test_hdf5_links_out_of_the_file_are_refused(tmp_path: Path) -> None:
    secret = foreign(tmp_path / "secret.h5")
    for name, link in (
        ("external", h5py.ExternalLink(str(secret), "/showers")),
        ("soft", h5py.SoftLink("/incident_energies")),
    ):
        path = foreign(tmp_path / f"{name}.h5", showers=None)
        with h5py.File(path, "a") as file:
            file["showers"] = link
        refused(path, "is a link to another place")
    path = foreign(tmp_path / "virtual.h5", showers=None)
    layout = h5py.VirtualLayout((30, 368), dtype="f4")
    layout[:] = h5py.VirtualSource(str(secret), "showers", (30, 368))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("showers", layout)
    refused(path, "in another file")
    raw = tmp_path / "raw.bin"
    raw.write_bytes(np.ones((30, 368), dtype="f4").tobytes())
    path = foreign(tmp_path / "raw.h5", showers=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("showers", (30, 368), dtype="f4", external=[(str(raw), 0, 44160)])
    refused(path, "in another file")


def lhcb_zip(path: Path, write: Callable[[zipfile.ZipFile], None]) -> Path:
    """An npz file whose EnergyDeposit is written by `write`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, shape in (("ParticleMomentum", (3, 3)), ("ParticlePoint", (3, 2))):
            buffer = io.BytesIO()
            np.save(buffer, np.ones(shape))
            archive.writestr(f"{key}.npy", buffer.getvalue())
        write(archive)
    return path


def header(shape: tuple[int, ...], descr: str = "<f4", fortran: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": descr, "fortran_order": fortran, "shape": shape}
    )
    return buffer.getvalue()


def test_npz_with_pickles_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (marker,))

    np.savez(
        tmp_path / "a.npz",
        EnergyDeposit=np.array([Evil()] * 3, dtype=object),
        ParticleMomentum=np.ones((3, 3)),
        ParticlePoint=np.ones((3, 2)),
    )
    refused(tmp_path / "a.npz", "never loaded")
    assert not marker.exists()


def test_npz_headers_that_lie(tmp_path: Path) -> None:
    def huge(archive: zipfile.ZipFile) -> None:
        archive.writestr("EnergyDeposit.npy", header((10**15, 30, 30, 1)) + b"\0" * 3600)

    def fortran(archive: zipfile.ZipFile) -> None:
        archive.writestr("EnergyDeposit.npy", header((3, 30, 30, 1), fortran=True) + b"\0" * 10800)

    def negative(archive: zipfile.ZipFile) -> None:
        archive.writestr("EnergyDeposit.npy", header((-3, 30, 30, 1)) + b"\0" * 10800)

    def code(archive: zipfile.ZipFile) -> None:
        text = b"{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (3,)}"
        member = b"\x93NUMPY\x01\x00\x76\x00" + text.ljust(117) + b"\n"
        archive.writestr("EnergyDeposit.npy", member)

    for number, write in enumerate((huge, fortran, negative, code)):
        with memory_limit():
            refused(lhcb_zip(tmp_path / f"{number}.npz", write))


def test_zip_bomb_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """300 MB of zeros in 300 kB: opening and walking through it takes little memory."""
    rows = 80_000

    def bomb(archive: zipfile.ZipFile) -> None:
        with archive.open("EnergyDeposit.npy", "w") as member:
            member.write(header((rows, 30, 30, 1)))
            for _ in range(rows // 1000):
                member.write(b"\0" * 3_600_000)

    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, size in (("ParticleMomentum", 3), ("ParticlePoint", 2)):
            buffer = io.BytesIO()
            np.save(buffer, np.ones((rows, size), dtype=np.float32))
            archive.writestr(f"{key}.npy", buffer.getvalue())
        bomb(archive)
    with memory_limit(220 << 20), open_showers(path) as file:
        assert sum(len(chunk) for chunk in file.chunks()) == rows
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        for k in range(1500):
            archive.writestr(f"{k}.npy", b"")
    refused(tmp_path / "many.npz", "members")


def test_a_root_file_without_a_tree(tmp_path: Path) -> None:
    uproot = pytest.importorskip("uproot")
    with uproot.recreate(tmp_path / "a.root") as file:
        file["other"] = "text"
    refused(tmp_path / "a.root", "expected a TTree 'showers'")


def test_a_generic_file_needs_its_geometry(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["showers"] = np.ones((2, 4))
        file["conditions"] = np.ones((2, 1))
    refused(path, "does not say its geometry")
    plain = PHOTONS.to_dict() | {"name": "four"}
    plain["layers"] = [
        {"id": 0, "name": "a", "kind": "polar", "alpha_bins": 2, "r_edges": [0, 1, 2]}
    ]
    with pytest.raises(DataError, match="look like"):
        read_showers(path, Geometry.from_dict(plain))
