"""Searches: the space is checked, trials are shared, resumed, pruned, judged alike, reported."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from caloforge.cli import app
from caloforge.config import Recipe, load_recipe, recipe_names
from caloforge.errors import RecipeError, TrainingError
from caloforge.models import MODELS
from caloforge.models.file import load_model
from caloforge.report.search import write_search_page
from caloforge.search.objectives import Measure, check_objectives, early_value
from caloforge.search.space import apply, load_space, value_at, write_out
from caloforge.showers import Showers

SHORT = (
    "training.steps=4",
    "training.selection.every=2",
    "training.log_every=1",
    "training.checkpoint_every=2",
)
SPACE = """
[search]
model.optimiser.lr = { low = 1e-4, high = 1e-2, log = true }
model.hidden = { choices = [8, 16] }
training.batch_size = { low = 16, high = 32, step = 16 }
"""


def recipe(*overrides: str) -> Recipe:
    return load_recipe("smoke-flow-matching", [*SHORT, *overrides])


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(SPACE, encoding="utf-8")
    return path


def search_of(tmp_path: Path, space: Path, **changes):
    pytest.importorskip("optuna", reason="needs the extra `search`")
    from caloforge.search import Search

    settings = {
        "recipe": recipe(),
        "data": "ds1-photons-train",
        "out": tmp_path / "out",
        "space": space,
        "trials": 2,
        "startup": 2,
        "device": "cpu",
        "prune": False,
    }
    return Search(**{**settings, **changes})


def run(search, workers: int = 1):
    from caloforge.search import run_search

    lines: list[str] = []
    found, interrupted = run_search(search, workers, tell=lines.append)
    return found, interrupted, lines


# --- the space -------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_has_a_space_of_its_own(name: str) -> None:
    full = write_out(load_recipe(f"smoke-{name}"))
    space = load_space(full)
    assert len(space) >= 5
    for key in space:
        assert value_at(full, key) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_searched_at_once(name: str) -> None:
    recipe = load_recipe(name)
    if recipe.geometry is None:  # one that fits any read-out
        recipe = load_recipe(name, ["geometry=ds1-photons"])
    assert load_space(write_out(recipe))


WRONG = {
    "model.latnt = { low = 1, high = 2 }": "did you mean",
    "model.hiden = { low = 1, high = 2 }": "did you mean 'model.hidden'",
    "training.batchsize = { low = 1, high = 2 }": "did you mean 'training.batch_size'",
    "training.steps = { low = 1, high = 2 }": "scores would not compare",
    "training.selection.every = { low = 1, high = 2 }": "scores would not compare",
    "model.optimiser.lr = { lo = 1e-4, high = 1e-3 }": "did you mean 'low'",
    "model.optimiser.lr = { low = 1e-3, high = 1e-4 }": "low < high",
    "model.optimiser.lr = { low = 0.0, high = 1e-4, log = true }": "above 0",
    "model.optimiser.lr = { low = -1.0, high = 1e-4 }": "cannot take",
    "model.optimiser.schedule = { choices = ['constant', 'cyclical'] }": "cannot take",
    "model.hidden = { choices = [8] }": "two choices",
    "model.hidden = { choices = [8, 'many'] }": "cannot take",
    "model.hidden = { low = 8, high = 16, choices = [1, 2] }": "not both",
    "training.batch_size = { low = 1, high = 16 }": "cannot take",
    "training.batch_size = 3": "wrong at 'training.batch_size'",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_space_gets_a_sentence(line: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(f"[search]\n{line}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=re.escape(WRONG[line])):
        load_space(write_out(recipe()), path)


def test_one_number_of_an_optimiser_keeps_its_others() -> None:
    """The recipe leaves the optimiser to the model, whose betas are not those of Adam."""
    own = write_out(load_recipe("smoke-caloshowergan"))
    changed = apply(own, {"model.generator_optimiser.lr": 3e-4})
    settings = changed.model["generator_optimiser"]
    assert (settings["lr"], settings["betas"]) == (3e-4, [0.5, 0.999])


# --- trials ----------------------------------------------------------------------------------
def test_a_search_leaves_a_best_generator_and_goes_on(tmp_path: Path, space: Path) -> None:
    search = search_of(tmp_path, space, keep=1)
    first, interrupted, lines = run(search)
    assert not interrupted
    assert [t["number"] for t in first["trials"]] == [0, 1]
    assert {t["state"] for t in first["trials"]} == {"complete"}
    assert len(lines) == 2
    best = first["best"][0]
    values = [t["values"][0] for t in first["trials"]]
    assert values[best] == min(values)
    out = search.out
    chosen = load_recipe(out / "best" / "recipe.toml")
    params = first["trials"][best]["params"]
    assert {k: value_at(chosen, k) for k in params} == params
    assert chosen.training.seed == best
    about = load_model(out / "best" / "model.safetensors").about
    assert about["recipe"]["model"] == chosen.model
    # Nine tenths of nine tenths: a tenth judges the trials, a tenth of the rest chooses in each.
    assert (
        about["trained_on"]["showers"]
        < 0.82 * (about["trained_on"]["showers"] + about["trained_on"]["held_out"] * 2)
        + about["trained_on"]["held_out"]
    )
    # Of the worse trial scores and recipe are left alone.
    left = {p.name for p in (out / "trials" / f"{1 - best:03d}").iterdir()}
    assert "recipe.toml" in left and "selection.json" in left
    assert not left & {"model.safetensors", "checkpoints"}
    # Enough trials: nothing is done. More of them: the study goes on.
    assert run(search)[0] == first
    more = run(search_of(tmp_path, space, trials=3, keep=1))[0]
    assert more["trials"][:2] == first["trials"]
    assert len(more["trials"]) == 3
    with pytest.raises(TrainingError, match="begun with another seed"):
        run(search_of(tmp_path, space, seed=1))
    assert "All 3 trials" in write_search_page(out).read_text(encoding="utf-8")


def test_two_workers_share_the_trials_of_one(tmp_path: Path, space: Path) -> None:
    """As many as asked in all, and the same ones: values and results know no worker."""
    alone = run(search_of(tmp_path / "one", space, trials=2, startup=10))[0]
    both = run(search_of(tmp_path / "two", space, trials=2, startup=10), workers=2)[0]

    def told(found):
        return [(t["number"], t["state"], t["params"]) for t in found["trials"]]

    assert told(both) == told(alone)
    assert len({json.dumps(t["params"]) for t in alone["trials"]}) == 2
    for a, b in zip(alone["trials"], both["trials"], strict=True):
        assert a["values"] == pytest.approx(b["values"], rel=1e-3)


def test_a_diverging_trial_fails_and_the_search_goes_on(tmp_path: Path) -> None:
    """A rate of 1e30 makes NaN."""
    space = tmp_path / "space.toml"
    space.write_text("[search]\nmodel.optimiser.lr = { choices = [1e-2, 1e30] }\n")
    own = recipe("training.ema=0.0", "model.hidden=8")
    found, _, lines = run(search_of(tmp_path, space, recipe=own, trials=5, startup=10))
    states = {(t["params"]["model.optimiser.lr"], t["state"]) for t in found["trials"]}
    assert states == {(1e-2, "complete"), (1e30, "failed")}
    failed = next(t for t in found["trials"] if t["state"] == "failed")
    assert re.search("NaN|nan|inf", failed["sentence"])
    assert any("failed: " in line for line in lines)


@pytest.mark.parametrize(("direction", "good"), [("minimize", 1.0), ("maximize", 9.0)])
def test_a_hopeless_trial_is_stopped(direction: str, good: float, tmp_path: Path) -> None:
    """Worse than the median of the others at that step, after a fifth of the steps."""
    optuna = pytest.importorskip("optuna", reason="needs the extra `search`")
    from caloforge.search.study import make_pruner
    from caloforge.search.trial import Watcher

    key = "chi2_ndf" if direction == "minimize" else "prd_auc_raw"
    study = optuna.create_study(direction=direction, pruner=make_pruner(True, 2, 100))
    for _ in range(2):
        early = {10: good, 30: good, 100: good}
        study.add_trial(optuna.create_trial(value=good, intermediate_values=early))

    def watch(scores: dict[int, float]) -> Watcher:
        trial = study.ask()
        watcher = Watcher(trial, trial.number, tmp_path, key, lambda: False, lambda what: None)
        watcher.start("all", 0, 100)
        history = []
        for step, score in scores.items():
            history.append({"step": step, key: score})
            (tmp_path / "selection.json").write_text(json.dumps(history))
            watcher.choice(step, "", True)
        return watcher

    assert not watch({10: 5.0, 30: good}).pruned  # early on anything goes
    # One bad score after a good one is no reason: the best so far counts.
    assert not watch({10: good, 30: 5.0}).pruned
    with pytest.raises(KeyboardInterrupt):
        watch({10: 5.0, 30: 5.0})
    assert not watch({100: 5.0}).pruned  # it has ended: only its outcome would be lost


@pytest.mark.parametrize(
    ("keep", "objective"),
    [
        ("lowest-chi2", "chi2_ndf"),
        ("highest-prd-auc", "prd_auc"),
        ("lowest-wasserstein", "wasserstein"),
        ("lowest-loss", "chi2_ndf"),
        ("newest", "chi2_ndf"),
    ],
)
def test_by_default_the_objective_is_what_chooses(
    keep: str, objective: str, smoke, photons: Showers
) -> None:
    """Where that can be compared among trials; it is measured, and known while a trial trains."""
    chosen = load_recipe("smoke-caloshowergan", [f"training.selection.keep={keep}"])
    assert check_objectives((), chosen) == (objective,)
    if keep != "lowest-wasserstein":
        return
    path = smoke("caloshowergan") / "model.safetensors"
    value = Measure(photons[::4], chosen, (objective,), 1)(path, torch.device("cpu"))[objective]
    assert value > 0
    history = json.loads(path.with_name("selection.json").read_text(encoding="utf-8"))
    assert all(early_value(objective, entry) is not None for entry in history)


def test_several_objectives_give_a_front(tmp_path: Path, space: Path) -> None:
    search = search_of(
        tmp_path, space, objectives=("parameters", "chi2_ndf", "ms_per_shower"), trials=3
    )
    found = run(search)[0]
    values = {t["number"]: t["values"] for t in found["trials"]}
    for number, own in values.items():
        beaten = any(all(a <= b for a, b in zip(v, own, strict=True)) and v != own
                     for v in values.values())  # fmt: skip
        assert (number in found["best"]) == (not beaten)
    for number in found["best"]:
        model = load_model(search.out / "best" / f"{number:03d}" / "model.safetensors").model
        assert sum(p.numel() for p in model.parameters()) == values[number][0]
    text = write_search_page(search.out).read_text(encoding="utf-8")
    assert "Pareto front" in text and "ms per shower" in text


SCRIPT = """
import sys
from pathlib import Path
from caloforge.config import load_recipe
from caloforge.search import Search, run_search
recipe = load_recipe("smoke-flow-matching", sys.argv[3].split(";"))
if __name__ == "__main__":
    search = Search(recipe, "ds1-photons-train", Path(sys.argv[1]), Path(sys.argv[2]), trials=1,
                    device="cpu", prune=False)
    run_search(search, int(sys.argv[4]))
