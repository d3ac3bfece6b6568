"""Measure how normal the latent numbers of a VAE are, and the noise that its flow makes of them.

    python tools/latents.py RUN --data SHOWERS

RUN is the folder of a training; its newest checkpoint has the encoder, which model files leave
out. The program prints, for each latent number of the showers, the Kolmogorov-Smirnov distance to
the standard normal distribution. A distance of 0 is normal; N truly normal numbers have a distance
of about 0.9 / sqrt(N).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kstest

from caloforge.data import read_showers, resolve_data
from caloforge.models.file import load_model
from caloforge.models.vae import VAE
from caloforge.training.checkpoint import latest_checkpoint


def main() -> None:
    """Print the distances."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    model = load_model(given.run / "model.safetensors").model
    found = latest_checkpoint(given.run / "checkpoints")
    if not isinstance(model, VAE) or found is None:
        raise SystemExit(f"{given.run} is not the run folder of a VAE; expected one.")
    state = {k.removeprefix("model."): v for k, v in found[0].items() if k.startswith("model.")}
    model.load_state_dict(state)
    showers = read_showers(resolve_data(given.data))
    condition = torch.from_numpy(showers.conditions).float()
    with torch.no_grad():
        labels = model.labels(condition)
        shower = model.transform(torch.from_numpy(showers.energies), condition)
        mean, log_width = model.encode(shower, labels)
        rng = torch.Generator().manual_seed(given.seed)
        latent = mean + log_width.exp() * torch.randn(mean.shape, generator=rng)
        tell("latent numbers of the showers", latent)
        if model.flow is not None:
            tell("noise that the flow makes of them", model.flow.noise(latent, labels)[0])


def tell(what: str, numbers: torch.Tensor) -> None:
    """Print one line of distances."""
    distances = [kstest(column, "norm").statistic for column in numbers.T.numpy()]
    print(f"{what}: {', '.join(f'{d:.3f}' for d in distances)}; mean {np.mean(distances):.3f}")


if __name__ == "__main__":
    main()
