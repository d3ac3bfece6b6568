"""Under which conditions showers are made: a file's own, single values, grids, spectra, lists of
particles, and any mix of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data import open_showers
from caloforge.detector.geometry import Condition, Geometry
from caloforge.detector.same import check_same_read_out
from caloforge.errors import ConditionError, did_you_mean
from caloforge.models.file import ModelFile
from caloforge.noise import uniforms

# A condition may lie beyond the trained range by this share of the range.
EDGE = 0.05
MOST_ROWS = 10**8  # largest number of points of a grid
# Cut off t sigma from its mean, a normal distribution falls off within sigma / t. Where t is
# larger than this, that is nothing beside the distance of t sigma.
FAR_TAIL = 1e6

Array = NDArray[np.float64]


# --- spectra ---------------------------------------------------------------------------------
def _uniform(u: Array, low: float, high: float) -> Array:
    return low + u * (high - low)


def _log_uniform(u: Array, low: float, high: float) -> Array:
    return low * (high / low) ** u


def _power(u: Array, index: float, low: float, high: float) -> Array:
    """Density x^-index: the inverse of its integral, in logarithms. The powers themselves are too
    large or too small for a float where the index is steep.
    """
    if index == 1:
        return _log_uniform(u, low, high)
    rise = 1 - index
    whole = rise * (math.log(high) - math.log(low))  # of the power's logarithm, LOW to HIGH
    with np.errstate(divide="ignore"):  # an end of the spectrum may be at minus infinity
        if whole > 0:  # counted from HIGH
            logs = whole + np.log1p((1 - u) * math.expm1(-whole))
        else:
            logs = np.log1p(u * math.expm1(whole))
    return low * np.exp(np.clip(logs / rise, 0, math.log(high) - math.log(low)))


def _normal(u: Array, mean: float, sigma: float, low: float, high: float) -> Array:
    """A normal distribution that is cut off at low and high, however far these are from the mean:
    SciPy works with logarithms of probabilities, in the tail on the same side.
    """
    from scipy.stats import truncnorm

    nearest = min(max(mean, low), high)
    if abs(nearest - mean) > FAR_TAIL * sigma:
        return np.full_like(u, nearest)
    values: Array = truncnorm.ppf(
        u, (low - mean) / sigma, (high - mean) / sigma, loc=mean, scale=sigma
    )
    # Within rounding of the upper end the logarithm may come out above 0, which gives NaN.
    return np.where(np.isnan(values), high, values)


@dataclass(frozen=True)
class Shape:
    """A kind of spectrum: the inverse of its cumulative function, and the names of its numbers, of
    which the last two are the least and the largest value.
    """

    inverse: Callable[..., Array]
    numbers: tuple[str, ...]
    above_zero: bool = False


SHAPES: dict[str, Shape] = {
    "uniform": Shape(_uniform, ("LOW", "HIGH")),
    "log-uniform": Shape(_log_uniform, ("LOW", "HIGH"), above_zero=True),
    "power": Shape(_power, ("INDEX", "LOW", "HIGH"), above_zero=True),
    "normal": Shape(_normal, ("MEAN", "SIGMA", "LOW", "HIGH")),
}


@dataclass(frozen=True)
class Spectrum:
    """A condition drawn anew for every shower: `kind` of `SHAPES` with its numbers."""

    kind: str
    numbers: tuple[float, ...]

    def __post_init__(self) -> None:
        shape, (low, high) = SHAPES[self.kind], self.numbers[-2:]
        wrong = not low < high or (shape.above_zero and low <= 0)
        if self.kind == "normal":
            wrong = wrong or not self.numbers[1] > 0
        if wrong or not np.isfinite(self.numbers).all():
            positive = " (LOW above 0)" if shape.above_zero else ""
            raise ConditionError(
                f"The spectrum {self} cannot be; expected {usage(self.kind)} with LOW < HIGH"
                f"{positive}{' and SIGMA > 0' if self.kind == 'normal' else ''}."
            )

    def __str__(self) -> str:
        return ":".join([self.kind, *(f"{number:.7g}" for number in self.numbers)])

    def values(self, u: Array) -> Array:
        """Values of the condition from uniform numbers between 0 and 1, of the same shape."""
        low, high = self.numbers[-2:]
        return np.clip(SHAPES[self.kind].inverse(u, *self.numbers), low, high)


# What `Conditions.of` takes for each condition.
Values = Mapping[str, float | str | Sequence[float] | Spectrum]


def usage(kind: str) -> str:
    """How a spectrum is written."""
    return ":".join([kind, *SHAPES[kind].numbers])


def parse_values(name: str, text: str) -> Spectrum | list[float]:
    """What may stand for the condition `name`: "1000", "1000,2000,4000", or
    "log-uniform:1000:100000". Raises ConditionError for anything else.
    """
    try:
        kind, *numbers = text.strip().split(":")
        if not numbers:
            return [float(part) for part in text.split(",")]
        if kind not in SHAPES:
            raise ConditionError(f"Unknown spectrum '{kind}': {did_you_mean(kind, SHAPES)}")
        if len(numbers) == len(SHAPES[kind].numbers):
            return Spectrum(kind, tuple(float(number) for number in numbers))
        raise ConditionError(f"Got {name}={text}; expected {usage(kind)}.")
    except ValueError:
        raise ConditionError(
            f"Got {name}={text}; expected a number, several with commas between them, or a "
            f"spectrum such as {usage('log-uniform')}."
        ) from None


# --- conditions ------------------------------------------------------------------------------
@dataclass(frozen=True)
class Conditions:
    """Conditions for any number of showers.

    Parameters
    ----------
    table
        Conditions (M, C) in physical units, repeated from the top when they run out.
    spectra
        Spectra of the columns that are drawn anew for every shower, by position.
    """

    geometry: Geometry
    table: Array
    spectra: Mapping[int, Spectrum] = field(default_factory=dict)

    def rows(self, start: int, stop: int, seed: int = 0) -> Array:
        """Conditions of the showers start..stop-1, (stop - start, C): the same whatever batch they
        belong to.
        """
        rows = self.table[np.arange(start, stop) % len(self.table)]
        if self.spectra:
            u = uniforms(seed, start, stop, len(self.geometry.conditions))
            for column, spectrum in self.spectra.items():
                rows[:, column] = spectrum.values(u[:, column])
        return rows

    def extent(self, column: int) -> Array:
        """All values of a column, or the ends of its spectrum."""
        if column in self.spectra:
            return np.array(self.spectra[column].numbers[-2:])
        return self.table[:, column]

    @classmethod
    def like(cls, path: str | Path, geometry: Geometry) -> Conditions:
        """The conditions of a file of showers of the same read-out."""
        with open_showers(path) as source:
            check_same_read_out(
                source.geometry,
                geometry,
                (f"{path} holds showers of", "the model makes"),
                "give another file or another model",
                ConditionError,
            )
            if not len(source):
                raise ConditionError(f"{path} holds no showers; expected at least one condition.")
            return cls(geometry, source.conditions())

    @classmethod
    def of(
        cls, geometry: Geometry, values: Values, particles: str | Path | None = None
    ) -> Conditions:
        """Every combination of the values named, or drawn from spectra.

        Parameters
        ----------
        values
            For each condition a number, several (a grid: every combination, the last named
            fastest), a `Spectrum`, or text of these (`parse_values`).
        particles
            Table of particles with a column for each condition that `values` lacks
            (`read_particles`); with lists in `values`, every particle under every combination.

        Raises
        ------
        ConditionError
            For unknown, missing or doubly given names.
        """
        parsed = {name: _parsed(name, value) for name, value in values.items()}
        blocks: list[tuple[list[str], Array]] = []
        if particles is not None:
            blocks.append(read_particles(particles))
        blocks += [([n], np.array(v)[:, None]) for n, v in parsed.items() if isinstance(v, list)]
        names = [name for block, _ in blocks for name in block]
        drawn = {name: v for name, v in parsed.items() if isinstance(v, Spectrum)}
        _check_names(geometry, [*names, *drawn])
        count = math.prod(len(rows) for _, rows in blocks)
        if count > MOST_ROWS:
            raise ConditionError(
                f"The grid has {count} points; expected at most {MOST_ROWS}: give fewer values."
            )
        table = np.zeros((count, len(geometry.conditions)))
        inner = count
        for block, rows in blocks:
            inner //= len(rows)
            columns = [geometry.column(name) for name in block]
            table[:, columns] = rows[np.arange(count) // inner % len(rows)]
        return cls(geometry, table, {geometry.column(n): s for n, s in drawn.items()})


def _parsed(name: str, value: float | str | Sequence[float] | Spectrum) -> Spectrum | list[float]:
    if isinstance(value, str):
        return parse_values(name, value)
    if isinstance(value, Spectrum):
        return value
    numbers = [float(v) for v in np.atleast_1d(np.asarray(value, dtype=np.float64))]
    if not numbers:
        raise ConditionError(f"Got no value for {name}; expected at least one.")
    return numbers


def _check_names(geometry: Geometry, names: Sequence[str]) -> None:
    """Every condition of the geometry is named once, and nothing else."""
    for name in names:
        if name not in geometry.condition_names:
            hint = did_you_mean(name, geometry.condition_names)
            raise ConditionError(f"'{geometry.name}' has no condition '{name}': {hint}")
        if names.count(name) > 1:
            raise ConditionError(f"The condition '{name}' is given twice; expected it once.")
    missing = [name for name in geometry.condition_names if name not in names]
    if missing:
        raise ConditionError(
            f"The condition lacks {', '.join(missing)}; give --condition {missing[0]}=VALUE "
            "for each, or --like FILE."
        )


def read_particles(path: str | Path) -> tuple[list[str], Array]:
    """Names and values (M, k) of a table of particles, in MeV, mm and rad.

    Text with commas (tabs in a .tsv) whose first line names the columns, or HDF5 with a dataset
    (M,) or (M, 1) for each. Raises ConditionError when it is neither.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            is_hdf5 = file.read(8) == b"\x89HDF\r\n\x1a\n"
        names, rows = _read_hdf5(path) if is_hdf5 else _read_text(path)
    except OSError as error:
        raise ConditionError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ConditionError(
            f"{path} is no table of particles ({error}); expected a first line with the names of "
            "the conditions and numbers below them, or HDF5 with a column for each."
        ) from error
    if not rows.size:
        raise ConditionError(f"{path} holds no particles; expected at least one.")
    return names, rows


