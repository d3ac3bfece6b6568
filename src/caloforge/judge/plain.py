"""Typed values to what JSON knows and back.

A number that is not known or not finite is null in JSON. Read back as a `float` it is NaN, and as
a `float | None` it is None: written again both are null.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from caloforge.errors import DataError
from caloforge.judge.comparison import Plain
from caloforge.metrics.optional import OPTIONAL


def to_plain(value: Any) -> Any:
    """Dataclasses, NumPy values and any keys to what JSON knows; NaN and infinities to None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            this.name: to_plain(getattr(value, this.name))
            for this in fields(value)
            if not (OPTIONAL.items() <= this.metadata.items())
            or getattr(value, this.name) != this.default
        }
    if isinstance(value, Mapping):
        return {text_key(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def plain_dict(value: Mapping[str, Any]) -> dict[str, Plain]:
    """A mapping as `to_plain` gives it."""
    return {text_key(key): to_plain(item) for key, item in value.items()}


def text_key(key: Any) -> str:
    """A key of JSON: an energy with ten digits, anything else as it is."""
    return f"{key:.10g}" if isinstance(key, float) else str(key)


def from_plain(kind: Any, value: Any, where: str = "results") -> Any:
    """A value of the type `kind` from what `to_plain` made of one.

    Knows dataclasses, dictionaries, tuples, arrays (float64), optional values, numbers and text.

    Raises
    ------
    DataError
        For something else than the type expects; `where` says the place.
    """
    if kind == Plain:
        return value
    if is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        rest = next(part for part in inner if part is not type(None))
        return None if value is None else from_plain(rest, value, where)
    if origin is dict:
        return {
            from_plain(inner[0], key, where): from_plain(inner[1], item, f"{where}/{key}")
            for key, item in _expect(dict, value, where).items()
        }
    if origin is tuple:
        items = _expect(list, value, where)
        parts = [inner[0]] * len(items) if inner[-1] is Ellipsis else inner
        if len(parts) != len(items):
            raise DataError(f"Got {len(items)} items at '{where}'; expected {len(parts)}.")
        return tuple(from_plain(p, item, where) for p, item in zip(parts, items, strict=True))
    if origin is np.ndarray:
        return np.array(_expect(list, value, where), dtype=np.float64)
    if origin is Literal:
        return value
    return _read_scalar(kind, value, where)


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    given, hints = _expect(dict, value, where), get_type_hints(kind)
    asked = [
        f for f in fields(kind) if f.name in given or not OPTIONAL.items() <= f.metadata.items()
    ]
    unknown = [this.name for this in asked if this.name not in given]
    if unknown:
        raise DataError(
            f"'{where}' lacks {', '.join(unknown)}; expected a results.json of this version."
        )
    return kind(
        **{
            this.name: from_plain(hints[this.name], given[this.name], f"{where}/{this.name}")
            for this in asked
        }
    )


def _read_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float:
        if value is None:
            return math.nan
        value = value if isinstance(value, int | float) else _number(value, where)
        return float(value)
    if not isinstance(value, kind):
        raise DataError(f"Got {value!r} at '{where}'; expected a value of type {kind.__name__}.")
    return value


def _number(text: Any, where: str) -> float:
    """A number written as text, as keys are."""
    try:
        return float(text)
    except (TypeError, ValueError):
        raise DataError(f"Got {text!r} at '{where}'; expected a number.") from None


def _expect(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, kind):
        raise DataError(
            f"Got a {type(value).__name__} at '{where}'; expected a {kind.__name__}: is this a "
            "results.json?"
        )
    return value
