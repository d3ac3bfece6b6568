"""The models: one file per published system, all behind one contract (`base.py`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from caloforge.errors import ModelError, did_you_mean
from caloforge.geometry import Geometry
from caloforge.models.base import Refusal, ShowerModel, check_hyper, parameter_count
from caloforge.models.calogan import ConditionalCaloGAN
from caloforge.models.calogan_ancestor import CaloGAN
from caloforge.models.caloshowergan import CaloShowerGAN
from caloforge.models.copula import Copula
from caloforge.models.dnncalogan import DNNCaloGAN
from caloforge.models.flowmatching import FlowMatching
from caloforge.models.lagan import LAGAN
from caloforge.models.mlp_wgan import MLPWGAN
from caloforge.models.parametrisation import Parametrisation
from caloforge.models.rnn import RecurrentNetwork
from caloforge.models.sagan import SAGAN
from caloforge.models.split import EnergySplit
from caloforge.models.vae import VAE
from caloforge.transforms import Transform

# Each is called as Model(geometry, transform=None, **hyper).
MODELS: dict[str, Callable[..., ShowerModel]] = {
    "calogan": CaloGAN,
    "calogan-conditional": ConditionalCaloGAN,
    "caloshowergan": CaloShowerGAN,
    "caloshowergan-split": EnergySplit,
    "copula": Copula,
    "dnncalogan": DNNCaloGAN,
    "flow-matching": FlowMatching,
    "lagan": LAGAN,
    "mlp-wgan": MLPWGAN,
    "parametrisation": Parametrisation,
    "rnn": RecurrentNetwork,
    "sagan": SAGAN,
    "vae": VAE,
}


def make_model(
    name: str, geometry: Geometry, transform: Transform | None = None, /, **hyper: Any
) -> ShowerModel:
    """The named model with fresh weights. Raises ModelError for an unknown name or
    hyper-parameter, or a value of the wrong kind.
    """
    if name not in MODELS:
        raise ModelError(f"Unknown model '{name}': {did_you_mean(name, MODELS)}")
    check_hyper(MODELS[name], hyper)
    return MODELS[name](geometry, transform, **hyper)


__all__ = ["MODELS", "Refusal", "ShowerModel", "check_hyper", "make_model", "parameter_count"]