def _read_text(path: Path) -> tuple[list[str], Array]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open(encoding="utf-8-sig") as file:
        names = [name.strip().lstrip("#").strip() for name in file.readline().split(delimiter)]
        lines = [line for line in file if line.strip()]
    if not lines:
        return names, np.empty((0, len(names)))
    rows = np.loadtxt(lines, delimiter=delimiter, ndmin=2)
    if rows.shape[1] != len(names):
        raise ValueError(f"{len(names)} names above {rows.shape[1]} columns")
    return names, rows


def _read_hdf5(path: Path) -> tuple[list[str], Array]:
    import h5py

    from caloforge.data.guard import examine

    examine(path)
    with h5py.File(path, "r", locking=False) as file:
        columns: dict[str, Any] = {}
        for key in file:
            if not isinstance(file.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f"'{key}' is a link to another place")
            if not isinstance(file[key], h5py.Dataset):
                raise ValueError(f"'{key}' is no dataset")
            if file[key].is_virtual or file[key].external or file[key].size > MOST_ROWS:
                raise ValueError(f"'{key}' lies in another file or is too long")
            columns[key] = np.asarray(file[key], dtype=np.float64)
    if {values.shape[1:] for values in columns.values()} - {(), (1,)}:
        raise ValueError("a dataset is neither (M,) nor (M, 1); for files of showers: --like")
    return list(columns), np.stack([values.reshape(-1) for values in columns.values()], axis=1)


