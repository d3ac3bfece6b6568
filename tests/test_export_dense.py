"""Exports to LWTNN, ATLAS FastCaloSim and Geant4 Par04, read back by readers of their own."""

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import lwtnn_reader
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.cli import main
from caloforge.errors import ExportError
from caloforge.export import export_model
from caloforge.export.fastcalosim import export_fastcalosim, voxel_order
from caloforge.export.lwtnn import dense_layers, export_lwtnn
from caloforge.export.par04 import export_par04, mesh_order
from caloforge.geometry import load_geometry
from caloforge.models import make_model
from caloforge.models.base import ShowerModel, fractions_core
from caloforge.models.file import ModelFile, load_model
from caloforge.nn.conditions import ConditionFeatures
from caloforge.nn.dense_core import DenseCore, Variable
from caloforge.noise import normals
from caloforge.pretrained import resolve_model
from caloforge.transforms import IncidentFraction

PION_MASS = 139.57039


@pytest.fixture(scope="module")
def photon() -> ModelFile:
    return load_model(resolve_model("caloshowergan-photon"))


def fresh(name: str, geometry: str, **hyper: object) -> ModelFile:
    """With random weights and running statistics, as a training would leave them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = make_model(name, load_geometry(geometry), None, **hyper)
        for part in model.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.running_mean.normal_(0, 0.3)
                part.running_var.uniform_(0.5, 2)
        for key, value in model.named_parameters():
            if key.endswith("beta"):
                with torch.no_grad():
                    value.uniform_(0.3, 3)
    return ModelFile(model.eval(), {"model": name})


def gan(geometry: str = "ds1-photons", **hyper: object) -> ModelFile:
    small = {"latent": 6, "generator": [12, 16], "output_gain": 0.003}
    return fresh("caloshowergan", geometry, **{**small, **hyper})


def in_double(core: DenseCore, noise: NDArray, condition: NDArray) -> NDArray[np.float64]:
    """The network's outputs in float64."""
    z, c = (torch.from_numpy(np.asarray(a, np.float64)) for a in (noise, condition))
    network = core.network.double()
    with torch.inference_mode():
        made: NDArray[np.float64] = network(core.inputs(z, c)).numpy()
    core.network.float()
    return made


def by_reader(
    path: Path, core: DenseCore, noise: NDArray, condition: NDArray
) -> NDArray[np.float64]:
    graph = lwtnn_reader.read(path)
    c = torch.from_numpy(np.asarray(condition, np.float64))
    rows = []
    for k in range(len(noise)):
        given = {
            "noise": {f"variable_{i}": float(noise[k, i]) for i in range(core.noise)},
            "condition": {v.name: float(v.value(c[k : k + 1])) for v in core.variables},
        }
        made = graph.compute(given)
        rows.append([made[label] for label in core.outputs])
    return np.array(rows)


def core_of(model: ShowerModel) -> DenseCore:
    core = model.dense_core()
    assert isinstance(core, DenseCore)
    return core


# --- LWTNN -----------------------------------------------------------------------------------
def test_the_photon_gan_in_json_is_the_model_in_double_precision(
    photon: ModelFile, tmp_path: Path
) -> None:
    path = tmp_path / "photon.json"
    export_lwtnn(photon, path)
    assert path.stat().st_size < 5e6
    core = core_of(photon.model)
    energies = np.geomspace(256, 4194304, 20).reshape(-1, 1)
    noise = normals(3, 0, 20, photon.model.noise_size)
    found = by_reader(path, core, noise, energies)
    np.testing.assert_allclose(found, in_double(core, noise, energies), atol=1e-6, rtol=0)
    with torch.inference_mode():
        showers = photon.model.sample(
            torch.from_numpy(energies).float(), torch.from_numpy(noise)
        ).numpy()
    assert (np.abs(found * energies - showers) <= 1e-5 * energies).all()


