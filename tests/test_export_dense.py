"""Exports to LWTNN, ATLAS FastCaloSim and Geant4 Par04, read back by readers of their own."""

import errno
import json
import math
import re
import runpy
import shlex
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lwtnn_reader
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.cli import app, main
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import load_geometry
from caloforge.errors import CaloForgeError, ExportError
from caloforge.export import TARGETS, export_model, parity
from caloforge.export.fastcalosim import binning_xml, export_fastcalosim, voxel_order
from caloforge.export.lwtnn import dense_layers, export_lwtnn
from caloforge.export.par04 import export_ddml, export_par04, mesh_order, par04_macro
from caloforge.export.parity import TOLERANCE
from caloforge.models import make_model
from caloforge.models.base import Sampler, ShowerModel, fractions_core
from caloforge.models.file import ModelFile, load_model
from caloforge.nn.conditions import ConditionFeatures
from caloforge.nn.dense_core import DenseCore, Variable
from caloforge.noise import normals
from caloforge.pretrained import pretrained_names, resolve_model
from caloforge.transforms import IncidentFraction, LayerLogs

PION_MASS = 139.57039


@pytest.fixture(autouse=True)
def nonsense_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of a few steps make showers of more energy than their particle has."""
    monkeypatch.setattr("caloforge.export.parity.NONSENSE_SHARE", 1.0)


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
        outputs = graph.compute(given)
        rows.append([outputs[label] for label in core.outputs])
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
    parity = export_lwtnn(file, tmp_path / "photon.json")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert sorted(path.name for path in parity.files) == names
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


@pytest.mark.parametrize("target", ["lwtnn", "fastcalosim"])
def test_a_model_in_training_exports_as_it_samples_and_stays_in_training(
    target: str, tmp_path: Path
) -> None:
    """Batch normalisation by the batch has another result, and moves the running statistics."""
    part = {"latent": 6, "generator": [8], "output_gain": 0.003}
    split = fresh("caloshowergan-split", "ds1-photons", edges=[4096.0], low=part, high=part)
    for number, file in enumerate((gan(), split)):
        file.model.train()
        before = {key: value.clone() for key, value in file.model.state_dict().items()}
        export_model(file, target, tmp_path / f"{number}")
        assert all(module.training for module in file.model.modules())
        for key, value in file.model.state_dict().items():
            assert torch.equal(value, before[key])


def test_a_full_disk_leaves_none_of_the_files_of_a_split_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = {"latent": 4, "generator": [8], "output_gain": 0.003}
    file = fresh("caloshowergan-split", "ds1-photons", edges=[4096.0], low=part, high=part)
    write, written = Path.write_text, []

    def full(path: Path, text: str, **options: object) -> int:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        return write(path, text, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(CaloForgeError, match=r"No space left on device\. Nothing of it was left"):
        export_lwtnn(file, tmp_path / "photon.json")
    assert written
    assert not list(tmp_path.iterdir())


def test_the_json_says_what_it_was_trained_on(photon: ModelFile, tmp_path: Path) -> None:
    export_lwtnn(photon, tmp_path / "photon.json")
    about = json.loads((tmp_path / "photon.json").read_text())["miscellaneous"]
    assert all(isinstance(text, str) for text in about.values())
    assert about["format"] == "caloforge-lwtnn"
    assert about["energies"].startswith("energy of each cell as a fraction")
    assert about["geometry_hash"] == photon.model.geometry.hash
    assert Geometry.from_dict(json.loads(about["geometry"])).hash == photon.model.geometry.hash
    (energy,) = json.loads(about["conditions"])
    assert (energy["low"], energy["high"]) == photon.condition_range["energy"]
    assert about["cells"].startswith("layer by layer")
    assert json.loads(about["versions"])["exporter"]


@pytest.mark.parametrize("hyper", [{}, {"draw": False}, {"likelihood": "gaussian"}])
def test_the_numbers_of_a_vae_become_energies_as_the_docs_say(
    hyper: dict[str, object], tmp_path: Path
) -> None:
    """The steps of docs/deployment.md with the numbers of the second file, and nothing else."""
    file = fresh("vae", "atlas-cells", latent=3, decoder=[11, 7], **hyper)
    transform = file.model.transform
    assert isinstance(transform, LayerLogs)
    with torch.no_grad():  # as a fit would leave them
        transform.knots.copy_(torch.linspace(5.0, 14.0, 16))
        transform.mean_response.copy_(torch.linspace(0.7, 0.9, 16))
        transform.variance.copy_(torch.tensor([1e-4, 2.0, 1e4]))
        transform.mean.uniform_(-0.5, 1.5)
        transform.std.uniform_(0.3, 2)
    empty = transform.empty() if file.model.hurdle else None
    file.model.register_buffer("empty", empty)
    parity = export_lwtnn(file, tmp_path / "vae.json")
    assert parity.files == (tmp_path / "vae.json", tmp_path / "vae_transform.json")
    t = json.loads((tmp_path / "vae_transform.json").read_text())
    core, condition = core_of(file.model), np.array([[65536.0, 3.0, -7.0, 2.0, 1.0]])
    noise = normals(1, 0, 1, file.model.noise_size)
    outputs = by_reader(tmp_path / "vae.json", core, noise[:, :3], condition)[0]
    size, energy = len(t["mean"]), 65536.0
    parts = dict(
        zip(
            ("mean", "log_width", "log_odds"),
            np.split(outputs, len(outputs) // size),
            strict=False,
        )
    )
    drawn = noise[0, 3:].astype(np.float64)
    x = parts["mean"].copy()
    if t["draw"]:
        x += np.exp(np.clip(parts["log_width"], *t["log_width"])) * drawn[:size]
    raw = x * t["std"] + np.array(t["mean"])
    if t["hurdle"]:
        v = drawn[size:] if t["draw"] else np.zeros(size)
        a, b = t["logistic"]
        raw[parts["log_odds"] + a * v + b * v**3 <= 0] = t["empty"]
    a, b, c = t["variance"]
    sigma = max(1e-4, math.sqrt(a + b / energy + c / energy**2))
    response = np.interp(math.log(energy), t["knots"], t["mean_response"])
    total = max(0.0, response + raw[0] * sigma) * energy
    filled = np.exp(np.clip(raw[1:], 0, t["largest"])) * (raw[1:] > t["empty"] / 2)
    layers, cells = filled[: t["layers"]], filled[t["layers"] :]
    in_cells = np.bincount(t["layer"], cells, minlength=t["layers"])
    layers = np.where(in_cells > 0, layers, 0)
    layers = layers * total / max(layers.sum(), 1e-12)
    mev = cells * (layers / np.maximum(in_cells, 1e-12))[t["layer"]]
    with torch.inference_mode():
        shower = file.model.sample(torch.from_numpy(condition).float(), torch.from_numpy(noise))[
            0
        ].numpy()
    assert shower.sum() > 1000
    np.testing.assert_allclose(mev, shower, atol=1e-5 * shower.sum(), rtol=0)


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
        outputs = graph.compute(
            {
                "node_0": {f"variable_{i}": float(v) for i, v in enumerate(u)},
                "node_1": {"variable_0": label, "variable_1": 0.0},
            }
        )
        return np.array([outputs[str(k)] for k in range(len(outputs))])

    return network


def onnx_network(path: Path) -> Network:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [tuple(i.shape) for i in session.get_inputs()] == [(1, 6), (1, 2)]

    def network(u: NDArray, label: float) -> NDArray:
        given = {
            "Noise": u[None].astype(np.float32),
            "mycond": np.array([[label, 0.0]], np.float32),
        }
        (outputs,) = session.run(None, given)
        return np.asarray(outputs[0])

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
    assert {path.name for path in out.iterdir()} == {*names, "binning.xml", "README.txt"}
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


@pytest.mark.parametrize("kind", ["json", "onnx"])
def test_networks_of_fastcalosim_say_what_they_take_and_give(kind: str, tmp_path: Path) -> None:
    """Not the standard normals, MeV and order of cells of the plain export."""
    export_fastcalosim(gan(), tmp_path / "fcs", network=kind)
    about = about_of(tmp_path / "fcs" / f"neural_net_22_eta_20_25_UltraLow12.{kind}")
    assert about["format"] == "caloforge-fastcalosim"
    assert about["noise"] == "normal with mean 0.5 and standard deviation 0.5"
    assert "log(E / 64 MeV) / log(4096 MeV / 64 MeV)" in about["inputs"]
    assert about["energies"] == "fractions of the kinetic energy"
    assert "r is slow" in about["cells"]


def test_networks_of_fastcalosim_state_the_range_of_the_training(tmp_path: Path) -> None:
    """Not that of the read-out: beyond its training a network is wrong."""
    trained = {"model": "caloshowergan", "condition_range": {"energy": [1000.0, 65536.0]}}
    export_fastcalosim(ModelFile(gan().model, trained), tmp_path / "fcs")
    for slot, expected in {"UltraLow12": (1000, 4096), "High12": (4096, 65536)}.items():
        about = about_of(tmp_path / "fcs" / f"neural_net_22_eta_20_25_{slot}.json")
        (energy,) = json.loads(about["conditions"])
        assert (energy["low"], energy["high"]) == expected
    said = (tmp_path / "fcs" / "README.txt").read_text()
    assert "trained on energies from 1000 to 65536 MeV; outside" in said


def about_of(path: Path) -> dict[str, str]:
    """What a network says about itself."""
    if path.suffix == ".json":
        about: dict[str, str] = json.loads(path.read_text())["miscellaneous"]
        return about
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_binning_xml_is_what_fastcalosim_reads(tmp_path: Path) -> None:
    file = gan()
    export_fastcalosim(file, tmp_path / "fcs", eta=(80, 85))
    said = (tmp_path / "fcs" / "README.txt").read_text()
    root = ElementTree.parse(tmp_path / "fcs" / "binning.xml").getroot()
    (particle,) = root.findall("Particle")
    assert (particle.get("pid"), particle.get("latentDim")) == ("22", "6")
    assert particle.get("symmetriseAlpha") == "false"
    assert "rootFiles/pid22_E1048576_eta_80_85.root" in said
    assert "rootFiles/pid22_E65536_eta_80_85_validation.root" in said
    (chosen,) = particle.findall("Bin")
    assert [chosen.get(k) for k in ("etaMin", "etaMax", "ganVersion")] == ["80", "85", "2"]
    layers = chosen.findall("Layer")
    assert [int(layer.get("id", "")) for layer in layers] == [0, 1, 2, 3, 12]
    for element, layer in zip(layers, file.model.geometry.layers, strict=True):
        assert int(element.get("n_bin_alpha", "")) == layer.shape[0]
        edges = [float(edge) for edge in element.get("r_edges", "").split(",")]
        assert edges == list(layer.edges[1])


@pytest.mark.parametrize(
    ("pid", "written"), [(22, "22"), (-11, "11"), (211, "211"), (2212, "211")]
)
def test_the_xml_names_photons_electrons_and_pions_alone(pid: int, written: str) -> None:
    """InitialiseFromXML is asked for 211 whatever else flies, protons too."""
    plain = load_geometry("ds1-pions").to_dict()
    file = gan()
    file.model.geometry = Geometry.from_dict({**plain, "pid": pid, "name": "other"})
    root = ElementTree.fromstring(binning_xml(file, abs(pid), (20, 25)))
    assert [p.get("pid") for p in root.findall("Particle")] == [written]


def test_an_electron_model_split_at_4_gev_fills_both_slots(tmp_path: Path) -> None:
    """The slots meet at 4095.5 MeV, the kinetic energy at a momentum of 4096 MeV."""
    plain = load_geometry("ds1-photons").to_dict()
    electrons = Geometry.from_dict({**plain, "pid": 11, "particles": ["e-"], "name": "electrons"})
    part = {"latent": 6, "generator": [8], "output_gain": 0.003}
    model = make_model("caloshowergan-split", electrons, None, edges=[4096.0], low=part, high=part)
    file = ModelFile(model.eval(), {"model": "caloshowergan-split"})
    export_fastcalosim(file, tmp_path / "fcs")
    assert len(list((tmp_path / "fcs").glob("neural_net_11_eta_20_25_*12.json"))) == 2


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
        (load_model(resolve_model("flow-matching-photon")), {"shower": "gan"}, "dense layers"),
        (gan(), {"network": "xml"}, "expected json or onnx"),
        (gan(), {"eta": (25, 20)}, "slice 25 to 20 .* expected a width of 5"),
        (gan(), {"eta": (20, 30)}, "slice 20 to 30 .* expected a width of 5"),
        (gan("lcd"), {}, "'lcd' states no single one .its particles: gamma, pi0."),
    ]
    for file, options, sentence in cases:
        with pytest.raises(ExportError, match=sentence):
            export_fastcalosim(file, tmp_path / "fcs", **options)  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir())
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(CaloForgeError, match="new or empty folder"):
        export_fastcalosim(gan(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# --- Geant4 Par04 ----------------------------------------------------------------------------
def test_par04_gets_the_showers_of_the_model_in_its_order(tmp_path: Path) -> None:
    file = fresh("caloshowergan", "ds2", latent=5, generator=[8], output_gain=0.0003)
    path = tmp_path / "Generator.onnx"
    assert export_par04(file, path).files == (path, path.with_suffix(".mac"))
    macro = path.with_suffix(".mac").read_text()
    assert macro == par04_macro(file.model.geometry, 5, "Generator.onnx")
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
    about = about_of(path)
    assert about["cells"].startswith("(r, phi, z)")
    assert about["format"] == "caloforge-par04"
    assert "energy / 1024000 MeV" in about["inputs"]
    assert about["energies"] == "fractions of the incident energy"


def test_the_macro_sets_the_mesh_before_and_the_inference_after_initialisation() -> None:
    lines = par04_macro(load_geometry("ds2"), 5, "Generator.onnx").splitlines()
    start = lines.index("/run/initialize")
    assert all(line.startswith("/Par04/mesh/") for line in lines[:start])
    assert not any(line.startswith("/Par04/mesh/") for line in lines[start:])
    values = dict(line.rsplit("/", 1)[1].split(" ", 1) for line in lines if "/Par04/" in line)
    assert values["setSizeLatentVector"] == "5"
    assert values["setNbOfZCells"] == "45"
    assert values["setSizeOfRhoCells"] == "4.65 mm"
    # The library loads the file that was named before; the mesh model goes first.
    names = [line.rsplit("/", 1)[1].split()[0] for line in lines]
    assert names.index("setModelPathName") < names.index("setInferenceLibrary")
    assert [line for line in lines if "Activate" in line] == [
        "/param/ActivateModel defineMesh",
        "/param/ActivateModel inferenceModel",
    ]


def test_ddml_places_the_cells_where_the_model_has_them(tmp_path: Path) -> None:
    """Walked as Par04ExampleVAE walks it: r slowest, phi from 0, then the layer."""
    file = fresh("caloshowergan", "ds2", latent=10, generator=[8], output_gain=0.0003)
    out = tmp_path / "ddml"
    assert export_ddml(file, out).files == (out,)
    session = onnxruntime.InferenceSession(
        str(out / "generator.onnx"), providers=["CPUExecutionProvider"]
    )
    z, energy, theta = normals(2, 0, 1, 10), 50_000.0, 0.2
    row = [*z[0], energy / 1_024_000, theta / (math.pi / 2), 0, 1]
    (given,) = session.get_inputs()
    (outputs,) = session.run(None, {given.name: np.array([row], np.float32)})
    with torch.inference_mode():
        shower = file.model.sample(torch.tensor([[energy]]), torch.from_numpy(z))[0].numpy()
    cells, hit = shower.reshape(45, 16, 9), 0
    alpha, r_edges = file.model.geometry.layers[0].edges
    for i in range(9):
        for j in range(16):
            x, y = (
                4.65 * (i + 0.5) * f((j + 0.5) * 2 * math.pi / 16) for f in (math.cos, math.sin)
            )
            sector = int(np.searchsorted(alpha, math.atan2(y, x))) - 1
            ring = int(np.searchsorted(r_edges, math.hypot(x, y))) - 1
            for layer in range(45):
                expected = cells[layer, sector, ring]
                assert abs(outputs[0, hit] * energy - expected) <= 1e-5 * shower.sum()
                hit += 1
    steering = (out / "caloforge_model.py").read_text()
    compile(steering, "caloforge_model.py", "exec")
    assert '"NCellsPhi": 16' in steering
    assert '"LatentVectorSize": 10' in steering


def test_ddml_uses_the_model_from_the_lowest_trained_energy_on(tmp_path: Path) -> None:
    """Not from that of the read-out, 1 GeV."""
    model = fresh("caloshowergan", "ds2", latent=10, generator=[8], output_gain=0.0003).model
    about = {"model": "caloshowergan", "condition_range": {"energy": [20_000.0, 65_536.0]}}
    export_ddml(ModelFile(model, about), tmp_path / "ddml")
    steering = (tmp_path / "ddml" / "caloforge_model.py").read_text()
    compile(steering, "caloforge_model.py", "exec")
    assert 'triggers={"e-": 20000 * MeV}' in steering
    assert "trained on energies from 20000 to 65536 MeV" in steering


def test_ddml_refuses_what_its_plug_in_would_read_wrongly(tmp_path: Path) -> None:
    file = fresh("caloshowergan", "ds2", latent=5, generator=[8], output_gain=0.0003)
    with pytest.raises(ExportError, match=r"gives its network 10 normals.*needs 5"):
        export_ddml(file, tmp_path / "ddml")
    plain = load_geometry("ds2").to_dict()
    for layer in plain["layers"]:
        layer["alpha_bins"] = 15
    odd = Geometry.from_dict({**plain, "name": "odd"})
    model = make_model("caloshowergan", odd, None, latent=10, generator=[8])
    with pytest.raises(ExportError, match="15 sectors"):
        export_ddml(ModelFile(model.eval(), {"model": "caloshowergan"}), tmp_path / "ddml")
    with pytest.raises(ExportError, match="not such a mesh"):
        export_ddml(gan(latent=10), tmp_path / "ddml")
    assert not list(tmp_path.iterdir())


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


def test_par04_refuses_layers_with_gaps_between_them() -> None:
    """Its mesh has none: all slices behind a gap would be placed too far in front."""
    plain = load_geometry("par04").to_dict()
    for number, layer in enumerate(plain["layers"]):
        layer["z"] = [12.0 * number, 12.0 * number + 10.2]
    with pytest.raises(ExportError, match="not such a mesh"):
        mesh_order(Geometry.from_dict({**plain, "name": "gaps"}))


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
    assert said.startswith(f"{out}: as PyTorch, largest difference")
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


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("out", [".", "/"])
def test_an_output_without_a_name_is_refused_in_one_sentence(
    out: str, target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, complaint = command(
        ["caloshowergan-photon", "--to", target, "--out", out], monkeypatch, capsys
    )
    assert (code, said) == (2, "")
    assert complaint.startswith(f"caloforge: Got {out} as output; expected the name of a ")
    assert complaint.count("\n") == 1


# --- the page --------------------------------------------------------------------------------
ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_are_understood() -> None:
    """Their options exist, and none that is needed is missing."""
    commands: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = re.findall(r"^caloforge (.+?)(?: +#.*)?$", PAGE, re.MULTILINE)
    assert len(lines) >= 7
    for line in lines:
        name, *words = shlex.split(line)
        commands[name].make_context(name, words)  # raises UsageError


def test_the_page_tells_the_limits_of_the_comparison() -> None:
    sizes = sorted({size for batches in parity.BATCHES.values() for size in batches})
    assert f"batches of {', '.join(map(str, sizes[:-1]))} and {sizes[-1]}," in PAGE
    assert f"at most {1000 * parity.EDGE_SHARE:g} in 1000 are allowed" in PAGE
    assert f"agree within {10**5 * TOLERANCE:g}·10⁻⁵ of the energy" in PAGE


def test_cells_of_the_table_tell_what_a_comparison_found() -> None:
    """And what it rejected, in all of its sentences, is no refusal of the format."""
    cell = runpy.run_path(str(ROOT / "tools" / "exports.py"))["cell"]
    found = {"worst": 2.3e-5, "showers": 1167, "nonsense": 62, "edges": 3}
    notes = "62 of more than 2 times the incident energy, 3 at a threshold"
    assert cell(found) == f"2·10⁻⁵ ({notes})"
    assert cell({**found, "nonsense": 0, "edges": 0}) == "2·10⁻⁵"
    assert cell(None) == "?"
    file = gan()
    core = Sampler(file.model)

    def rejected(run: parity.Run, **limits: float) -> str:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(ExportError) as refusal:
            for name, value in limits.items():
                patch.setattr(parity, name, value)
            parity.check_parity(file, core, run)
        return str(refusal.value)

    def same(noise: NDArray, condition: NDArray) -> NDArray:
        with torch.inference_mode():
            made: NDArray = core(torch.from_numpy(noise), torch.from_numpy(condition)).numpy()
        return made

    for sentence in (
        rejected(lambda z, c: same(z, c) * 2),
        rejected(lambda z, c: same(z, c)[:, 1:]),
        rejected(same, NONSENSE=0.0, NONSENSE_SHARE=0.5),
        rejected(same, EDGE_SHARE=-1.0),
    ):
        assert cell({"refused": sentence}) == "fails"
    with pytest.raises(ExportError) as refusal:
        mesh_order(load_geometry("calogan"))
    assert cell({"refused": str(refusal.value)}) == "–"


def test_the_page_has_the_macro_and_a_row_for_every_shipped_generator() -> None:
    """`tools/exports.py` writes both."""
    assert par04_macro(load_geometry("par04"), 10, "Generator.onnx") in PAGE
    rows = PAGE.split("<!-- tools/exports.py -->")[1].split("<!-- end -->")[0].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row]
    assert cells[0] == ["generator", *(f"`{target}`" for target in TARGETS)]
    assert [row[0] for row in cells[2:]] == [f"`{name}`" for name in pretrained_names()]
    measured = re.findall(
        r"(\d)·10⁻([⁰¹²³⁴⁵⁶⁷⁸⁹]+)", " ".join(c for row in cells[2:] for c in row)
    )
    digits = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
    worst = [float(f"{first}e-{power.translate(digits)}") for first, power in measured]
    assert len(worst) > len(pretrained_names()) / 2 and max(worst) <= TOLERANCE
