"""The house: direction of imports, no circles, rooms that say what is in them, silent imports,
recipes that load, examples that run.
"""

import ast
import doctest
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path

import pytest

import caloforge
from caloforge.config import dump_recipe, load_recipe, parse_recipe, recipe_names
from caloforge.detector.shipped import load_geometry
from caloforge.detector.symmetries import symmetry_group
from caloforge.models import MODELS, Hyper, make_model
from caloforge.models.dnncalogan.model import CriticSettings
from caloforge.models.file import load_model, save_model
from caloforge.models.hyper import OptimiserSettings
from caloforge.transforms import TRANSFORMS

PACKAGE = Path(caloforge.__file__).parent
MODULES = sorted(m.name for m in pkgutil.walk_packages(caloforge.__path__, "caloforge."))

# Rooms from the bottom up: a module may import from its own room and from those below it.
CHAIN = [
    {"errors", "units", "files", "noise", "executors", "signals", "entry_points", "devices"},
    {"detector"},
    {"showers"},
    {"data"},
    {"nn", "transforms", "objectives", "config", "pretrained"},
    {"models"},
    {"fast"},
    {"training"},
    {"generate", "export"},
    {"search"},
]
TOP = {"cli", "__main__", "commands", "demo", "evaluate", "explore", "progress", "simulate"}
TOP |= {"cluster", "notebook", "plotting"}
# Rooms beside the chain, from the bottom up: they never import models or training.
JUDGING = ["observables", "metrics", "judge", "report"]
UNDER_JUDGING = {
    "errors",
    "units",
    "files",
    "executors",
    "entry_points",
    "devices",
    "detector",
    "showers",
    "data",
}
# Folders that hold files of data alone.
DATA = {"detectors", "recipes", "samples"}
# Rooms whose page must name every module in them: those that hold one system, and those that many
# modules share.
TELLING = ("models/*", "nn", "transforms", "training", "fast")
# Functions with more than eight arguments: commands, whose options are a parameter each.
MANY_ARGUMENTS = {
    "commands/generating.py:generate",
    "commands/judging.py:evaluate",
    "commands/searching.py:search",
    "commands/simulating.py:simulate",
    "commands/training.py:train",
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
    if own in JUDGING:
        return UNDER_JUDGING | set(JUDGING[: JUDGING.index(own) + 1])
    below: set[str] = set()
    for level in CHAIN:
        below |= level
        if own in level:
            return below | ({"observables", "metrics"} if own in ("training", "search") else set())
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


def test_every_room_has_its_place() -> None:
    """A new folder or module is put into the order of imports, or called a folder of data."""
    placed = set().union(*CHAIN, TOP, JUDGING)
    found = {
        path.name.removesuffix(".py")
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py")))
    }
    assert found - placed == {"__init__"}
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders - found == DATA


def needs(path: Path, *, late: bool = False) -> set[str]:
    """Modules of the package that are loaded when a file is, with the packages that they are in;
    with `late` also those that its functions import when they are called.
    """
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not late:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        todo += ast.iter_child_nodes(node)
    parts = [name.split(".") for name in found if name.startswith("caloforge.")]
    packages = {".".join(p[: k + 1]) for p in parts for k in range(1, len(p))}
    own = module_name(path)
    # A package that a module lies in is there already when the module is loaded.
    return {m for m in packages & set(MODULES) if not f"{own}.".startswith(f"{m}.")}


def module_name(path: Path) -> str:
    """src/caloforge/models/base.py -> caloforge.models.base."""
    parts = ("caloforge", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that need themselves through others."""
    found = []
    for start in graph:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += graph.get(module, set())
        if start in seen:
            found.append(start)
    return found


def test_no_imports_go_in_circles() -> None:
    """Also none that would, if a function did not wait with its import until it is called."""
    files = {module_name(path): path for path in all_files() if path != PACKAGE / "__init__.py"}
    graph = {module: needs(path) for module, path in files.items()}
    assert circles(graph) == []
    for module, path in files.items():
        late = {**graph, module: needs(path, late=True)}
        assert module not in circles(late), f"{module} imports late what imports it"


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}
    assert circles(graph) == ["b", "c", "d"]


def test_blocks_in_nn_are_of_two_systems_or_more() -> None:
    """A block of one system is in that system's folder or file."""
    for block in sorted(PACKAGE.glob("nn/[a-z]*.py")):
        users = {
            path.relative_to(PACKAGE / "models").parts[0].removesuffix(".py")
            for path in sorted(PACKAGE.glob("models/**/*.py"))
            if module_name(block) in imports(path)
        }
        assert len(users) >= 2, f"nn/{block.name} serves {sorted(users)} alone"


@pytest.mark.parametrize("pattern", TELLING)
def test_a_room_says_what_is_in_it(pattern: str) -> None:
    for folder in PACKAGE.glob(pattern):
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        if modules:
            told = importlib.import_module(module_name(folder / "__init__.py")).__doc__ or ""
            missing = {name for name in modules if f"`{name}`" not in told}
            assert not missing, f"{folder.name}/__init__.py does not name {sorted(missing)}"


def test_functions_have_eight_arguments_at_most() -> None:
    found = set()
    for path in all_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len([a for a in named if a.arg not in ("self", "cls")]) > 8:
                    found.add(f"{path.relative_to(PACKAGE)}:{node.name}")
    assert found <= MANY_ARGUMENTS, sorted(found - MANY_ARGUMENTS)


def test_every_hyper_parameter_says_what_it_is() -> None:
    """Each model has a frozen class of its own, with a sentence under every field."""
    kinds = [kind.hyper_class for kind in MODELS.values()]
    assert len(set(kinds)) == len(MODELS)
    bases = {base for kind in kinds for base in kind.__mro__ if is_dataclass(base)}
    for kind in bases | {CriticSettings, OptimiserSettings}:
        assert issubclass(kind, Hyper) and kind.__dataclass_params__.frozen
        (body,) = (
            node.body
            for node in ast.parse(Path(inspect.getfile(kind)).read_text(encoding="utf-8")).body
            if isinstance(node, ast.ClassDef) and node.name == kind.__name__
        )
        for field, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign):
                told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                assert told, f"{kind.__name__}.{ast.unparse(field.target)} is not explained"
                text = str(after.value.value)
                assert not text.startswith("Of ") and text.endswith("."), text


def test_the_judge_never_imports_models_or_training() -> None:
    """Through nothing else either: importing the rooms of the judge must not load them."""
    code = (
        "import sys, importlib, pkgutil\n"
        f"for room in {JUDGING}:\n"
        "    p = importlib.import_module('caloforge.' + room)\n"
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
    geometry = load_geometry(recipe.geometry or "lhcb")
    assert recipe.transform["name"] in TRANSFORMS
    assert symmetry_group(geometry, recipe.training.augment)
    model = make_model(recipe.model["name"], geometry, None, **recipe.hyper())
    hyper = model.hyper.to_dict()
    assert {k: hyper[k] for k in recipe.hyper()} == recipe.hyper()
    assert model.phases()
    save_model(tmp_path / "model.safetensors", model, {})
    loaded = load_model(tmp_path / "model.safetensors").model
    assert loaded.hyper == model.hyper


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