"""


@pytest.mark.parametrize(
    ("how", "workers"),
    [
        (signal.SIGKILL, 1),
        pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 2, marks=pytest.mark.slow),
    ],
)
def test_a_killed_search_goes_on_where_it_was(
    how: int, workers: int, tmp_path: Path, space: Path
) -> None:
    long = [*SHORT, "training.steps=100000"]
    search = search_of(tmp_path, space, trials=1, recipe=load_recipe("smoke-flow-matching", long))
    script = [sys.executable, "-c", SCRIPT, str(search.out), str(space), ";".join(long)]
    command = [*script, str(workers)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    checkpoints = search.out / "trials" / "000" / "checkpoints"
    until = time.monotonic() + 60
    while not list(checkpoints.glob("step-*.safetensors")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    process.wait(30)

    import optuna

    from caloforge.search import study

    url = f"sqlite:///{search.out / 'study.db'}"
    shared = optuna.load_study(study_name=search.recipe.name, storage=url)
    if how == signal.SIGKILL:
        assert study.queue_lost(shared, lambda n: search.out / "trials" / f"{n:03d}") == [0]
    waiting = study.counted(shared.get_trials())
    assert [(study.original(t), t.state.name) for t in waiting] == [(0, "WAITING")]
    assert waiting[0].params == shared.get_trials()[0].params


# --- the command -----------------------------------------------------------------------------
def test_the_command_searches_and_reports(tmp_path: Path, space: Path) -> None:
    pytest.importorskip("optuna", reason="needs the extra `search`")
    sets = [part for setting in SHORT for part in ("--set", setting)]
    arguments = ["search", "smoke-flow-matching", "--data", "ds1-photons-train", "--no-prune"]
    arguments += ["--out", str(tmp_path / "out"), "--space", str(space), "--trials", "1"]
    result = CliRunner().invoke(app, [*arguments, *sets, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "best: trial 0" in result.output.replace("\n", " ")
    found = json.loads((tmp_path / "out" / "search.json").read_text(encoding="utf-8"))
    assert math.isfinite(found["trials"][0]["values"][0])
    assert (tmp_path / "out" / "index.html").stat().st_size > 10_000


def test_without_optuna_a_sentence_says_what_to_install(monkeypatch, tmp_path: Path) -> None:
    from caloforge.search.study import optuna

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(TrainingError, match=r"pip install 'caloforge\[search\]'"):
        optuna()


def test_nothing_imports_optuna_before_it_is_needed() -> None:
    code = (
        "import sys, caloforge.cli, caloforge.search, caloforge.report.search\n"
        "assert 'optuna' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unknown_objective_gets_a_sentence(tmp_path: Path, space: Path) -> None:
    with pytest.raises(TrainingError, match="did you mean 'chi2_ndf'"):
        run(search_of(tmp_path, space, objectives=("chi2_nfd",)))
