"""Small real Geant4 samples shipped with the package."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from caloforge.errors import DataError, did_you_mean

_SUFFIXES = (".hdf5", ".npz")


SAMPLES = Path(str(resources.files("caloforge"))) / "samples"


def sample_names() -> list[str]:
    """Names of the shipped samples, sorted."""
    return sorted(f.stem for f in SAMPLES.iterdir() if f.suffix in _SUFFIXES)


def sample_path(name: str) -> Path:
    """File of a shipped sample; raises DataError with the nearest name."""
    for suffix in _SUFFIXES:
        path = SAMPLES / f"{name}{suffix}"
        if name in sample_names() and path.is_file():
            return path
    raise DataError(f"There is no shipped sample '{name}': {did_you_mean(name, sample_names())}")


def resolve_data(name_or_path: str | Path) -> Path:
    """A file of showers given by path or by the name of a shipped sample.

    A file of that name in the working folder comes first. Raises DataError when there is neither.
    """
    path = Path(name_or_path)
    if path.exists():
        return path
    text = str(name_or_path)
    if text in sample_names():
        return sample_path(text)
    if path.suffix or len(path.parts) > 1:
        raise DataError(f"There is no file {path}; check the name.")
    raise DataError(
        f"'{text}' is neither a file nor a shipped sample: {did_you_mean(text, sample_names())}"
    )


@dataclass(frozen=True)
class Geant4Time:
    """Time that Geant4 takes for one shower: `seconds` for a particle of `energy` MeV."""

    particle: str
    energy: float
    seconds: float


def geant4_times(geometry: str) -> list[Geant4Time]:
    """What Geant4 takes for the showers of a shipped read-out, measured when the samples were
    made; nothing for other read-outs.
    """
    content = tomllib.loads((SAMPLES / "geant4-times.toml").read_text(encoding="utf-8"))
    return [
        Geant4Time(row["particle"], row["energy"], row["seconds"])
        for row in content["times"]
        if geometry in row["geometries"]
    ]
