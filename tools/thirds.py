"""Print response, spread, depth and hits of generated showers by thirds of the incident energy.

    python tools/thirds.py REFERENCE GENERATED... [--kept-by MODEL] [--layers N] [--above MEV]

Each number stands beside that of the reference. With --kept-by the reference is reduced to the
cells that the transform of that model keeps (a crop). --layers takes only the first N layers (25
for the ECAL of the LCD).
"""

import argparse

import numpy as np
import torch

from caloforge.data import read_showers, resolve_data
from caloforge.models.file import load_model
from caloforge.pretrained import resolve_model
from caloforge.showers import Showers

LEAST_SHARE = 0.01  # a layer is compared where it holds at least this share of the energy


def main() -> None:
    """Print the numbers of the files that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference")
    parser.add_argument("generated", nargs="+")
    parser.add_argument("--kept-by", metavar="MODEL")
    parser.add_argument("--layers", type=int)
    parser.add_argument(
        "--above", type=float, default=0.0, help="energy in MeV above which a cell counts as hit"
    )
    given = parser.parse_args()
    reference = read_showers(resolve_data(given.reference))
    if given.kept_by:
        reference = kept(reference, given.kept_by)
    expected = quantities(reference, given.layers, given.above)
    for name in given.generated:
        found = quantities(read_showers(name), given.layers, given.above)
        print(f"{name} (reference)")
        for key, values in found.items():
            if key != "layers":
                print(f"  {key}: {shown(values)} ({shown(expected[key])})")
        used = expected["layers"] > LEAST_SHARE * expected["layers"].sum()
        off = np.abs(found["layers"][used] / expected["layers"][used] - 1)
        print(f"  energy per layer, off by: worst {off.max():.3f}, mean {off.mean():.3f}")


def kept(showers: Showers, model: str) -> Showers:
    """The showers with only the energy that the transform of a model keeps."""
    transform = load_model(resolve_model(model)).model.transform
    energies, condition = torch.from_numpy(showers.energies), torch.from_numpy(showers.conditions)
    with torch.no_grad():
        x = transform(energies, condition.float())
        cells = transform.inverse(x, condition.float()).numpy()
    return Showers(cells, showers.conditions, showers.geometry, showers.provenance)


def quantities(showers: Showers, layers: int | None, above: float) -> dict[str, np.ndarray]:
    """Name of a quantity -> its value over all showers, or in each third of the energy."""
    slices = showers.geometry.slices[:layers]
    cells = showers.energies[:, : slices[-1].stop]
    layer = np.stack([cells[:, s].sum(axis=1, dtype=np.float64) for s in slices], axis=1)
    total, incident = layer.sum(axis=1), showers.incident_energy
    ratio, hits = total / incident, (cells > above).sum(axis=1)
    depth = layer @ np.arange(len(slices)) / np.maximum(total, 1e-12)
    thirds = np.array_split(np.argsort(incident, kind="stable"), 3)
    return {
        "correlation of output with input": np.corrcoef(total, incident)[0, 1:],
        "mean of output / input": np.array([ratio[t].mean() for t in thirds]),
        "spread of output / input": np.array([ratio[t].std() for t in thirds]),
        "spread over mean": np.array([ratio[t].std() / ratio[t].mean() for t in thirds]),
        "cells hit": np.array([hits[t].mean() for t in thirds]),
        "mean depth, its spread": np.array([depth.mean(), depth.std()]),
        "layers": layer.mean(axis=0),
    }


def shown(values: np.ndarray) -> str:
    """The numbers, separated by commas."""
    return ", ".join(f"{value:.4g}" for value in values)


if __name__ == "__main__":
    main()
