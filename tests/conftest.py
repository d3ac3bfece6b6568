"""Fixtures shared by all tests."""

import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling

from caloforge.config import load_recipe
from caloforge.data import open_showers, read_showers, sample_names, sample_path
from caloforge.models import MODELS
from caloforge.showers import Showers
from caloforge.training.optimisers import Player
from caloforge.training.train import train

# A shell that starts the tests in the background has Ctrl-C ignored, which some of them press.
signal.signal(signal.SIGINT, signal.default_int_handler)

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(name: str) -> Path:
    folder = _SHARED / name
    if not folder.is_dir():
        pytest.skip(
            f"needs the full Geant4 data set (../shared/{name}), which is not beside this clone"
        )
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the full Geant4 files; skips where they are absent."""
    return _folder("data")


@pytest.fixture(scope="session")
def published() -> Path:
    """Folder of the published numbers; skips where they are absent."""
    return _folder("published")


@cache
def training_sample(geometry: str) -> str:
    """Name of the shipped training sample of a geometry."""
    for name in sample_names():
        if name.endswith("-train"):
            with open_showers(sample_path(name)) as source:
                if source.geometry.name == geometry:
                    return name
    raise AssertionError(f"no shipped training sample of {geometry}")


def sample_showers(geometry: str) -> Showers:
    """The shipped training sample of a geometry."""
    return read_showers(sample_path(training_sample(geometry)))


def update(player: Player, loss: Tensor) -> None:
    """One update of a player by the gradients of a loss."""
    player.take(torch.autograd.grad(loss, player.parameters))


def learners() -> list[str]:
    """Names of the models that are trained step by step; the others are fitted in one go."""
    return [name for name in sorted(MODELS) if load_recipe(f"smoke-{name}").training.steps > 1]


@pytest.fixture(scope="session")
def photons() -> Showers:
    """The shipped photon training sample."""
    return sample_showers("ds1-photons")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a model's finished smoke training, by the model's name; each is trained once."""
    root = tmp_path_factory.mktemp("smoke")

    def folder(model: str) -> Path:
        out = root / model
        if not (out / "model.safetensors").exists():
            recipe = load_recipe(f"smoke-{model}")
            train(recipe, sample_showers(recipe.geometry), out, device="cpu")
        return out

    return folder


class BySharedWork(LoadScopeScheduling):
    """Tests that share a fixture of their module, or the smoke training of a model, run on one
    worker, so that no other makes it again; all others run one by one.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, parameters = nodeid.partition("[")
        path = Path(file.split("::")[0])
        if has_module_fixtures(path.name):
            return path.name
        model = parameters.removesuffix("]")  # the only parameter, or the last of two
        found = [name for name in (model, model.partition("-")[2]) if name in MODELS]
        return found[0] if found else nodeid


@cache
def has_module_fixtures(name: str) -> bool:
    """Whether a file of tests has a fixture that is made once for all of its tests."""
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    return 'scope="module"' in text


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> BySharedWork:
    """Called by xdist where several workers share the tests."""
    return BySharedWork(config, log)
