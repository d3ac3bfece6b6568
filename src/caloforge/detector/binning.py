"""Binning files of the CaloChallenge: the voxels of one or more particles as XML.

Format: `<Bins><Bin pid etaMin etaMax name><Layer id r_edges n_bin_alpha/>...</Bin>...</Bins>`, r
edges in mm separated by commas; a layer with a single edge holds no voxels. Source:
arXiv:2410.21611, calochallenge.github.io/homepage.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.detector.geometry import Geometry
from caloforge.errors import GeometryError

MOST_BYTES = 4 << 20  # the largest published file has 20 kB
MOST_CELLS = 10_000_000

# A binning file states no energies: this wide range, in MeV, is used for voxels that are not those
# of a shipped geometry.
ENERGY_RANGE = (1.0, 1e7)


def parse_binning(path: str | Path, particle: str | int | None = None) -> Geometry:
    """Geometry from a CaloChallenge binning file, with no more than the file says.

    Parameters
    ----------
    path
        The XML file.
    particle
        Name or PDG code of the `<Bin>` to take; needed only where there are several.

    Raises
    ------
    GeometryError
        When the file is missing, not valid XML, uses entities, or does not describe voxels.
    """
    path = Path(path)
    chosen = _choose(_parse(path), particle, path)
    layers = [
        layer
        for element in chosen.findall("Layer")
        if (layer := _layer(element, path)) is not None
    ]
    cells = sum(layer["alpha_bins"] * (len(layer["r_edges"]) - 1) for layer in layers)
    if not layers or cells > MOST_CELLS:
        raise GeometryError(
            f"{path} describes {cells} voxels in {len(layers)} layers; expected 1 to {MOST_CELLS} "
            "voxels."
        )
    name, pid = chosen.get("name", path.stem), _number(chosen, "pid", path)
    low, high = ENERGY_RANGE
    energy = {"name": "energy", "unit": "MeV", "low": low, "high": high, "scale": "log"}
    return Geometry.from_dict(
        {
            "name": f"{path.stem}-{name}",
            "title": f"{name} voxels of {path.name}",
            "format": "calochallenge",
            "particles": [name],
            "pid": pid,
            "conditions": [{**energy, "label": "incident energy"}],
            "layers": layers,
            "symmetries": [{"operation": "rotate-alpha"}, {"operation": "reflect-alpha"}],
        }
    )


def add_layers(parent: ElementTree.Element, geometry: Geometry) -> None:
    """Write the voxels of a geometry as `<Layer>` elements below `parent`.

    Raises
    ------
    GeometryError
        When a layer is not polar, or its alpha bins are not equal ones from -pi.
    """
    for layer in geometry.layers:
        alpha = layer.edges[0]
        equal = np.linspace(-math.pi, math.pi, len(alpha))
        if layer.kind != "polar" or not np.allclose(alpha, equal):
            raise GeometryError(
                f"Layer {layer.id} of '{geometry.name}' is not divided into r and equal alpha "
                "bins; a binning file holds nothing else: keep this geometry as TOML."
            )
        edges = ",".join(f"{edge:.12g}" for edge in layer.edges[1])
        content = {"id": str(layer.id), "r_edges": edges, "n_bin_alpha": str(layer.shape[0])}
        ElementTree.SubElement(parent, "Layer", content)


def _parse(path: Path) -> ElementTree.Element:
    from defusedxml import DefusedXmlException
    from defusedxml import ElementTree as SafeTree

    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise GeometryError(
                f"The binning file {path} has {size} bytes; expected at most {MOST_BYTES}."
            )
        root: ElementTree.Element = SafeTree.fromstring(path.read_bytes(), forbid_dtd=True)
    except OSError as error:
        raise GeometryError(f"Cannot read the binning file {path}: {error.strerror}.") from error
    except DefusedXmlException as error:
        raise GeometryError(
            f"The binning file {path} declares a document type or entities, which are never "
            "resolved; remove them."
        ) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise GeometryError(f"The binning file {path} is not valid XML: {error}.") from error
    if root.tag != "Bins":
        raise GeometryError(
            f"The root element of {path} is <{root.tag}>; expected <Bins> of a CaloChallenge "
            "binning file."
        )
    return root


def _choose(
    root: ElementTree.Element, particle: str | int | None, path: Path
) -> ElementTree.Element:
    bins = root.findall("Bin")
    if not bins:
        raise GeometryError(f"{path} holds no <Bin>; expected one for each particle.")
    listed = ", ".join(f"{b.get('name', '?')} (pid {b.get('pid', '?')})" for b in bins[:10])
    if particle is None:
        if len(bins) > 1:
            raise GeometryError(
                f"{path} holds the bins of {listed}; name one with particle=, by name or pid."
            )
        return bins[0]
    wanted = str(particle)
    matching = [b for b in bins if wanted in (b.get("name"), b.get("pid"))]
    if len(matching) != 1:
        raise GeometryError(
            f"{path} holds {len(matching)} bins for '{wanted}'; expected one: it has {listed}."
        )
    return matching[0]


def _layer(element: ElementTree.Element, path: Path) -> dict[str, Any] | None:
    """One layer as in a geometry file, None where it holds no voxels."""
    number = _number(element, "id", path)
    text = element.get("r_edges", "")
    try:
        edges = [float(edge) for edge in text.split(",")]
    except ValueError as error:
        raise GeometryError(
            f"Layer {number} in {path} has the r_edges '{text[:60]}'; expected numbers in mm "
            "separated by commas."
        ) from error
    alpha = _number(element, "n_bin_alpha", path)
    if not 1 <= alpha <= MOST_CELLS or alpha * len(edges) > MOST_CELLS:
        raise GeometryError(
            f"Layer {number} in {path} has {alpha} alpha bins; expected 1 or more, and at most "
            f"{MOST_CELLS} voxels."
        )
    if len(edges) == 1:
        return None
    return {
        "id": number,
        "name": f"layer {number}",
        "kind": "polar",
        "alpha_bins": alpha,
        "r_edges": edges,
    }


def _number(element: ElementTree.Element, key: str, path: Path) -> int:
    text = element.get(key)
    try:
        return int(text or "")
    except ValueError as error:
        raise GeometryError(
            f"<{element.tag}> in {path} has {key}={text!r}; expected a whole number."
        ) from error


def same_voxels(first: Geometry, second: Geometry) -> bool:
    """Same layers (by id) with the same edges, to the precision of a text file (1e-9)."""
    return [layer.id for layer in first.layers] == [layer.id for layer in second.layers] and all(
        a.kind == b.kind
        and a.shape == b.shape
        and all(
            np.allclose(x, y, rtol=1e-9, atol=1e-9) for x, y in zip(a.edges, b.edges, strict=True)
        )
        for a, b in zip(first.layers, second.layers, strict=True)
    )
