"""The S-shape: mean centre of energy minus impact against the impact of the particle."""

from __future__ import annotations

from caloforge.judge.folder import Result
from caloforge.report.blocks import Picture
from caloforge.report.curves import draw_points
from caloforge.report.drawn import drawn, has_second, layer_title, looks_of
from caloforge.report.panels import Grid, columns, dress, legend, panel_figure


def s_shape(result: Result) -> Picture | None:
    """Layer by layer; None where the read-out does not know the impact."""
    return _s_shape(
        result,
        0,
        "An S in each cell: showers near its centre lie nearly all in it. Look for curves of "
        "another height or, in fine cells, without their bumps.",
    )


def s_shape_control(result: Result) -> Picture | None:
    """The same for showers with the impact of others: Geant4 that does not follow it."""
    return _s_shape(
        result,
        1,
        "Control: every shower has the impact of another one, so that even Geant4 does not "
        "follow.",
    )


def _s_shape(result: Result, control: int, ending: str) -> Picture | None:
    frame = result.shown.frame
    if not frame.impact:
        return None
    count = len(frame.layers)
    grid = Grid(columns=columns(count, 2), height=2.1, left=0.62, ratio=0)
    figure, pairs = panel_figure(count, grid)
    for k, (pair, position) in enumerate(zip(pairs, frame.layers, strict=True)):
        place = control * count + k
        shapes = [(look, portrait.s_shapes[place]) for look, portrait in drawn(result)]
        curves = [(look, shape.mean, shape.error) for look, shape in shapes]
        draw_points(pair[0], shapes[0][1].centres, curves, log_x=False)
        title = layer_title(frame.geometry.layers[position])
        dress(pair, title, first=k % grid.columns == 0, y_label="centre - impact [mm]")
        pair[0].set_xlabel(f"impact {frame.impact} [mm]")
    legend(figure, looks_of(result), floor=has_second(result), kind="points")
    return Picture(
        f"s-shape{'-control' if control else ''}",
        f"Mean centre of energy minus impact against the impact in {frame.impact}, with "
        f"statistical errors; grey: the reference. {ending}",
        f"Mean centre minus impact against impact {frame.impact} for Geant4 and generators.",
        figure,
    )
