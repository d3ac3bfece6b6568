"""The separation power of every observable beside its floor: where generators differ."""

from __future__ import annotations

import numpy as np

from caloforge.judge.folder import Result
from caloforge.report.blocks import Picture
from caloforge.report.curves import draw_ranking
from caloforge.report.drawn import looks_of, observable_label
from caloforge.report.floors import SEPARATION, above_floor, at_floor_size, floor_of, separations
from caloforge.report.panels import Grid, panel_figure

MOST = 48  # rows; beyond, those farthest above their floor


def ranking(result: Result) -> Picture | None:
    """A row an observable, a point a generator, the floor as a bar."""
    comparisons = result.comparisons
    keys = separations(comparisons[0])
    if not keys:
        return None
    total = len(keys)
    if total > MOST:
        worst = {k: max(above_floor(c, k) for c in comparisons) for k in keys}
        chosen = set(sorted(keys, key=lambda k: -worst[k])[:MOST])
        keys = [k for k in keys if k in chosen]
    curves = [
        (look, [at_floor_size(c, k) for k in keys])
        for look, c in zip(looks_of(result), comparisons, strict=True)
    ]
    floors = [
        max((f for c in comparisons if (f := floor_of(c, k)) is not None), default=np.nan)
        for k in keys
    ]
    labels = [observable_label(result, k.removeprefix(SEPARATION)) for k in keys]
    left = min(4.6, 0.3 + 0.06 * max(map(len, labels)))
    grid = Grid(columns=1, height=0.165 * len(keys) + 0.2, below=0.45, ratio=0, left=left)
    figure, pairs = panel_figure(1, grid)
    ax = pairs[0][0]
    draw_ranking(ax, labels, curves, floors)
    ax.set_xlabel("separation power (0: same, 1: no overlap)")
    ax.tick_params(labelsize=7.5)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=4)
    resized = any(c.details.at_floor_size for c in comparisons)
    sized = " Points are at the number of showers of their floor." if resized else ""
    some = f" Shown: the {MOST} farthest above their floor of {total}." if total > MOST else ""
    return Picture(
        "separation",
        "Separation power of every observable, under- and overflow counted. The grey bar is the "
        "floor, what two Geant4 samples give: a point at its end is as good as Geant4, one far to "
        f"the right of it is an observable that gives the generator away.{sized}{some}",
        "Separation power of each observable for each generator, with the Geant4 floor.",
        figure,
        "svg",
    )
