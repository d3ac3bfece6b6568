"""Where a training begins: showers are split, the model is made, its energy ranges are trained."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from caloforge.config import Recipe, dump_recipe, load_recipe, parse_recipe, suited_to
from caloforge.data import holdout_split, read_showers
from caloforge.detector.geometry import Geometry
from caloforge.detector.same import check_same_read_out
from caloforge.devices import find_device
from caloforge.errors import TrainingError
from caloforge.fast.measured import bf16_pays
from caloforge.files import make_folder, write_text
from caloforge.models import make_model
from caloforge.models.base import EnergyRange, ShowerModel
from caloforge.models.file import load_model, save_model
from caloforge.showers import Showers
from caloforge.training.dataset import TrainingSet, check_filled, prepare_showers
from caloforge.training.folder import check_same, has_begun
from caloforge.training.loop import Observer, Outcome, Run, Silent
from caloforge.training.parallel import (
    Processes,
    fabric_settings,
    joins_showers,
    leave_at_exit,
    started,
)
from caloforge.training.readme import write_readme
from caloforge.training.selection import HeldOut
from caloforge.training.transfer import Start, check_start, freeze, load_start, take_over
from caloforge.transforms import fit_transform

FEW_SHOWERS = 1000  # a range with fewer training showers is warned about


def train(
    recipe: Recipe | str | Path,
    showers: Showers | str | Path,
    out: str | Path,
    *,
    device: str = "auto",
    resume: bool = False,
    observer: Observer | None = None,
    data: str | None = None,
    init: str | Path | None = None,
) -> Outcome:
    """Train `recipe` on `showers` and write `out`/model.safetensors, the chosen generator, and
    `out`/checkpoints; `out`/README.md says what else is there.

    A tenth of the showers that the recipe's table [data] allows (seeded, stratified in incident
    energy) is held out: the generator is chosen on it. A model split in energy trains its ranges
    one after the other, each with its own choice, in `out`/range0, range1, ...

    Parameters
    ----------
    recipe
        What to train and how long, or the name or file of a recipe; the resolved recipe is
        saved as `out`/recipe.toml.
    showers
        (N, V) training showers, or a file or shipped sample of them, in the recipe's
        geometry where it names one.
    device
        "auto" (a GPU where there is one), "cpu" or "cuda".
    resume
        Continue from the newest checkpoint in `out`.
    observer
        Told about every log line and every choice.
    data
        Name of the file of showers, for the run to tell; its folder is left out.
    init
        Trained generator to begin from: its model file, the folder of its training or the name of
        a shipped one. Its transform is taken too; hyper-parameters that act on what it makes must
        be the same. `training.freeze` of the recipe names parts that keep their weights.

    Raises
    ------
    TrainingError
        For showers or a generator to begin from of another geometry, showers without energy, a
        generator that is not the recipe's, a folder that holds another training or files that
        this one would replace, nothing left to train, or losses that are not finite.
    ModelError, RecipeError
        For settings the model does not have, or no generator to begin from.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    showers = showers if isinstance(showers, Showers) else read_showers(showers)
    recipe = _for_read_out(recipe, showers.geometry)
    out, settings = Path(out), recipe.training
    begun = has_begun(out, resume)
    processes, fabric = _launch(device, settings.precision)
    if begun:
        check_same(recipe, out / "recipe.toml")
    processes.wait()  # nobody writes before all have looked
    _check_alike(processes, recipe, showers, fabric.device)
    showers = prepare_showers(showers, recipe.data, settings.seed)
    kept, held_out = holdout_split(showers.incident_energy, settings.holdout, settings.seed)
    training, holdout = showers[kept], showers[held_out]
    check_filled(training)
    start = None if init is None else load_start(init)
    model = build(recipe, training, start)
    about = _about(recipe, showers, len(held_out), data, start)
    del showers  # each training set keeps its own, perhaps in much less memory
    watcher = observer or Silent()
    ranges = model.energy_ranges()
    outcomes: list[Outcome] = []
    for number, part in enumerate(ranges):
        folder = out if len(ranges) == 1 else out / f"range{number}"
        run, what = _prepare(part, training, holdout, settings, folder, about, fabric, resume)
        if part is ranges[-1]:
            del training, holdout
        if processes.first:  # only when its checkpoint was taken
            _describe(out, recipe, model, about, fabric.device.type)
            watcher.start(what, run.step, settings.steps)
        outcomes.append(run.go(watcher))
        if outcomes[-1].interrupted:
            break
    if len(ranges) > 1 and len(outcomes) == len(ranges) and processes.first:
        _join(model, ranges, out, {**about, "chosen": {"ranges": [vars(o) for o in outcomes]}})
    return Outcome(
        sum(o.step for o in outcomes),
        outcomes[-1].best_step,
        max(o.best_score for o in outcomes),
        any(o.interrupted for o in outcomes),
    )