@pytest.mark.parametrize(
    ("name", "geometry", "hyper"),
    [
        ("dnncalogan", "atlas-cells", {"latent": 5, "generator": [9] * 5, "output_gain": 0.01}),
        ("vae", "atlas-cells", {"latent": 3, "decoder": [11, 7]}),
        ("caloshowergan", "ds1-pions", {"latent": 4, "generator": [8], "output_gain": 0.003}),
        (
            "caloshowergan",
            "ds1-photons",
            {
                "latent": 4,
                "generator": [8, 9],
                "activation": "leaky-relu",
                "output_batch_norm": False,
                "output_activation": "linear",
                "output_gain": 0.05,
            },
        ),
    ],
    ids=["dnncalogan", "vae", "pion", "linear-end"],
)
def test_other_dense_models_in_json_are_themselves(
    name: str, geometry: str, hyper: dict[str, object], tmp_path: Path
) -> None:
    file = fresh(name, geometry, **hyper)
    path = tmp_path / "generator.json"
    export_lwtnn(file, path)
    rng = np.random.default_rng(2)
    conditions = file.model.geometry.conditions
    condition = np.stack([rng.uniform(c.low, c.high, 15) for c in conditions], axis=1)
    for column, c in enumerate(conditions):
        if c.scale == "category":
            condition[:, column] = condition[:, column].round()
    noise = normals(1, 0, 15, file.model.noise_size)
    core = core_of(file.model)
    expected = in_double(core, noise, condition)
    if hyper.get("output_activation") == "linear":
        expected = expected.clip(min=0)
    assert expected.std() > 1e-4
    found = by_reader(path, core, noise, condition)
    np.testing.assert_allclose(found, expected, atol=1e-6 * max(1.0, np.abs(expected).max()))


def test_a_trained_swish_exports_its_beta_as_alpha(tmp_path: Path) -> None:
    file = fresh("dnncalogan", "atlas-cells", latent=4, generator=[8] * 5)
    export_lwtnn(file, tmp_path / "g.json")
    layers = json.loads((tmp_path / "g.json").read_text())["layers"]
    betas = [v.item() for k, v in file.model.named_parameters() if k.endswith("beta")]
    assert len(betas) == 5
    alphas = [entry["activation"]["alpha"] for entry in layers[:-1]]
    assert alphas == pytest.approx(betas, rel=1e-6)
    assert {entry["activation"]["function"] for entry in layers[:-1]} == {"swish"}
    assert layers[-1]["activation"] == "rectified"


def test_variables_of_the_condition_are_its_features() -> None:
    for name in ("atlas-cells", "calogan", "lhcb", "lcd"):
        geometry = load_geometry(name)
        rng = np.random.default_rng(0)
        condition = np.stack([rng.uniform(c.low, c.high, 30) for c in geometry.conditions], axis=1)
        for column, c in enumerate(geometry.conditions):
            if c.scale == "category":
                condition[:, column] = condition[:, column].round()
        for one_hot in (False, True):
            features = ConditionFeatures(geometry, one_hot=one_hot)
            c = torch.from_numpy(condition)
            made = [(v.value(c) + v.offset) * v.scale for v in features.variables()]
            torch.testing.assert_close(torch.cat(made, dim=1), features(c))
            assert len({v.name for v in features.variables()}) == features.size


def test_a_split_model_is_one_file_for_each_range(tmp_path: Path) -> None:
    part = {"latent": 4, "generator": [8], "output_gain": 0.003}
    wide = {**part, "latent": 6}
    file = fresh(
        "caloshowergan-split", "ds1-photons", edges=[4096.0, 262144.0], low=wide, middle=part,
        high=part,
    )  # fmt: skip
    export_lwtnn(file, tmp_path / "photon.json")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "photon_256_4096.json",
        "photon_262144_4194304.json",
        "photon_4096_262144.json",
    ]
    energy = np.array([[1e6]])
    noise = normals(0, 0, 1, 6)
    core = core_of(file.model.energy_ranges()[-1].model)
    found = by_reader(tmp_path / names[1], core, noise, energy)
    with torch.inference_mode():
        shower = file.model.sample(torch.tensor([[1e6]]), torch.from_numpy(noise)).numpy()
    assert (np.abs(found * 1e6 - shower) <= 10).all()


