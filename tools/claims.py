"""Quantities of the table of claims (docs/systems/claims.md) that no metric of `evaluate` has.

    python tools/claims.py count                        # write the summary of the table again
    python tools/claims.py width REFERENCE GENERATED... # CaloGAN: width against the polar angle
    python tools/claims.py s-shape REFERENCE GENERATED... # ATLAS cells: centre against impact
    python tools/claims.py alignment REFERENCE GENERATED... [--picture FILE]
    python tools/claims.py strips REFERENCE GENERATED... # ATLAS cells: energy share of the strips
    python tools/claims.py spread REFERENCE GENERATED... # ATLAS cells: is there mode collapse?
    python tools/claims.py depth REFERENCE GENERATED...  # LCD: maximum along the depth, hot cells
    python tools/claims.py crop REFERENCE GENERATED...   # LCD: single showers in the middle cells
    python tools/claims.py edge REFERENCE GENERATED...   # LHCb: energy in the cells at the edge
    python tools/claims.py central REFERENCE GENERATED... # width of the response at each energy
    python tools/claims.py ranges REFERENCE GENERATED... # photons: chi2, split at 4.1 GeV
    python tools/claims.py spike REFERENCE GENERATED...  # pions with almost no energy
    python tools/claims.py distance REFERENCE... # how far a tenth of the energy moves a shower

Each program but the first prints one line or block for the reference and one for each file of
generated showers. Errors are standard errors of the mean.
"""

import argparse
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import cdist

from caloforge.data import read_showers, resolve_data
from caloforge.metrics.boosted import boosted_of
from caloforge.metrics.chi2 import energy_chi2
from caloforge.observables.features import compute
from caloforge.observables.impact import s_shape
from caloforge.showers import Showers

PAGE = Path(__file__).resolve().parents[1] / "docs" / "systems" / "claims.md"
VERDICTS = ("holds here", "does not hold here", "not decided")
COLOURS = ("#c9c9c9", "#c8321f", "#3b75af", "#e08e45")  # Geant4, then generators in turn
STRIP = 4.725  # width of a strip in eta in mm, the period of the S-shape there


