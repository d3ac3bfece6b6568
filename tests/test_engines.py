"""Engines: the same showers from each of them, whatever batch and threads; one at a time."""

import copy
import shutil
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import sample_showers
from torch import nn

from caloforge import Generator
from caloforge.data import read_showers
from caloforge.errors import ConditionError, ExportError, ModelError
from caloforge.executors import in_order, thread_executor
from caloforge.fast.packed import PackedLinear, packed, packing_works
from caloforge.generate import (
    Conditions,
    generate_file,
    generate_showers,
    make_engine,
    middle_condition,
    stream,
)
from caloforge.generate import engines as engines_module
from caloforge.generate.engines import MANY, OnnxEngine, TorchEngine, is_dense
from caloforge.models import MODELS, Refusal
from caloforge.models.file import ModelFile, load_model
from caloforge.nn.dense import dense_stack
from caloforge.noise import BLOCK, normals

every_model = pytest.mark.parametrize("name", list(MODELS))
needs_packing = pytest.mark.skipif(not packing_works(), reason="oneDNN or the processor lacks it")


@pytest.fixture
def gan(smoke) -> ModelFile:
    return load_model(smoke("caloshowergan") / "model.safetensors")


def real_conditions(file: ModelFile) -> Conditions:
    """Those of the shipped training sample, mixed."""
    table = sample_showers(file.model.geometry.name).conditions
    return Conditions(file.model.geometry, np.random.default_rng(1).permutation(table))


def agree(file: ModelFile, engine: engines_module.Engine, count: int) -> None:
    """With `ShowerModel.sample` to 1e-5 of the incident energy."""
    rows = real_conditions(file).rows(0, count, 5).astype(np.float32)
    noise = normals(5, 0, count, file.model.noise_size)
    with torch.inference_mode():
        condition = torch.from_numpy(rows)
        expected = file.model.sample(condition, torch.from_numpy(noise))
        tolerance = 1e-5 * file.model.incident(condition).numpy()
    found = engine(rows, noise)
    assert found.dtype == np.float32
    assert (np.abs(found - expected.numpy()) <= tolerance).all()


# --- engines ---------------------------------------------------------------------------------
@every_model
def test_packed_layers_make_the_same_showers(smoke, name: str) -> None:
    file = load_model(smoke(name) / "model.safetensors")
    before = {key: value.clone() for key, value in file.model.state_dict().items()}
    engine = make_engine(file, "torch", 64)
    for count in (1, 2, 65):
        agree(file, engine, count)
    for key, value in file.model.state_dict().items():  # the model itself is left alone
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", ["caloshowergan", "flow-matching"])
def test_onnx_runtime_makes_the_same_showers(smoke, name: str) -> None:
    pytest.importorskip("onnxscript")
    file = load_model(smoke(name) / "model.safetensors")
    engine = make_engine(file, "onnx", 64)
    for count in (1, 2, 65):
        agree(file, engine, count)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="the compiler of PyTorch needs a C++ one")
@pytest.mark.filterwarnings("default")  # PyTorch's compiler warns about itself
def test_the_compiler_makes_the_same_showers_also_of_a_smaller_batch(gan: ModelFile) -> None:
    engine = make_engine(gan, "compile", 64)
    for count in (64, 1, 33):
        agree(gan, engine, count)


def test_engines_that_cannot_be(gan: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="Unknown engine 'onxx': did you mean 'onnx'"):
        make_engine(gan, "onxx", 1)
    monkeypatch.setattr(gan.model, "core", lambda: Refusal("its noise has no end."))
    with pytest.raises(ExportError, match="has no end"):
        make_engine(gan, "onnx", 1)
    assert isinstance(Generator(gan)._single_engine(), TorchEngine)
    monkeypatch.setattr(engines_module, "has_onnx", lambda: False)
    with pytest.raises(ModelError, match="needs ONNX Runtime"):
        make_engine(gan, "onnx", 1)