def _launch(device: str, precision: str) -> tuple[Processes, Any]:
    """The processes that train together and their Fabric, on the device asked for.

    Raises CaloForgeError for a device that is not there.
    """
    from lightning_fabric import Fabric

    find_device(device)
    processes = started()
    fabric = Fabric(
        accelerator=device, precision=resolve_precision(precision), **fabric_settings(processes)
    )
    fabric.launch()
    leave_at_exit(processes)
    return processes, fabric


def _describe(
    out: Path, recipe: Recipe, model: ShowerModel, about: dict[str, Any], kind: str
) -> None:
    """What the folder tells of its training on a device of this kind: recipe.toml, README.md."""
    write_text(out / "recipe.toml", dump_recipe(recipe))
    ranges, precision = len(model.energy_ranges()), resolve_precision(recipe.training.precision)
    read_out = recipe.geometry or model.geometry.name
    used, notes = about["trained_on"], model.transform.notes()
    write_readme(out, recipe, read_out, used, ranges, kind, precision, notes)


def resolve_precision(precision: str) -> Any:
    """Precision for Fabric: "auto" is bf16-mixed where that is faster, else 32-true."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        has_bf16 = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        has_bf16 = bool(has_bf16) and bf16_pays()
    return "bf16-mixed" if has_bf16 else "32-true"


def check_read_out(recipe: Recipe, showers: Showers) -> None:
    """Raise TrainingError unless the showers are of the recipe's read-out, where it names one."""
    from caloforge.detector.shipped import load_geometry

    if recipe.geometry is None:
        return
    check_same_read_out(
        showers.geometry,
        load_geometry(recipe.geometry),
        ("The showers are of", "the recipe is for"),
        "choose another recipe or other showers",
        TrainingError,
    )


def _for_read_out(recipe: Recipe, geometry: Geometry) -> Recipe:
    """The recipe without symmetries that the read-out lacks, with a note on what is left out."""
    suited = suited_to(recipe, geometry)
    lacking = [n for n in recipe.training.augment if n not in suited.training.augment]
    if lacking:
        warnings.warn(
            f"'{geometry.name}' has no symmetry {' and no '.join(lacking)}; the training does "
            "without.",
            stacklevel=3,
        )
    return suited


