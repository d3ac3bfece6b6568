"""The models: a published system is one file or one folder, all behind one contract (`base.py`).

`base` says what a model is, `hyper` what its hyper-parameters are, `file` how it is kept on disk;
`MODELS` names them all. GANs share `adversarial`, two systems of the LCD calorimeter also
`wasserstein`.
"""

from __future__ import annotations

from typing import Any

from caloforge.detector.geometry import Geometry
from caloforge.entry_points import further, load
from caloforge.errors import ModelError, did_you_mean
from caloforge.models.base import Refusal, ShowerModel, parameter_count
from caloforge.models.calogan.ancestor import CaloGAN
from caloforge.models.calogan.model import ConditionalCaloGAN
from caloforge.models.caloshowergan import CaloShowerGAN
from caloforge.models.copula import Copula
from caloforge.models.dnncalogan.model import DNNCaloGAN
from caloforge.models.flowmatching import FlowMatching
from caloforge.models.hyper import Hyper
from caloforge.models.lagan import LAGAN
from caloforge.models.mlp_wgan import MLPWGAN
from caloforge.models.parametrisation.model import Parametrisation
from caloforge.models.rnn.model import RecurrentNetwork
from caloforge.models.sagan.model import SAGAN
from caloforge.models.split import EnergySplit
from caloforge.models.vae import VAE
from caloforge.transforms import Transform

GROUP = "caloforge.models"  # of entry points, by which other packages add models
# Each is called as Model(geometry, transform=None, hyper=None).
MODELS: dict[str, type[ShowerModel]] = {
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
    """The named model with fresh weights.

    Raises ModelError for an unknown name or hyper-parameter, or for a value of the wrong type.
    """
    kind: Any = model_class(name)  # takes None for its transform, which the base class does not
    model: ShowerModel = kind(geometry, transform, kind.hyper_class.of(hyper))
    return model


def model_names() -> list[str]:
    """Names of all models: those of `MODELS`, then those of other packages."""
    return [*MODELS, *further(GROUP, MODELS)]


def model_class(name: str) -> type[ShowerModel]:
    """The class of a model. Raises ModelError for an unknown name."""
    if name in MODELS:
        return MODELS[name]
    others = further(GROUP, MODELS)
    if name not in others:
        raise ModelError(f"Unknown model '{name}': {did_you_mean(name, [*MODELS, *others])}")
    kind: type[ShowerModel] = load(
        others[name],
        lambda content: isinstance(content, type) and issubclass(content, ShowerModel),
        "a subclass of caloforge.models.ShowerModel",
    )
    return kind


def model_name(model: ShowerModel) -> str:
    """The name under which a model's class is known. Raises ModelError when it has none."""
    for name in model_names():
        if type(model) is model_class(name):
            return name
    raise ModelError(
        f"The class {type(model).__name__} has no name; expected one of caloforge.MODELS or of an "
        f"entry point in the group {GROUP}."
    )


__all__ = [
    "MODELS",
    "Hyper",
    "Refusal",
    "ShowerModel",
    "make_model",
    "model_class",
    "model_name",
    "model_names",
    "parameter_count",
]
