"""A trained generator inside another program: one shower at a time, or many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

import numpy as np

from caloforge.errors import ConditionError, ModelError, did_you_mean
from caloforge.generate.conditions import Conditions, Values, allowed, check_range
from caloforge.generate.engines import Engine, Float32, make_engine, single_engine
from caloforge.generate.showers import checked_batch, generate_showers, stream
from caloforge.models.file import ModelFile, load_model
from caloforge.noise import BLOCK, check_seed, normals
from caloforge.pretrained import resolve_model
from caloforge.showers import Showers


class Generator:
    """A model, ready to make showers.

    Shower k is a function of its condition, the seed and k, to 2e-5 of the incident energy the
    same by `one`, by `showers` and by `caloforge generate`. One thread calls `one` at a time.

    Parameters
    ----------
    model
        A model file, its path, or the name of a shipped generator.
    seed
        Seed of all showers.
    engine
        "auto" (ONNX Runtime for `one`, where it is installed; else PyTorch), "torch", "compile"
        or "onnx".
    extrapolate
        Whether conditions outside the trained range are allowed.

    Raises
    ------
    ModelError, ExportError
        For a model that cannot be read, or that the engine cannot run.

    Example
    -------
    >>> generator = Generator("caloshowergan-photon", seed=1, engine="torch")
    >>> generator.one(energy=65536.0).shape
    (368,)
    >>> generator.showers({"energy": "1000,65536"}, 10).energies.shape
    (10, 368)
    """

    def __init__(
        self,
        model: str | Path | ModelFile,
        *,
        seed: int = 0,
        engine: str = "auto",
        extrapolate: bool = False,
    ) -> None:
        check_seed(seed)
        if not isinstance(model, (str, Path, ModelFile)):
            raise ModelError(
                f"Got {model!r} for a model; expected its file, its path or the name of a shipped "
                "one."
            )
        self.file = model if isinstance(model, ModelFile) else load_model(resolve_model(model))
        self.geometry = self.file.model.geometry
        self.seed, self.extrapolate = seed, extrapolate
        self.number = 0  # the next shower of `one` has this number
        self._engine = engine
        self._many: dict[int, Engine] = {}
        self._single: Engine | None = None
        self._block, self._noise = -1, np.empty((0, 0), np.float32)
        ranges = self.file.condition_range
        self._allowed = {c.name: allowed(c, *ranges[c.name]) for c in self.geometry.conditions}
        self._categories = {c.name for c in self.geometry.conditions if c.scale == "category"}

    def __repr__(self) -> str:
        recipe = self.file.about.get("recipe", {}).get("name", "unnamed")
        return f"Generator('{recipe}' for '{self.geometry.name}', seed {self.seed})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{low:.7g} to {high:.7g}</td></tr>"
            for name, (low, high) in self.file.condition_range.items()
        )
        return (
            f"<table><caption>{escape(repr(self))}</caption><thead><tr><th>condition</th>"
            f"<th>trained range</th></tr></thead><tbody>{rows}</tbody></table>"
        )

    def one(self, number: int | None = None, /, **condition: float) -> Float32:
        """The next shower, or shower `number`: energies (V,) in MeV.

        Every condition of the geometry is named, in MeV, mm and rad. Raises ConditionError for
        one that is missing, unknown, or out of the trained range.
        """
        row = np.array([[self._value(name, condition) for name in self._allowed]], np.float32)
        if len(condition) > len(self._allowed):
            unknown = next(name for name in condition if name not in self._allowed)
            hint = did_you_mean(unknown, self._allowed)
            raise ConditionError(f"'{self.geometry.name}' has no condition '{unknown}': {hint}")
        if number is None:
            number, self.number = self.number, self.number + 1
        elif number < 0:
            raise ConditionError(f"Got the shower number {number}; expected 0 or more.")
        engine = self._single or self._single_engine()
        energies: Float32 = engine(row, self._noise_of(number))[0]
        return energies

    def _single_engine(self) -> Engine:
        """Made when it is first needed: an export takes seconds."""
        self._single = self._single or single_engine(self.file, self._engine)
        return self._single

    def _value(self, name: str, condition: dict[str, float]) -> float:
        value = condition.get(name)
        if isinstance(value, (int, float, np.number)):
            low, high = self._allowed[name]
            if low <= value <= high and (name not in self._categories or value % 1 == 0):
                return value
        # Slowly and thoroughly: what is wrong, in one sentence.
        try:
            values = {key: float(value) for key, value in condition.items()}
        except (TypeError, ValueError):
            raise ConditionError(f"Got {condition}; expected a number for each.") from None
        conditions = Conditions.of(self.geometry, values)
        check_range(self.file, conditions, extrapolate=self.extrapolate)
        return values[name]

    def _noise_of(self, number: int) -> Float32:
        """Noise (1, Z) of a shower. It is drawn a block at a time."""
        block = number // BLOCK
        if block != self._block:
            first = block * BLOCK
            self._noise = normals(self.seed, first, first + BLOCK, self.file.model.noise_size)
            self._block = block
        row = number % BLOCK
        return self._noise[row : row + 1]

    def showers(
        self,
        conditions: Conditions | Values,
        count: int | None = None,
        *,
        batch: int | None = None,
    ) -> Showers:
        """Showers 0..count-1 in memory; by default one for each row of the conditions.

        `conditions` as in `Conditions.of`. Raises ConditionError out of range.
        """
        return generate_showers(
            self.file,
            self._conditions(conditions),
            count,
            seed=self.seed,
            batch=batch,
            extrapolate=self.extrapolate,
            engine=self._batches(batch),
        )

    def stream(
        self, conditions: Conditions | Values, count: int, *, batch: int | None = None
    ) -> Iterator[Showers]:
        """As `showers`, `batch` at a time, in order."""
        given = self._conditions(conditions)
        check_range(self.file, given, extrapolate=self.extrapolate)
        engine = self._batches(batch)
        return stream(self.file, given, count, seed=self.seed, batch=batch, engine=engine)

    def _conditions(self, given: Conditions | Values) -> Conditions:
        if isinstance(given, Conditions):
            return given
        if not isinstance(given, Mapping):
            raise ConditionError(
                f"Got {given!r} for the conditions; expected a value for each name, such as "
                '{"energy": 1000.0}.'
            )
        return Conditions.of(self.geometry, given)

    def _batches(self, batch: int | None) -> Engine:
        """The engine for batches. It is made once; the compiler's is made for each batch size."""
        size = checked_batch(batch, self.file.model)
        key = size if self._engine == "compile" else 0
        if key not in self._many:
            self._many[key] = make_engine(self.file, self._engine, size)
        return self._many[key]
