"""Damage files of every kind and read them: nothing may hang, crash or want memory without end.

    python tools/damage.py --each 500 --seed 0
    python tools/damage.py --kinds showers-hdf5 model --each 20000

Each file is damaged in a way drawn from the seed (bytes flipped or set, cut, a part repeated, set
to zero, exchanged with another, the head of another kind in front) and read by a process of its
own, whose time and memory are limited. The table says how many files were read as if nothing had
happened, how many were refused in one sentence, and how many did anything else: those are faults
of CaloForge. They are kept in the folder of --keep, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# For one file: processor time of the process that reads, and time on the clock, which passes
# faster on a busy machine.
SECONDS, MOST_SECONDS = 20.0, 300.0
MEMORY = 3 << 30  # bytes beyond those of the process when it is ready
OUTCOMES = ("fine", "refused", "fault")
HEADS = [b"PK\x03\x04", b"root", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY", b"<?xml", b"{", b"[", b""]


# --- whole files -----------------------------------------------------------------------------
def make_showers(path: Path, sample: str, count: int = 20) -> None:
    """A small file of real showers, in the format that the name of the file says."""
    from caloforge.data import create_showers, read_showers, sample_path

    showers = read_showers(sample_path(sample), rows=slice(0, count))
    with create_showers(path, showers.geometry) as writer:
        writer.append(showers)


def make_foreign(path: Path) -> None:
    """HDF5 as other programs write it: no metadata, attributes of variable length."""
    import h5py

    from caloforge.data import read_showers, sample_path

    showers = read_showers(sample_path("ds1-photons-test"), rows=slice(0, 20))
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("showers", data=showers.energies, compression="lzf", chunks=(8, 368))
        file["incident_energies"] = showers.conditions
        file.attrs["producer"] = "another program"
        file["showers"].attrs["unit"] = "MeV"


def make_particles(path: Path) -> None:
    """A table of particles."""
    rows = "\n".join(f"{energy}" for energy in range(1000, 1100))
    path.write_text(f"energy\n{rows}\n", encoding="utf-8")


def make_model(path: Path) -> None:
    """A shipped generator."""
    from caloforge.pretrained import resolve_model

    shutil.copy(resolve_model("parametrisation-atlas"), path)


def make_checkpoint(path: Path) -> None:
    """The state of a training."""
    import torch

    from caloforge.training.checkpoint import save_checkpoint

    tensors = {f"weight.{k}": torch.randn(20, 20) for k in range(20)}
    written = save_checkpoint(path.parent, 1, tensors, {"seed": 0, "history": [1.0] * 20}, 1)
    written.rename(path)


def make_onnx(path: Path) -> None:
    """An exported generator."""
    from caloforge.export.onnx import export_onnx
    from caloforge.models.file import load_model
    from caloforge.pretrained import resolve_model

    export_onnx(load_model(resolve_model("caloshowergan-photon")), path)


def make_recipe(path: Path) -> None:
    """A recipe."""
    from caloforge.config import dump_recipe, load_recipe

    path.write_text(dump_recipe(load_recipe("caloshowergan-photon")), encoding="utf-8")


def make_geometry(path: Path) -> None:
    """A geometry."""
    from importlib import resources

    text = (resources.files("caloforge.detectors") / "ds1-photons.toml").read_text("utf-8")
    path.write_text(text, encoding="utf-8")


def make_binning(path: Path) -> None:
    """The voxels of a geometry as the CaloChallenge writes them."""
    from xml.etree import ElementTree

    from caloforge.detector.binning import add_layers
    from caloforge.detector.shipped import load_geometry

    root = ElementTree.Element("Bins")
    particle = ElementTree.SubElement(root, "Bin", {"name": "photon", "pid": "22"})
    add_layers(particle, load_geometry("ds1-photons"))
    path.write_bytes(ElementTree.tostring(root))


def make_cluster(path: Path) -> None:
    """Settings of a cluster."""
    path.write_text(
        'kind = "slurm"\ncores = 4\nthreads = 2\nmemory = "8GB"\nwalltime = "02:30:00"\n'
        'queue = "short"\nprologue = ["module load python"]\n',
        encoding="utf-8",
    )


def make_results(path: Path) -> None:
    """The results of a shipped generator."""
    from caloforge.pretrained import resolve_model

    shutil.copy(resolve_model("caloshowergan-photon").with_name("results.json"), path)


# --- readers ---------------------------------------------------------------------------------
def read_file(path: Path) -> None:
    """Showers, block by block."""
    from caloforge.data import open_showers

    with open_showers(path) as file:
        for chunk in file.chunks():
            assert np.isfinite(chunk.energies).all()


def read_particles(path: Path) -> None:
    """A table of particles."""
    from caloforge.generate.conditions import read_particles

    read_particles(path)


def read_model(path: Path) -> None:
    """A generator, with its trained ranges."""
    from caloforge.models.file import load_model

    assert load_model(path).condition_range


def read_checkpoint(path: Path) -> None:
    """The newest checkpoint of a folder, which holds this one."""
    from caloforge.training.checkpoint import latest_checkpoint

    folder = path.parent / "checkpoints"
    folder.mkdir(exist_ok=True)
    shutil.copy(path, folder / "step-00000001.safetensors")
    assert latest_checkpoint(folder) is not None


def read_onnx(path: Path) -> None:
    """An exported generator makes a shower."""
    from caloforge.export.onnx import load_onnx

    generator = load_onnx(path)
    noise = np.zeros((1, generator.noise_size), np.float32)
    generator.sample(np.full((1, 1), 65536, np.float32), noise)


def read_recipe(path: Path) -> None:
    """A recipe."""
    from caloforge.config import load_recipe

    load_recipe(path)


def read_geometry(path: Path) -> None:
    """A geometry."""
    from caloforge.detector.shipped import load_geometry

    load_geometry(path)


def read_cluster(path: Path) -> None:
    """Settings of a cluster."""
    from caloforge.cluster import load_cluster

    load_cluster(path)


def read_results(path: Path) -> None:
    """The figures of an evaluation, as `caloforge report` reads them."""
    from caloforge.errors import DataError
    from caloforge.judge import folder

    place = path.parent / "results"
    place.mkdir(exist_ok=True)
    shutil.copy(path, place / folder.RESULTS)
    try:
        folder.read_results(place)
    except DataError as error:
        if folder.SHOWN not in str(error):  # the shipped results are kept without pictures
            raise


Make, Read = Callable[[Path], None], Callable[[Path], None]
KINDS: dict[str, tuple[str, Make, Read]] = {
    "showers-hdf5": ("a.hdf5", lambda p: make_showers(p, "ds1-photons-test"), read_file),
    "showers-lcd": ("a.hdf5", lambda p: make_showers(p, "lcd-test", 2), read_file),
    "showers-calogan": ("a.hdf5", lambda p: make_showers(p, "calogan-eplus-test"), read_file),
    "showers-cells": ("a.hdf5", lambda p: make_showers(p, "atlas-cells-test"), read_file),
    "showers-foreign": ("a.hdf5", make_foreign, read_file),
    "showers-npz": ("a.npz", lambda p: make_showers(p, "lhcb-test"), read_file),
    "showers-root": ("a.root", lambda p: make_showers(p, "ds1-photons-test"), read_file),
    "particles-csv": ("a.csv", make_particles, read_particles),
    "model": ("a.safetensors", make_model, read_model),
    "checkpoint": ("a.safetensors", make_checkpoint, read_checkpoint),
    "onnx": ("a.onnx", make_onnx, read_onnx),
    "recipe": ("a.toml", make_recipe, read_recipe),
    "geometry": ("a.toml", make_geometry, read_geometry),
    "binning-xml": ("a.xml", make_binning, read_geometry),
    "cluster": ("a.toml", make_cluster, read_cluster),
    "results": ("a.json", make_results, read_results),
}


# --- damage ----------------------------------------------------------------------------------
def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """The content of a file after one to three accidents."""
    for _ in range(int(rng.integers(1, 4))):
        content = _accident(bytearray(content), rng)
    return content


def _accident(content: bytearray, rng: np.random.Generator) -> bytes:
    size = len(content)
    if not size:
        return bytes(content)
    # Half of the accidents happen where a file says what is in it.
    reach = min(size, int(rng.choice([64, 600, 8192, size, size])))
    start = int(rng.integers(reach))
    if rng.random() < 0.2:  # the end holds the directory of zip and ROOT files
        start = size - 1 - start
    length = int(rng.choice([1, 2, 8, 64, 1000]))
    match int(rng.integers(8)):
        case 0:  # bits
            for place in rng.integers(0, reach, int(rng.integers(1, 9))):
                content[place] ^= 1 << int(rng.integers(8))
        case 1:  # bytes
            for place in rng.integers(0, reach, int(rng.integers(1, 9))):
                content[place] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))
        case 2:
            del content[start:]
        case 3:
            content[start:start] = content[start : start + length]
        case 4:
            end = min(size, start + length)
            content[start:end] = bytes(end - start)
        case 5:
            end = min(size, start + length)
            content[start:end] = b"\xff" * (end - start)
        case 6:  # exchanged with another part
            other = int(rng.integers(size))
            first, second = content[start : start + length], content[other : other + length]
            content[start : start + len(second)] = second
            content[other : other + len(first)] = first
        case _:
            head = HEADS[int(rng.integers(len(HEADS)))]
            content[: len(head)] = head
    return bytes(content)


# --- the process that reads ------------------------------------------------------------------
def work(kind: str) -> None:
    """Read the files that the input names, one a line, and say what happened."""
    import warnings

    from caloforge.errors import CaloForgeError

    read = KINDS[kind][2]
    warnings.simplefilter("ignore")
    answer = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what libraries print is no answer
    first = True
    for line in sys.stdin:
        path = Path(json.loads(line))
        outcome, text = "fine", ""
        try:
            read(path)
        except CaloForgeError as error:
            text = str(error)
            outcome = "refused"
            if "\n" in text.strip() or len(text) > 2000 or not text:
                outcome = "fault"
            if isinstance(error.__cause__, MemoryError):
                outcome, text = "fault", f"memory: {text}"
        except BaseException as error:
            outcome, text = "fault", f"{type(error).__name__}: {error}"
        if first:  # the whole file, after which everything is imported
            first = False
            _limit_memory()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer.write(json.dumps([outcome, text, peak]) + "\n")
        answer.flush()


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = used * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


class Reader:
    """A process that reads files of one kind, replaced when it hangs or dies."""

    def __init__(self, kind: str, whole: Path) -> None:
        self.kind, self.whole = kind, whole
        self.process: Any = None
        self.first_peak = self.peak = 0  # kB of memory, after the whole file and at most

    def read(self, path: Path) -> tuple[str, str]:
        """Outcome (one of OUTCOMES) and what was said."""
        if self.process is None:
            program = [sys.executable, __file__, "--worker", self.kind]
            self.process = subprocess.Popen(
                program,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            outcome, text, self.first_peak = self._ask(self.whole, patience=20)  # it imports
            if outcome != "fine":
                raise SystemExit(f"The whole file of {self.kind} cannot be read: {text}")
        outcome, text, peak = self._ask(path)
        self.peak = max(self.peak, peak)
        return outcome, text

    def _ask(self, path: Path, patience: int = 1) -> tuple[str, str, int]:
        self.process.stdin.write(json.dumps(str(path)).encode() + b"\n")
        self.process.stdin.flush()
        begin, used = time.monotonic(), self._processor_time()
        while not select.select([self.process.stdout], [], [], 1.0)[0]:
            late = time.monotonic() - begin > patience * MOST_SECONDS
            if late or self._processor_time() - used > patience * SECONDS:
                self.end()
                return "fault", "no answer: it hangs", 0
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.end()
            return "fault", f"the process ended with status {status}", 0
        outcome, text, peak = json.loads(line)
        return outcome, text, peak

    def _processor_time(self) -> float:
        """Seconds of processor time that the process has used."""
        try:
            status = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        except OSError:
            return 0.0
        times = status.rpartition(")")[2].split()[11:13]
        return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """Stop the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