def test_folded_batch_normalisation_is_the_same_function() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4, affine=False), nn.Tanh(), nn.Linear(4, 2)
    ).double()
    network[1].running_mean.normal_()
    network[1].running_var.uniform_(0.1, 3)
    core = DenseCore(network.eval(), 3, (), ("a", "b"), "", lambda x, *_: x)
    x = torch.randn(50, 3, dtype=torch.float64)
    y = x.numpy()
    for layer in dense_layers(core):
        y = y @ layer.weight.T + layer.bias
        y = np.tanh(y) if layer.function == "tanh" else y
    np.testing.assert_allclose(y, network(x).detach().numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "geometry", "hyper", "reason"),
    [
        ("vae", "atlas-cells", {"iaf": 1}, "flow multiplies"),
        ("mlp-wgan", "lcd", {}, "multiplies its inputs"),
        ("sagan", "lhcb", {}, "convolutions"),
        ("flow-matching", "ds1-photons", {"hidden": 8}, "several passes"),
        ("caloshowergan", "ds1-photons", {"output_activation": "softplus"}, "Softplus"),
    ],
)
def test_what_the_format_does_not_know_is_refused(
    name: str, geometry: str, hyper: dict[str, object], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=reason):
        export_lwtnn(fresh(name, geometry, **hyper), tmp_path / "generator.json")
    assert not list(tmp_path.iterdir())


def test_a_transform_that_does_more_is_refused() -> None:
    geometry = load_geometry("ds1-photons")
    network = nn.Sequential(nn.Linear(2, geometry.n_cells))
    for transform in (IncidentFraction(geometry, 1.0, 0), IncidentFraction(geometry, 0.0, 4)):
        refusal = fractions_core(network, 1, [Variable("e", 0, "log")], transform)
        assert "more than multiply" in refusal.reason  # type: ignore[union-attr]


# --- ATLAS FastCaloSim -----------------------------------------------------------------------
Network = Callable[[NDArray, float], NDArray]


def json_network(path: Path) -> Network:
    graph = lwtnn_reader.read(path)

    def network(u: NDArray, label: float) -> NDArray:
        made = graph.compute(
            {
                "node_0": {f"variable_{i}": float(v) for i, v in enumerate(u)},
                "node_1": {"variable_0": label, "variable_1": 0.0},
            }
        )
        return np.array([made[str(k)] for k in range(len(made))])

    return network


def onnx_network(path: Path) -> Network:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [tuple(i.shape) for i in session.get_inputs()] == [(1, 6), (1, 2)]

    def network(u: NDArray, label: float) -> NDArray:
        given = {
            "Noise": u[None].astype(np.float32),
            "mycond": np.array([[label, 0.0]], np.float32),
        }
        (made,) = session.run(None, given)
        return np.asarray(made[0])

    return network


@pytest.mark.parametrize("kind", ["json", "onnx"])
@pytest.mark.parametrize(
    ("geometry", "slots", "mass"),
    [
        ("ds1-photons", {"UltraLow12": (6, 12), "High12": (12, 22)}, 0.0),
        ("ds1-pions", {"All": (8, 22)}, PION_MASS),
    ],
)
def test_fastcalosim_gets_the_showers_of_the_model(
    geometry: str, slots: dict[str, tuple[int, int]], mass: float, kind: str, tmp_path: Path
) -> None:
    """Label and voxel order as TFCSGANEtaSlice and TFCSEnergyAndHitGANV2 have them."""
    file = gan(geometry)
    out = tmp_path / "fcs"
    export_fastcalosim(file, out, eta=(20, 25), network=kind)
    read = file.model.geometry
    pid = read.pid
    names = {f"neural_net_{pid}_eta_20_25_{slot}.{kind}" for slot in slots}
    assert {path.name for path in out.iterdir()} == {*names, "binning.xml"}
    noise = normals(7, 0, 3, 6)
    for slot, exponents in slots.items():
        path = out / f"neural_net_{pid}_eta_20_25_{slot}.{kind}"
        network = json_network(path) if kind == "json" else onnx_network(path)
        low, high = (math.hypot(2.0**k, mass) - mass for k in exponents)
        for z, energy in zip(noise, np.geomspace(max(low, 256), high, 3), strict=True):
            label = math.log(energy / low) / math.log(high / low)
            voxels = network(0.5 + 0.5 * z, label)
            with torch.inference_mode():
                shower = file.model.sample(torch.tensor([[energy]]).float(), torch.tensor(z[None]))
            ours, k = shower[0].numpy(), 0
            for layer, where in zip(read.layers, read.slices, strict=True):
                n_alpha, n_r = layer.shape
                cells = ours[where].reshape(n_alpha, n_r)
                for r in range(n_r):
                    for alpha in range(n_alpha):
                        assert abs(voxels[k] * energy - cells[alpha, r]) <= 1e-5 * energy
                        k += 1
            assert k == len(voxels)


