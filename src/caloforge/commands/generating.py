"""`caloforge generate` and `bench`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from caloforge.commands import CLUSTER, WORKERS, console
from caloforge.errors import CaloForgeError


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
    workers: Annotated[int | None, typer.Option(help=WORKERS)] = None,
    cluster: Annotated[str | None, typer.Option(help=CLUSTER)] = None,
) -> None:
    """Showers from a trained model, streamed into a file."""
    from caloforge.cluster import open_farm
    from caloforge.data import resolve_data
    from caloforge.generate import BATCH, Conditions, farm_file, generate_file
    from caloforge.models.file import load_model
    from caloforge.pretrained import resolve_model
    from caloforge.progress import counter

    path = resolve_model(model)
    loaded = load_model(path)
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
    settings: dict[str, Any] = {
        "seed": seed,
        "batch": BATCH if batch is None else batch,
        "extrapolate": extrapolate,
    }
    with (
        open_farm(workers, cluster, console().print) as farm,
        counter("generating", count) as advance,
    ):
        if farm is None:
            seconds = generate_file(loaded, conditions, out, count, progress=advance, **settings)
        else:
            seconds = farm_file(
                path, conditions, out, count, spread=farm.map, progress=advance, **settings
            )
    console().print(
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
    console().print(table)
