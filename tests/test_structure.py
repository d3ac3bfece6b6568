"""The house: direction of imports, silent imports, recipes that load, examples that run."""

import ast
import doctest
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import caloforge
from caloforge.config import dump_recipe, load_recipe, parse_recipe, recipe_names
from caloforge.geometry import load_geometry
from caloforge.models import MODELS, make_model
from caloforge.models.file import load_model, save_model
from caloforge.symmetries import symmetry_group
from caloforge.transforms import TRANSFORMS

PACKAGE = Path(caloforge.__file__).parent
MODULES = sorted(m.name for m in pkgutil.walk_packages(caloforge.__path__, "caloforge."))

# Rooms from the bottom up: a module may import from its own room and from those below it.
CHAIN = [
    {"errors", "units", "files", "noise", "threads"},
    {"geometry", "binning", "symmetries", "spiral"},
    {"showers"},
    {"data"},
    {"nn", "transforms", "objectives", "config"},
    {"models"},
    {"training"},
    {"search"},
    {"generate", "export", "pretrained"},
]
TOP = {"cli", "commands", "judge", "demo", "progress", "simulate", "cluster", "traversal"}
# Rooms beside the chain: what each may use besides itself.
BESIDE = {
    "evaluation": {"errors", "units", "files", "geometry", "binning", "showers", "data"},
    "report": {
        "errors",
        "units",
        "files",
        "geometry",
        "binning",
        "spiral",
        "showers",
        "data",
        "evaluation",
    },
}


def room(module: str) -> str:
    """caloforge.models.base -> models; the package itself -> ''."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> set[str]:
    """Names of the package's own modules that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("caloforge")}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module == "caloforge":
                found |= {f"caloforge.{alias.name}" for alias in node.names}
            elif node.module.startswith("caloforge."):
                found.add(node.module)
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path} imports relatively; the house imports by full names")
    return found


def allowed(own: str) -> set[str]:
    """Rooms that room `own` may import from."""
    if own in BESIDE:
        return {own} | BESIDE[own]
    below: set[str] = set()
    for level in CHAIN:
        below |= level
        if own in level:
            return below | ({"evaluation"} if own in ("training", "search") else set())
    raise AssertionError(f"room '{own}' is in no place of the order of imports: add it here")


def all_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", all_files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    used = {room(name) for name in imports(path)} - {"", "__version__"}
    if own in TOP or own == "__init__":
        return
    assert used <= allowed(own), f"{path.name} imports {sorted(used - allowed(own))}"


def test_the_judge_never_imports_models_or_training() -> None:
    """Through nothing else either: importing evaluation and report must not load them."""
    code = (
        "import sys, importlib, pkgutil, caloforge.evaluation as e, caloforge.report as r\n"
        "for p in (e, r):\n"
        "    for m in pkgutil.walk_packages(p.__path__, p.__name__ + '.'):\n"
        "        importlib.import_module(m.name)\n"
        "rooms = ('caloforge.models', 'caloforge.training')\n"
        "bad = [m for m in sys.modules if m.startswith(rooms)]\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


PROBE = """
import io, json, random, sys, contextlib
import numpy, torch
import rich.progress  # draws random numbers for its styles, which is not ours to change
state = lambda: (torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist(),
                 random.getstate(), str(torch.get_default_dtype()), torch.get_num_threads(),
                 str(torch.get_default_device()), torch.are_deterministic_algorithms_enabled())
before, argv = state(), list(sys.argv)
text = io.StringIO()
with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
    import caloforge.cli
    early = "matplotlib" in sys.modules
    import matplotlib
    params = dict(matplotlib.rcParams)
    import importlib
    for name in json.loads(sys.argv[1]):
        importlib.import_module(name)
print(json.dumps({
    "text": text.getvalue(), "state": before == state(), "matplotlib early": early,
    "rcParams": params == dict(matplotlib.rcParams), "argv": argv == sys.argv,
    "cuda": torch.cuda.is_initialized(),
}))
"""


def test_importing_any_module_does_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE, json.dumps(MODULES)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "text": "",
        "state": True,
        "matplotlib early": False,
        "rcParams": True,
        "argv": True,
        "cuda": False,
    }


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_exists(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} says nothing about itself"
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), public


@pytest.mark.parametrize(
    "name",
    [m for m in MODULES if room(m) in ("models", "nn", "transforms", "objectives", "training")],
)
def test_examples_in_docstrings_run(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_every_model_file_has_an_example() -> None:
    for kind in MODELS.values():
        text = importlib.import_module(kind.__module__).__doc__ or ""
        for part in ("Reference", "Differs from the paper", "Shapes:", "Example", ">>> "):
            assert part in text, f"{kind.__module__} lacks {part}"


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_builds_its_model(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert recipe.source
    # Written out with all defaults and read again it is the same recipe.
    path = tmp_path / "recipe.toml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    again = load_recipe(path)
    assert again == recipe
    assert dump_recipe(again) == dump_recipe(recipe)
    assert parse_recipe(recipe.model_dump()) == recipe
    # Its model, transform settings and symmetries exist.
    geometry = load_geometry(recipe.geometry)
    assert recipe.transform["name"] in TRANSFORMS
    assert symmetry_group(geometry, recipe.training.augment)
    model = make_model(recipe.model["name"], geometry, None, **recipe.hyper())
    assert {k: model.hyper[k] for k in recipe.hyper()} == recipe.hyper()
    assert model.phases()
    save_model(tmp_path / "model.safetensors", model, {})
    loaded = load_model(tmp_path / "model.safetensors").model
    assert json.loads(json.dumps(loaded.hyper)) == json.loads(json.dumps(model.hyper))


def test_every_model_has_a_smoke_recipe() -> None:
    for name in MODELS:
        assert load_recipe(f"smoke-{name}").model["name"] == name


def test_no_recipe_holds_an_absolute_path_or_an_address() -> None:
    for path in sorted(PACKAGE.glob("recipes/*.toml")):
        text = path.read_text(encoding="utf-8")
        assert '"/' not in text
        assert "://" not in text


def test_nothing_in_the_package_unpickles() -> None:
    """Loading never runs code from a file: no pickle, no torch.load, no allow_pickle=True."""
    for path in all_files():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert "pickle" not in {a.name for a in node.names}, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("torch", "load"), path
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, path


def test_no_machine_path_in_the_package() -> None:
    for path in all_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.match(r"/(home|root|tmp|usr|opt|mnt)/", node.value), path
