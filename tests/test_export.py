"""Exports to ONNX: what they make, what they say, what is refused; nothing half is left behind."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from google.protobuf.message import EncodeError
from onnx import TensorProto, helper
from torch import Tensor

from caloforge.config import load_recipe
from caloforge.data import sample_path
from caloforge.detector.shipped import load_geometry
from caloforge.errors import ExportError, ModelError
from caloforge.export import export_model
from caloforge.export.onnx import (
    FORMAT,
    OPSET,
    convert,
    export_onnx,
    exportable_core,
    load_onnx,
    lowest_versions,
    open_session,
    serialised,
)
from caloforge.export.parity import check_parity, probe_conditions, probes
from caloforge.generate import Conditions, generate_showers
from caloforge.models import make_model
from caloforge.models.base import Sampler
from caloforge.models.file import ModelFile, load_model
from caloforge.nn.logistic import logistic
from caloforge.noise import normals
from caloforge.pretrained import pretrained_names, resolve_model
from caloforge.training.train import train
from caloforge.transforms import interpolate

PHOTON = "caloshowergan-photon"


@pytest.fixture(scope="module")
def photon() -> ModelFile:
    return load_model(resolve_model(PHOTON))


@pytest.fixture(scope="module")
def exported(photon: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "photon.onnx"
    export_onnx(photon, path)
    return path


def small(**hyper: object) -> ModelFile:
    """A fresh little GAN as a file would hold it; the file does not tell the trained ranges."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = make_model(
            "caloshowergan",
            load_geometry("ds1-photons"),
            None,
            latent=4,
            generator=[8],
            output_gain=0.003,  # about what a shower deposits
            **hyper,
        )
    return ModelFile(model.eval(), {"model": "caloshowergan"})


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in pretrained_names() if n != PHOTON])
def test_every_shipped_generator_exports_or_refuses_with_its_reason(
    name: str, tmp_path: Path
) -> None:
    file = load_model(resolve_model(name))
    out = tmp_path / "generator.onnx"
    try:
        parity = export_onnx(file, out)
    except ExportError as refusal:
        assert "has no export" in str(refusal)
        assert not list(tmp_path.iterdir())
        return
    assert parity.worst <= 2e-5
    assert load_onnx(out).geometry.hash == file.model.geometry.hash


def test_what_is_exported_is_a_copy() -> None:
    """The model of the caller keeps its device and mode: it may still be trained on a GPU."""
    file = load_model("caloshowergan-photon")
    file.model.train()
    core = exportable_core(file)
    assert file.model.training and not core.training
    own = {tensor.data_ptr() for tensor in file.model.state_dict().values()}
    assert own.isdisjoint(tensor.data_ptr() for tensor in core.state_dict().values())


def test_the_file_makes_the_showers_that_generate_makes(photon: ModelFile, exported: Path) -> None:
    generator = load_onnx(exported)
    conditions = Conditions(generator.geometry, np.geomspace(256.0, 4194304.0, 100).reshape(-1, 1))
    ours = generate_showers(photon, conditions, seed=9)
    noise = normals(9, 0, 100, generator.noise_size)
    theirs = generator.sample(conditions.table.astype(np.float32), noise)
    assert theirs.dtype == np.float32
    assert (np.abs(theirs - ours.energies) <= 1e-5 * conditions.table).all()
    # Python's own floats are as good as those of the file.
    double = generator.sample(conditions.table, noise.astype(np.float64))
    np.testing.assert_array_equal(double, theirs)


@pytest.mark.parametrize(
    ("condition", "noise"),
    [((3, 2), (3, 100)), ((3, 1), (3, 99)), ((2, 1), (3, 100)), ((3,), (3, 100))],
)
def test_arrays_of_another_shape_are_refused(
    exported: Path, condition: tuple[int, ...], noise: tuple[int, ...]
) -> None:
    generator = load_onnx(exported)
    with pytest.raises(ExportError, match="expected as many rows of each, with 100 columns"):
        generator.sample(np.ones(condition), np.zeros(noise))


