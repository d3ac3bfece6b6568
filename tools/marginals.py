"""Whether the marginals of a flagship generator are right: the bins that are worst.

    python tools/marginals.py MODEL DATA

For a right marginal the level of every cell is uniform, in every layer, at every condition and at
every distance from the particle's line. The table shows the bins of DATA, showers that the
generator was not trained on, in which the levels are farthest from uniform, and the scatter that a
perfect generator would have there.
"""

import argparse

import torch

from caloforge.data import read_showers, resolve_data
from caloforge.models.copula import Copula
from caloforge.models.copula.check import departures
from caloforge.models.file import load_model
from caloforge.pretrained import resolve_model

WORST = 15
MOST = 2000  # showers


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
