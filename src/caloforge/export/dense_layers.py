"""Dense layers as the LWTNN format names them, as a PyTorch module that can be written as ONNX."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.export.lwtnn import DenseLayer


class DenseLayers(nn.Module):
    """forward(noise (1, Z), condition (1, C)) -> fractions of the incident energy (1, V)."""

    def __init__(self, layers: list[DenseLayer]) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for layer in layers:
            dense = nn.Linear(layer.weight.shape[1], layer.weight.shape[0])
            with torch.no_grad():
                dense.weight.copy_(torch.from_numpy(layer.weight))
                dense.bias.copy_(torch.from_numpy(layer.bias))
            parts += [dense, _Activation(layer.function, layer.alpha or 1.0)]
        self.network = nn.Sequential(*parts)

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Fractions of the incident energy."""
        shares: Tensor = self.network(torch.cat([noise, condition], dim=1))
        return shares


class _Activation(nn.Module):
    """An activation of the LWTNN format."""

    def __init__(self, function: str, alpha: float) -> None:
        super().__init__()
        self.function, self.alpha = function, alpha

    def forward(self, x: Tensor) -> Tensor:
        """Activated."""
        if self.function == "swish":
            return x * torch.sigmoid(self.alpha * x)
        if self.function == "leakyrelu":
            return nn.functional.leaky_relu(x, self.alpha)
        if self.function == "elu":
            return nn.functional.elu(x, self.alpha)
        if self.function == "softmax":
            return torch.softmax(x, dim=1)
        functions = {"rectified": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
        return functions[self.function](x) if self.function in functions else x
