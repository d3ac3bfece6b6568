"""What runs a trained model: PyTorch with packed dense layers, PyTorch compiled, or ONNX Runtime.

Every engine gives the showers of `ShowerModel.sample` to 2e-5 of the incident energy, but for
cells at a threshold, which may be empty in one alone. One thread calls it at a time with one
batch; several threads may call it at once.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.errors import ExportError, ModelError, did_you_mean, first_line
from caloforge.export.onnx import exportable_core, onnx_bytes, open_session
from caloforge.fast.packed import packed
from caloforge.models import ShowerModel
from caloforge.models.file import ModelFile

EngineName = Literal["auto", "torch", "compile", "onnx"]
ENGINES: tuple[EngineName, ...] = ("auto", "torch", "compile", "onnx")
Float32 = NDArray[np.float32]


# Largest number of showers of one call. They are few enough that what passes from layer to layer
# stays in the caches of one core, and enough that the calls themselves cost little.
DENSE_BATCH, IMAGE_BATCH = 1024, 256
# Largest number of bytes of energies that one call makes; each thread holds several times as much.
# It was measured on the shipped read-outs: large read-outs are slower in larger batches.
BATCH_BYTES = 16 << 20
# From this number of showers on, "auto" runs image-like models with ONNX Runtime, which needs 5 to
# 10 s to begin and then two thirds of PyTorch's time for each shower.
MANY = 100_000


class Engine(Protocol):
    """Showers in MeV (N, V) from conditions (N, C) in physical units and normals (N, Z)."""

    name: str

    def __call__(self, condition: Float32, noise: Float32) -> Float32:
        """One batch."""


class TorchEngine:
    """PyTorch, layer by layer. On a CPU dense layers are packed (`caloforge.fast.packed`)."""

    name = "torch"

    def __init__(self, file: ModelFile) -> None:
        self.device = file.model.device
        model: Any = packed(file.model) if self.device.type == "cpu" else file.model
        self.sample = model.sample

    def __call__(self, condition: Float32, noise: Float32) -> Float32:
        """See `Engine`."""
        with torch.inference_mode():
            energies = self.sample(
                torch.from_numpy(condition).to(self.device),
                torch.from_numpy(noise).to(self.device),
            )
            return energies.cpu().numpy()


class CompileEngine:
    """PyTorch's compiler: it needs a C++ compiler and some ten seconds before the first shower.

    The graph is made for one batch size: a smaller batch is filled up with its first shower.
    """

    name = "compile"

    def __init__(self, file: ModelFile, batch: int) -> None:
        self.device = file.model.device
        self.batch = batch
        self.compiled: Any = torch.compile(file.model.sample, dynamic=False)
        # Compiled here, in one thread, before others call it.
        names = file.model.geometry.conditions
        first = np.array([[file.condition_range[c.name][1] for c in names]], np.float32)
        try:
            self(first, np.zeros((1, file.model.noise_size), np.float32))
        except Exception as error:  # the compiler raises of every kind
            raise ModelError(
                f"PyTorch cannot compile this model here: {first_line(error)[:200]}; choose "
                "--engine torch."
            ) from error

    def __call__(self, condition: Float32, noise: Float32) -> Float32:
        """See `Engine`."""
        count = len(condition)
        rows = np.arange(self.batch)
        rows[count:] = 0
        full = (condition, noise) if count == self.batch else (condition[rows], noise[rows])
        with torch.no_grad():
            energies = self.compiled(*(torch.from_numpy(x).to(self.device) for x in full))
            return energies[:count].cpu().numpy()


class OnnxEngine:
    """ONNX Runtime, on the CPU: fastest for one shower at a time. Models that refuse to be
    exported cannot be run by it.
    """

    name = "onnx"

    def __init__(self, file: ModelFile) -> None:
        self.run = open_session(onnx_bytes(file, exportable_core(file)), threads=1).run
        self.outputs = ["energies"]

    def __call__(self, condition: Float32, noise: Float32) -> Float32:
        """See `Engine`."""
        energies: Float32 = self.run(self.outputs, {"noise": noise, "condition": condition})[0]
        return energies


def is_dense(model: ShowerModel) -> bool:
    """Whether all weights are matrices; convolutions and the like have more axes. Tables, which
    are not trained, may have any.
    """
    return all(weight.dim() <= 2 for weight in model.parameters())


def default_batch(model: ShowerModel) -> int:
    """Showers of one call of a model: a power of two that depends on the kind of the model and on
    the cells of its read-out alone, so that memory stays bounded and seeds give the same showers
    on every machine.
    """
    most = DENSE_BATCH if is_dense(model) else IMAGE_BATCH
    fitting = max(1, BATCH_BYTES // (4 * model.geometry.n_cells))
    return min(most, 1 << (fitting.bit_length() - 1))


def make_engine(file: ModelFile, name: str, batch: int, count: int = 0) -> Engine:
    """The engine called `name`, ready to run.

    "auto" is PyTorch; for `MANY` showers or more of a model with other than dense layers it is
    ONNX Runtime, where it is installed and the model can be exported.

    Parameters
    ----------
    batch
        Number of showers of one call, for which the compiler makes its graph.
    count
        Number of showers in all.

    Raises
    ------
    ModelError
        For an unknown name, a model that cannot be compiled, or ONNX Runtime that is not there.
    ExportError
        When the model refuses to be exported.
    """
    if name not in ENGINES:
        raise ModelError(f"Unknown engine '{name}': {did_you_mean(name, ENGINES)}")
    on_cpu = file.model.device.type == "cpu"
    if name == "auto" and count >= MANY and on_cpu and not is_dense(file.model):
        return _onnx_if_possible(file)
    if name == "compile":
        return CompileEngine(file, batch)
    if name == "onnx":
        if not has_onnx():
            raise ModelError(
                "The engine 'onnx' needs ONNX Runtime; pip install 'caloforge[export]', or choose "
                "--engine torch."
            )
        return OnnxEngine(file)
    return TorchEngine(file)


def single_engine(file: ModelFile, name: str) -> Engine:
    """As `make_engine`, for one shower at a time: "auto" is ONNX Runtime where it is installed and
    the model can be exported.
    """
    return _onnx_if_possible(file) if name == "auto" else make_engine(file, name, 1)


def _onnx_if_possible(file: ModelFile) -> Engine:
    if has_onnx():
        try:
            return OnnxEngine(file)
        except ExportError:
            pass
    return TorchEngine(file)


def has_onnx() -> bool:
    """Whether a model can be exported and run with ONNX Runtime here."""
    return all(find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))
