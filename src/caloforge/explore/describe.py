"""What the page of the explorer has to know: its models, their detectors, and Geant4's showers.

The description is one JSON document, the same for the server and for the static site. The page
holds no number of a detector itself: cells, depths, ranges and roles come from here, and so from
the geometry file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import caloforge
from caloforge.detector.geometry import Condition, Geometry, Layer
from caloforge.detector.particle import particle_line
from caloforge.errors import CaloForgeError
from caloforge.explore.reference import Reference, reference_of
from caloforge.generate.conditions import allowed, middle_condition
from caloforge.models.file import ModelFile, load_model
from caloforge.pretrained import pretrained_names, resolve_model, shipped_description

# A page shows at most so many models; each needs memory and, on a static site, a file.
MOST_MODELS = 24
# The lateral profile has at most so many rings.
MOST_RINGS = 24


@dataclass(frozen=True)
class Explored:
    """A model of the page.

    Parameters
    ----------
    name
        What the page, its links and its files call it: the name of a shipped generator, or that
        of the model's file or folder.
    file
        The model with what its file says about it.
    reference
        Geant4 showers of the same read-out and particle; None where there are none.
    """

    name: str
    file: ModelFile
    reference: Reference | None

    @property
    def geometry(self) -> Geometry:
        """The read-out."""
        return self.file.model.geometry


def load_explored(
    models: Sequence[str | Path | ModelFile], reference: str | Path | None = None
) -> list[Explored]:
    """The models of a page, in order.

    Parameters
    ----------
    models
        Names of shipped generators, paths of model files, or loaded models.
    reference
        File of Geant4 showers instead of the shipped samples, for all models of its read-out.

    Raises
    ------
    CaloForgeError
        For no model or too many, the same one twice, a model that cannot be read, and reference
        showers of a read-out that no model has.
    """
    if not 0 < len(models) <= MOST_MODELS:
        raise CaloForgeError(
            f"Got {len(models)} models; expected 1 to {MOST_MODELS} for one explorer."
        )
    explored: list[Explored] = []
    known: dict[str, Reference] = {}  # models of one read-out share them
    for source in models:
        file = source if isinstance(source, ModelFile) else load_model(resolve_model(source))
        name = _name(source, file)
        if name in [other.name for other in explored]:
            raise CaloForgeError(f"The model '{name}' is given twice; expected it once.")
        found = reference_of(file, reference)
        if found is not None:
            found = known.setdefault(found.name, found)
        explored.append(Explored(name, file, found))
    if reference is not None and not any(e.reference for e in explored):
        names = ", ".join(sorted({e.geometry.name for e in explored}))
        raise CaloForgeError(
            f"The showers of {reference} have another read-out than every model ({names}); give "
            "showers of the read-out of a model."
        )
    return explored


def _name(source: str | Path | ModelFile, file: ModelFile) -> str:
    """A short name for a model: letters, digits, dots, dashes and underscores alone."""
    if isinstance(source, ModelFile):
        raw = str(file.about.get("recipe", {}).get("name", "")) or str(file.about["model"])
    elif str(source) in pretrained_names() and not Path(source).exists():
        return str(source)
    else:
        path = Path(source).absolute()
        raw = path.name if path.is_dir() or path.stem != "model" else path.parent.name
        raw = raw.removesuffix(".safetensors")
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in raw)
    return kept.strip(".-") or "model"


def description(explored: Sequence[Explored], backend: str) -> dict[str, Any]:
    """The description of a page as plain values.

    Parameters
    ----------
    explored
        The models.
    backend
        What makes the showers: "server", or "onnx" in the browser.
    """
    detectors = {e.geometry.hash: _detector(e.geometry) for e in explored}
    references = {
        e.reference.name: {
            "file": f"reference-{e.reference.name}.bin",
            "source": e.reference.source,
            "count": len(e.reference.showers),
        }
        for e in explored
        if e.reference is not None
    }
    return {
        "version": caloforge.__version__,
        "backend": backend,
        "models": [_model(e, backend) for e in explored],
        "detectors": detectors,
        "references": references,
    }


def _model(explored: Explored, backend: str) -> dict[str, Any]:
    file, geometry = explored.file, explored.geometry
    recipe = file.about.get("recipe", {})
    stated = shipped_description(explored.name, str(recipe.get("description", "")))
    middle = middle_condition(file)
    trained = file.condition_range
    return {
        "name": explored.name,
        "text": stated,
        "detector": geometry.hash,
        "noise": file.model.noise_size,
        "trained": [list(trained[c.name]) for c in geometry.conditions],
        "allowed": [list(allowed(c, *trained[c.name])) for c in geometry.conditions],
        "start": [_rounded(c, middle[c.name], trained[c.name]) for c in geometry.conditions],
        "reference": explored.reference.name if explored.reference else None,
        "onnx": f"{explored.name}.onnx" if backend == "onnx" else None,
    }


def _detector(geometry: Geometry) -> dict[str, Any]:
    line = particle_line(geometry)
    depths = _depths(geometry.layers)
    # Where a single layer is asked for the particle's position: at its effective depth if known.
    ask = [0.5 * (front + back) for front, back in depths]
    if geometry.limits.effective_depth is not None and geometry.n_layers == 1:
        ask = [geometry.limits.effective_depth]
    return {
        "name": geometry.name,
        "title": geometry.title,
        "cut": geometry.cut,
        "particles": list(geometry.particles),
        "conditions": [vars(c) for c in geometry.conditions],
        "layers": [
            {
                "id": layer.id,
                "name": layer.name,
                "kind": layer.kind,
                "axes": list(layer.axes),
                "edges": [list(map(_short, edges)) for edges in layer.edges],
                "z": list(map(_short, z)),
                "depth": _short(depth),
                "shift": vars(layer.shift) if layer.shift else None,
            }
            for layer, z, depth in zip(geometry.layers, depths, ask, strict=True)
        ],
        "depths_known": all(layer.z is not None for layer in geometry.layers),
        "energy": list(geometry.energy_columns),
        "line": {
            "axes": list(line.axes),
            "impact": list(line.impact),
            "momentum": line.momentum and list(line.momentum),
            "angles": line.angles and list(line.angles),
            "slopes": line.slopes and list(line.slopes),
            "moves": line.moves,
        },
        "rings": [_short(r) for r in rings(geometry)],
    }


def _rounded(condition: Condition, value: float, trained: tuple[float, float]) -> float:
    """A value in the middle of a trained range in few digits: five on a logarithmic scale, else to
    a thousandth of the range.
    """
    if condition.scale == "log":
        return float(f"{value:.5g}")
    span = trained[1] - trained[0]
    return round(value, 3 - math.floor(math.log10(span))) + 0.0 if span > 0 else value


def _short(value: float) -> float:
    """Nine digits: a nanometre in a metre, and half of the characters."""
    return float(f"{value:.9g}")


def _depths(layers: Sequence[Layer]) -> list[tuple[float, float]]:
    """Front and back of each layer in mm; for a read-out that does not state them all, layers of
    a tenth of the transverse extent, one behind the other.
    """
    known = [layer.z for layer in layers if layer.z is not None]
    if len(known) == len(layers):
        return known
    extent = min(layer.edges[1][-1] - layer.edges[1][0] for layer in layers if layer.size)
    step = 0.1 * extent
    return [(k * step, (k + 1) * step) for k in range(len(layers))]


def rings(geometry: Geometry) -> list[float]:
    """Edges in mm of the rings around the particle's line in which the lateral profile is shown.

    Polar layers: the edges in r of the layer with most rings. Grids: as wide as a cell of the
    finest layer, the cell's longer side counting.
    """
    polar = [layer for layer in geometry.layers if layer.kind == "polar" and layer.size]
    if polar:
        edges = max((layer.edges[1] for layer in polar), key=len)
        return list(edges[: MOST_RINGS + 1])
    pitch, reach = np.inf, 0.0
    for layer in geometry.layers:
        pitch = min(pitch, max(float(np.diff(edges).min()) for edges in layer.edges))
        reach = max(reach, max(0.5 * (edges[-1] - edges[0]) for edges in layer.edges))
    if particle_line(geometry).moves:
        return [pitch * k for k in range(min(MOST_RINGS, math.ceil(reach / pitch)) + 1)]
    # The particle enters in the middle of a cell: no centre of a cell lies on an edge.
    count = min(MOST_RINGS, math.ceil(reach / pitch))
    return [0.0, *(pitch * (k + 0.5) for k in range(count))]
