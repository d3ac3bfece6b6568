"""Examples that the help of each command ends with; a test reads every one of them."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "models": ("caloforge models", "caloforge models copula-photons --page model.html"),
    "recipes": ("caloforge recipes", "caloforge recipes caloshowergan-photon > mine.toml"),
    "simulate": (
        "caloforge simulate ds1-photons --particle gamma -n 1000 --out photons.hdf5",
        "caloforge simulate lcd --engine parametric --energy uniform:10000:100000 --out lcd.h5",
    ),
    "train": (
        "caloforge train copula-photons --data ds1-photons-train --out run",
        "caloforge train caloshowergan-photon --data mine.hdf5 --out run --steps 20000 --set "
        "training.batch_size=256",
        "caloforge train caloshowergan-photon --data mine.hdf5 --out run --resume",
    ),
    "watch": ("caloforge watch run", "caloforge watch run --once"),
    "search": (
        "caloforge search caloshowergan-photon --data ds1-photons-train --out search --trials 20",
    ),
    "generate": (
        "caloforge generate copula-photons -n 1000 --energy 65536 --out photons.hdf5",
        "caloforge generate run/model.safetensors --like test.hdf5 --out generated.hdf5",
        "caloforge generate copula-photons -n 500 --energy log-uniform:1000:100000 --out a.hdf5",
    ),
    "export": (
        "caloforge export copula-photons --to onnx --out photons.onnx",
        "caloforge export caloshowergan-photon --to lwtnn --out photons.json",
    ),
    "evaluate": (
        "caloforge evaluate ds1-photons-test generated.hdf5 --out judged",
        "caloforge evaluate test.hdf5 a.hdf5 b.hdf5 --floor second.hdf5 --metrics full --out "
        "judged",
    ),
    "report": ("caloforge report judged", "caloforge report first second --out both"),
    "explore": (
        "caloforge explore one-step-photons one-step-lhcb",
        "caloforge explore one-step-photons --out site",
    ),
    "bench": ("caloforge bench copula-photons", "caloforge bench run/model.safetensors"),
    "demo": ("caloforge demo", "caloforge demo --out demo --steps 200"),
    "data list": ("caloforge data list", "caloforge data list --online"),
    "data info": ("caloforge data info ds1-photons-test",),
    "data fetch": ("caloforge data fetch calochallenge-2 --out data",),
    "data convert": (
        "caloforge data convert ds1-photons-test photons.root",
        "caloforge data convert part-1.hdf5 part-2.hdf5 all.hdf5",
    ),
    "geometry list": ("caloforge geometry list",),
    "geometry show": ("caloforge geometry show lcd",),
    "geometry check": ("caloforge geometry check mine.toml",),
    "geometry draw": ("caloforge geometry draw lcd --out lcd.png",),
    "geometry new": ("caloforge geometry new mine.toml",),
}


def epilog(command: str) -> str | None:
    """The last lines of a command's help: its examples, one a line."""
    lines = EXAMPLES.get(command, ())
    # Typer shows each paragraph of this text as one line, and reads brackets as markup.
    shown = [line.replace("[", r"\[") for line in lines]
    return "\n\n".join(["[bold]Examples[/bold]", *shown]) if lines else None
