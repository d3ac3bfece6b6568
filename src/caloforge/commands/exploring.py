"""`caloforge explore`."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from caloforge.commands import console
from caloforge.errors import CaloForgeError

DEFAULT = "one-step-photons"


def explore(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Model files or names of pretrained generators; without any, one-step-photons."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write a static site into this new folder instead of opening the page."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Show these Geant4 showers beside, instead of the shipped samples."),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="What runs the models: auto, torch, compile or onnx.")
    ] = "auto",
    port: Annotated[
        int, typer.Option(help="Port of the loopback interface; 0 stands for any free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    runtime: Annotated[
        Path | None,
        typer.Option(
            help="With --out: the WASM file of the npm package onnxruntime-web, or a folder with "
            "it; without it, node_modules is searched and then npm is asked."
        ),
    ] = None,
) -> None:
    """Open a page in which one moves energy, impact and angle and watches showers."""
    from caloforge.data import resolve_data
    from caloforge.explore import ExplorerServer, load_explored, write_site

    if runtime is not None and out is None:
        raise CaloForgeError("Got --runtime without --out; only a static site needs the runtime.")
    if out is not None and (engine != "auto" or port):
        raise CaloForgeError(
            "Got --engine or --port with --out; a static site has neither: any web server hosts "
            "it, and the browser runs its models."
        )
    if not 0 <= port < 1 << 16:
        raise CaloForgeError(f"Got --port {port}; expected 0 to 65535.")
    showers = None if reference is None else resolve_data(reference)
    explored = load_explored(models or [DEFAULT], showers)
    if out is not None:
        folder = write_site(explored, out, runtime)
        size = sum(path.stat().st_size for path in folder.iterdir())
        console().print(
            f"{folder}: {len(explored)} models, {size / 1e6:.1f} MB; any web server can host the "
            "folder.",
            highlight=False,
        )
        return
    with ExplorerServer(explored, engine=engine, port=port) as server:
        console().print(
            f"The explorer is at {server.url} until Ctrl-C.", soft_wrap=True, highlight=False
        )
        if browser:
            webbrowser.open(server.url)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            console().print("The explorer was stopped.")
