"""Fixed blur: a convolution with equal weights that training never touches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from caloforge.errors import ModelError


class Blur(nn.Module):
    """Box blur with an n x m kernel of weights 1/(nm), "not updated during training" (Conditional
    CaloGAN, J. Phys.: Conf. Ser. 1085 (2018) 042017, section 6.1).

    The border is repeated outwards, so that a constant image stays as it is. Shapes: (N, K, H, W)
    to the same. The kernel is a buffer and not part of a saved model: it follows from its size.

    >>> image = torch.zeros(1, 1, 3, 3)
    >>> image[0, 0, 1, 1] = 9.0
    >>> Blur((3, 3))(image).unique()
    tensor([1.])
    """

    kernel: Tensor

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        if any(n < 1 or n % 2 == 0 for n in size):
            raise ModelError(f"Got a blur of {size[0]} x {size[1]} cells; expected odd numbers.")
        self.padding = (size[1] // 2, size[1] // 2, size[0] // 2, size[0] // 2)
        self.register_buffer(
            "kernel", torch.full((1, 1, *size), 1 / (size[0] * size[1])), persistent=False
        )

    def forward(self, image: Tensor) -> Tensor:
        """Every channel blurred by itself."""
        channels, height, width = image.shape[1:]
        flat = image.reshape(-1, 1, height, width)
        padded = functional.pad(flat, self.padding, mode="replicate")
        return functional.conv2d(padded, self.kernel).reshape(-1, channels, height, width)
