"""Small files for the tests of the data room."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import pytest
from hypothesis import HealthCheck, settings

from caloforge.data import create_showers, read_showers, sample_path
from caloforge.detector.shipped import load_geometry
from caloforge.errors import DataError

PHOTONS = load_geometry("ds1-photons")
quiet = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


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
