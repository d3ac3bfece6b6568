"""Hyper-parameters: what is chosen about a model before it is trained. Every model has one frozen
class of them, whose values are checked strictly when it is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import Field, NonNegativeFloat, PositiveFloat, TypeAdapter, ValidationError

from caloforge.errors import ModelError, did_you_mean

_Beta = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Hyper:
    """Base of the hyper-parameters of a model: a subclass is a frozen dataclass, and a sentence
    under each field says what it is.

    Values must be of the fields' types (whole numbers count as numbers); lists become tuples, and
    tables are copied.
    Raises ModelError that names the value that is wrong.

    Example
    -------
    >>> from caloforge.models.flowmatching import FlowMatchingHyper
    >>> FlowMatchingHyper(hidden=32).to_dict()["blocks"]
    4
    """

    what = "hyper-parameter"  # how messages call one of them

    def __post_init__(self) -> None:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        frozen = {name: _frozen(value) for name, value in values.items()}
        check_values(self.what, self.types(), frozen, values)
        for name, value in frozen.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Hyper-parameters from the table of a recipe or model file.

        Raises ModelError for an unknown key, naming the nearest one, for a key that is missing,
        and for a value that is wrong.
        """
        types = cls.types()
        for key in settings:
            if key not in types:
                raise ModelError(f"Unknown {cls.what} '{key}': {did_you_mean(key, types)}")
        for one in fields(cls):
            if one.name not in settings and one.default is one.default_factory is MISSING:
                raise ModelError(f"The {cls.what} '{one.name}' is missing; give it in [model].")
        return cls(**settings)

    @classmethod
    def types(cls) -> dict[str, Any]:
        """The type of each field, with its limits."""
        hints = get_type_hints(cls, include_extras=True)
        return {one.name: hints[one.name] for one in fields(cls)}

    def to_dict(self) -> dict[str, Any]:
        """Plain values as recipes and model files have them: lists instead of tuples."""
        return {one.name: _plain(getattr(self, one.name)) for one in fields(self)}


@dataclass(frozen=True)
class OptimiserSettings(Hyper):
    """How the parameters of one phase are optimised."""

    what = "optimiser setting"

    name: str = "adam"
    """Algorithm: "adam", "adamw", "radam" or "rmsprop"."""
    lr: PositiveFloat = 1e-4
    """Learning rate."""
    betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    """Decay of the two running means of Adam; RMSProp ignores them."""
    weight_decay: NonNegativeFloat = 0.0
    """Pull of all weights towards zero."""
    lookahead: bool = False
    """Whether a slow copy of the weights follows them (M. Zhang et al. 2019, arXiv:1907.08610)."""
    schedule: Literal["constant", "cyclic", "inverse"] = "constant"
    """Learning rate over the updates: as it is, up and down (L. Smith 2015, arXiv:1506.01186), or
    lr / (1 + updates / 1000)."""
    weight_clip: NonNegativeFloat = 0.0
    """Every weight is held between -c and c (M. Arjovsky et al. 2017, arXiv:1701.07875, Algorithm
    1); with 0 it goes wherever it goes."""


def check_values(
    what: str, types: Mapping[str, Any], values: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    """Raise ModelError for the first of `values` that is not of its type.

    Parameters
    ----------
    what
        What messages call a value.
    types
        The type of each.
    given
        The values as the user gave them, for messages.
    """
    for key, value in values.items():
        try:
            TypeAdapter(types[key]).validate_python(value, strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].replace("tuple", "list").replace("Tuple", "List")
            raise ModelError(
                f"The {what} '{key}' is wrong: {reason} (got {given[key]!r})."
            ) from error


def _frozen(value: Any) -> Any:
    """Lists as tuples; a table as a copy of its own, as a recipe would have it."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(inner) for inner in value)
    return _plain(value)


def _plain(value: Any) -> Any:
    """Tuples as lists, also within tables."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
