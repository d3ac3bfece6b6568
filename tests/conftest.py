"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(name: str) -> Path:
    folder = _SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the full Geant4 data set (../shared/{name}), which is not beside this clone")
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the full Geant4 files; skips where they are absent."""
    return _folder("data")


@pytest.fixture(scope="session")
def published() -> Path:
    """Folder of the published numbers; skips where they are absent."""
    return _folder("published")