def test_binning_xml_is_what_fastcalosim_reads(tmp_path: Path) -> None:
    file = gan()
    export_fastcalosim(file, tmp_path / "fcs", eta=(80, 85))
    root = ElementTree.parse(tmp_path / "fcs" / "binning.xml").getroot()
    (particle,) = root.findall("Particle")
    assert (particle.get("pid"), particle.get("latentDim")) == ("22", "6")
    assert particle.get("symmetriseAlpha") == "false"
    (chosen,) = particle.findall("Bin")
    assert [chosen.get(k) for k in ("etaMin", "etaMax", "ganVersion")] == ["80", "85", "2"]
    layers = chosen.findall("Layer")
    assert [int(layer.get("id", "")) for layer in layers] == [0, 1, 2, 3, 12]
    for element, layer in zip(layers, file.model.geometry.layers, strict=True):
        assert int(element.get("n_bin_alpha", "")) == layer.shape[0]
        edges = [float(edge) for edge in element.get("r_edges", "").split(",")]
        assert edges == list(layer.edges[1])


def test_a_photon_model_split_at_4_gev_fills_both_slots(tmp_path: Path) -> None:
    part = {"latent": 6, "generator": [8], "output_gain": 0.003}
    file = fresh("caloshowergan-split", "ds1-photons", edges=[4096.0], low=part, high=part)
    export_fastcalosim(file, tmp_path / "fcs")
    low = json_network(tmp_path / "fcs" / "neural_net_22_eta_20_25_UltraLow12.json")
    z, energy = normals(0, 0, 1, 6)[0], 1000.0
    voxels = low(0.5 + 0.5 * z, math.log(energy / 64) / math.log(64))
    with torch.inference_mode():
        shower = file.model.sample(torch.tensor([[energy]]), torch.tensor(z[None]))[0].numpy()
    assert (np.abs(voxels * energy - shower[voxel_order(file.model.geometry)]) < 0.01).all()


