"""Ship a trained generator with the package: 16-bit weights, its results, its command.

    python tools/ship.py RUN NAME --command "caloforge train ..." --reference FILE --floor FILE

Writes src/caloforge/pretrained/NAME/: model.safetensors, README.md and results.json, the judge's
results on showers that the shipped file generates with the conditions of the reference. With that
folder itself as RUN the generator is judged again and its file stays as it is.
"""

import argparse
import json
import tempfile
from pathlib import Path

from caloforge.evaluation.results import markdown_table
from caloforge.generate import Conditions, generate_file
from caloforge.judge import judge_files
from caloforge.models.file import load_model, save_model

SHELF = Path(__file__).resolve().parents[1] / "src" / "caloforge" / "pretrained"
# What a model file says about itself beside what `save_model` adds.
KEPT = ("recipe", "seed", "trained_on", "condition_range", "chosen")

TEXT = """# {name}

{description}. {shown} showers trained it, {held_out} were held out for
the choice; kept is step {step} of {steps}.

Made by

```
{command}
```

{note}{stored}Judged on {n} Geant4 showers of an independent run
(`{reference}`), the floor from `{floor}`:

{table}"""


def main() -> None:
    """Ship the generator that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--command", required=True)
    parser.add_argument("--note", default="", help="what the command does not tell")
    parser.add_argument("--reference", required=True)
    parser.add_argument("--floor", required=True)
    parser.add_argument("--train", help="training showers, for the check of memorising")
    ship(**vars(parser.parse_args()))


def ship(
    run: Path,
    name: str,
    command: str,
    *,
    reference: str,
    floor: str,
    train: str | None = None,
    note: str = "",
) -> None:
    """Write the folder of a generator: what the command line's options say."""
    trained = load_model(run / "model.safetensors")
    about = {key: trained.about[key] for key in KEPT}
    folder = SHELF / name
    folder.mkdir(exist_ok=True)
    if run.resolve() != folder:
        save_model(folder / "model.safetensors", trained.model, about, half=True)

    shipped = load_model(folder / "model.safetensors")
    with tempfile.TemporaryDirectory() as scratch:
        showers = Path(scratch) / f"{name}.hdf5"
        conditions = Conditions.like(reference, shipped.model.geometry)
        generate_file(shipped, conditions, showers)
        extra = {"command": command}
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
        description=about["recipe"]["description"],
        shown=about["trained_on"]["showers"],
        held_out=about["trained_on"]["held_out"],
        step=about["chosen"]["step"],
        steps=about["recipe"]["training"]["steps"],
        command=command,
        note=f"{note}\n\n" if note else "",
        stored="Weights are stored in 16 bits. " if list(shipped.model.parameters()) else "",
        n=results["reference"]["n"],
        reference=Path(reference).name,
        floor=Path(floor).name,
        table=markdown_table(judged),
    )
    (folder / "README.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
