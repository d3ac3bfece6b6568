"""Extract the three members of the flagship from one training.

    python tools/family.py RUN [--out FOLDER]

RUN is the folder of a finished training of a `one-step` recipe. Such a training fits the closed
form, then trains the flow, then trains the network that replaces the flow by one pass. Its newest
checkpoint holds all three. The program writes each as a generator of its own:

    FOLDER/copula/model.safetensors         the closed form
    FOLDER/copula-flow/model.safetensors    the closed form with the flow, followed in a few steps
    FOLDER/one-step/model.safetensors       the closed form with the one pass: RUN's own generator

FOLDER is RUN where --out is not given. A file describes itself as a training of that member alone
would: its recipe has the number of steps that the member took within RUN. In addition `part_of`
names the recipe and the number of steps of RUN.
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from caloforge.config import load_recipe, parse_recipe, recipe_names
from caloforge.errors import TrainingError
from caloforge.models import ShowerModel, make_model
from caloforge.models.base import Fit
from caloforge.models.file import ModelFile, load_model, save_model
from caloforge.training.checkpoint import latest_checkpoint

# The key is the name of a member, as in the names of recipes; the value is its hyper-parameter
# `remainder`.
MEMBERS = {"copula": "none", "copula-flow": "flow", "one-step": "one-step"}
# Prefixes of the weights that a member may leave out: the flow that teaches the one pass, the one
# pass itself, and the bank of white noise.
TEACHER, JUMP, BANK = "teacher.", "jump.", "bank."


def main() -> None:
    """Write the members of the training that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, help="folder for the folders of the members")
    given = parser.parse_args()
    for path in write_family(given.run, given.out or given.run):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def write_family(run: Path, out: Path) -> list[Path]:
    """Write the model files of all members; returns their paths.

    Raises TrainingError for a training of another kind and for one that is not finished.
    """
    trained = load_model(run / "model.safetensors")
    if trained.model.hyper.to_dict().get("remainder") != "one-step":
        raise TrainingError(
            f"{run} holds a training of '{trained.about['recipe']['name']}'; expected one of a "
            "one-step recipe, which passes through all three members."
        )
    state = _state(run, trained)
    paths = []
    for member, remainder in MEMBERS.items():
        about = member_about(trained, member, run)
        hyper = {k: v for k, v in about["recipe"]["model"].items() if k != "name"}
        model = make_model("copula", trained.model.geometry, trained.model.transform, **hyper)
        _fill(model, _member_state(state, remainder))
        path = out / member / "model.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(path, model.eval(), about)
        paths.append(path)
    return paths


def _state(run: Path, trained: ModelFile) -> dict[str, Tensor]:
    """The whole state of the model at the end of its training, with averaged weights."""
    found = latest_checkpoint(run / "checkpoints")
    if found is None:
        raise TrainingError(f"{run} holds no checkpoint; expected those of a finished training.")
    tensors, about = found
    if about["step"] != trained.about["chosen"]["step"]:
        raise TrainingError(
            f"The newest checkpoint of {run} is of step {about['step']}, its generator of step "
            f"{trained.about['chosen']['step']}; expected the same step: let the training finish, "
            'with selection.keep = "newest".'
        )
    state = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    averaged = {k.removeprefix("average."): v for k, v in tensors.items() if k[:8] == "average."}
    return state | averaged


def _member_state(state: dict[str, Tensor], remainder: str) -> dict[str, Tensor]:
    """The part of the training's state that the model file of a member holds."""
    if remainder == "one-step":
        return {k: v for k, v in state.items() if not k.startswith((TEACHER, BANK))}
    own = {k: v for k, v in state.items() if not k.startswith((TEACHER, JUMP, BANK))}
    if remainder == "flow":
        own |= {
            "flow." + k.removeprefix(TEACHER): v for k, v in state.items() if k.startswith(TEACHER)
        }
    return own


def _fill(model: ShowerModel, state: dict[str, Tensor]) -> None:
    expected = model.generator_state()
    if set(expected) != set(state):
        odd = ", ".join(sorted(set(expected) ^ set(state))[:3])
        raise TrainingError(
            f"The checkpoint has other weights than this member of the family: {odd} ...; it was "
            "written by another version of the model: train again."
        )
    model.load_state_dict(state, strict=False)


def member_about(trained: ModelFile, member: str, run: Path) -> dict[str, Any]:
    """The description that the model file of a member gives of itself."""
    about = copy.deepcopy(trained.about)
    kept = {k: about[k] for k in ("seed", "trained_on", "condition_range")}
    whole = about["recipe"]
    if member == "one-step":
        return {"recipe": whole, **kept, "chosen": about["chosen"], **_minutes(run, None)}
    begin, end = _spans(trained.model)
    last = begin if member == "copula" else end
    recipe = copy.deepcopy(whole)
    recipe["name"] = _name(whole["name"], member)
    if recipe["name"] in recipe_names():
        recipe["description"] = load_recipe(recipe["name"]).description
    recipe["model"]["remainder"] = MEMBERS[member]
    if begin > 0 and member == "copula-flow":  # the same marginals within a shorter training
        recipe["model"]["marginal_share"] = begin / end
    steps = max(1, round(last * whole["training"]["steps"]))
    recipe["training"]["steps"] = steps
    checked = parse_recipe(recipe).model_dump(mode="json", exclude_none=True)
    part_of = {"recipe": whole["name"], "steps": whole["training"]["steps"]}
    chosen = {"step": steps}  # the training computed scores only for its own generator
    return {
        "recipe": checked,
        **kept,
        "chosen": chosen,
        "part_of": part_of,
        **_minutes(run, steps),
    }


def _name(whole: str, member: str) -> str:
    """one-step-photons -> copula-photons; any other name is appended to that of the member."""
    return whole.replace("one-step", member) if "one-step" in whole else f"{member}-{whole}"


def _spans(model: ShowerModel) -> tuple[float, float]:
    """Fractions of the training at which the closed form is fitted and at which the flow ends."""
    phases = {phase.name: phase for phase in model.phases()}
    copula, flow = phases["copula"], phases["flow"]
    assert isinstance(copula, Fit) and not isinstance(flow, Fit)
    return copula.at, flow.span[1]


def _minutes(run: Path, step: int | None) -> dict[str, float]:
    found = training_minutes(run, step)
    return {} if found is None else {"training_minutes": found}


def training_minutes(run: Path, step: int | None = None) -> float | None:
    """Minutes that a training took up to a step, fits included, from the lines of its log.

    The default step is that of the last line; None where the log has no times.
    """
    path = run / "log.jsonl"
    if not path.exists():
        return None
    seconds, before = 0.0, 0
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "steps_per_second" not in entry:
            continue
        seconds += (entry["step"] - before) / entry["steps_per_second"]
        before = entry["step"]
        if before == step:
            break
    return round(seconds / 60, 2) if before and step in (None, before) else None


if __name__ == "__main__":
    main()