def build(recipe: Recipe, showers: Showers, start: Start | None = None) -> ShowerModel:
    """The recipe's model with fresh weights (seeded), its transform fitted to `showers`; or with
    generator and transform of `start`, and the recipe's parts frozen.
    """
    check_read_out(recipe, showers)
    if start is not None:
        check_start(start, recipe, showers)
        transform = start.file.model.transform
    elif recipe.training.freeze:
        raise TrainingError(
            f"Got training.freeze = {list(recipe.training.freeze)} and no generator to begin "
            "from; expected one whose weights are kept: give --init MODEL."
        )
    else:
        settings = {k: v for k, v in recipe.transform.items() if k != "name"}
        transform = fit_transform(recipe.transform["name"], showers, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        model = make_model(recipe.model["name"], showers.geometry, transform, **recipe.hyper())
    if start is not None:
        take_over(model, start, showers)
        freeze(model, recipe.training.freeze)
    return model


def _prepare(
    part: EnergyRange,
    training: Showers,
    holdout: Showers,
    settings: Any,
    folder: Path,
    about: dict[str, Any],
    fabric: Any,
    resume: bool,
) -> tuple[Run, str]:
    """The run of a range, at its start or its newest checkpoint, and what the range is called."""
    inside, inside_holdout = _inside(training, part), _inside(holdout, part)
    bounded = math.isfinite(part.high) or part.low > 0
    what = _range_name(part)
    if len(inside) < 2:
        raise TrainingError(
            f"There are {len(inside)} training showers in the range {what}; expected at least 2."
        )
    if bounded and len(inside) < FEW_SHOWERS:
        warnings.warn(
            f"Only {len(inside)} training showers in the range {what}: expect a poor fit.",
            stacklevel=3,
        )
    device = fabric.device
    part.model.to(device)
    processes = started()
    joined = joins_showers(part.model)
    if processes.count > 1 and joined and processes.first:
        warnings.warn(
            f"The {joined} of this model sees a process's part of a batch, "
            f"{settings.batch_size // processes.count} of {settings.batch_size} showers.",
            stacklevel=3,
        )
    data = TrainingSet(
        inside, device=device, seed=settings.seed, augment=settings.augment, processes=processes
    )
    score = HeldOut(inside_holdout, settings.selection, settings.seed)
    run = Run(part.model, data, score, settings, folder, about, fabric.autocast)
    make_folder(folder)
    if resume and run.resume() and run.step > settings.steps:
        raise TrainingError(
            f"The training in {folder} is at step {run.step} already; got {settings.steps} steps "
            f"to train in all, expected {run.step} or more: give more --steps, or another --out."
        )
    if not processes.agree(run.step, device):
        raise TrainingError(
            f"The processes found different checkpoints in {folder}, this one that of step "
            f"{run.step}; expected one folder that all machines see: give --out on a shared file "
            "system, or copy it to every machine before --resume."
        )
    return run, what


def _check_alike(
    processes: Processes, recipe: Recipe, showers: Showers, device: torch.device
) -> None:
    """Raise TrainingError when processes that shall train together were given different work."""
    for what, content in (
        ("recipes", dump_recipe(recipe).encode()),
        ("showers", showers.conditions.tobytes()),
    ):
        if not processes.agree(zlib.crc32(content), device):
            raise TrainingError(
                f"The processes of this training were given different {what}; expected the same: "
                "give the same command, and the same files, on every machine."
            )


def _about(
    recipe: Recipe, showers: Showers, held_out: int, data: str | None, start: Start | None
) -> dict[str, Any]:
    """What the model file will say of its training."""
    names = showers.geometry.condition_names
    used: dict[str, Any] = {"showers": len(showers) - held_out, "held_out": held_out}
    if data is not None:
        used["file"] = Path(data).name
    if start is not None:
        used["init"] = start.name
    if recipe.data.leave_out:
        used["left_out"] = _mev(recipe.data.leave_out)
    if recipe.data.at_most:
        most = [f"{m.showers} showers at {_mev([m.energy])}" for m in recipe.data.at_most]
        used["at_most"] = ", ".join(most)
    return {
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "seed": recipe.training.seed,
        "trained_on": {**used, **showers.provenance},
        "condition_range": {
            name: [float(column.min()), float(column.max())]
            for name, column in zip(names, showers.conditions.T, strict=True)
        },
    }


def _mev(energies: Sequence[float]) -> str:
    return ", ".join(f"{energy:.7g}" for energy in energies) + " MeV"


def _range_name(part: EnergyRange) -> str:
    low, high = part.low > 0, math.isfinite(part.high)
    if low and high:
        return f"{part.low:.7g} to {part.high:.7g} MeV"
    if low or high:
        return f"from {part.low:.7g} MeV" if low else f"up to {part.high:.7g} MeV"
    return "all incident energies"


def _inside(showers: Showers, part: EnergyRange) -> Showers:
    """Showers of a range, both boundaries included: a boundary energy trains both neighbours."""
    energy = showers.incident_energy
    return showers[(energy >= part.low) & (energy <= part.high)]


def _join(model: ShowerModel, ranges: list[EnergyRange], out: Path, about: dict[str, Any]) -> None:
    """Put the generators chosen for each range into one model file."""
    for number, part in enumerate(ranges):
        chosen = load_model(out / f"range{number}" / "model.safetensors").model
        part.model.load_state_dict(chosen.generator_state(), strict=False)
    save_model(out / "model.safetensors", model, about)


def with_settings(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with other loop settings (steps, seed, ...); None leaves one as it is.

    Raises RecipeError for an unknown setting or a value that cannot be.
    """
    given = {k: v for k, v in changes.items() if v is not None}
    plain = recipe.model_dump()
    return parse_recipe({**plain, "training": {**plain["training"], **given}})


__all__ = ["Observer", "Outcome", "Silent", "build", "train", "with_settings"]