# --- trained ranges --------------------------------------------------------------------------
def check_values(condition: Condition, values: NDArray[Any]) -> None:
    """Raise ConditionError when `values` of a condition cannot be, trained or not: NaN, nothing on
    a logarithmic scale, a category that is no whole number.
    """
    name, unit = condition.name, condition.unit
    if not (np.abs(values) < np.finfo(np.float32).max).all():
        raise ConditionError(f"The condition '{name}' is NaN or infinite; expected a number.")
    if condition.scale == "log" and values.min() <= 0:
        raise ConditionError(f"{name} = {values.min():g} {unit} cannot be; expected more than 0.")
    if len(wrong := condition.not_a_category(values)):
        raise ConditionError(
            f"{name} = {wrong[0]:g} cannot be; expected a whole number from {condition.low:g} to "
            f"{condition.high:g}."
        )


def check_range(file: ModelFile, conditions: Conditions, *, extrapolate: bool = False) -> None:
    """Raise ConditionError when a condition cannot be (`check_values`) or, unless `extrapolate`,
    lies outside what the model was trained on (by more than a twentieth of its range).
    """
    low_high = file.condition_range
    for column, condition in enumerate(file.model.geometry.conditions):
        low, high = low_high[condition.name]
        values = conditions.extent(column)
        check_values(condition, values)
        if condition.scale == "category" and column in conditions.spectra:
            raise ConditionError(
                f"{condition.name} = {conditions.spectra[column]} draws other than whole numbers; "
                f"expected some of {condition.low:g} to {condition.high:g}, with commas."
            )
        if extrapolate:
            continue
        least, most = allowed(condition, low, high)
        outside = values[(values < least) | (values > most)]
        if len(outside):
            raise ConditionError(
                f"{condition.name} = {outside[0]:.7g} {condition.unit} lies outside the trained "
                f"range [{low:.7g}, {high:.7g}]; choose a value inside, or --extrapolate at your "
                "own risk."
            )


def allowed(condition: Condition, low: float, high: float) -> tuple[float, float]:
    """What a condition may be when the training showers had it from `low` to `high`.

    The ends of a sample are not those of what it was drawn from: EDGE of the range beyond them is
    allowed, as far as the geometry goes. Numbers may have been rounded to 32 bits.
    """
    if condition.scale == "log":
        factor = (high / low) ** EDGE
        least, most = max(low / factor, condition.low), min(high * factor, condition.high)
    else:
        margin = EDGE * (high - low)
        least, most = max(low - margin, condition.low), min(high + margin, condition.high)
    least, most = min(least, low), max(most, high)
    return least - 1e-6 * abs(least), most + 1e-6 * abs(most)


def middle_condition(file: ModelFile) -> dict[str, float]:
    """A condition in the middle of the trained ranges (geometric on a logarithmic scale)."""
    middle = {}
    for condition in file.model.geometry.conditions:
        low, high = file.condition_range[condition.name]
        value = (low * high) ** 0.5 if condition.scale == "log" else 0.5 * (low + high)
        middle[condition.name] = round(value) if condition.scale == "category" else value
    return middle