def test_fastcalosim_refuses_what_it_has_no_place_for(tmp_path: Path) -> None:
    part = {"latent": 4, "generator": [8], "output_gain": 0.003}
    three = fresh(
        "caloshowergan-split", "ds1-photons", edges=[4096.0, 262144.0], low=part, middle=part,
        high=part,
    )  # fmt: skip
    cells = fresh("dnncalogan", "atlas-cells", latent=4, generator=[8] * 5)
    cases = [
        (three, {}, "no slot for a model that is split at 4096, 262144 MeV"),
        (cells, {}, "no generator for the particle|voxels in r and alpha"),
        (gan(output_activation="swish"), {}, "lets them be negative"),
        (load_model(resolve_model("flow-matching-photon")), {}, "dense layers"),
        (gan(), {"network": "xml"}, "expected json or onnx"),
        (gan(), {"eta": (25, 20)}, "slice"),
        (gan("lcd"), {}, "no generator for the particle"),
    ]
    for file, options, sentence in cases:
        with pytest.raises(ExportError, match=sentence):
            export_fastcalosim(file, tmp_path / "fcs", **options)  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir())
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ExportError, match="new or empty folder"):
        export_fastcalosim(gan(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# --- Geant4 Par04 ----------------------------------------------------------------------------
def test_par04_gets_the_showers_of_the_model_in_its_order(tmp_path: Path) -> None:
    file = fresh("caloshowergan", "ds2", latent=5, generator=[8], output_gain=0.0003)
    path = tmp_path / "Generator.onnx"
    export_par04(file, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,), (made) = session.get_inputs(), session.get_outputs()
    assert given.shape == [1, 5 + 4]
    assert made[0].shape == [1, 6480]
    z, energy = normals(2, 0, 1, 5), 50_000.0
    for angle, code in ((90.0, (0, 1)), (50.0, (1, 0))):  # neither is looked at
        row = np.concatenate([z[0], [energy / 1_024_000, angle / 90, *code]]).astype(np.float32)
        (fractions,) = session.run(None, {given.name: row[None]})
        with torch.inference_mode():
            shower = file.model.sample(torch.tensor([[energy]]), torch.from_numpy(z))[0].numpy()
        cells = shower.reshape(45, 16, 9)  # (z, phi, r)
        mesh = fractions.reshape(9, 16, 45) * energy  # (r, phi, z), as Par04 loops
        np.testing.assert_allclose(mesh, cells.transpose(2, 1, 0), atol=1e-5 * energy)
    about = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert about["cells"].startswith("(r, phi, z)")


def test_par04_order_has_r_slowest_and_every_cell_once() -> None:
    order = mesh_order(load_geometry("ds3"))
    assert sorted(order) == list(range(40500))
    n_phi, n_r, n_z = 50, 18, 45
    for r, phi, z in ((0, 0, 0), (3, 7, 11), (17, 49, 44)):
        assert order[(r * n_phi + phi) * n_z + z] == (z * n_phi + phi) * n_r + r


@pytest.mark.parametrize(
    ("geometry", "sentence"),
    [
        ("ds1-photons", "not such a mesh"),
        ("calogan", "has the conditions"),
        ("lhcb", "has the conditions"),
    ],
)
def test_par04_refuses_other_read_outs(geometry: str, sentence: str) -> None:
    with pytest.raises(ExportError, match=sentence):
        mesh_order(load_geometry(geometry))


# --- all of them -----------------------------------------------------------------------------
@pytest.mark.parametrize("target", ["lwtnn", "fastcalosim"])
def test_wrong_numbers_leave_nothing_behind(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights rounded too far are noticed by the exporter itself."""
    monkeypatch.setattr("caloforge.export.lwtnn.DIGITS", 2)
    with pytest.raises(ExportError, match="differs from PyTorch"):
        export_model(gan(), target, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_option_of_another_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no option 'eta'; expected none"):
        export_model(gan(), "onnx", tmp_path / "out", eta=(0, 5))
    assert not list(tmp_path.iterdir())


def test_a_softmax_output_is_known() -> None:
    class Softmax(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    core = DenseCore(
        nn.Sequential(nn.Linear(2, 3), nn.Softmax(dim=1)), 2, (), ("a", "b", "c"), "", max
    )
    assert dense_layers(core)[-1].function == "softmax"
    odd = DenseCore(nn.Sequential(nn.Linear(2, 3), Softmax()), 2, (), ("a",), "", max)
    with pytest.raises(ExportError, match="no activation Softmax"):
        dense_layers(odd)


# --- command line ----------------------------------------------------------------------------
def command(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["caloforge", "export", *words])
    monkeypatch.setattr("warnings.showwarning", lambda *_, **__: None)
    code: object = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert isinstance(code, int)
    return code, captured.out, captured.err


def test_the_command_writes_and_says_how_far_it_is_from_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gan"
    words = ["caloshowergan-photon", "--to", "fastcalosim", "--out", str(out), "--eta", "0", "5"]
    code, said, _ = command(words, monkeypatch, capsys)
    assert code == 0
    assert "largest difference" in said
    assert (out / "neural_net_22_eta_0_5_High12.json").exists()


@pytest.mark.parametrize(
    ("model", "target", "sentence"),
    [
        ("caloshowergan-foton", "onnx", "did you mean 'caloshowergan-photon'?"),
        ("caloshowergan-photon", "onx", "did you mean 'onnx'?"),
        ("caloshowergan-photon", "par04", "not such a mesh"),
        ("flow-matching-photon", "lwtnn", "several passes"),
        ("hostile", "onnx", "is not a readable model file"),
    ],
)
def test_the_command_refuses_in_one_sentence_and_writes_nothing(
    model: str,
    target: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if model == "hostile":  # a header of 2^62 bytes
        model = str(tmp_path / "hostile.safetensors")
        Path(model).write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    before = sorted(tmp_path.iterdir())
    out = tmp_path / "generator"
    code, said, complaint = command(
        [model, "--to", target, "--out", str(out)], monkeypatch, capsys
    )
    assert (code, said) == (2, "")
    assert complaint.count("\n") == 1
    assert sentence in complaint
    assert sorted(tmp_path.iterdir()) == before
