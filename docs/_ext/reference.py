"""Sphinx extension that writes reference tables from the package itself.

A page has the line `<!-- generated: NAME -->`, and this extension puts the tables of NAME in its
place when Sphinx reads the page. The tables are made from the classes and tables that the program
uses. Nothing is written into the source.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from pydantic import BaseModel

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MARK = re.compile(r"<!-- generated: ([a-z-]+) -->")
EXPLORER_MARK = "<!-- explorer -->"


# --- what a class says of its fields -------------------------------------------------------------
def field_docs(kind: type) -> dict[str, str]:
    """Name of a field -> the sentence under it, or its entry under "Parameters" of the class."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        found |= _parameters(inspect.getdoc(base) or "")
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError):
            continue
        for one, after in zip(tree.body, tree.body[1:], strict=False):  # type: ignore[attr-defined]
            if (
                isinstance(one, ast.AnnAssign)
                and isinstance(one.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[one.target.id] = _one_line(str(after.value.value))
    return found


def field_types(kind: type) -> dict[str, str]:
    """Name of a field -> its type as the source writes it, with those of the bases."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError):
            continue
        for one in tree.body:  # type: ignore[attr-defined]
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                found[one.target.id] = _plain_type(ast.unparse(one.annotation))
    return found


def _parameters(text: str) -> dict[str, str]:
    """The entries of the section "Parameters" of a docstring; `a, b` are two entries."""
    _, found, rest = text.partition("Parameters\n----------\n")
    entries: dict[str, str] = {}
    if not found:
        return entries
    names: list[str] = []
    for line in rest.splitlines():
        if re.fullmatch(r"[-]{3,}", line):
            break
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(",")]
        elif line.strip():
            for name in names:
                entries[name] = f"{entries.get(name, '')} {line.strip()}".strip()
    return entries


def _plain_type(text: str) -> str:
    """A type for people: limits of pydantic and the names of aliases are left out."""
    words = {
        r"Annotated\[(\w+), .*\]": r"\1",
        r"\b_(Share|Beta)\b": "float",
        r"\bPositiveInt\b": "int > 0",
        r"\bPositiveFloat\b": "float > 0",
        r"\bNonNegativeFloat\b": "float >= 0",
        r"\bNonNegativeInt\b": "int >= 0",
        r"dict\[str, Any\]": "table",
        r"Literal\[(.*)\]": r"\1",
        r"tuple\[(.*?), \.\.\.\]": r"list of \1",
    }
    for pattern, word in words.items():
        text = re.sub(pattern, word, text)
    return text


def _default(one: dataclasses.Field[Any]) -> str:
    if one.default is not dataclasses.MISSING:
        return code(one.default)
    if one.default_factory is not dataclasses.MISSING:
        return code(one.default_factory())
    return "required"


# --- Markdown ------------------------------------------------------------------------------------
def code(value: Any) -> str:
    """A value as code; nothing for an empty one."""
    if isinstance(value, tuple):
        value = list(value)
    if value in ("", None, [], {}) or dataclasses.is_dataclass(value):
        return "–"
    return f"`{value}`"


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(headings)
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        cells = (_one_line(cell).replace("|", r"\|").replace("<", "&lt;") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def dataclass_table(kind: type) -> str:
    """One line for each field of a dataclass: key, type, default, meaning."""
    types, docs = field_types(kind), field_docs(kind)
    rows = [
        (f"`{one.name}`", types.get(one.name, ""), _default(one), docs.get(one.name, ""))
        for one in dataclasses.fields(kind)
    ]
    return table(("key", "type", "default", "meaning"), rows)


# --- the pages -----------------------------------------------------------------------------------
def recipe_keys() -> str:
    """Every table of a recipe, from the pydantic models that check it."""
    from caloforge.config import Recipe

    texts: list[str] = []
    todo: list[tuple[str, type[BaseModel]]] = [("", Recipe)]
    while todo:
        place, kind = todo.pop(0)
        types, rows = field_types(kind), []
        for name, one in kind.model_fields.items():
            inner = next((k for k in _models(one.annotation)), None)
            if inner:
                todo.append((f"{place}.{name}".strip("."), inner))
            kept = "required"
            if not one.is_required():
                kept = "–" if inner else code(one.get_default(call_default_factory=True))
            rows.append((f"`{name}`", types[name], kept, one.description or ""))
        title = f"`[{place}]`" if place else "Top level"
        about = (inspect.getdoc(kind) or "").replace("\n\n", "\n")
        texts.append(f"## {title}\n\n{_one_line(about)}\n\n" + table(HEADINGS, rows))
    return "\n\n".join(texts)


HEADINGS = ("key", "type", "default", "meaning")


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models that a type is made of."""
    inside = [k for part in getattr(annotation, "__args__", ()) for k in _models(part)]
    own = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return [annotation, *inside] if own else inside


def geometry_keys() -> str:
    """Every table of a geometry file, from the classes that it is read into."""
    from caloforge.detector import conditions, geometry, layers, limits, stack

    places = {
        "Top level": geometry.Geometry,
        "`[[conditions]]`": conditions.Condition,
        "`[[layers]]`": layers.Layer,
        "`shift` of a layer": layers.Shift,
        "`limits` of a layer": limits.LayerLimits,
        "`[limits]`": limits.Limits,
        "`[[limits.response_at]]`": limits.ResponseRange,
        "`[stack]`": stack.Stack,
        "`[[stack.groups]]`": stack.Group,
        "A slab of a group": stack.Slab,
        "`[stack.materials.NAME]`": stack.Mixture,
    }
    texts = [f"## {title}\n\n{dataclass_table(kind)}" for title, kind in places.items()]
    roles = ", ".join(f"`{role}`" for role in conditions.ROLES)
    scales = ", ".join(f"`{scale}`" for scale in conditions.SCALES)
    texts[1] += f"\n\nThe roles are {roles}; the scales are {scales}."
    keys = {kind: ", ".join(f"`{key}`" for key in own) for kind, own in layers.KEYS.items()}
    texts[2] += (
        f"\n\nA layer of the kind `polar` states its cells by {keys['polar']}, one of the kind "
        f"`grid` by {keys['grid']}. Edges are a list of numbers or "
        "`{ low = ..., high = ..., bins = ... }`. `copies` makes that many equal layers, one "
        "behind the other, with ids that count on."
    )
    return "\n\n".join(texts)


def metric_table() -> str:
    """All metrics, from the table METRICS."""
    from caloforge.metrics.table import METRICS

    way = {
        "multiple": "larger is worse; read as a multiple of the floor",
        "share": "read by the share of the way from the floor to the worst value",
        "both sides": "worse on either side of the floor",
        "none": "not ranked as good or bad",
    }
    rows = (
        (
            f"`{m.key}{'KEY' if m.family else ''}`",
            m.name,
            m.meaning,
            m.alike or f"{m.ideal:g}",
            way[m.way],
            "yes" if m.rank else "",
            m.source,
        )
        for m in METRICS
    )
    return table(
        ("key", "name", "meaning", "alike", "how it is read", "in the mean rank", "source"), rows
    )


def observable_tables() -> str:
    """The observables of every family, as the first shipped read-out that has them lists them."""
    from caloforge.detector.shipped import geometry_names, load_geometry
    from caloforge.observables.table import FAMILIES

    geometries = [load_geometry(name) for name in geometry_names()]
    texts = []
    for family in FAMILIES:
        seen: dict[str, tuple[str, ...]] = {}
        where = [geometry.name for geometry in geometries if family.rows(geometry)]
        for geometry in geometries:
            for row in family.rows(geometry):
                key = re.sub(r"/-?\d+$", "/ID", row.key)
                label = re.sub(r"\b(layer) \S+", r"\1", row.label) if "/" in row.key else row.label
                seen.setdefault(key, (f"`{key}`", label, row.unit or "–", row.source))
        names = ", ".join(f"`{name}`" for name in where)
        texts.append(
            f"## {family.name[0].upper()}{family.name[1:]}\n\nRead-outs: {names}.\n\n"
            + table(("key", "label of the axis, in one layer", "unit", "source"), seen.values())
        )
    return "\n\n".join(texts)


def model_tables() -> str:
    """All models with their hyper-parameters, and the settings of an optimiser."""
    from caloforge.models import MODELS
    from caloforge.models.hyper import OptimiserSettings

    texts = []
    for name, kind in MODELS.items():
        about = (sys.modules[kind.__module__].__doc__ or "").strip().partition("\n\n")[0]
        where = kind.__module__.replace(".", "/")
        texts.append(
            f"## `{name}`\n\n{_one_line(about)} The code is in `src/{where}.py`.\n\n"
            + dataclass_table(kind.hyper_class)
        )
    texts.append(
        "## Settings of an optimiser\n\nA key that ends in `optimiser` is a table with these "
        f"keys.\n\n{dataclass_table(OptimiserSettings)}"
    )
    return "\n\n".join(texts)


def figure_table() -> str:
    """All pictures of a result page, from the table FIGURES."""
    from caloforge.report.figures import FIGURES
    from caloforge.report.figures.shapes import SHAPES

    rows = []
    for line in FIGURES:
        draw = getattr(line.draw, "func", line.draw)  # a partial of a function for one family
        about = _one_line((inspect.getdoc(draw) or "").partition("\n\n")[0])
        for family in getattr(line.draw, "args", ()):
            about = f"{SHAPES[family].title if family in SHAPES else family}."
        rows.append((line.section, about, "after a click" if line.more else ""))
    return table(("section", "picture", "shown"), (row for row in rows if row[1]))


def command_pages() -> str:
    """Every command with its arguments and options, from the program itself."""
    from caloforge.cli import app

    def walk(command: Any, path: str) -> Iterable[str]:
        inner = getattr(command, "commands", None)
        if inner:
            for name, one in inner.items():
                yield from walk(one, f"{path} {name}")
            return
        rows = []
        for one in command.params:
            if one.name == "help":
                continue
            is_option = one.param_type_name == "option"
            names = [*one.opts, *one.secondary_opts] if is_option else [one.name.upper()]
            default = one.default
            kept = "required" if one.required else "–"
            if default not in (None, False, ...) and not callable(default):
                kept = code(default)
            rows.append((", ".join(f"`{n}`" for n in names), kept, getattr(one, "help", "") or ""))
        about = inspect.cleandoc(command.help or "").replace("\b", "")
        yield f"## `{path}`\n\n{about}\n\n" + table(("name", "default", "meaning"), rows)

    return "\n\n".join(walk(typer.main.get_command(app), "caloforge"))


def public_names() -> str:
    """One entry of autodoc for each public name, by what it is."""
    import caloforge

    kinds: dict[str, list[str]] = {"Classes": [], "Functions": [], "Tables": []}
    for name in sorted(caloforge.__all__, key=str.lower):
        value = getattr(caloforge, name)
        if name.startswith("__"):
            continue
        if inspect.isclass(value):
            kinds["Classes"].append(name)
        else:
            kinds["Functions" if callable(value) else "Tables"].append(name)
    texts = []
    for title, names in kinds.items():
        texts.append(f"## {title}")
        texts += [_public_name(name, getattr(caloforge, name)) for name in names]
    return "\n\n".join(texts)


def _public_name(name: str, value: Any) -> str:
    """One class or function for autodoc, or the keys of a table."""
    if not callable(value):
        return f"`caloforge.{name}` has the keys {', '.join(f'`{key}`' for key in value)}."
    directive, options = "autofunction", ""
    if inspect.isclass(value):
        directive, options = "autoclass", "\n   :members:\n   :show-inheritance:"
        if issubclass(value, BaseModel):
            options += "\n   :exclude-members: model_config"
    entry = f".. {directive}:: caloforge.{name}{options}"
    return f"### {name}\n\n```{{eval-rst}}\n{entry}\n```"


PAGES: dict[str, Callable[[], str]] = {
    "recipe-keys": recipe_keys,
    "geometry-keys": geometry_keys,
    "metrics": metric_table,
    "observables": observable_tables,
    "models": model_tables,
    "figures": figure_table,
    "commands": command_pages,
    "public-names": public_names,
}


def fill(app: Sphinx, __: str, source: list[str]) -> None:
    """Put the tables in the place of the marks of one page."""
    source[0] = MARK.sub(lambda match: PAGES[match[1]](), source[0])
    source[0] = source[0].replace(EXPLORER_MARK, _explorer(app))


def _explorer(app: Sphinx) -> str:
    """A link to the explorer page, where the site was built with one (tools/site.py --explore)."""
    pages = [Path(folder) / "explore" / "index.html" for folder in app.config.html_extra_path]
    if not any(page.exists() for page in pages):
        return "## Explorer\n\n[The explorer](explorer.md) runs on your own machine."
    link = '<a href="explore/index.html">the explorer</a>'
    return f"## Explorer\n\nMove energy, impact and angle, and watch the shower: {link}."


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True}
