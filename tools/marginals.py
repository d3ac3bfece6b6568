"""Check the marginals of a flagship generator and print the worst bins.

    python tools/marginals.py MODEL DATA

With a right marginal the level of every cell is uniform, in every layer, at every condition and at
every distance from the particle's line. DATA is a file of showers on which the generator was not
trained. The table shows the bins in which the levels are farthest from uniform, and the distance
that a perfect generator would have there by chance.
"""

import argparse

import torch

from caloforge.data import read_showers, resolve_data
from caloforge.models.copula import Copula
from caloforge.models.copula.check import departures
from caloforge.models.file import load_model
from caloforge.pretrained import resolve_model

WORST = 15  # rows of the table
MOST = 2000  # showers, enough to see departures of a per cent


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    given = parser.parse_args()
    model = load_model(resolve_model(given.model)).model.eval()
    if not isinstance(model, Copula):
        parser.error(f"{given.model} is no generator of the flagship's family.")
    showers = read_showers(resolve_data(given.data))[:MOST]
    found = departures(
        model,
        torch.from_numpy(showers.energies).float(),
        torch.from_numpy(showers.conditions).float(),
        torch.Generator().manual_seed(0),
    )
    print("| bin | from | to | cells | largest departure | of a perfect one |")
    print("|---|---|---|---|---|---|")
    for d in found[:WORST]:
        scatter = 0.87 / d.cells**0.5  # the mean of Kolmogorov's distribution, over sqrt(n)
        print(
            f"| {d.what} | {d.low:.4g} | {d.high:.4g} | {d.cells} | {d.distance:.4f} | "
            f"{scatter:.4f} |"
        )


if __name__ == "__main__":
    main()
