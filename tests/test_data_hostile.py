"""Hostile files: never a crash, a hang, a huge allocation, or a look at another file."""

import io
import multiprocessing
import os
import struct
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from data_files import PHOTONS, foreign, memory_limit, refused, small

from caloforge.data import guard, open_showers, read_showers, sample_path
from caloforge.data.containers import Column
from caloforge.data.root import RootSource
from caloforge.detector.geometry import Geometry
from caloforge.errors import DataError
from caloforge.generate.conditions import read_particles

# --- hostile ---------------------------------------------------------------------------------


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


def test_more_showers_than_memory_are_not_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of zeros may hold a thousand times its size, and nothing is wrong with it."""
    path = foreign(tmp_path / "a.h5")
    memory = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 30 * 368 * 4}
    monkeypatch.setattr("caloforge.data.reader.os.sysconf", memory.__getitem__)
    assert len(read_showers(path)) == 30
    memory["SC_PHYS_PAGES"] -= 1
    refused(path, "of memory; this machine has")
    with open_showers(path) as file:
        assert sum(len(chunk) for chunk in file.chunks(10)) == 30


def test_npz_with_a_giant_header_or_strange_compression(tmp_path: Path) -> None:
    def long(archive: zipfile.ZipFile) -> None:
        with archive.open("EnergyDeposit.npy", "w") as member:
            member.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31))
            for _ in range(300):
                member.write(bytes(1 << 20))

    def packed(archive: zipfile.ZipFile) -> None:
        archive.writestr("EnergyDeposit.npy", header((3, 30, 30, 1)), zipfile.ZIP_LZMA)

    for number, (write, match) in enumerate([(long, "has a header of"), (packed, "NumPy never")]):
        with memory_limit(128 << 20):
            refused(lhcb_zip(tmp_path / f"{number}.npz", write), match)


def test_a_root_branch_that_claims_entries_it_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small(tmp_path / "a.root")
    monkeypatch.setattr(
        RootSource,
        "_find_columns",
        lambda self: {
            key: Column(
                (10**9, *np.shape(branch.array(entry_stop=1, library="np"))[1:]), np.dtype("f4")
            )
            for key, branch in self._tree.items()
        },
    )
    with memory_limit():
        refused(path, "claims")


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


def endless(path: Path) -> Path:
    """A file whose attribute of variable length leads the HDF5 library in a circle: the first
    object of its global heap says that it is 16 bytes short of 2^64 long, so that the next object
    begins where it begins itself.
    """
    foreign(path)
    with h5py.File(path, "a") as file:
        file.attrs["format"] = "calochallenge"
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, content.index(b"GCOL") + 24, 2**64 - 16)
    path.write_bytes(content)
    return path


def test_hdf5_that_hangs_the_library_gets_a_sentence(tmp_path: Path) -> None:
    path = endless(tmp_path / "a.hdf5")
    assert path.stat().st_size < 100_000
    before = time.process_time()
    refused(path, "loop without end")
    with pytest.raises(DataError, match="loop without end"):
        read_particles(path)
    assert time.process_time() - before < 2
    # A good file is examined by a new process.
    assert len(read_showers(foreign(tmp_path / "b.hdf5"))) == 30


def test_files_are_examined_again_when_they_change(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.hdf5")
    assert len(read_showers(path)) == 30
    refused(endless(path), "loop without end")
    assert len(read_showers(foreign(path))) == 30


def test_files_of_our_own_are_not_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(guard, "_verdict", lambda path, size: str(asked.append(path) or ""))
    read_showers(small(tmp_path / "a.hdf5"))
    read_showers(sample_path("ds1-photons-test"))
    assert asked == []
    other = foreign(tmp_path / "b.hdf5")
    os.utime(other, (0, 0))
    for _ in range(2):
        read_showers(other)
    assert asked == [other]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it does fork
def test_many_threads_and_a_fork_ask_one_process_each(tmp_path: Path) -> None:
    paths = [foreign(tmp_path / f"{k}.hdf5") for k in range(8)]
    with ThreadPoolExecutor(4) as threads:
        assert [len(s) for s in threads.map(read_showers, paths)] == [30] * 8
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert len(pool.apply(read_showers, (paths[0],))) == 30
    assert len(read_showers(paths[1])) == 30


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "a pipe or a device")


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
    plain.pop("stack", None)
    plain["layers"] = [
        {"id": 0, "name": "a", "kind": "polar", "alpha_bins": 2, "r_edges": [0, 1, 2]}
    ]
    with pytest.raises(DataError, match="look like"):
        read_showers(path, Geometry.from_dict(plain))
