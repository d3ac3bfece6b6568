"""The site: its links, the reference that is made from the package, and the notebooks."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest

from caloforge.cli import main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTEBOOKS = [*sorted((ROOT / "examples").glob("*.md")), DOCS / "tutorials" / "own-calorimeter.md"]
REFERENCE = runpy.run_path(str(DOCS / "_ext" / "reference.py"))


def site_pages() -> list[Path]:
    return [p for p in DOCS.rglob("*.md") if not {"generated", "_build"} & set(p.parts)]


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*site_pages(), *NOTEBOOKS]:
        folder = page.parent
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", page.read_text("utf-8")):
            place = (folder / target).resolve()
            if place.parent == DOCS / "generated":
                place = ROOT / "examples" / place.name
            assert place.exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("name", sorted(REFERENCE["PAGES"]))
def test_the_reference_says_what_everything_is(name: str) -> None:
    """Each table has lines, and no line lacks its meaning."""
    text = REFERENCE["PAGES"][name]()
    mark = f"<!-- generated: {name} -->"
    assert sum(mark in page.read_text(encoding="utf-8") for page in site_pages()) == 1
    if name == "public-names":
        assert "autoclass:: caloforge.Showers" in text
        return
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    if name in ("recipe-keys", "geometry-keys", "models", "commands"):
        empty = [row for row in rows if row.endswith("|  |")]
        assert not empty, empty


def test_the_reference_knows_types_and_defaults() -> None:
    keys = REFERENCE["recipe_keys"]()
    assert "| `batch_size` | int | required | Showers of a batch" in keys
    assert "## `[training.selection]`" in keys and "## `[data.at_most]`" in keys
    models = REFERENCE["model_tables"]()
    assert "| `sweeps` |" in models


def test_messages_of_the_faq_are_those_of_the_program() -> None:
    sources = (p.read_text(encoding="utf-8") for p in (ROOT / "src").rglob("*.py"))
    # Sentences are written in pieces, one a line.
    program = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    headings = re.findall(r"^## (.*)$", (DOCS / "faq.md").read_text("utf-8"), flags=re.MULTILINE)
    quoted = [words for heading in headings for words in re.findall(r'"([^"]+)"', heading)]
    assert len(quoted) >= 8
    for words in quoted:
        assert words in program, words


def test_broken_links_of_the_site_are_found(tmp_path: Path) -> None:
    site = runpy.run_path(str(ROOT / "tools" / "site.py"))
    pages = {
        "a.html": '<a id="here"><a href="b.html#there"><a href="#here">',
        "b.html": '<a href="a.html#here"><img src="c.png">',
    }
    for name, text in pages.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert sorted(site["broken_links"](tmp_path)) == [
        "a.html links to b.html#there; the page has no such place.",
        "b.html links to c.png, which is not there.",
    ]


def cells(page: Path) -> list[str]:
    """Code of the cells, without their options."""
    found = re.findall(r"```\{code-cell\}\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    return [re.sub(r"^:tags:.*\n", "", code) for code in found]


def run_cell(code: str, names: dict[str, object]) -> None:
    """What a notebook does with a cell: Python, lines for the shell, or a file to write."""
    first, _, rest = code.partition("\n")
    if first.startswith("%%writefile "):
        Path(first.split()[1]).write_text(rest, encoding="utf-8")
        return
    python = [line for line in code.splitlines() if not line.startswith("!")]
    exec("\n".join(python), names)  # the notebook's own lines
    for line in (line for line in code.splitlines() if line.startswith("!")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", shlex.split(line[1:]))
            try:
                main()
            except SystemExit as stop:
                assert not stop.code, line


# What a command tells about symmetries that a new read-out lacks.
told = pytest.mark.filterwarnings("ignore:.* has no symmetry:UserWarning")


@pytest.mark.slow
@told
@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_notebooks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, object] = {}
    for code in cells(page):
        if "IPython" not in code:  # which only a notebook has
            run_cell(code, names)
    assert names


@pytest.mark.slow
@told
def test_the_quick_start_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "quickstart.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```\n(.*?)```", text, flags=re.DOTALL)
    lines = "".join(blocks).splitlines()
    steps = re.findall(r"^\| \d\. .*?`(caloforge [^`]+)`", text, flags=re.MULTILINE)
    assert len(lines) >= 7 and len(steps) == 8
    for line in lines:
        run_cell("!" + line.partition("  #")[0], {})
    assert Path("judged/report.html").exists()
    shutil.rmtree("run")
    shutil.rmtree("judged")
    for step in steps:
        few = step.replace("-n 4000", "-n 600").replace("-n 2000", "-n 300")
        run_cell("!" + few, {})
    assert Path("judged/report.html").exists()
