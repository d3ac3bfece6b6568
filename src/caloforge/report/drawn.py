"""What every picture asks of a result: the samples with their looks, histograms, words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from caloforge.detector.geometry import Layer
from caloforge.judge.folder import Result
from caloforge.judge.shown.energies import EnergySlice
from caloforge.judge.shown.portrait import Portrait
from caloforge.observables.table import Observable
from caloforge.report.distributions import Overlay, Series, overlay
from caloforge.report.style import FLOOR_LOOK, REFERENCE_LOOK, Look, looks


def looks_of(result: Result) -> list[Look]:
    """One look per generator, in their order."""
    return looks([portrait.name for portrait in result.shown.generated])


def drawn(result: Result) -> list[tuple[Look, Portrait]]:
    """Every sample with its look: the reference, its second sample, the generators."""
    shown = result.shown
    second = [] if shown.second is None else [(FLOOR_LOOK, shown.second)]
    return [
        (REFERENCE_LOOK, shown.reference),
        *second,
        *zip(looks_of(result), shown.generated, strict=True),
    ]


def has_second(result: Result) -> bool:
    """Whether there is a second sample of the reference simulation."""
    return result.shown.second is not None


def histograms(result: Result, name: str) -> Overlay | None:
    """The histograms with this name (see `Frame.bins`) of all samples.

    None where there is none, or the reference has no shower in it.
    """
    shown = result.shown
    bins = shown.frame.bins.get(name)
    if bins is None or shown.reference.counts[name].sum() == 0:
        return None
    series = [Series(portrait.counts[name], look) for look, portrait in drawn(result)]
    reference, *others = series
    second = others.pop(0) if has_second(result) else None
    return overlay(reference, others, second, bins)


def varies(result: Result, key: str) -> bool:
    """False for an observable that is one and the same number for all showers."""
    ends = np.array([portrait.extremes[key] for portrait in result.shown.samples])
    return bool(ends[:, 1].max() > ends[:, 0].min())


def column(result: Result, part: EnergySlice) -> int:
    """The place of an energy slice in everything that is shown per energy slice."""
    return result.shown.frame.slices.index(part)


# --- words ---------------------------------------------------------------------------------------
def ending(result: Result) -> str:
    """What all figures with ratios say at their end."""
    second = " Dotted: a second, independent Geant4 sample." if has_second(result) else ""
    return (
        "Below: ratio to the reference with the errors of both samples; grey band: what Geant4 "
        f"against Geant4 scatters.{second}"
    )


def shown_note(result: Result) -> str:
    """Which layers are shown, where it is not all of them."""
    shown, total = len(result.shown.frame.layers), result.shown.frame.geometry.n_layers
    if shown == total:
        return ""
    return f" Shown are {shown} of {total} layers, chosen along the shower."


def layer_title(layer: Layer) -> str:
    """Number and name of a layer, above its panels."""
    return f"layer {layer.id} · {layer.name}"


def title_of(result: Result, observable: Observable) -> str:
    """The title of the layer that an observable belongs to."""
    assert observable.layer is not None
    return layer_title(result.shown.frame.geometry.layers[observable.layer])


def observable_label(result: Result, key: str) -> str:
    """The label of an observable by its key, the key itself for figures that are no observable."""
    observable = result.shown.frame.rows.get(key)
    return key.replace("_", " ") if observable is None else observable.label


def suffix_of(part: EnergySlice | None) -> str:
    """The end of a picture's name that tells energies apart; empty for all energies."""
    return "" if part is None else f"-{part.energy:.6g}-MeV"


def names(items: Sequence[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    return ", ".join(items[:-1]) + (" and " if len(items) > 1 else "") + items[-1] if items else ""