# --- the whole -------------------------------------------------------------------------------
def damage_kind(
    kind: str, each: int, seed: int, seconds: float, keep: Path | None
) -> tuple[Counter[str], int, list[str]]:
    """Counts of the outcomes, memory (MB) that reading took beyond that of the whole file, and
    the faults.
    """
    name, make, _ = KINDS[kind]
    counts: Counter[str] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / f"whole-{name}"
        make(whole)
        content, path = whole.read_bytes(), Path(scratch) / name
        reader = Reader(kind, whole)
        reader.read(whole)  # what is imported first is not timed
        begin = time.monotonic()
        try:
            for number in range(each):
                if time.monotonic() - begin > seconds:
                    break
                rng = np.random.default_rng([seed, sorted(KINDS).index(kind), number])
                path.unlink(missing_ok=True)
                path.write_bytes(damage(content, rng))
                outcome, text = reader.read(path)
                counts[outcome] += 1
                if outcome == "fault":
                    faults.append(f"{kind} {number}: {text[:300]!r}")
                    if keep is not None:
                        keep.mkdir(parents=True, exist_ok=True)
                        shutil.copy(path, keep / f"{kind}-{seed}-{number}-{name}")
        finally:
            reader.end()
    return counts, max(0, reader.peak - reader.first_peak) // 1000, faults


def main() -> int:
    """Damage files of all kinds, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=500, help="damaged files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS))
    parser.add_argument("--seconds", type=float, default=1e9, help="at most so long a kind")
    parser.add_argument("--keep", type=Path, help="folder for files that show a fault")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return 0
    print("| files | damaged | read | one sentence | faults | memory (MB) |")
    print("|---|---|---|---|---|---|")
    all_faults: list[str] = []
    for kind in options.kinds:
        counts, peak, faults = damage_kind(
            kind, options.each, options.seed, options.seconds, options.keep
        )
        row = " | ".join(str(counts[outcome]) for outcome in OUTCOMES)
        print(f"| {kind} | {sum(counts.values())} | {row} | {peak} |", flush=True)
        all_faults += faults
    for fault in all_faults:
        print(fault)
    return 1 if all_faults else 0


if __name__ == "__main__":
    sys.exit(main())
