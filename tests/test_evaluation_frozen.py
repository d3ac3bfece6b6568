"""The figures of `evaluate` on shipped samples are those that they were, key by key.

The frozen files were written by `python tests/test_evaluation_frozen.py` when floors came to have
as many showers with cells as the judged sample. Floating-point sums may differ in their last
digits between machines, and what is learned by more than that: a last digit can put a shower on
the other side of a tree's threshold.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloforge.data import read_showers, sample_path
from caloforge.errors import DataError
from caloforge.judge.compare import compare
from caloforge.judge.pairs import How
from caloforge.judge.results import read_comparisons, to_json
from caloforge.judge.summary import summarise
from caloforge.metrics.effort import FAST
from caloforge.pretrained import pretrained_names, resolve_model
from caloforge.showers import Showers

FROZEN = Path(__file__).parent / "frozen"
EFFORT = replace(
    FAST,
    protocol=replace(FAST.protocol, hidden=(32, 32), epochs=3, repeats=1, most=240),
    inputs=("high",),
    neighbours=200,
    features=1,
)
# What is learned, and how near it must be, relative and absolute. One of 200 showers that changes
# its leaf has moved the spread of an attribute by 0.7 %, a tenth of its error.
LEARNED = {"auc_": (1e-6, 0.02), "jsd_": (1e-6, 0.02), "attribute": (0.02, 1e-9)}
ADDED: set[str] = set()  # keys of metrics that were added since
ENERGIES = (1024.0, 8192.0, 32768.0)
CASES = {  # name -> reference, judged and training sample, whether the latter is also the floor
    "photons": ("ds1-photons-test", "ds1-photons-train", False),
    "lhcb": ("lhcb-test", "lhcb-train", True),
}


def chosen(name: str) -> Showers:
    """960 showers of a shipped sample at most; photons of three energies alone."""
    showers = read_showers(sample_path(name))
    if name.startswith("ds1"):
        showers = showers[np.isin(showers.incident_energy, ENERGIES)]
    return showers[np.sort(np.random.default_rng(0).permutation(len(showers))[:960])]


def judged(case: str) -> dict[str, Any]:
    """Results of Geant4 showers that are shrunk and moved by one cell."""
    reference, second, with_floor = CASES[case]
    first, other = chosen(reference), chosen(second)
    even, odd = (other[np.arange(k, len(other), 2)] for k in (0, 1))
    moved = replace(even, energies=0.97 * np.roll(even.energies, 1, axis=1))
    base = summarise(first, "reference", keep=EFFORT.keep)
    sample, train = (
        summarise(showers, name, like=base, keep=EFFORT.keep)
        for showers, name in ((moved, "moved"), (odd, "train"))
    )
    floor = train if with_floor else None
    comparisons = compare(base, [sample], floor, how=How(effort=EFFORT, device="cpu"), train=train)
    return to_json(base, comparisons, {"seed": 0})


def differences(found: Any, frozen: Any, where: str = "") -> list[str]:
    """Paths at which two pieces of JSON differ by more than rounding."""
    if isinstance(frozen, dict):
        if not isinstance(found, dict) or found.keys() - ADDED != frozen.keys():
            keys = set(found if isinstance(found, dict) else ()) ^ set(frozen)
            return [f"{where}: other keys {sorted(keys)}"]
        return [d for k in frozen for d in differences(found[k], frozen[k], f"{where}/{k}")]
    if isinstance(frozen, list):
        if not isinstance(found, list) or len(found) != len(frozen):
            return [f"{where}: other length"]
        pairs = enumerate(zip(found, frozen, strict=True))
        return [d for k, (a, b) in pairs for d in differences(a, b, f"{where}/{k}")]
    if isinstance(frozen, float) and isinstance(found, float):
        tolerances = (tolerance for part, tolerance in LEARNED.items() if part in where)
        relative, absolute = next(tolerances, (1e-6, 1e-9))
        near = math.isclose(found, frozen, rel_tol=relative, abs_tol=absolute)
        return [] if near else [f"{where}: {found} is not {frozen}"]
    return [] if found == frozen else [f"{where}: {found!r} is not {frozen!r}"]


@pytest.mark.parametrize("case", CASES)
def test_figures_are_those_that_they_were(case: str) -> None:
    frozen = json.loads((FROZEN / f"results-{case}.json").read_text(encoding="utf-8"))
    assert not differences(judged(case), frozen)[:20]


@pytest.mark.parametrize("case", CASES)
def test_results_are_read_back_as_they_were_written(case: str) -> None:
    frozen = json.loads((FROZEN / f"results-{case}.json").read_text(encoding="utf-8"))
    info, comparisons = read_comparisons(frozen)
    assert to_json(info, comparisons, {"seed": 0}) == frozen
    assert info.geometry == frozen["reference"]["geometry"]
    assert comparisons[0].details.floor is not None
    assert comparisons[0].details.notes.boosted is not None


@pytest.mark.parametrize("name", pretrained_names())
def test_results_of_shipped_generators_are_read_back(name: str) -> None:
    """The oldest of them lack the provenance, which is then empty."""
    path = Path(resolve_model(name)).parent / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    info, comparisons = read_comparisons(results)
    again = to_json(info, comparisons)
    assert again["reference"] == results["reference"]
    for generator in results["generators"].values():
        generator["details"].setdefault("provenance", {})
    assert again["generators"] == results["generators"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema": {"name": "caloforge-results", "version": 99}}, "expected caloforge-results"),
        ({"reference": {"name": "geant4"}}, "'reference' lacks file, n, geometry"),
        ({"generators": [1]}, "Got a list at 'generators'; expected a dict"),
        ({"generators": {"gan": {"metrics": {"fpd": 0.1}}}}, "Got a NoneType at 'generators/gan'"),
    ],
)
def test_other_files_are_answered_in_one_sentence(change: dict[str, Any], sentence: str) -> None:
    frozen = json.loads((FROZEN / "results-lhcb.json").read_text(encoding="utf-8"))
    with pytest.raises(DataError, match=sentence):
        read_comparisons(frozen | change)


if __name__ == "__main__":
    for name in CASES:
        text = json.dumps(judged(name), indent=None, ensure_ascii=False)
        (FROZEN / f"results-{name}.json").write_text(text + "\n", encoding="utf-8")
