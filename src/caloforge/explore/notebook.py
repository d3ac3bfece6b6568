"""The explorer inside a notebook: the page in a frame below the cell."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from caloforge.explore.describe import load_explored
from caloforge.explore.server import ExplorerServer
from caloforge.models.file import ModelFile

Model = str | Path | ModelFile


class NotebookExplorer:
    """A running explorer. A notebook shows it as a frame; it stops with `close`, or with Python.

    The frame asks the loopback interface of the machine on which the browser runs: with Python on
    another machine, its port must be forwarded.
    """

    def __init__(self, server: ExplorerServer, height: int) -> None:
        self._server, self._height = server, height

    @property
    def url(self) -> str:
        """Address of the page."""
        return self._server.url

    def close(self) -> None:
        """Stop the explorer."""
        self._server.close()

    def __repr__(self) -> str:
        return f"Explorer of {', '.join(self._server.models)} at {self.url}"

    def _repr_html_(self) -> str:
        """The frame, as wide as the notebook."""
        return (
            f'<iframe src="{escape(self.url)}" title="CaloForge explorer" width="100%" '
            f'height="{self._height}" style="border:0" allow="clipboard-write"></iframe>'
        )


def explore(
    model: Model | Sequence[Model],
    *,
    reference: str | Path | None = None,
    engine: str = "auto",
    height: int = 900,
) -> NotebookExplorer:
    """Show the explorer of one or several models in a notebook.

    Parameters
    ----------
    model
        Name of a shipped generator, path of a model file, or a loaded model; or several of them.
    reference
        File of Geant4 showers instead of the shipped samples.
    engine
        What runs the models: "auto" (PyTorch), "torch", "compile" or "onnx".
    height
        Height of the frame in pixels of the page.

    Raises
    ------
    CaloForgeError
        As `load_explored` and `ExplorerServer`.
    """
    models = [model] if isinstance(model, str | Path | ModelFile) else list(model)
    return NotebookExplorer(
        ExplorerServer(load_explored(models, reference), engine=engine), height
    )
