"""What makes a figure answer: its samples can be hidden, and its values read, in the page.

A figure stays what matplotlib drew. Here its SVG is put into the page with a class for each
sample, and beside it lie the values of its lines and histograms, which a script of the page
(report.js) shows under the pointer. Without scripts the figure is the same static picture.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, StepPatch
from matplotlib.text import Text
from numpy.typing import NDArray

from caloforge.report.style import Look

Array = NDArray[Any]

MOST_POINTS = 1500  # of one line; longer ones are clouds that nobody reads point by point
_MARK = "sample-of-page-"


def tag(figure: Figure, samples: Sequence[Look]) -> None:
    """Mark everything that is drawn in the colour of a sample, for `inline_svg`.

    Samples that share a colour are not marked: hiding one would hide the other.
    """
    colors = [to_hex(look.color) for look in samples]
    unique = {color: k for k, color in enumerate(colors) if colors.count(color) == 1}
    number = 0
    for artist in figure.findobj(lambda a: isinstance(a, (Line2D, Patch, Collection, Text))):
        k = unique.get(_color(artist))
        if k is not None:
            artist.set_gid(f"{_MARK}{k}-{number}")
            number += 1


def _color(artist: Any) -> str:
    """The colour of a line, patch, collection or text as #rrggbb; empty where it has several."""
    if isinstance(artist, (Line2D, Text)):
        return _hex(artist.get_color())
    color = np.atleast_2d(artist.get_edgecolor())
    if not color.size or not color[..., -1].any():
        color = np.atleast_2d(artist.get_facecolor())
    return _hex(color[0]) if len(color) == 1 else ""


def _hex(color: Any) -> str:
    try:
        return to_hex(color)
    except ValueError:
        return ""


def inline_svg(svg: bytes, alt: str, number: int) -> str:
    """The SVG of figure `number` for the body of a page: its size follows the page, its names are
    its own, and what `tag` marked has the class of its sample (`s0`, `s1`, ...).
    """
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href=", "href=")
    text = re.sub(rf'id="{_MARK}(\d+)-\d+"', r'class="s\1"', text)
    text = re.sub(r'\bid="([^"]+)"', rf'id="f{number}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#f{number}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#f{number}-\1)", text)
    # Tenths of a point are as fine as a screen, and half the size; factors of scale stay.
    text = re.sub(r'\b(d|x|y)="([^"]*)"', _short, text)
    head, rest = text.split(">", 1)
    head = re.sub(r'\s(width|height|version|xmlns(:xlink)?)="[^"]*"', "", head)
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'{head} role="img" aria-label="{label}">{rest}'


def _short(match: re.Match[str]) -> str:
    """A path or a coordinate with one decimal and without line ends."""
    numbers = re.sub(r"(\d\.\d)\d+", r"\1", match[2])
    return f'{match[1]}="{" ".join(numbers.split())}"'


def values(figure: Figure, samples: Sequence[Look]) -> str:
    """The lines and histograms of a figure that was drawn, as JSON.

    `axes`: a list with, for each panel, its `box` in shares of the figure (left, top, right,
    bottom), the limits `x` and `y` (low, high, whether logarithmic), the label `l` of x, and the
    series `s`: name `n`, number of the sample `k` (-1: none), either the edges `e` of bins or the
    places `p`, the values `v` and their errors `d`, which may be missing.
    """
    panels = [panel for ax in figure.axes if (panel := _panel(ax, samples)) is not None]
    text = json.dumps({"axes": panels}, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _panel(ax: Axes, samples: Sequence[Look]) -> dict[str, Any] | None:
    if not ax.get_visible():
        return None
    series = [*_histograms(ax, samples), *_lines(ax, samples)]
    if not series:
        return None
    box = ax.get_position()
    return {
        "box": _rounded([box.x0, 1 - box.y1, box.x1, 1 - box.y0]),
        "x": [*_rounded(ax.get_xlim()), int(ax.get_xscale() == "log")],
        "y": [*_rounded(ax.get_ylim()), int(ax.get_yscale() == "log")],
        "l": _label(ax),
        "s": series,
    }


def _label(ax: Axes) -> str:
    """The name of the horizontal axis, which of panels above each other the lowest one has."""
    together = ax.get_shared_x_axes().get_siblings(ax)
    lowest = min(together, key=lambda other: other.get_position().y0)
    return str(lowest.get_xlabel())


def _histograms(ax: Axes, samples: Sequence[Look]) -> list[dict[str, Any]]:
    found = []
    for patch in ax.patches:
        if not isinstance(patch, StepPatch) or patch.get_hatch():
            continue
        data: Any = patch.get_data()
        if np.any(data.baseline):  # a band
            continue
        one = {**_name(patch, samples), "e": _rounded(data.edges), "v": _rounded(data.values)}
        errors = getattr(patch, "errors", None)
        found.append(one if errors is None else {**one, "d": _rounded(errors)})
    return found


def _lines(ax: Axes, samples: Sequence[Look]) -> list[dict[str, Any]]:
    errors = {
        id(container.lines[0]): container
        for container in ax.containers
        if isinstance(container, ErrorbarContainer)
    }
    found = []
    for line in ax.lines:
        x, y = (np.asarray(v) for v in line.get_data(orig=False))
        plain = line.get_transform() is ax.transData and 1 < len(x) <= MOST_POINTS
        named = _name(line, samples)
        if not plain or x.dtype.kind not in "fiu" or not (named["n"] or id(line) in errors):
            continue
        one = {**named, "p": _rounded(x), "v": _rounded(y)}
        bars = _bars(errors.get(id(line)), len(x))
        found.append(one if bars is None else {**one, "d": bars})
    return found


def _bars(container: ErrorbarContainer | None, count: int) -> list[float | None] | None:
    """Half the lengths of vertical error bars, one a point."""
    if container is None or not container.has_yerr or not container.lines[2]:
        return None
    segments = container.lines[2][-1].get_segments()
    if len(segments) != count:
        return None
    return _rounded([(s[-1][1] - s[0][1]) / 2 if len(s) > 1 else math.nan for s in segments])


def _name(artist: Any, samples: Sequence[Look]) -> dict[str, Any]:
    color, label = _color(artist), str(artist.get_label())
    for k, look in enumerate(samples):
        if to_hex(look.color) == color:
            return {"n": look.label, "k": k}
    return {"n": "" if label.startswith("_") else label, "k": -1}


def _rounded(numbers: Any) -> list[float | None]:
    """Four significant digits; None for what is not finite."""
    return [
        float(f"{v:.4g}") if math.isfinite(v) else None
        for v in np.asarray(numbers, dtype=np.float64).ravel().tolist()
    ]