def graph_of(*operators: str) -> onnx.ModelProto:
    """Operators of one input, one after the other, as the exporter would write them."""
    names = [f"x{k}" for k in range(len(operators) + 1)]
    nodes = [
        helper.make_node(op, [given], [made])
        for op, given, made in zip(operators, names, names[1:], strict=False)
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in (names[0], names[-1])
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    opset = helper.make_opsetid("", OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10)


@pytest.mark.parametrize(
    ("operators", "opset", "ir"),
    [(("Exp", "Log"), 13, 7), (("Exp", "Relu"), 14, 7), (("Mish", "Exp"), 18, 8)],
)
def test_a_graph_states_the_versions_in_which_its_operators_last_changed(
    operators: tuple[str, ...], opset: int, ir: int
) -> None:
    """Exp last changed in opset 13, Relu in 14; Mish is new in 18."""
    proto = graph_of(*operators)
    before = proto.graph.SerializeToString()
    lowest_versions(proto)
    assert ([o.version for o in proto.opset_import], proto.ir_version) == ([opset], ir)
    assert proto.graph.SerializeToString() == before
    onnx.checker.check_model(proto, full_check=True)


OLD_RUNTIME = Path(os.environ.get("CALOFORGE_OLD_ONNXRUNTIME", "/nowhere"))
RUN_OLD = """
import sys, numpy as np, onnxruntime
given = np.load(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
np.save(sys.argv[3], session.run(None, {name: given[name] for name in given.files})[0])
print(onnxruntime.__version__)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not (OLD_RUNTIME / "onnxruntime").is_dir(),
    reason="needs the oldest wheel: pip install --target OLD onnxruntime==1.15.0 'numpy<2', and "
    "CALOFORGE_OLD_ONNXRUNTIME=OLD",
)
@pytest.mark.parametrize("name", [PHOTON, "copula-photons", "lhcb-sagan", "atlas-vae-iaf"])
def test_the_oldest_runtime_makes_the_same_showers(name: str, tmp_path: Path) -> None:
    file = load_model(resolve_model(name))
    export_onnx(file, tmp_path / "g.onnx")
    noise = normals(3, 0, 20, file.model.noise_size)
    condition = probe_conditions(file, 100, 3)[-20:]
    np.savez(tmp_path / "given.npz", noise=noise, condition=condition)
    done = subprocess.run(
        [sys.executable, "-c", RUN_OLD, "g.onnx", "given.npz", "made.npy"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(OLD_RUNTIME), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1.15.")
    new = load_onnx(tmp_path / "g.onnx").sample(condition, noise)
    limit = 1e-5 * new.sum(axis=1, keepdims=True)
    assert (np.abs(np.load(tmp_path / "made.npy") - new) <= limit).all()


@pytest.mark.slow
def test_bands_of_the_incident_energy_export(tmp_path: Path) -> None:
    """Tables over the energy of the layer in three bands, at energies of the scan and between."""
    small = ("bands=3", "points=9", "quantiles=8", "knots=2", "sweeps=2", "draws=1", "enough=60")
    recipe = load_recipe("copula-pions", [f"model.{setting}" for setting in small])
    train(recipe, sample_path("ds1-pions-train"), tmp_path / "run")
    file = load_model(tmp_path / "run" / "model.safetensors")
    assert export_onnx(file, tmp_path / "g.onnx").worst <= 2e-5
    condition = np.geomspace(256.0, 4194304.0, 40)[:, None]
    noise = normals(3, 0, 40, file.model.noise_size)
    made = load_onnx(tmp_path / "g.onnx").sample(condition, noise)
    with torch.inference_mode():
        told, given = torch.from_numpy(condition).float(), torch.from_numpy(noise)
        expected = file.model.sample(told, given).numpy()
    assert (np.abs(made - expected) <= 2e-5 * expected.sum(axis=1, keepdims=True) + 1e-4).all()


@pytest.mark.parametrize("head", ["l2", "likelihood"])
@pytest.mark.slow
def test_the_recurrent_network_exports(head: str, tmp_path: Path) -> None:
    """Unrolled over its slices: some thousands of nodes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = make_model("rnn", load_geometry("lcd"), None, head=head, hidden=8, width=4)
    file = ModelFile(model.eval(), {"model": "rnn"})
    parity = export_onnx(file, tmp_path / "rnn.onnx")
    assert parity.worst <= 2e-5
    nodes = onnx.load(tmp_path / "rnn.onnx").graph.node
    assert 500 < len(nodes) < 10_000


@pytest.mark.parametrize("wrong", [[4194304.0, 256.0], [float("nan"), 1e6], [256.0, float("inf")]])
def test_a_trained_range_that_is_none_is_refused_in_one_sentence(
    wrong: list[float], tmp_path: Path
) -> None:
    file = ModelFile(
        small().model, {"model": "caloshowergan", "condition_range": {"energy": wrong}}
    )
    for target in ("onnx", "lwtnn"):
        with pytest.raises(ModelError, match="the smaller one first"):
            export_model(file, target, tmp_path / "generator")
    assert not list(tmp_path.iterdir())


def test_the_file_says_what_its_columns_and_cells_are(photon: ModelFile, exported: Path) -> None:
    proto = onnx.load(exported)
    (opset,) = [(entry.domain, entry.version) for entry in proto.opset_import]
    assert opset == ("", 14)  # Add, Mul, Relu and others are what they are since 14
    assert proto.ir_version == 7
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert shapes == {"noise": ["N", 100], "condition": ["N", 1], "energies": ["N", 368]}
    about = {entry.key: entry.value for entry in proto.metadata_props}
    assert about["format"] == FORMAT
    assert about["geometry_hash"] == photon.model.geometry.hash
    assert json.loads(about["geometry"])["layers"][0]["r_edges"][:3] == [0, 5, 10]
    (energy,) = json.loads(about["conditions"])
    low, high = photon.condition_range["energy"]
    assert energy == {"name": "energy", "unit": "MeV", "scale": "log", "low": low, "high": high}
    versions = json.loads(about["versions"])
    assert set(versions) >= {"caloforge", "torch"}
    assert versions["opset"] == 14


def test_nothing_of_the_machine_is_in_the_file(exported: Path) -> None:
    content = exported.read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).parents[1]).encode() not in content
    assert not onnx.load(exported, load_external_data=False).graph.node[0].metadata_props