def test_auto_takes_onnx_runtime_for_many_showers_of_image_like_models(
    smoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    monkeypatch.setattr(engines_module, "has_onnx", lambda: True)
    monkeypatch.setattr(OnnxEngine, "__init__", lambda self, file: taken.append("onnx"))
    image = load_model(smoke("calogan") / "model.safetensors")
    dense = load_model(smoke("caloshowergan") / "model.safetensors")
    assert is_dense(dense.model)
    assert not is_dense(image.model)
    assert isinstance(make_engine(image, "auto", 256, MANY - 1), TorchEngine)
    assert isinstance(make_engine(dense, "auto", 256, 10 * MANY), TorchEngine)
    assert taken == []
    make_engine(image, "auto", 256, MANY)
    assert taken == ["onnx"]


# --- packed layers ---------------------------------------------------------------------------
@needs_packing
def test_normalisation_and_activations_are_folded_in() -> None:
    torch.manual_seed(0)
    stack = nn.Sequential(
        *dense_stack([7, 20, 30], "swish", normalise=True),
        *dense_stack([30, 11], "relu"),
        nn.Linear(11, 5, bias=False),
        nn.Tanh(),
    ).eval()
    for part in stack:
        if isinstance(part, nn.BatchNorm1d):
            nn.init.uniform_(part.weight, 0.5, 2.0)
            nn.init.normal_(part.bias)
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
    fast = packed(stack)
    kinds = [type(part) for part in fast]
    assert kinds == [PackedLinear] * 4 + [nn.Tanh]
    assert [part.follow for part in fast[:4]] == ["swish", "swish", "relu", "none"]
    x = torch.randn(33, 7)
    with torch.inference_mode():
        expected = copy.deepcopy(stack).double()(x.double())
        torch.testing.assert_close(fast(x).double(), expected, rtol=1e-5, atol=1e-6)
        assert fast(x[:0]).shape == (0, 5)


@needs_packing
def test_layers_that_are_used_in_other_ways_stay() -> None:
    class Odd(nn.Linear):
        """A subclass may do anything."""

    model = nn.ModuleDict({"odd": Odd(3, 3), "list": nn.ModuleList([nn.Linear(3, 3), nn.ReLU()])})
    fast = packed(model.eval())
    assert type(fast["odd"]) is Odd
    assert [type(part) for part in fast["list"]] == [PackedLinear, nn.ReLU]
    assert type(model["list"][0]) is nn.Linear


def test_without_onednn_layers_stay(gan: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caloforge.fast.packed.packing_works", lambda: False)
    engine = make_engine(gan, "torch", 64)
    assert not any(isinstance(m, PackedLinear) for m in engine.sample.__self__.modules())
    agree(gan, engine, 10)


# --- threads ---------------------------------------------------------------------------------
@every_model
def test_threads_change_nothing(smoke, name: str, tmp_path: Path) -> None:
    file = load_model(smoke(name) / "model.safetensors")
    conditions, before = real_conditions(file), torch.get_num_threads()
    made = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            options = {"seed": 2, "batch": 32, "extrapolate": True}
            generate_file(file, conditions, tmp_path / f"{threads}.h5", 200, **options)
            made.append(generate_showers(file, conditions, 200, **options))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(made[0].conditions, made[1].conditions)
    assert made[0].energies.tobytes() == made[1].energies.tobytes()
    with h5py.File(tmp_path / "1.h5") as one, h5py.File(tmp_path / "3.h5") as three:
        assert list(one) == list(three)
        for key in one:
            assert one[key][()].tobytes() == three[key][()].tobytes(), key
        assert dict(one.attrs) == dict(three.attrs)
    written = read_showers(tmp_path / "1.h5")
    assert written.energies.tobytes() == made[0].energies.tobytes()


def test_a_stream_that_is_left_gives_its_threads_back(gan: ModelFile) -> None:
    before, alive = torch.get_num_threads(), threading.active_count()
    torch.set_num_threads(2)
    try:
        showers = stream(gan, Conditions.of(gan.model.geometry, {"energy": 65536.0}), 10**9)
        next(showers)
        assert threading.active_count() == alive + 2
        showers.close()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert threading.active_count() == alive


@pytest.mark.parametrize("threads", [1, 4])
def test_work_in_order_stops_at_the_first_error(threads: int) -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        return item * item

    pool = thread_executor(threads)
    results = in_order(pool, work, iter(range(10**9)))
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert len(begun) < 20
    assert list(in_order(pool, str, [])) == []
    pool.shutdown()


# --- one at a time ---------------------------------------------------------------------------
@pytest.mark.parametrize("engine", ["auto", "torch", "onnx"])
def test_one_shower_is_the_same_as_in_a_file(gan: ModelFile, engine: str) -> None:
    if engine == "onnx":
        pytest.importorskip("onnxscript")
    generator = Generator(gan, seed=11, engine=engine)
    energies = [1000.0 + k for k in range(BLOCK + 3)]
    conditions = Conditions(generator.geometry, np.array(energies)[:, None])
    together = generate_showers(gan, conditions, seed=11)
    for k, energy in enumerate(energies):
        made = generator.one(energy=energy)
        assert made.shape == (generator.geometry.n_cells,)
        assert np.abs(made - together.energies[k]).max() <= 1e-5 * energy
    again = generator.one(7, energy=energies[7])
    assert np.abs(again - together.energies[7]).max() <= 1e-5 * energies[7]
    assert generator.number == len(energies)  # asking for a number does not count
    many = generator.showers(conditions)
    assert np.array_equal(many.energies, together.energies) or engine == "onnx"
    assert sum(len(part) for part in generator.stream({"energy": "512,1024"}, 10, batch=4)) == 10


def test_one_shower_under_several_conditions(smoke) -> None:
    generator = Generator(load_model(smoke("calogan") / "model.safetensors"), engine="torch")
    middle = middle_condition(generator.file)
    turned = dict(reversed(middle.items()))
    assert np.array_equal(generator.one(0, **middle), generator.one(0, **turned))


def test_what_one_shower_cannot_be(gan: ModelFile) -> None:
    generator = Generator(gan, engine="torch")
    with pytest.raises(ConditionError, match="outside the trained range"):
        generator.one(energy=1.0)
    with pytest.raises(ConditionError, match="lacks energy"):
        generator.one()
    with pytest.raises(ConditionError, match="did you mean 'energy'"):
        generator.one(enrgy=65536.0)
    with pytest.raises(ConditionError, match="no condition 'x'"):
        generator.one(energy=65536.0, x=0.0)
    with pytest.raises(ConditionError, match="NaN"):
        generator.one(energy=float("nan"))
    with pytest.raises(ConditionError, match="Got the shower number -1"):
        generator.one(-1, energy=65536.0)
    with pytest.raises(ConditionError, match="Got the seed"):
        Generator(gan, seed=-1)
    with pytest.raises(ModelError, match="no such shipped generator"):
        Generator("nothing")
    assert generator.number == 0  # what failed does not count
    beyond = Generator(gan, engine="torch", extrapolate=True)
    assert np.isfinite(beyond.one(energy=1.0)).all()
    with pytest.raises(ConditionError, match="more than 0"):
        beyond.one(energy=0.0)
