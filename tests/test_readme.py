"""Every command of the README and of docs/generation.md runs, in order, on the shipped samples."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest

from caloforge.cli import main
from caloforge.pretrained import pretrained_names
from caloforge.report import figures

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GENERATION = (ROOT / "docs" / "generation.md").read_text(encoding="utf-8")


# What makes a command of the README small: fit and classifiers are tested elsewhere.
SMALL = {
    "train": " ".join(
        f"--set model.{option}" for option in ("sweeps=1", "draws=1", "points=4", "quantiles=16")
    ),
    "evaluate": "--repeats 1 --most 100 --inputs high",
}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str = README) -> list[str]:
    """Lines of the ```sh blocks that call caloforge, without their comments."""
    lines = "".join(blocks("sh", text)).replace("\\\n", " ").splitlines()
    return [line.split(" #")[0].strip() for line in lines if line.startswith("caloforge ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def run(command: str) -> int:
    """Exit code of one command line, run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", shlex.split(command))
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def test_commands_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("caloforge.metrics.prd.STARTS", 2)
    # All pictures of a page are drawn in tests/test_report.py and tests/test_cli.py.
    monkeypatch.setattr("caloforge.report.figures.FIGURES", figures.FIGURES[:4])
    found = commands()
    assert {c.split()[1] for c in found} >= {"train", "generate", "evaluate"}
    for command in found:
        assert run(f"{command} {SMALL.get(command.split()[1], '')}") == 0, command
    assert (folder / "judged" / "report.html").stat().st_size > 100_000


def test_python_lines_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (python,) = blocks("python")
    names: dict[str, object] = {}
    exec(python, names)  # the README's own lines
    assert len(names["showers"]) > 0  # type: ignore[arg-type]


def test_the_page_about_generating_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in commands(GENERATION):
        assert run(command) == 0, command
    (python,) = blocks("python", GENERATION)
    names: dict[str, object] = {}
    exec(python, names)
    np.testing.assert_array_equal(names["cells"], names["again"])


def test_files_and_generators_it_names_exist():
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
    leaderboard = (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    for name in pretrained_names():
        assert f"`{name}`" in leaderboard, f"the leaderboard lacks the shipped generator {name}"


def test_it_is_short():
    assert len(README.split()) < 700


def test_its_tables_are_those_of_the_shipped_results():
    tables = runpy.run_path(str(ROOT / "tools" / "tables.py"))
    for path, table in tables["pages"]().items():
        text = path.read_text(encoding="utf-8")
        assert text == tables["with_table"](text, table), f"{path}: run python tools/tables.py"
