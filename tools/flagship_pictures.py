"""Draw the figures of docs/flagship.md from the photon members of the flagship.

    python tools/flagship_pictures.py DATA CLOSED [FLOW] [ONE-STEP] --out docs

DATA is a file of Geant4 showers; the other arguments are model files of the members.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from caloforge.data import read_showers
from caloforge.models.copula import Copula
from caloforge.models.file import load_model
from caloforge.nn.normal import draw_below
from caloforge.showers import Showers

GEANT4, FILLED, EMPTY = "#2b2b2b", "#3b75af", "#e08e45"
MEMBERS = ("closed form", "flow, a few steps", "one pass")


def at_energy(showers: Showers, energy: float) -> torch.Tensor:
    """Energies (N, V) in MeV of the showers at one incident energy."""
    rows = np.isclose(showers.incident_energy, energy)
    return torch.from_numpy(showers.energies[rows]).float()


def spectrum_becomes_normal(model: Copula, showers: Showers, energy: float, path: Path) -> None:
    """Draw the energies of one voxel, and the normal variable that is made of them."""
    cells = at_energy(showers, energy)
    filled = (cells > 0).float().mean(dim=0)
    cell = int((filled - 0.7).abs().argmin())
    given = model.given(torch.full((len(cells), 1), energy))
    y, threshold = model.cells.place(cells, given)
    full, t = cells[:, cell] > 0, float(threshold[0, cell])
    level = torch.rand(int((~full).sum()), generator=torch.Generator().manual_seed(0))
    below = draw_below(torch.full_like(level, t), level)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.hist(cells[full, cell].log10(), bins=40, color=FILLED)
    left.set(xlabel="log10(energy / MeV) where filled", ylabel="showers")
    share = float(full.float().mean())
    left.set_title(f"a voxel at {energy / 1000:.3g} GeV: filled in {100 * share:.0f} % of showers")
    bins = t + np.arange(-30, 45) / 6  # one edge at the threshold
    right.hist(
        [below, y[full, cell]],
        bins=bins,
        stacked=True,
        density=True,
        color=[EMPTY, FILLED],
        label=["empty: only known to be below the threshold", "filled"],
    )
    right.plot(bins, np.exp(-(bins**2) / 2) / np.sqrt(2 * np.pi), color=GEANT4, lw=1)
    right.axvline(t, color=GEANT4, ls=":")
    right.set(
        xlabel="normal variable y", xlim=(-4, 4), ylim=(0, 0.62), title="the same showers as y"
    )
    right.legend(fontsize=8, loc="upper left")
    figure.savefig(path, dpi=130)


def correlation_as_images(model: Copula, showers: Showers, energy: float, path: Path) -> None:
    """Draw the correlation of one voxel with all others, layer by layer."""
    cells = at_energy(showers, energy)
    given = model.given(torch.full((len(cells), 1), energy))
    ranks = model.ranks.encode(model.scale.sums(cells) / energy, given)
    random = torch.Generator().manual_seed(1)
    rows = torch.randint(len(cells), (20_000,), generator=random)
    noise = torch.randn(20_000, model.geometry.n_cells, generator=random)
    y = model.across(noise, ranks[rows], given.log_energy[rows])
    geometry = model.geometry
    wide = [k for k, layer in enumerate(geometry.layers) if layer.shape[0] > 1]
    sector, ring = 3, 9
    chosen = geometry.slices[wide[-1]].start + sector * geometry.layers[wide[-1]].shape[1] + ring
    matrix = torch.corrcoef(y.T)[chosen].numpy()
    matrix[chosen] = np.nan
    figure, axes = plt.subplots(
        1, len(wide), figsize=(5 * len(wide), 3.4), layout="constrained", squeeze=False
    )
    for ax, k in zip(axes[0], wide, strict=True):
        layer = geometry.layers[k]
        image = matrix[geometry.slices[k]].reshape(layer.shape)
        drawn = ax.imshow(image, cmap="RdBu_r", vmin=-0.4, vmax=0.4, aspect="auto", origin="lower")
        ax.set(title=f"layer {layer.id}", xlabel="ring (r)", ylabel="sector (α)")
        if k == wide[-1]:
            ax.plot(ring, sector, "x", color=GEANT4)
    figure.colorbar(drawn, ax=axes, label="correlation with the voxel marked ×")
    figure.savefig(path, dpi=130)


def largest_share(cells: np.ndarray, where: slice) -> np.ndarray:
    """Share of the hottest cell in a layer's energy."""
    part = cells[:, where]
    total = part.sum(axis=1)
    return part.max(axis=1)[total > 0] / total[total > 0]


def what_the_remainder_does(
    models: list[Copula], showers: Showers, energy: float, path: Path
) -> None:
    """Draw the hottest cell of layer 1, the feature by which trees see the closed form first."""
    real = at_energy(showers, energy)
    geometry = models[0].geometry
    where = geometry.slices[1]
    bins = np.linspace(0, 0.35, 41)
    figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
    share = largest_share(real.numpy(), where)
    ax.hist(share, bins, density=True, color="0.85", label="Geant4")
    count = 8 * len(real)
    condition = torch.full((count, 1), energy)
    noise = torch.randn(count, models[0].noise_size, generator=torch.Generator().manual_seed(2))
    for model, name in zip(models, MEMBERS, strict=False):
        made = model.sample(condition, noise).numpy()
        share = largest_share(made, where)
        ax.hist(share, bins, density=True, histtype="step", lw=1.4, label=name)
    ax.set(
        xlabel=f"share of the hottest voxel in layer {geometry.layers[1].id}",
        title=f"{energy / 1000:.3g} GeV photons",
    )
    ax.legend(fontsize=9)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Write all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("models", nargs="+", help="model files: closed form, flow, one-step")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--energy", type=float, default=16384.0, help="MeV")
    options = parser.parse_args()
    showers = read_showers(options.data)
    models = [load_model(path).model.eval() for path in options.models]
    assert all(isinstance(model, Copula) for model in models)
    with torch.inference_mode():
        out, energy = options.out, options.energy
        spectrum_becomes_normal(models[0], showers, energy, out / "flagship-normal.png")
        correlation_as_images(models[0], showers, energy, out / "flagship-correlation.png")
        what_the_remainder_does(models, showers, energy, out / "flagship-remainder.png")


if __name__ == "__main__":
    main()
