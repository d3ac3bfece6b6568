"""The command line: `caloforge COMMAND ...`. Each command reads, calls one function of the
package, and writes.
"""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from caloforge.errors import CaloForgeError

app = typer.Typer(
    help="Fast calorimeter simulation with generative models: train, judge and deploy shower "
    "generators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(
    help="Files of showers: list, inspect, fetch and convert.", no_args_is_help=True
)
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point: errors a user can cause become one sentence and exit code 2, Ctrl-C becomes
    130.
    """
    warnings.showwarning = _one_line_warning
    try:
        code = app(standalone_mode=False)
    except CaloForgeError as error:
        _stop(str(error))
    except KeyboardInterrupt:
        _stop("Interrupted.", 130)
    except MemoryError:
        _stop("Out of memory; use a smaller --batch or fewer showers at a time.")
    except OSError as error:
        _stop(f"{error.strerror or error}: {error.filename or 'the system refused'}.")
    except Exception as error:
        # Typer's own usage errors carry a message meant for people; anything else is a bug and
        # keeps its traceback.
        if hasattr(error, "format_message"):
            _stop(error.format_message())
        if isinstance(error, typer.Abort):  # how typer reports Ctrl-C
            _stop("Interrupted.", 130)
        raise
    if code == 130:  # newer versions of typer return it instead
        _stop("Interrupted.", 130)


def _stop(sentence: str, code: int = 2) -> None:
    from rich.console import Console

    Console(stderr=True, soft_wrap=True).print(
        f"caloforge: {sentence}", markup=False, highlight=False
    )
    sys.exit(code)


def _one_line_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    from rich.console import Console

    Console(stderr=True, soft_wrap=True).print(
        f"caloforge: note: {message}", markup=False, highlight=False
    )


def _console() -> Any:
    from rich.console import Console

    return Console()


# --- data ------------------------------------------------------------------------------------
@data_app.command("list")
def data_list() -> None:
    """Shipped samples and the public data sets that `fetch` can get."""
    from rich.table import Table

    from caloforge.data import CATALOGUE, open_showers, sample_names, sample_path

    table = Table(
        "shipped sample",
        "geometry",
        "showers",
        title="Use a sample's name wherever a file is expected",
    )
    for name in sample_names():
        with open_showers(sample_path(name)) as source:
            table.add_row(name, source.geometry.name, str(len(source)))
    _console().print(table)
    public = Table("public data set", "what it is", title="caloforge data fetch NAME")
    for name, entry in CATALOGUE.items():
        public.add_row(name, entry.title)
    _console().print(public)


@data_app.command("info")
def data_info(
    file: Annotated[str, typer.Argument(help="A file of showers or a shipped sample's name.")],
) -> None:
    """What a file holds: geometry, conditions, showers per energy, response, occupancy,
    provenance.
    """
    from rich.pretty import Pretty

    from caloforge.data import describe, resolve_data

    _console().print(Pretty(describe(resolve_data(file)), expand_all=False))


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A public data set of `caloforge data list`.")],
    out: Annotated[Path, typer.Option(help="Folder to put the files in.")] = Path(),
) -> None:
    """Download a public data set: resumable, checksummed."""
    from caloforge.data import fetch

    for path in fetch(name, out):
        _console().print(f"{path}")


@data_app.command("convert")
def data_convert(
    source: Annotated[str, typer.Argument(help="File of showers or shipped sample.")],
    target: Annotated[
        Path, typer.Argument(help="File to write; .root and .npz choose the format.")
    ],
    geometry: Annotated[
        str | None, typer.Option(help="Geometry name or file, where the content does not tell.")
    ] = None,
    to: Annotated[str | None, typer.Option("--format", help="Format to write.")] = None,
) -> None:
    """Read any known format, write another; streams, so that files may be larger than memory."""
    from caloforge.data import convert, resolve_data
    from caloforge.geometry import load_geometry

    count = convert(
        resolve_data(source),
        target,
        geometry=load_geometry(geometry) if geometry else None,
        format=to,
    )
    _console().print(f"{count} showers written to {target}")


# --- models and recipes ----------------------------------------------------------------------
@app.command("models")
def models() -> None:
    """The models one can train, and the trained generators shipped with the package."""
    from rich.table import Table

    from caloforge.models import MODELS
    from caloforge.pretrained import pretrained_names, pretrained_summary

    table = Table("model", "what it is")
    for name, kind in MODELS.items():
        table.add_row(name, (sys.modules[kind.__module__].__doc__ or "").splitlines()[0])
    _console().print(table)
    shipped = Table(
        "pretrained generator",
        "trained for",
        title="Use the name wherever a model file is expected",
    )
    for name in pretrained_names():
        shipped.add_row(name, pretrained_summary(name))
    _console().print(shipped)


@app.command("recipes")
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Print this recipe with all its defaults.")
    ] = None,
) -> None:
    """The shipped recipes, or one of them in full."""
    from rich.table import Table

    from caloforge.config import dump_recipe, load_recipe, recipe_names

    if name is not None:
        _console().print(dump_recipe(load_recipe(name)), markup=False, highlight=False)
        return
    table = Table("recipe", "geometry", "steps", "what it trains")
    for entry in recipe_names():
        recipe = load_recipe(entry)
        table.add_row(entry, recipe.geometry, f"{recipe.training.steps:,}", recipe.description)
    _console().print(table)


# --- train, generate, evaluate ---------------------------------------------------------------
@app.command("train")
def train(
    recipe: Annotated[str, typer.Argument(help="Shipped recipe or TOML file.")],
    data: Annotated[str, typer.Option(help="Training showers: a file or a shipped sample.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    steps: Annotated[
        int | None, typer.Option(help="Steps: one generator update with its critic updates each.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, batches and noise.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest checkpoint in --out.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value, for example training.batch_size=256."),
    ] = None,
) -> None:
    """Train a recipe; writes OUT/model.safetensors (the chosen generator), OUT/checkpoints and
    OUT/index.html.
    """
    from caloforge.config import load_recipe
    from caloforge.data import read_showers, resolve_data
    from caloforge.progress import TrainingBar
    from caloforge.report.training import write_training_page
    from caloforge.training import train as run
    from caloforge.training import with_settings
    from caloforge.training.selection import in_words

    chosen = with_settings(load_recipe(recipe, set_ or []), steps=steps, seed=seed)
    showers = read_showers(resolve_data(data))
    with TrainingBar() as bar:
        outcome = run(chosen, showers, out, device=device, resume=resume, observer=bar)
    write_training_page(out)
    ending = "stopped at" if outcome.interrupted else "done:"
    # A model split in energy is joined when each of its ranges has been trained.
    joined = (out / "model.safetensors").exists()
    scored = math.isfinite(outcome.best_score)
    told = in_words(outcome.best_score, chosen.training.selection.keep)
    score = f", {told} on the held-out showers" if scored else ""
    _console().print(
        f"{ending} step {outcome.step}; kept: step {outcome.best_step}{score}; generator in "
        f"{out / 'model.safetensors' if joined else out / 'range*'}, curves in "
        f"{out / 'index.html'}" + ("; continue with --resume" if outcome.interrupted else "")
    )
    if outcome.interrupted:
        sys.exit(130)


@app.command("generate")
def generate(
    model: Annotated[str, typer.Argument(help="Model file or a pretrained generator's name.")],
    out: Annotated[
        Path, typer.Option(help="File to write, in the field's own format for the geometry.")
    ],
    number: Annotated[
        int | None, typer.Option("-n", help="Showers (default: as many as --like has, else 1000).")
    ] = None,
    like: Annotated[
        str | None, typer.Option(help="Take the conditions of this file, in order.")
    ] = None,
    energy: Annotated[
        float | None, typer.Option(help="Incident energy in MeV of all showers.")
    ] = None,
    condition: Annotated[
        list[str] | None, typer.Option(help="name=value in MeV, mm or rad; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same showers.")] = 0,
    batch: Annotated[int | None, typer.Option(help="Showers made at a time.")] = None,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Allow conditions outside the trained range.")
    ] = False,
) -> None:
    """Showers from a trained model, streamed into a file."""
    from caloforge.data import resolve_data
    from caloforge.generate import BATCH, Conditions, generate_file
    from caloforge.models.file import load_model
    from caloforge.pretrained import resolve_model
    from caloforge.progress import counter

    loaded = load_model(resolve_model(model))
    geometry = loaded.model.geometry
    if like is not None:
        if energy is not None or condition:
            raise CaloForgeError(
                "Got --like together with --energy or --condition; give one or the other."
            )
        conditions = Conditions.like(resolve_data(like), geometry)
        count = len(conditions.table) if number is None else number
    else:
        conditions = Conditions.of(geometry, _named_values(energy, condition or []))
        count = 1000 if number is None else number
    if count < 1:
        raise CaloForgeError(f"Got -n {count}; expected at least one shower.")
    if extrapolate:
        warnings.warn(
            "conditions outside the trained range are allowed; nothing is known about such "
            "showers",
            stacklevel=1,
        )
    with counter("generating", count) as advance:
        seconds = generate_file(
            loaded,
            conditions,
            out,
            count,
            seed=seed,
            batch=BATCH if batch is None else batch,
            extrapolate=extrapolate,
            progress=advance,
        )
    _console().print(
        f"{count} showers in {seconds:.2f} s ({1e6 * seconds / count:.1f} µs each, file "
        f"included): {out}"
    )


def _named_values(energy: float | None, pairs: list[str]) -> dict[str, float]:
    values = {} if energy is None else {"energy": energy}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            values[name.strip()] = float(text)
        except ValueError:
            raise CaloForgeError(
                f"Got --condition {pair}; expected name=number, for example x0=12.5."
            ) from None
    return values


@app.command("evaluate")
def evaluate(
    reference: Annotated[
        str, typer.Argument(help="Reference showers (Geant4): a file or a shipped sample.")
    ],
    generated: Annotated[
        list[str], typer.Argument(help="Files of showers to judge, one or several.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for report.html and results.json.")],
    geometry: Annotated[
        str | None, typer.Option(help="Geometry name or file, where the files do not tell.")
    ] = None,
    floor: Annotated[
        str | None,
        typer.Option(help="A second reference sample: how well Geant4 agrees with itself."),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(help="Training showers of the generators: are they memorised?"),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(help="fast: a minute or two on two cores; full: as published, for a GPU."),
    ] = "fast",
    inputs: Annotated[
        str | None,
        typer.Option(help="Classifier inputs: low, low_normed, high, comma-separated."),
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="Trainings of each classifier.")] = None,
    most: Annotated[
        int | None, typer.Option(help="Showers of each sample in figures of all cells.")
    ] = None,
    device: Annotated[str, typer.Option(help="Of the classifiers: auto, cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of every random choice the judge makes.")] = 0,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write every figure as PDF.")] = False,
) -> None:
    """Judge showers against reference showers: results.json, results.md and one self-contained
    report.html.
    """
    from caloforge.evaluation.effort import choose_effort
    from caloforge.judge import judge_files
    from caloforge.progress import leaderboard

    chosen = tuple(name.strip() for name in inputs.split(",")) if inputs else None
    effort = choose_effort(metrics, chosen, repeats, most)
    console = _console()
    with console.status("judging") as status:
        comparisons = judge_files(
            reference,
            generated,
            out,
            geometry=geometry,
            floor=floor,
            train=train,
            effort=effort,
            device=device,
            seed=seed,
            pdf=pdf,
            tell=status.update,
            announce=console.print,
        )
    _console().print(leaderboard(comparisons))
    _console().print(f"report: {out / 'report.html'}, numbers: {out / 'results.json'}")


@app.command("bench")
def bench(
    model: Annotated[str, typer.Argument(help="Model file or a pretrained generator's name.")],
    repeats: Annotated[int, typer.Option(help="Calls timed at each batch size.")] = 10,
) -> None:
    """Time per shower at batch 1, 100 and 10 000, noise included, in memory."""
    import torch
    from rich.table import Table

    from caloforge.evaluation.timing import time_generator
    from caloforge.generate import Conditions, generate_showers, middle_condition
    from caloforge.models.file import load_model
    from caloforge.pretrained import resolve_model

    loaded = load_model(resolve_model(model))
    conditions = Conditions.of(loaded.model.geometry, middle_condition(loaded))
    rows = time_generator(
        lambda batch: generate_showers(loaded, conditions, batch, batch=batch),
        torch.get_num_threads(),
        repeats=repeats,
    )
    table = Table("batch", "µs per shower", "±", title=f"{model}, {rows[0].threads} CPU threads")
    for row in rows:
        table.add_row(str(row.batch), f"{1e3 * row.ms_per_shower:.1f}", f"{1e3 * row.error:.1f}")
    _console().print(table)


@app.command("demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the run and the report.")] = Path("demo"),
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Train a generator from scratch on shipped Geant4 showers, generate, judge: about five
    minutes on two cores.
    """
    from caloforge.demo import run_demo

    run_demo(out, steps=steps, seed=seed)


if __name__ == "__main__":
    main()
