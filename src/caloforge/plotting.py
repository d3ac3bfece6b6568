"""Pictures of showers for a notebook: one shower, and average showers beside each other.

Each function returns a matplotlib `Figure`, which a notebook shows and `figure.savefig` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data import read_showers
from caloforge.detector.geometry import Geometry
from caloforge.detector.same import check_same_read_out
from caloforge.errors import DataError
from caloforge.showers import Showers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LAYERS = 8  # drawn beside each other
SIZE = 1.5  # inches of one image

Array = NDArray[Any]
Sample = Showers | str | Path


def plot_shower(showers: Sample, index: int = 0) -> Figure:
    """One shower as images of its layers, in MeV per cell on a logarithmic scale.

    Parameters
    ----------
    showers
        Showers, a file of them, or the name of a shipped sample.
    index
        Which of them; negative numbers count from the end.

    Raises
    ------
    DataError
        When there is no such shower.
    """
    sample = _read(showers)
    if not -len(sample) <= index < len(sample):
        raise DataError(f"There is no shower {index} among {len(sample)}; expected less.")
    conditions = ", ".join(
        f"{c.name} {value:g} {c.unit}".strip()
        for c, value in zip(sample.geometry.conditions, sample.conditions[index], strict=True)
    )
    deposited = float(sample.energies[index].sum(dtype=np.float64))
    title = f"{conditions}; deposited {deposited:.4g} MeV"
    return _images(sample.geometry, {f"shower {index}": sample.energies[index]}, title)


def plot_average(samples: Sample | Mapping[str, Sample]) -> Figure:
    """The mean energy of every cell, in MeV, of one sample or of several in rows.

    Parameters
    ----------
    samples
        Showers, a file of them, or the name of a shipped sample; or a name for each of several.

    Raises
    ------
    DataError
        For no sample, one without showers, or samples of different read-outs.
    """
    named = samples if isinstance(samples, Mapping) else {"": samples}
    if not named:
        raise DataError("Got no sample to draw; expected at least one.")
    read = {name: _read(sample) for name, sample in named.items()}
    first = next(iter(read.values()))
    for name, sample in read.items():
        if not len(sample):
            raise DataError(f"The sample '{name}' holds no showers; expected at least one.")
        check_same_read_out(
            sample.geometry,
            first.geometry,
            (f"'{name}' has the read-out", "the first sample has"),
            "draw samples of one calorimeter",
            DataError,
        )
    rows = {
        f"{name}\n{len(sample)} showers".strip(): sample.energies.mean(axis=0, dtype=np.float64)
        for name, sample in read.items()
    }
    return _images(first.geometry, rows, "Average shower")


def _read(sample: Sample) -> Showers:
    return sample if isinstance(sample, Showers) else read_showers(sample)


def _images(geometry: Geometry, rows: Mapping[str, Array], title: str) -> Figure:
    """A row of images of layers for each of `rows`: cells (V,) in MeV by label."""
    from matplotlib.figure import Figure

    from caloforge.report.images import draw_disc, energy_norm
    from caloforge.report.style import style

    mean = np.mean(list(rows.values()), axis=0)
    layers = _shown_layers(geometry, mean)
    norm = energy_norm(list(rows.values()))
    with style():
        figure = Figure(
            figsize=(SIZE * len(layers) + 1.2, SIZE * len(rows) + 0.6), layout="constrained"
        )
        axes = figure.subplots(len(rows), len(layers), squeeze=False)
        for line, (label, cells) in zip(axes, rows.items(), strict=True):
            for ax, k in zip(line, layers, strict=True):
                layer = geometry.layers[k]
                mesh = draw_disc(ax, layer, cells[geometry.slices[k]], norm)
                ax.set_xticks([])
                ax.set_yticks([])
                if ax in axes[0]:
                    ax.set_title(f"layer {layer.id}", fontsize=8)
            line[0].set_ylabel(label)
        figure.colorbar(mesh, ax=axes, label="MeV")
        figure.suptitle(title, fontsize=9)
    return figure


def _shown_layers(geometry: Geometry, cells: Array) -> list[int]:
    """Up to eight layers, evenly along those that hold energy in `cells` (V,)."""
    filled = [k for k, s in enumerate(geometry.slices) if cells[s].sum() > 0]
    filled = filled or list(range(geometry.n_layers))
    places = np.linspace(0, len(filled) - 1, min(MOST_LAYERS, len(filled))).round().astype(int)
    return [filled[k] for k in places]
