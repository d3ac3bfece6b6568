"""A few damaged files of the kinds that are read quickly; `tools/damage.py` does it at length."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TOOL = Path(__file__).resolve().parents[1] / "tools" / "damage.py"


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    return runpy.run_path(str(TOOL))


QUICK = ("showers-hdf5", "showers-npz")
LONGER = ("showers-lcd", "showers-calogan", "showers-cells", "showers-foreign", "showers-root")
LONGER += ("model", "checkpoint", "onnx", "recipe", "geometry", "binning-xml", "cluster")
LONGER += ("results", "particles-csv")


@pytest.mark.parametrize(
    "kind", [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in LONGER)]
)
def test_damaged_files_are_read_or_refused_in_a_sentence(tool: dict[str, Any], kind: str) -> None:
    counts, memory, faults = tool["damage_kind"](kind, 40, 1, 1e9, None)
    assert not faults
    assert counts["fine"] + counts["refused"] == 40
    assert counts["refused"] > 10
    assert memory < 2000  # MB; a chunk may have half a GB


def test_the_same_seed_gives_the_same_damage(tool: dict[str, Any]) -> None:
    content = bytes(range(256)) * 40
    first, again, other = (tool["damage"](content, np.random.default_rng(k)) for k in (3, 3, 4))
    assert first == again != content
    assert first != other


def test_hangs_crashes_and_other_errors_are_found(tool: dict[str, Any], tmp_path: Path) -> None:
    """Readers that loop, die, raise, and say several lines are faults, each of its own kind."""
    program = tmp_path / "worker.py"
    program.write_text(
        "import os, sys, json\n"
        "for line in sys.stdin:\n"
        "    name = os.path.basename(json.loads(line))\n"
        "    if name == 'dies': os.kill(os.getpid(), 9)\n"
        "    while name == 'loops': pass\n"
        "    print(json.dumps(['fine', '', 0]), flush=True)\n",
        encoding="utf-8",
    )
    reader_type = tool["Reader"]
    names = reader_type.read.__globals__
    names["SECONDS"], names["__file__"] = 0.2, str(program)
    reader = reader_type("model", tmp_path / "whole")
    assert reader.read(tmp_path / "good") == ("fine", "")
    assert reader.read(tmp_path / "dies") == ("fault", "the process ended with status -9")
    assert reader.read(tmp_path / "loops") == ("fault", "no answer: it hangs")
    assert reader.read(tmp_path / "good") == ("fine", "")
    reader.end()
