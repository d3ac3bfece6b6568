"""Quantities of the table of claims (docs/systems/claims.md) that concern networks alone.

    python tools/claims_of_networks.py shift MODEL SHOWERS # does a shower move with its impact?
    python tools/claims_of_networks.py pixels              # time of a shower made cell by cell

`shift` is for the CaloGAN read-out. Each shower is made twice with the same latent numbers, at its
y0 and at y0 plus one strip of the front layer (5 mm). The second image, moved back by one strip,
is compared with the first: correlation of the strips' energies, mean over the showers, and for
comparison the correlation with the image that is not moved back.

`pixels` runs what PixelRNN (van den Oord et al. 2016, arXiv:1601.06759) does for each cell: twelve
layers of LSTM with 128 numbers, and each cell has to wait for the cell before. Nothing else of the
network is counted, so that the time is a lower bound. The LCD read-out has 51 x 51 x 25 cells.
"""

import argparse
import time

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.data import read_showers, resolve_data
from caloforge.models.file import load_model
from caloforge.pretrained import resolve_model

LAYERS, WIDTH, CELLS, STEPS = 12, 128, 51 * 51 * 25, 2000


def main() -> None:
    """Print the quantity that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["shift", "pixels"])
    parser.add_argument("files", nargs="*", help="for shift: model and showers")
    given = parser.parse_args()
    if given.what == "pixels":
        print(f"one shower of {CELLS} cells: {CELLS * seconds_of_a_cell():.1f} s")
        return
    if len(given.files) != 2:
        parser.error(f"shift needs a model and a file of showers; got {len(given.files)} names.")
    moved, still = shift(*given.files)
    print(f"front layer, moved back by one strip: {moved:.4f}; not moved back: {still:.4f}")


@torch.no_grad()
def shift(model_name: str, file: str, number: int = 500) -> tuple[float, float]:
    """Correlations of a shower with the one at the next strip, moved back and as it is."""
    model = load_model(resolve_model(model_name)).model.eval()
    showers = read_showers(resolve_data(file))
    layer = showers.geometry.layers[0]
    rows, strips = layer.shape
    condition = torch.from_numpy(showers.conditions[:number]).float()
    further = condition.clone()
    further[:, showers.geometry.column("y0")] += layer.edges[1][1] - layer.edges[1][0]
    noise = torch.randn(
        len(condition), model.noise_size, generator=torch.Generator().manual_seed(0)
    )
    images = [
        model.sample(c, noise)[:, : rows * strips].reshape(-1, rows, strips)
        for c in (condition, further)
    ]
    return correlation(images[0][..., :-1], images[1][..., 1:]), correlation(*images)


def correlation(one: Tensor, other: Tensor) -> float:
    """Mean over the images of the correlation of their cells."""
    pairs = zip(one.flatten(1).numpy(), other.flatten(1).numpy(), strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))


@torch.no_grad()
def seconds_of_a_cell() -> float:
    """Time of one cell in a stack of LSTM layers, one shower at a time, on one thread."""
    torch.set_num_threads(1)
    stack = nn.ModuleList(nn.LSTMCell(1 if i == 0 else WIDTH, WIDTH) for i in range(LAYERS))
    state = [(torch.zeros(1, WIDTH), torch.zeros(1, WIDTH)) for _ in stack]
    begin = time.perf_counter()
    for _ in range(STEPS):
        x = torch.zeros(1, 1)
        for index, layer in enumerate(stack):
            state[index] = layer(x, state[index])
            x = state[index][0]
    return (time.perf_counter() - begin) / STEPS


if __name__ == "__main__":
    main()
