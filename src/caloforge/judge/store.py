"""Frozen dataclasses of arrays in one file: written by their types, read back by their types.

The file is NumPy's `.npz` without pickles. Every array of the object is a member of its own,
named by the path of fields and keys that leads to it (`shown/reference/counts/response`), so that
it can be read with `numpy.load` alone. What is no array (names, numbers, which arrays there are)
is a JSON text in the member `layout`. A new field, or a new dataclass, needs no code here.
"""

from __future__ import annotations

import json
import types
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from caloforge.errors import CaloForgeError, DataError
from caloforge.files import atomic_path

LAYOUT = "layout"
ARRAY = "array"  # stands in the layout where an array is a member of its own

T = TypeVar("T")


def write_object(path: str | Path, value: Any, form: str) -> None:
    """Write a dataclass to a file, whole or not at all.

    Parameters
    ----------
    path
        The file, with the ending .npz.
    value
        An instance of a dataclass whose fields are arrays, numbers, texts, None, tuples and
        dictionaries of them, other such dataclasses, and objects with `to_dict` and `from_dict`.
    form
        Name and version of what is written, for example "caloforge-shown-1"; `read_object` asks
        for the same.
    """
    arrays: dict[str, np.ndarray] = {}
    layout = {"form": form, "content": _encode(value, "", arrays)}
    text = json.dumps(layout, ensure_ascii=False, separators=(",", ":")).encode()
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **{LAYOUT: np.frombuffer(text, dtype=np.uint8)}, **arrays)  # type: ignore[arg-type]


def read_object(path: str | Path, kind: type[T], form: str) -> T:
    """Read a dataclass that `write_object` wrote.

    Raises
    ------
    DataError
        For a file that is missing, damaged, or of another form.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as members:
            arrays = {name: members[name] for name in members.files}
        layout = json.loads(arrays.pop(LAYOUT).tobytes())
        if layout["form"] != form:
            raise DataError(
                f"{path} has the form '{layout['form']}'; expected '{form}': judge the showers "
                "again with this version of CaloForge."
            )
        value: T = _decode(kind, layout["content"], "", arrays)
    except FileNotFoundError as error:
        raise DataError(
            f"There is no file {path}; expected the folder that `caloforge evaluate` wrote."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} is damaged or not what `caloforge evaluate` writes ({error}); judge the "
            "showers again."
        ) from error
    except CaloForgeError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return value


def _encode(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """JSON-able form of a value; its arrays are put aside under their paths."""
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return ARRAY
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value):
        return {
            f.name: _encode(getattr(value, f.name), _join(path, f.name), arrays)
            for f in fields(value)
        }
    if isinstance(value, Mapping):
        return {str(k): _encode(v, _join(path, k), arrays) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_encode(v, _join(path, k), arrays) for k, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"'{path}' is a {type(value).__name__}, which has no form in a file")


def _join(path: str, step: Any) -> str:
    return f"{path}/{step}" if path else str(step)


def _decode(kind: Any, plain: Any, path: str, arrays: Mapping[str, np.ndarray]) -> Any:
    """The value of a type behind its JSON-able form; arrays are looked up by their paths."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if plain is None and type(None) in inner:
            return None
        kinds = [k for k in inner if k is not type(None)]
        return _decode(kinds[0], plain, path, arrays) if len(kinds) == 1 else plain
    if kind is np.ndarray or origin is np.ndarray:
        return arrays[path]
    if hasattr(kind, "from_dict"):
        return kind.from_dict(plain)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(  # type: ignore[operator]
            **{k: _decode(hints[k], v, _join(path, k), arrays) for k, v in plain.items()}
        )
    if origin in (dict, Mapping):
        return {
            inner[0](k): _decode(inner[1], v, _join(path, k), arrays) for k, v in plain.items()
        }
    if origin is tuple:
        if len(inner) == 2 and inner[1] is Ellipsis:
            inner = (inner[0],) * len(plain)
        return tuple(
            _decode(each, v, _join(path, k), arrays)
            for k, (each, v) in enumerate(zip(inner, plain, strict=True))
        )
    return plain