def main() -> None:
    """Count the verdicts, or print the quantity that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["count", *PROGRAMS])
    parser.add_argument("files", nargs="*", help="showers: reference first")
    parser.add_argument("--picture", type=Path, help="with alignment: histograms, as a PNG")
    given = parser.parse_args()
    if given.picture is not None and given.what != "alignment":
        parser.error("--picture draws alignments alone; leave it out.")
    if given.what == "count":
        PAGE.write_text(counted(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return
    samples = {name: read_showers(resolve_data(name)) for name in given.files}
    PROGRAMS[given.what](samples)
    if given.picture is not None:
        draw_alignments(samples, given.picture)


def counted(text: str) -> str:
    """The page of claims with the numbers of its summary counted from its tables."""
    lines, totals = [], np.zeros(3, dtype=int)
    for heading, table in re.findall(r"^## (S\d: .*?)\n(.*?)(?=^## |\Z)", text, re.M | re.S):
        rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
        found = [row[-2] for row in rows]
        numbers = np.array([found.count(verdict) for verdict in VERDICTS])
        totals += numbers
        lines.append(summary_line(heading, numbers))
    lines.append(summary_line("all", totals))
    head = (
        f"**{totals.sum()} claims and figures: {totals[0]} hold here, {totals[1]} do not hold "
        f"here, {totals[2]} are not decided.**"
    )
    text = re.sub(r"^\*\*\d+ claims and figures: .*?\*\*$", head, text, count=1, flags=re.M)
    return re.sub(r"^\| S1: .*?^\| all .*?$", "\n".join(lines), text, count=1, flags=re.M | re.S)


def summary_line(name: str, numbers: np.ndarray) -> str:
    """A line of the summary."""
    return f"| {name} | {numbers.sum()} | " + " | ".join(str(n) for n in numbers) + " |"


def mean(x: np.ndarray) -> str:
    """Mean and standard error."""
    return f"{x.mean():.4g} ± {x.std(ddof=1) / len(x) ** 0.5:.2g}"


def column(showers: Showers, name: str) -> np.ndarray:
    """A condition of each shower, (N,)."""
    return showers.conditions[:, showers.geometry.column(name)]


def width(samples: dict[str, Showers]) -> None:
    """Widths of each layer in mm in fifths of the polar angle, and their slope."""
    for name, showers in samples.items():
        print(name)
        theta, found = column(showers, "theta"), compute(showers)
        edges = np.linspace(0, theta.max() * 1.0001, 6)
        bins = [(theta >= a) & (theta < b) for a, b in pairwise(edges)]
        for key in sorted(found):
            if key.startswith("width_"):
                fit, covariance = np.polyfit(theta, found[key], 1, cov=True)
                values = ", ".join(mean(found[key][chosen]) for chosen in bins)
                slope = f"{fit[0]:.1f} ± {covariance[0, 0] ** 0.5:.1f} mm/rad"
                print(f"  {key}: {values}; slope {slope}")


def shape_against_impact(samples: dict[str, Showers]) -> None:
    """The S-shapes of middle layer and strips along eta beside those of the reference."""
    first, *_ = samples.values()
    known = {name: compute(showers) for name, showers in samples.items()}
    for layer, bins in ((2, 16), (1, 32)):
        print(f"layer {layer}")
        aims = [
            s_shape(first.geometry, s.conditions, known[name], layer, "eta", bins=bins)
            for name, s in samples.items()
        ]
        for name, found in zip(samples, aims, strict=True):
            error = np.hypot(found.error, aims[0].error)
            off = found.mean - aims[0].mean
            fit, cov = np.polyfit(found.centres, found.mean, 1, w=1 / found.error, cov="unscaled")
            print(
                f"  {name}: slope {fit[0]:.3f} ± {cov[0, 0] ** 0.5:.3f}, χ² per bin "
                f"{np.mean((off / error) ** 2):.2f}"
            )
        rng = np.random.default_rng(0)
        control = s_shape(
            first.geometry,
            first.conditions,
            next(iter(known.values())),
            layer,
            "eta",
            bins=bins,
            control=rng,
        )
        fit, cov = np.polyfit(
            control.centres, control.mean, 1, w=1 / control.error, cov="unscaled"
        )
        print(f"  impact of another shower: slope {fit[0]:.3f} ± {cov[0, 0] ** 0.5:.3f}")
    print("wave of the period of a strip in (average η − impact η) of the strips [mm]")
    for name, showers in samples.items():
        offset, hit = known[name]["offset_eta/1"], known[name]["layer_energy/1"] > 0
        middle = np.median(offset[hit])
        hit &= np.abs(offset - middle) <= np.quantile(np.abs(offset[hit] - middle), 0.9)
        wave = np.sin(2 * np.pi * column(showers, "impact_eta") / STRIP)
        print(f"  {name}: {mean(2 * offset[hit] * wave[hit])}")


def aligned(showers: Showers) -> dict[tuple[int, int], np.ndarray]:
    """Which showers have each of the eight alignments, (phase in phi, phase in eta) -> (N,)."""
    phi, eta = column(showers, "alignment_phi"), column(showers, "alignment_eta")
    return {(p, e): (phi == p) & (eta == e) for p in range(4) for e in range(2)}


def pulls(samples: dict[str, Showers]) -> dict[str, np.ndarray]:
    """Response minus the first sample's median at the same energy, in units of its spread, clipped
    at five, (N,).
    """
    first, *_ = samples.values()
    expected, result = compute(first)["response"], {}
    for name, showers in samples.items():
        response, pull = compute(showers)["response"], np.zeros(len(showers))
        for energy in np.unique(first.incident_energy):
            aim = np.percentile(expected[first.incident_energy == energy], [16, 50, 84])
            here = showers.incident_energy == energy
            pull[here] = (response[here] - aim[1]) / (aim[2] - aim[0]) * 2
        result[name] = np.clip(pull, -5, 5)
    return result


def alignment(samples: dict[str, Showers]) -> None:
    """Response (`pulls`), layers and centres for each of the eight alignments."""
    for name, pull in pulls(samples).items():
        print(name)
        found = compute(samples[name])
        for (phi, eta), chosen in aligned(samples[name]).items():
            keys = ("fraction/1", "fraction/3", "w_eta2", "centre_phi/1", "centre_eta/3")
            values = ", ".join(f"{key} {mean(found[key][chosen])}" for key in keys)
            print(f"  φ {phi}, η {eta}: pull {mean(pull[chosen])}, {values}")


def draw_alignments(samples: dict[str, Showers], path: Path) -> None:
    """Histograms of response, strip fraction and two centres at each of the eight alignments."""
    known, pull = {name: compute(s) for name, s in samples.items()}, pulls(samples)
    rows = {
        "response, pull": (pull, (-5, 5)),
        "fraction in strips": ({n: k["fraction/1"] for n, k in known.items()}, (0, 0.8)),
        "centre of strips in φ [mm]": (
            {n: k["centre_phi/1"] for n, k in known.items()},
            (-90, 90),
        ),
        "centre of back layer in η [mm]": (
            {n: k["centre_eta/3"] for n, k in known.items()},
            (-90, 90),
        ),
    }
    figure, grid = plt.subplots(len(rows), 8, figsize=(15, 7), layout="constrained")
    for line, (label, (values, axis)) in zip(grid, rows.items(), strict=True):
        for number, (name, showers) in enumerate(samples.items()):
            for ax, (phases, chosen) in zip(line, aligned(showers).items(), strict=True):
                bins = np.linspace(*axis, 19)
                ax.hist(
                    values[name][chosen],
                    bins,
                    density=True,
                    histtype="stepfilled" if number == 0 else "step",
                    color=COLOURS[number % len(COLOURS)],
                    linewidth=1.2,
                    label="Geant4" if number == 0 else Path(name).stem,
                )
                ax.set_yticks([])
                ax.tick_params(labelsize=7)
                if ax in grid[0]:
                    ax.set_title("φ phase {}, η phase {}".format(*phases), fontsize=9)
        line[0].set_ylabel(label, fontsize=8)
    grid[0, 0].legend(fontsize=7)
    figure.savefig(path, dpi=90)


def strips(samples: dict[str, Showers]) -> None:
    """Mean share of the energy in the strips at each energy, and how far it is from that of the
    first sample on average over the energies.
    """
    shares = {name: compute(showers)["fraction/1"] for name, showers in samples.items()}
    first, *_ = samples
    energies = np.unique(samples[first].incident_energy)
    at = {
        name: np.array([shares[name][s.incident_energy == energy].mean() for energy in energies])
        for name, s in samples.items()
    }
    for name, found in at.items():
        values = ", ".join(f"{value:.3f}" for value in found)
        print(f"{name}: {values}; off by {np.abs(found - at[first]).mean():.3f}")


def spread(samples: dict[str, Showers]) -> None:
    """Half the central 68 % of observables at one energy over the reference's; and the mean
    distance to the nearest of 90 showers, in the root of the energy fraction of the cells.
    """
    keys = ("response", "fraction/1", "fraction/2", "fraction/3", "w_eta1", "w_eta2", "r_eta")
    first = next(iter(samples))
    known = {name: compute(showers) for name, showers in samples.items()}

    def half(name: str, key: str, energy: float) -> float:
        values = known[name][key][samples[name].incident_energy == energy]
        low, high = np.percentile(values, [16, 84])
        return float(high - low) / 2

    for energy in (4096.0, 16384.0, 65536.0):
        for name, showers in samples.items():
            ratios = (
                f"{key} {half(name, key, energy) / half(first, key, energy):.2f}" for key in keys
            )
            rows = np.flatnonzero(showers.incident_energy == energy)
            rows = np.random.default_rng(0).permutation(rows)[:90]
            cells = np.sqrt(showers.energies[rows] / energy)
            distance = ((cells[:, None] - cells[None]) ** 2).sum(-1) ** 0.5
            np.fill_diagonal(distance, np.inf)
            print(f"{energy:g} {name}: {', '.join(ratios)}; nearest {mean(distance.min(1))}")


def depth(samples: dict[str, Showers]) -> None:
    """Where the energy of the ECAL slices is largest, and the share of the 15 hottest of the
    middle 20 x 20 cells of a slice.
    """
    for name, showers in samples.items():
        slices = showers.geometry.slices[:25]
        energy = np.stack([showers.energies[:, s].sum(axis=1) for s in slices], axis=1)
        cells = np.stack([showers.energies[:, s].reshape(-1, 25, 25) for s in slices], axis=1)
        cells = cells[:, :, 2:22, 2:22].reshape(len(showers), 25, 400)
        hottest = np.sort(cells, axis=-1)[..., -15:].sum()
        print(
            f"{name}: largest mean energy in slice {energy.mean(axis=0).argmax() + 1}, maximum of "
            f"a shower in slice {mean(energy.argmax(axis=1) + 1.0)}, 15 hottest cells "
            f"{hottest / cells.sum():.3f}"
        )


def edge(samples: dict[str, Showers]) -> None:
    """Energy of the 116 cells at the edge of the LHCb read-out."""
    outer = np.ones((30, 30), dtype=bool)
    outer[1:-1, 1:-1] = False
    for name, showers in samples.items():
        cells = showers.energies.reshape(-1, 30, 30)[:, outer]
        share = cells / showers.incident_energy[:, None]
        print(
            f"{name}: share of the incident energy {mean(share.sum(axis=1))}, hottest edge cell "
            f"{share.max():.2g}, showers with an edge cell above 0.1 % of it "
            f"{(share.max(axis=1) > 1e-3).mean():.4f} and above 1 % "
            f"{(share.max(axis=1) > 1e-2).mean():.4f}, edge cells above 1 MeV "
            f"{mean((cells > 1).sum(axis=1).astype(float))}"
        )


def crop(samples: dict[str, Showers]) -> None:
    """Boosted AUC in the middle 5 x 5 cells of the ECAL slices, and how much the share of the cell
    on the axis changes from slice to slice: the mean of |ln(ratio)|, shares from 1e-4 on.
    """
    first, *others = samples
    middle = np.zeros((25, 25), dtype=bool)
    middle[10:15, 10:15] = True
    kept = np.zeros(samples[first].energies.shape[1], dtype=bool)
    kept[: 25 * middle.size] = np.tile(middle.ravel(), 25)
    cut = {n: replace(s, energies=np.where(kept, s.energies, 0)) for n, s in samples.items()}
    for name, showers in cut.items():
        slices = showers.energies[:, kept].reshape(-1, 25, 5, 5).astype(np.float64)
        axis = slices[:, :, 2, 2] / slices.sum(axis=(1, 2, 3))[:, None]
        step = np.abs(np.diff(np.log(axis + 1e-4), axis=1)).mean(axis=1)
        print(f"{name}: step from slice to slice {mean(step)}")
    for name in others:
        found = boosted_of(cut[first], cut[name])
        print(f"{name}: AUC boosted {found.auc:.4f} ± {found.error:.1g}")


def central(samples: dict[str, Showers]) -> None:
    """Half the central 68 % of the response at each energy, or in both halves of a spectrum, over
    the reference's, with errors of 400 bootstrap samples; then the difference of the means, and
    the ratio of the standard deviations.
    """

    def half(values: np.ndarray) -> float:
        low, high = np.percentile(values, [16, 84])
        return float(high - low) / 2

    def error(values: np.ndarray) -> float:
        rng = np.random.default_rng(0)
        return float(np.std([half(rng.choice(values, len(values))) for _ in range(400)]))

    def inside(name: str, low: float, high: float) -> np.ndarray:
        energy = samples[name].incident_energy
        return compute(samples[name])["response"][(energy >= low) & (energy <= high)]

    first, *others = samples
    energies = np.unique(samples[first].incident_energy)
    parts = [(f"{energy:g}", energy, energy) for energy in energies]
    if len(energies) > 64:  # a spectrum
        middle = float(np.median(samples[first].incident_energy))
        parts = [(f"up to {middle:.0f}", 0.0, middle), (f"from {middle:.0f}", middle, np.inf)]
    for label, low, high in parts:
        aim = inside(first, low, high)
        for name in others:
            found = inside(name, low, high)
            if min(len(aim), len(found)) < 20:
                continue
            ratio = half(found) / half(aim)
            off = ratio * np.hypot(error(found) / half(found), error(aim) / half(aim))
            print(
                f"{label} {name}: {ratio:.2f} ± {off:.2f}, N {len(aim)} and {len(found)}, "
                f"mean response {found.mean() - aim.mean():+.4f}, "
                f"standard deviation {found.std() / aim.std():.2f}"
            )


def ranges(samples: dict[str, Showers]) -> None:
    """chi2/NDF of the total energy: all, up to 4.1 GeV, from there on; 100 showers an energy."""
    first, *others = samples
    wanted = {
        "all energies": (0.0, np.inf),
        "up to 4.1 GeV": (0.0, 4100.0),
        "from 4.1 GeV": (4090.0, np.inf),
    }
    for name in others:
        for label, (low, high) in wanted.items():
            parts = []
            for showers in (samples[first], samples[name]):
                chosen = (showers.incident_energy > low) & (showers.incident_energy < high)
                after = showers[np.flatnonzero(chosen)].after_cut()
                parts += [after.energies.sum(axis=1), after.incident_energy]
            if not len(parts[0]):
                continue
            found = energy_chi2(*parts)
            print(
                f"{name}, {label}: {found.chi2_ndf:.2f} ± {found.error:.2f} "
                f"({found.value_sum:.0f} / {found.ndf})"
            )


def spike(samples: dict[str, Showers]) -> None:
    """Share of the showers that leave less than a tenth of their energy, up to 1 GeV."""
    for name, showers in samples.items():
        response = showers.energies.sum(axis=1) / showers.incident_energy
        for energy in (256.0, 512.0, 1024.0):
            faint = response[showers.incident_energy == energy] < 0.1
            if len(faint):
                error = np.sqrt(faint.mean() * (1 - faint.mean()) / len(faint))
                print(f"{name}, {energy:.0f} MeV: {faint.mean():.3f} ± {error:.3f}")


def distance(samples: dict[str, Showers]) -> None:
    """How far a tenth more energy moves a shower in the space of voxels as fractions of the
    incident energy, and how far its nearest neighbour of that energy is: medians of 300 showers.
    """
    for name, showers in samples.items():
        voxels = showers.energies / showers.incident_energy[:, None]
        for energy in (1024.0, 4096.0, 16384.0):
            chosen = voxels[showers.incident_energy == energy][:300]
            if len(chosen) < 2:
                continue
            apart = cdist(chosen, chosen)
            np.fill_diagonal(apart, np.inf)
            moved = np.median(np.linalg.norm(0.1 * chosen, axis=1))
            print(
                f"{name}, {energy / 1000:.3g} GeV, {len(chosen)} showers: moved by {moved:.4f}, "
                f"nearest {np.median(apart.min(axis=1)):.4f}"
            )


PROGRAMS: dict[str, Callable[[dict[str, Showers]], None]] = {
    "width": width,
    "s-shape": shape_against_impact,
    "alignment": alignment,
    "strips": strips,
    "spread": spread,
    "depth": depth,
    "crop": crop,
    "edge": edge,
    "central": central,
    "ranges": ranges,
    "spike": spike,
    "distance": distance,
}


if __name__ == "__main__":
    main()
