"""Write the table of docs/deployment.md: every shipped generator in every format, with its parity.

    nice -n 10 python tools/exports.py RESULTS.json [--only NAME ...] [--targets TARGET ...]

exports what RESULTS.json does not hold yet (a conversion to ONNX takes a minute or more), adds it
to that file, and writes the table and the macro of Par04 into docs/deployment.md.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path

from caloforge.config import load_recipe
from caloforge.detector.shipped import load_geometry
from caloforge.errors import ExportError
from caloforge.export import TARGETS, export_model
from caloforge.export.par04 import par04_macro
from caloforge.export.parity import NONSENSE
from caloforge.models.file import ModelFile, load_model
from caloforge.pretrained import pretrained_names, resolve_model

PAGE = Path(__file__).resolve().parents[1] / "docs" / "deployment.md"
REFUSED, FAILED, UNKNOWN = "–", "fails", "?"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def exported(file: ModelFile, target: str) -> dict[str, object]:
    """The parity of a generator in one format, or why it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            parity = export_model(file, target, Path(folder) / "generator")
        except ExportError as refusal:
            return {"refused": str(refusal)}
    return {
        "worst": parity.worst,
        "showers": parity.showers,
        "nonsense": parity.nonsense,
        "edges": parity.edges,
    }


def cell(result: dict[str, object] | None) -> str:
    """One cell of the table."""
    if result is None:
        return UNKNOWN
    if "refused" in result:
        reason = str(result["refused"])
        failed = "was not written" in reason or reason.startswith("The generator cannot be")
        return FAILED if failed else REFUSED
    mantissa, exponent = f"{result['worst']:.0e}".split("e")
    text = f"{mantissa}·10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    notes = []
    if result["nonsense"]:
        notes.append(f"{result['nonsense']} of more than {NONSENSE:g} times the incident energy")
    if result["edges"]:
        notes.append(f"{result['edges']} at a threshold")
    return text + (f" ({', '.join(notes)})" if notes else "")


def table(results: dict[str, dict[str, dict[str, object]]]) -> str:
    """Markdown, one row a generator."""
    lines = [
        "| generator | " + " | ".join(f"`{target}`" for target in TARGETS) + " |",
        "|---" * (1 + len(TARGETS)) + "|",
    ]
    for name in pretrained_names():
        row = results.get(name, {})
        cells = " | ".join(cell(row.get(target)) for target in TARGETS)
        lines.append(f"| `{name}` | {cells} |")
    return "\n".join(lines)


def macro() -> str:
    """Par04's macro for its shipped mesh, as a block of Markdown."""
    noise = load_recipe("par04").model["latent"]
    return "```\n" + par04_macro(load_geometry("par04"), noise, "Generator.onnx") + "```"


def put(text: str, mark: str, block: str) -> str:
    """`text` with `block` between `<!-- mark -->` and the next `<!-- end -->`."""
    pattern = rf"(<!-- {re.escape(mark)} -->\n).*?(\n<!-- end -->)"
    return re.sub(pattern, lambda found: found[1] + block + found[2], text, flags=re.DOTALL)


def main() -> None:
    """Fill the results, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--only", nargs="*", default=pretrained_names())
    parser.add_argument("--targets", nargs="*", default=list(TARGETS))
    arguments = parser.parse_args()
    path: Path = arguments.results
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in arguments.only:
        row = results.setdefault(name, {})
        missing = [target for target in arguments.targets if target not in row]
        if missing:
            file = load_model(resolve_model(name))
            for target in missing:
                row[target] = exported(file, target)
                path.write_text(json.dumps(results, indent=1), encoding="utf-8")
    text = put(PAGE.read_text(encoding="utf-8"), "tools/exports.py", table(results))
    PAGE.write_text(put(text, "macro of tools/exports.py", macro()), encoding="utf-8")


if __name__ == "__main__":
    main()
