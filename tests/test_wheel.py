"""The wheel: its size, what it carries, and that it works where nothing else is installed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from caloforge.pretrained import left_out_names, pretrained_names, resolve_model

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LIMIT = 25e6  # bytes
NOT_NEEDED = (".venv", ".git", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", "demo")


def test_metadata_of_a_release_agree() -> None:
    version = PROJECT["project"]["version"]
    zenodo = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert zenodo["version"] == version and f"version: {version}" in citation
    assert f"date-released: {zenodo['publication_date']}" in citation
    assert zenodo["license"] == PROJECT["project"]["license"]
    assert f'__version__ = "{version}"' in (ROOT / "src/caloforge/__init__.py").read_text("utf-8")


def test_the_list_of_the_wheel_names_shipped_generators() -> None:
    assert left_out_names() == []
    listed = PROJECT["tool"]["setuptools"]["package-data"]["caloforge"]
    shelf = resolve_model(pretrained_names()[0]).parents[1]
    for pattern in (p for p in listed if p.startswith("pretrained/")):
        assert list(shelf.glob(pattern.removeprefix("pretrained/"))), pattern


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built in a copy of the tree, so that no old build folder enters it."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_NEEDED, "*.egg-info", "shared"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, tree]
    subprocess.run(command, check=True, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and its dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    flags = shlex.split(os.environ.get("PIP_FLAGS", ""))
    pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", *flags]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", wheel], check=True, cwd=folder)
    return folder


@pytest.mark.slow
def test_it_is_small_and_names_every_generator(wheel: Path) -> None:
    assert wheel.stat().st_size < LIMIT
    names = zipfile.ZipFile(wheel).namelist()
    page = re.compile(r"caloforge/pretrained/([^/]+)/README.md")
    pages = {match[1] for name in names if (match := page.fullmatch(name))}
    assert pages == set(pretrained_names())
    for name in ("copula-photons", "one-step-photons", "caloshowergan-photon"):
        assert f"caloforge/pretrained/{name}/model.safetensors" in names
    assert not any(name.startswith(("tests/", "docs/", "build/")) for name in names)


@pytest.mark.slow
def test_it_works_in_a_bare_environment(environment: Path, tmp_path: Path) -> None:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def caloforge(line: str) -> subprocess.CompletedProcess[str]:
        command = [str(environment / "bin" / "caloforge"), *line.split()]
        return subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True)

    missing = (set(pretrained_names()) & {"copula-flow-photons", "flow-matching-photon"}).pop()
    for line in (
        "demo --steps 200",
        "generate one-step-photons --like ds1-photons-test --out generated.hdf5",
        "evaluate ds1-photons-test generated.hdf5 --floor ds1-photons-train --out judged",
        "geometry new mine.toml",
        "models",
    ):
        done = caloforge(line)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert missing in done.stdout  # of `models`
    refused = caloforge(f"generate {missing} --energy 1000 -n 1 --out refused.hdf5")
    assert refused.returncode == 2 and "source archive" in refused.stderr
    for page in ("demo/report.html", "judged/report.html"):
        assert (tmp_path / page).stat().st_size > 100_000