def test_a_split_model_exports_with_the_part_of_each_energy(
    smoke: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Few steps of training make showers of more energy than their particle has.
    monkeypatch.setattr("caloforge.export.parity.NONSENSE_SHARE", 1.0)
    file = load_model(smoke("caloshowergan-split") / "model.safetensors")
    export_onnx(file, tmp_path / "split.onnx")
    condition = np.array([[4096.0], [np.nextafter(np.float32(4096), np.float32(5e3))]], np.float32)
    noise = np.repeat(normals(0, 0, 1, file.model.noise_size), 2, axis=0)
    below, above = load_onnx(tmp_path / "split.onnx").sample(condition, noise)
    with torch.inference_mode():
        for part, found in zip(file.model.energy_ranges(), (below, above), strict=True):
            z = torch.from_numpy(noise[:1, : part.model.noise_size])
            expected = part.model.sample(torch.tensor([[4096.0]]), z)[0].numpy()
            np.testing.assert_allclose(found, expected, atol=1e-5 * 4096, rtol=0)


# --- the check -------------------------------------------------------------------------------
def run_of(core: torch.nn.Module) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def run(noise: np.ndarray, condition: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            made: np.ndarray = core(torch.from_numpy(noise), torch.from_numpy(condition)).numpy()
        return made

    return run


def test_a_file_that_differs_in_one_cell_is_refused() -> None:
    file = small()
    core = Sampler(file.model)
    run = run_of(core)
    parity = check_parity(file, core, run)
    assert (parity.worst, parity.nonsense, parity.edges) == (0, 0, 0)

    def off(noise: np.ndarray, condition: np.ndarray) -> np.ndarray:
        made = run(noise, condition)
        if len(made) > 100:
            made[77, 33] += 4e-5 * made[77].sum()
        return made

    with pytest.raises(ExportError, match="differs from PyTorch by 4e-05 of a shower's energy"):
        check_parity(file, core, off)


def test_showers_that_hold_little_are_measured_by_what_they_hold() -> None:
    """A sampling calorimeter sees 1 % of the energy: a millionth of E is a tenth of its cell."""
    file = small()

    class Faint(torch.nn.Module):
        def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
            return (0.01 * condition / 368 * (1 + 0 * noise[:, :1])).expand(-1, 368)

    run = run_of(Faint())
    assert check_parity(file, Faint(), run).worst == 0
    with pytest.raises(ExportError, match="differs"):
        check_parity(file, Faint(), lambda n, c: run(n, c) + 1e-6 * c * (np.arange(368) == 5))


def test_a_generator_of_nonsense_alone_is_refused() -> None:
    """Damaged weights: the two agree, but there is nothing to agree about."""
    file = small()
    core = Sampler(file.model)

    def much(noise: np.ndarray, condition: np.ndarray) -> np.ndarray:
        return run_of(core)(noise, condition) * 1e4

    class Much(torch.nn.Module):
        def forward(self, noise: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            return core(noise, condition) * 1e4

    with pytest.raises(ExportError, match="1167 of 1167 showers have more than 2 times"):
        check_parity(file, Much(), much)


@pytest.mark.parametrize("wrong", ["nan", "shape"])
def test_a_file_that_gives_no_showers_is_refused(wrong: str) -> None:
    file = small()
    core = Sampler(file.model)

    def run(noise: np.ndarray, condition: np.ndarray) -> np.ndarray:
        made = run_of(core)(noise, condition)
        return made * np.nan if wrong == "nan" else made[:, 1:]

    with pytest.raises(ExportError, match=r"nan|shape"):
        check_parity(file, core, run)


def test_a_cell_right_at_a_threshold_may_fall_to_either_side() -> None:
    """Sums in another order differ by a rounding error, which decides a step function's side."""
    file = small()

    class Step(torch.nn.Module):
        edge = torch.inf

        def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
            return torch.where(noise[:, :1] < self.edge, 0.0, condition / 368).expand(-1, 368)

    core, other = Step(), Step()
    value = float(next(iter(probes(file)))[0][0, 0])
    core.edge, other.edge = value, value + 1e-7 * abs(value)
    parity = check_parity(file, core, run_of(other))
    assert parity.edges == 1
    assert parity.worst == 0
    other.edge = value + 0.01  # this is no rounding error
    with pytest.raises(ExportError, match="differs"):
        check_parity(file, core, run_of(other))


def test_a_threshold_in_the_condition_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table's plateau begins at an energy: its neighbours by rounding are on either side."""
    file = small()
    edge = float(file.model.geometry.conditions[0].high)
    monkeypatch.setattr("caloforge.export.parity.EDGE_SHARE", 0.01)

    class Step(torch.nn.Module):
        def __init__(self, shift: float) -> None:
            super().__init__()
            self.edge = edge * (1 + shift)

        def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
            above = condition >= self.edge
            return torch.where(above, condition, condition / 2).expand(-1, 368) / 368

    parity = check_parity(file, Step(-2e-7), run_of(Step(2e-7)))
    assert parity.edges == 3  # the corner, once for each seed
    with pytest.raises(ExportError, match="differs"):
        check_parity(file, Step(-2e-7), run_of(Step(-1e-2)))


def test_probes_reach_every_corner_of_the_condition_range() -> None:
    file = load_model(resolve_model("calogan-eplus"))
    ranges = np.array(list(file.condition_range.values()), np.float32)
    rows = probe_conditions(file, 200, 0)
    at_corner = rows[((rows == ranges[:, 0]) | (rows == ranges[:, 1])).all(axis=1)]
    assert len(np.unique(at_corner, axis=0)) == 2 ** len(ranges)
    assert ((rows >= ranges[:, 0]) & (rows <= ranges[:, 1])).all()
    assert not np.array_equal(rows, probe_conditions(file, 200, 1))


class Branches(torch.nn.Module):
    """A branch that the values decide: an If with two graphs of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """exp(x) or mish(x)."""
        made: Tensor = torch.cond(x.sum() > 0, torch.exp, torch.nn.functional.mish, (x,))
        return made


def test_a_graph_that_could_not_be_loaded_again_is_refused() -> None:
    with pytest.raises(ExportError, match="it becomes a graph inside a graph; see CONTRIBUTING"):
        convert(Branches(), (torch.zeros(3, 2),), ["x"], "y", rows="N")


@pytest.mark.parametrize("counts", [True, False])
def test_a_model_that_one_file_cannot_hold_is_refused(counts: bool) -> None:
    """Some releases of protobuf count beyond 2 GB, others raise their own error."""

    class Huge:
        def __init__(self, proto: onnx.ModelProto) -> None:
            self.graph, self.metadata_props = proto.graph, proto.metadata_props

        def ByteSize(self) -> int:  # noqa: N802
            if counts:
                return 2**31
            raise EncodeError("Failed to serialize proto")

    with pytest.raises(ExportError, match="more than 2 GB as ONNX"):
        serialised(Huge(graph_of("Exp")), {})


# --- refusals --------------------------------------------------------------------------------
def test_a_failed_check_leaves_no_file_and_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "generator.onnx"
    out.write_text("yesterday's")
    monkeypatch.setattr(check_parity, "__kwdefaults__", {"tolerance": -1.0})
    with pytest.raises(ExportError):
        export_onnx(small(), out)
    assert out.read_text() == "yesterday's"
    assert list(tmp_path.iterdir()) == [out]


def test_packages_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caloforge.export.onnx.find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"onnx and onnxscript: pip install caloforge\[export\]"):
        export_onnx(small(), tmp_path / "generator.onnx")
    with pytest.raises(ExportError, match="onnxruntime"):
        open_session(b"")
    assert not list(tmp_path.iterdir())


def test_an_unknown_target_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="did you mean 'onnx'"):
        export_model(small(), "onx", tmp_path / "generator")
    assert not list(tmp_path.iterdir())


def change(path: Path, out: Path, what: Callable[[onnx.ModelProto], None]) -> Path:
    proto = onnx.load(path)
    what(proto)
    out.write_bytes(proto.SerializeToString())
    return out


def external(proto: onnx.ModelProto) -> None:
    weights = proto.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../secrets")


def external_constant(proto: onnx.ModelProto) -> None:
    tensor = helper.make_tensor("hidden", TensorProto.FLOAT, [1], [1.0])
    tensor.external_data.add(key="location", value="../secrets")
    proto.graph.node.append(helper.make_node("Constant", [], ["hidden"], value=tensor))


def foreign_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].domain = "com.example"


def inner_graph(proto: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    proto.graph.node.append(
        helper.make_node("If", ["noise"], ["x"], then_branch=body, else_branch=body)
    )


def other_geometry(proto: onnx.ModelProto) -> None:
    for entry in proto.metadata_props:
        if entry.key == "geometry":
            entry.value = json.dumps(load_geometry("ds1-pions").to_dict())


def no_geometry(proto: onnx.ModelProto) -> None:
    for entry in proto.metadata_props:
        if entry.key == "geometry":
            entry.value = "[" * 100_000


def newer(proto: onnx.ModelProto) -> None:
    for entry in proto.metadata_props:
        if entry.key == "schema":
            entry.value = "99"


def no_metadata(proto: onnx.ModelProto) -> None:
    del proto.metadata_props[:]


def broken_graph(proto: onnx.ModelProto) -> None:
    del proto.graph.initializer[:]


class Chances(torch.nn.Module):
    """The logistic function of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """1 / (1 + exp(-x))."""
        return logistic(x)


def test_small_probabilities_keep_their_digits() -> None:
    """ONNX Runtime's own logistic function is 0 at -19 and off by 2e-4 of itself at -10."""
    proto = convert(Chances(), (torch.zeros(3, 2),), ["x"], "chances", rows="N")
    x = np.linspace(-60, 60, 242, dtype=np.float32).reshape(-1, 2)
    (found,) = open_session(proto.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-x.astype(float))), rtol=1e-5)
    np.testing.assert_array_equal(
        Chances()(torch.from_numpy(x)), torch.sigmoid(torch.from_numpy(x))
    )


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (external, "weights in other files"),
        (external_constant, "weights in other files"),
        (foreign_operator, "operators of 'com.example'"),
        (inner_graph, "a graph inside a graph"),
        (other_geometry, "one of them was edited"),
        (no_geometry, "does not describe its read-out"),
        (newer, "newer CaloForge"),
        (no_metadata, "no generator of CaloForge"),
        (broken_graph, "cannot be run"),
    ],
)
def test_a_strange_onnx_file_is_refused(
    exported: Path, tmp_path: Path, what: Callable[[onnx.ModelProto], None], sentence: str
) -> None:
    path = change(exported, tmp_path / "strange.onnx", what)
    with pytest.raises(ExportError, match=sentence):
        load_onnx(path)


def test_what_is_no_onnx_file_is_refused(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    for content in (b"", b"not a protobuf", exported.read_bytes()[:5000]):
        path.write_bytes(content)
        with pytest.raises(ExportError, match=r"half\.onnx is no"):
            load_onnx(path)
    with pytest.raises(ExportError, match="No such file"):
        load_onnx(tmp_path / "absent.onnx")


def test_a_model_file_that_is_damaged_exports_nothing(tmp_path: Path) -> None:
    content = bytearray(resolve_model(PHOTON).read_bytes())
    path = tmp_path / "model.safetensors"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError):
        export_model(load_model(path), "onnx", tmp_path / "generator.onnx")
    assert list(tmp_path.iterdir()) == [path]


def test_interpolation_without_a_search_finds_the_same_interval() -> None:
    knots, values = torch.tensor([0.0, 1.0, 3.0, 4.0]), torch.tensor([2.0, 5.0, -1.0, 0.0])
    x = torch.cat([torch.linspace(-1, 5, 1000), knots]).reshape(2, -1)
    expected = np.interp(x.numpy(), knots.numpy(), values.numpy())
    np.testing.assert_allclose(interpolate(x, knots, values).numpy(), expected, atol=1e-5)
