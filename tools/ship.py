"""Ship a trained generator with the package: its weights in 16 bits, its results and its command.

    python tools/ship.py RUN NAME --command "caloforge train ..." --reference FILE --floor FILE

The program writes src/caloforge/pretrained/NAME/ with model.safetensors, README.md and
results.json, the results of judging showers that the shipped file generates with the conditions of
the reference. If RUN is that folder itself, the generator is judged again and its file stays as it
is.

A generated shower with exactly the condition of a reference shower is called its twin. Where
conditions are continuous, a classifier that remembers the condition of one of them classifies the
other one wrongly, and its AUC comes out too small. `--like FILE` takes the conditions of another
file instead. It should come from a run that is independent of both the reference and the training
showers.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from family import training_minutes

from caloforge.data import holdout_split, open_showers, resolve_data
from caloforge.detector.geometry import Geometry
from caloforge.evaluate import judge_files
from caloforge.generate import Conditions, generate_file
from caloforge.judge.results import markdown_table
from caloforge.models.file import load_model, save_model
from caloforge.pretrained import shipped_description

SHELF = Path(__file__).resolve().parents[1] / "src" / "caloforge" / "pretrained"
# What a model file says about itself, beside what `save_model` adds.
KEPT = ("recipe", "seed", "trained_on", "condition_range", "chosen")
KEPT_IF_THERE = ("part_of", "training_minutes")
LARGEST = 12e6  # bytes; the repository holds every shipped model file

TEXT = """# {name}

{description}. {trained}

This command trained it:

```
{command}
```

{note}{stored}The generator was judged on {n} Geant4 showers of an independent run
(`{reference}`), with the floor from `{floor}`; {like}:

{table}"""


def main() -> None:
    """Ship the generator that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--command", required=True)
    parser.add_argument(
        "--note", default="", help="a sentence about what the command does not show"
    )
    parser.add_argument("--reference", required=True)
    parser.add_argument("--floor", required=True)
    parser.add_argument(
        "--like", help="file whose conditions are generated (default: the reference)"
    )
    parser.add_argument("--train", help="training showers, for the check of memorising")
    ship(**vars(parser.parse_args()))


def ship(
    run: Path,
    name: str,
    command: str,
    *,
    reference: str,
    floor: str,
    like: str | None = None,
    train: str | None = None,
    note: str = "",
) -> None:
    """Write the folder of a generator. The arguments are the options of the command line."""
    trained = load_model(run / "model.safetensors")
    about = {key: trained.about[key] for key in KEPT}
    about |= {key: trained.about[key] for key in KEPT_IF_THERE if key in trained.about}
    minutes = training_minutes(run)
    if minutes is not None:
        about["training_minutes"] = minutes
    folder = SHELF / name
    folder.mkdir(exist_ok=True)
    if run.resolve() != folder:
        save_model(folder / "model.safetensors", trained.model, about, half=True)
    size = (folder / "model.safetensors").stat().st_size
    print(f"{name}: {size / 1e6:.1f} MB{' (too large to ship)' if size > LARGEST else ''}")

    shipped = load_model(folder / "model.safetensors")
    extra = {"command": command, "like": Path(like or reference).name}
    if "training_minutes" in about:
        extra["training_minutes"] = about["training_minutes"]
    with tempfile.TemporaryDirectory() as scratch:
        showers = Path(scratch) / f"{name}.hdf5"
        conditions = conditions_like(like or reference, reference, shipped.model.geometry)
        generate_file(shipped, conditions, showers)
        judged = judge_files(
            reference,
            [showers],
            scratch,
            floor=floor,
            train=train,
            extra=extra,
        )
        results = json.loads((Path(scratch) / "results.json").read_text(encoding="utf-8"))
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    page = TEXT.format(
        name=name,
        description=shipped_description(name, about["recipe"]["description"]),
        trained=training_in_words(about),
        command=command,
        note=f"{note}\n\n" if note else "",
        stored="The weights are stored in 16 bits. " if list(shipped.model.parameters()) else "",
        n=results["reference"]["n"],
        reference=Path(reference).name,
        floor=Path(floor).name,
        like=like_in_words(like, len(conditions.table)),
        table=markdown_table(judged),
    )
    (folder / "README.md").write_text(page, encoding="utf-8")


def conditions_like(like: str, reference: str, geometry: Geometry, seed: int = 0) -> Conditions:
    """Conditions of the file `like`, as many as the reference has showers.

    Where `like` has more showers, rows are chosen at random (seeded) with the same spectrum of
    incident energies; where it has fewer, all of them are taken.
    """
    conditions = Conditions.like(resolve_data(like), geometry)
    with open_showers(resolve_data(reference)) as source:
        wanted = len(source)
    count = len(conditions.table)
    if wanted >= count:
        return conditions
    energies = geometry.incident_energy(conditions.table)
    _, chosen = holdout_split(energies, wanted / count, seed)
    return Conditions(geometry, conditions.table[chosen])


def training_in_words(about: dict[str, Any]) -> str:
    """Sentences on how many showers and steps a generator was trained, and which step was kept.

    The recipe's number of steps is only what was planned. Where the newest generator is kept, its
    step is the last one that the training reached.
    """
    used, settings = about["trained_on"], about["recipe"]["training"]
    step, steps = about["chosen"]["step"], settings["steps"]
    shown, held_out = used["showers"], used["held_out"]
    if settings["selection"]["keep"] != "newest":
        text = (
            f"It was trained on {shown} showers; {held_out} were held out\n"
            f"to choose the step, and step {step} of {steps} is kept."
        )
    else:
        took = "It was fitted in one step." if step == 1 else f"It was trained for {step} steps."
        text = (
            f"It was trained on {shown} showers; {held_out} were held out and had no part in it. "
            f"{took}"
        )
    if "part_of" in about:
        text += (
            f" It was taken out of a training of `{about['part_of']['recipe']}` "
            f"({about['part_of']['steps']} steps)."
        )
    if "training_minutes" in about:
        text += f" This took {about['training_minutes']:.3g} minutes."
    return text


def like_in_words(like: str | None, count: int) -> str:
    """Half a sentence that says from which file the conditions of the judged showers come."""
    if like is None:
        return "the showers were generated with the conditions\nof that run"
    return (
        f"{count} showers were generated with the conditions\n"
        f"of another run (`{Path(like).name}`), so that none is the twin of a reference shower"
    )


if __name__ == "__main__":
    main()
