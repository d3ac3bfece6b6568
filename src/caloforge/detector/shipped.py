"""Geometries that the package ships, and geometries that lie in files."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from caloforge.detector.binning import parse_binning, same_voxels
from caloforge.detector.geometry import Geometry
from caloforge.errors import GeometryError, did_you_mean

# A binning file states no limits of the observables either. Voxels that are not shipped take those
# of a shipped geometry for the same particle, or of this one, which has the most layers.
LIMITS_OF = "ds1-pions"


def geometry_names() -> list[str]:
    """Names of the geometries shipped with the package."""
    folder = resources.files("caloforge") / "detectors"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def load_geometry(source: str | Path) -> Geometry:
    """Geometry by shipped name, or from a TOML file of the package's own kind, or from a binning
    file of the CaloChallenge (XML).

    Raises GeometryError for an unknown name (with the nearest one) and for files that cannot be
    read.
    """
    text = str(source)
    if text in geometry_names():
        return Geometry.from_dict(_shipped_content(text))
    path = Path(source)
    if path.suffix == ".xml":
        return read_binning(path)
    if path.suffix != ".toml" and path.exists():
        raise GeometryError(
            f"{path} is no geometry file by its ending; expected a file that ends in .toml or "
            ".xml, or the name of a shipped geometry."
        )
    if path.suffix != ".toml":
        raise GeometryError(f"Unknown geometry '{text}': {did_you_mean(text, geometry_names())}")
    try:
        return restore_geometry(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise GeometryError(f"Cannot read the geometry file {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GeometryError(f"The geometry file {path} is not valid TOML: {error}.") from error


def read_binning(path: str | Path, particle: str | int | None = None) -> Geometry:
    """Geometry from a CaloChallenge binning file.

    Voxels equal to those of a shipped geometry give that geometry, so that its models can be used.
    `particle`, by name or PDG code, is needed only for a file with the voxels of several.

    Raises GeometryError when the file is missing, not valid XML, uses entities, or does not
    describe voxels.
    """
    geometry = parse_binning(path, particle)
    return _same_as_shipped(geometry) or _with_limits(geometry)


def embedded_geometry(plain: dict[str, Any], stated_hash: object) -> Geometry:
    """Geometry that lies in a file of showers, a model file or an export, beside its hash.

    Raises GeometryError for a description that cannot be read or that has another hash.
    """
    geometry = restore_geometry(plain)
    if geometry.hash != stated_hash:
        raise GeometryError(
            f"The geometry has the hash {geometry.hash}, but the file says {stated_hash}: one of "
            "them was edited; write the file again."
        )
    return geometry


def restore_geometry(plain: dict[str, Any]) -> Geometry:
    """Geometry from its plain description in a file.

    Files that were written before geometries stated limits and roles lack both. Where their
    read-out is a shipped one, by its hash, they get those of the shipped geometry. Others have
    roles by the names of the conditions (`detector.conditions.with_roles`) and no limits.
    """
    geometry = Geometry.from_dict(plain)
    if "limits" in plain:
        return geometry
    twin = _shipped_twin(geometry)
    if twin is None:
        return geometry
    layers = zip(geometry.layers, twin.layers, strict=True)
    conditions = zip(geometry.conditions, twin.conditions, strict=True)
    return replace(
        geometry,
        layers=tuple(replace(old, limits=new.limits) for old, new in layers),
        conditions=tuple(replace(old, role=new.role, axis=new.axis) for old, new in conditions),
        limits=twin.limits,
    )


def _shipped_content(name: str) -> dict[str, Any]:
    file = resources.files("caloforge") / "detectors" / f"{name}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _shipped_twin(geometry: Geometry) -> Geometry | None:
    """The shipped geometry with the same hash: the one of the same name first, to save time."""
    names = geometry_names()
    for name in sorted(names, key=lambda name: name != geometry.name):
        if (shipped := load_geometry(name)).hash == geometry.hash:
            return shipped
    return None


def _same_as_shipped(geometry: Geometry) -> Geometry | None:
    """The shipped geometry with these very voxels for this particle or its antiparticle."""
    for shipped in map(load_geometry, geometry_names()):
        if abs(shipped.pid or 0) == abs(geometry.pid or 0) and same_voxels(shipped, geometry):
            return shipped
    return None


def _with_limits(geometry: Geometry) -> Geometry:
    """The geometry with the limits of a shipped one for the same particle, layer by layer."""
    shipped = [g for g in map(load_geometry, geometry_names()) if g.limits.source]
    same = [g for g in shipped if g.pid == geometry.pid]
    twin = same[0] if same else load_geometry(LIMITS_OF)
    of_layer = {layer.id: layer.limits for layer in twin.layers}
    first = twin.layers[0].limits
    layers = (replace(x, limits=of_layer.get(x.id, first)) for x in geometry.layers)
    return replace(geometry, layers=tuple(layers), limits=twin.limits)
