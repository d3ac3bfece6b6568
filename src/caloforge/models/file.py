"""Model files: weights, transform, geometry, recipe, versions and seed in one safetensors file;
nothing is unpickled.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

import caloforge
from caloforge.detector.shipped import embedded_geometry
from caloforge.errors import CaloForgeError, ModelError
from caloforge.files import atomic_path
from caloforge.models import ShowerModel, make_model, model_name
from caloforge.models.bounded import bounded_by
from caloforge.models.digests import KEY, digests, read_checked, sort_metadata
from caloforge.pretrained import resolve_model
from caloforge.transforms import TRANSFORMS, transform_name

SCHEMA = 1
FORMAT = "caloforge-model"
# What Python says when a header holds values of the wrong kind.
_DAMAGE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError)


@dataclass(frozen=True)
class ModelFile:
    """A loaded model with what its file says about it: recipe, training, trained condition ranges,
    versions, seed.
    """

    model: ShowerModel
    about: dict[str, Any]

    @property
    def condition_range(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of each condition in the training showers, physical units.

        Raises ModelError when the file does not tell, or tells what is no range.
        """
        try:
            ranges = self.about["condition_range"]
            names = self.model.geometry.condition_names
            trained = {name: (float(ranges[name][0]), float(ranges[name][1])) for name in names}
        except (LookupError, TypeError, ValueError) as error:
            raise ModelError(
                "The model file does not say on which conditions it was trained; write it again "
                "with `caloforge train`."
            ) from error
        for name, (low, high) in trained.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ModelError(
                    f"The model file says that it was trained on {name} from {low:g} to {high:g}; "
                    "expected two finite numbers, the smaller one first: write it again with "
                    "`caloforge train`."
                )
        return trained


# A table of so many numbers (one megabyte) is worth 16 bits; only large read-outs have one.
LARGE_TABLE = 250_000


def save_model(
    path: str | Path, model: ShowerModel, about: dict[str, Any], *, half: bool = False
) -> None:
    """Write the generator and all that `generate` needs to `path`, whole or not at all.

    Parameters
    ----------
    about
        Recipe, seed, trained ranges, ...; JSON-able.
    half
        Store the weights as 16-bit floats (for shipping; they are computed with as 32-bit again).
        Large tables are stored so too where 16 bits can hold them; other buffers, such as running
        variances and the transform, exceed that range and stay as they are.
    """
    header = {
        "format": FORMAT,
        "schema": SCHEMA,
        "model": model_name(model),
        "hyper": model.hyper.to_dict(),
        "geometry": model.geometry.to_dict(),
        "geometry_hash": model.geometry.hash,
        "transform": {"name": transform_name(model.transform), **model.transform.settings},
        "versions": {"caloforge": caloforge.__version__, "torch": torch.__version__},
        **about,
    }
    weights = {name for name, _ in model.named_parameters()}
    tensors = {
        key: (value.half() if half and _fits_half(value, key in weights) else value)
        .detach()
        .cpu()
        .contiguous()
        for key, value in _own_storage(model.generator_state()).items()
    }
    write_tensors(path, tensors, {FORMAT: json.dumps(header)})


def _fits_half(value: torch.Tensor, is_weight: bool) -> bool:
    """Whether a tensor is stored in 16 bits: a weight, or a large table that 16 bits hold."""
    if value.dtype != torch.float32 or is_weight:
        return value.dtype == torch.float32
    if value.numel() < LARGE_TABLE:
        return False
    lost = (value.half().float() - value).abs().max()
    return bool(lost <= 1e-3 * value.abs().max())


def write_tensors(
    path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]
) -> None:
    """A safetensors file with the digests of all that is in it, whole or not at all.

    Raises CaloForgeError when the disk is full.
    """
    metadata = {**metadata, KEY: digests(tensors, metadata)}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
            sort_metadata(temporary)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def _own_storage(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Entries that share storage (a transform used by several parts) cloned: the format does not
    allow sharing.
    """
    seen: set[int] = set()
    for key, value in state.items():
        if value.untyped_storage().data_ptr() in seen:
            state[key] = value.clone()
        seen.add(value.untyped_storage().data_ptr())
    return state


def load_model(path: str | Path, device: str | torch.device = "cpu") -> ModelFile:
    """Read a model file, given by its path, the folder of its training or the name of a shipped
    generator, ready to sample.

    Raises
    ------
    ModelError
        For a missing, truncated, damaged or foreign file, a newer schema, or weights that do not
        fit.
    """
    path = resolve_model(path)
    try:
        tensors, description = read_checked(path, FORMAT)
        about = json.loads(description)
    except FileNotFoundError as error:
        raise ModelError(
            f"There is no model file {path}; give the model.safetensors of a training."
        ) from error
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} is not a readable model file ({error}); expected a whole model.safetensors."
        ) from error
    if not isinstance(about, dict) or not isinstance(about.get("schema"), int):
        raise ModelError(f"{path} does not describe a model; expected one from `caloforge train`.")
    if about["schema"] > SCHEMA:
        raise ModelError(
            f"{path} was written by a newer CaloForge; expected schema {SCHEMA} or older: "
            "update the package."
        )
    try:
        with bounded_by(tensors):
            model = _described(about)
        _load_weights(model, tensors)
    except CaloForgeError as error:
        raise ModelError(f"{path} cannot be used: {error}") from error
    except _DAMAGE as error:
        raise ModelError(
            f"{path} describes a model that cannot be built: {type(error).__name__} {error}."
        ) from error
    return ModelFile(model.to(device).eval(), about)


def _described(about: dict[str, Any]) -> ShowerModel:
    """The model of a file's header, with fresh weights."""
    geometry = embedded_geometry(about["geometry"], about["geometry_hash"])
    settings = {k: v for k, v in about["transform"].items() if k != "name"}
    transform = TRANSFORMS[about["transform"]["name"]].restore(geometry, settings)
    with torch.random.fork_rng(devices=[]):
        return make_model(about["model"], geometry, transform, **about["hyper"])


def _load_weights(model: ShowerModel, tensors: dict[str, torch.Tensor]) -> None:
    """Weights into the generator; the parts that only training needs keep their fresh ones."""
    expected = model.generator_state()
    if set(tensors) != set(expected):
        odd = sorted(set(tensors) ^ set(expected))[:3]
        raise ModelError(
            f"The model file has other weights than its model: {', '.join(odd)} ...; it may be "
            f"damaged."
        )
    for key, value in tensors.items():
        if value.shape != expected[key].shape:
            raise ModelError(
                f"Weight {key} has the shape {tuple(value.shape)}; expected "
                f"{tuple(expected[key].shape)}."
            )
    model.load_state_dict({k: v.to(expected[k].dtype) for k, v in tensors.items()}, strict=False)
    if not all(
        torch.isfinite(v).all() for v in model.generator_state().values() if v.is_floating_point()
    ):
        raise ModelError(
            "The model file holds weights that are NaN or infinite; the training broke down or "
            "it is damaged."
        )
