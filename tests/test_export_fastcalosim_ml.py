"""Exports to FastCaloSim's machine-learning shower, read back as its C++ classes read them."""

import math
from pathlib import Path

import fastcalosim_reader
import h5py
import numpy as np
import onnx
import pytest
import torch

from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import load_geometry
from caloforge.errors import ExportError
from caloforge.export import export_model
from caloforge.export.binned_shower import boundaries, write_binning
from caloforge.export.fastcalosim import export_fastcalosim
from caloforge.models import make_model
from caloforge.models.file import ModelFile, load_model
from caloforge.noise import normals
from caloforge.pretrained import resolve_model

LAYERS, STARTS = [0, 1, 2, 3, 12], [0, 8, 168, 358, 363, 368]


@pytest.fixture(scope="module")
def flagship() -> ModelFile:
    return load_model(resolve_model("copula-photons"))


@pytest.fixture(scope="module")
def folder(flagship: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fcs") / "shower"
    parity = export_model(flagship, "fastcalosim", out)
    assert parity.worst <= 2e-5
    assert parity.files == (out,)
    return out


def small(geometry: Geometry | str, name: str = "caloshowergan", **hyper: object) -> ModelFile:
    read_out = load_geometry(geometry) if isinstance(geometry, str) else geometry
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = make_model(name, read_out, None, **hyper)
    return ModelFile(model.eval(), {"model": name})


def test_the_flagship_makes_its_showers_in_fastcalosim(flagship: ModelFile, folder: Path) -> None:
    """Voxel by voxel, with the normals in the order in which the C++ passes them on."""
    geometry = flagship.model.geometry
    assert (boundaries(geometry), [layer.id for layer in geometry.layers]) == (STARTS, LAYERS)
    simulator = fastcalosim_reader.Simulator(folder / "shower.onnx", STARTS, LAYERS)
    for seed, energy in enumerate((256.0, 20_000.0, 4_194_304.0)):
        drawn = normals(seed, 0, 1, 368 + 5)[0]
        event = simulator.event(-0.22, energy, drawn)
        order = [sorted(range(n), key=lambda k: f"variable_{k}") for n in (368, 5)]
        z = np.concatenate([drawn[368:][order[1]], drawn[:368][order[0]]])
        with torch.inference_mode():
            shower = flagship.model.sample(torch.tensor([[energy]]), torch.from_numpy(z)[None])
        expected, made = shower[0].double().numpy(), np.zeros(368)
        for layer, (numbers, fractions) in event.items():
            made[np.array(numbers) + STARTS[LAYERS.index(layer)]] = np.array(fractions) * energy
        np.testing.assert_allclose(made, expected, atol=1e-5 * expected.sum(), rtol=0)
        assert (made > 0).sum() == (expected > 0).sum()


def test_every_voxel_is_placed_in_its_ring_and_sector(flagship: ModelFile, folder: Path) -> None:
    geometry = flagship.model.geometry
    placed = fastcalosim_reader.bins(folder / "binning.h5", LAYERS)
    for layer in geometry.layers:
        alpha, r = layer.edges
        cells = [
            (r[j], r[j + 1], alpha[i], alpha[i + 1])
            for i in range(layer.shape[0])
            for j in range(layer.shape[1])
        ]
        np.testing.assert_allclose(placed[layer.id], cells, rtol=1e-6, atol=1e-6)
        area = sum((b**2 - a**2) / 2 * (d - c) for a, b, c, d in placed[layer.id])
        assert area == pytest.approx(math.pi * r[-1] ** 2, rel=1e-5)
    with h5py.File(folder / "binning.h5") as file:
        assert file["binstart_radius_layer_1"].dtype == np.float32
        assert file.attrs["layer_boundaries"].tolist() == STARTS
        assert file.attrs["geometry_hash"] == geometry.hash


def test_hits_carry_all_of_the_energy_but_of_voxels_below_its_rounding() -> None:
    fractions, energy = np.array([0.3, 1e-6, 5e-8]), 65536.0
    counts = [fastcalosim_reader.hits(f, energy, 10.0, 1000) for f in fractions]
    assert counts == [1000, 1, 0]


def test_the_file_has_the_four_inputs_and_the_calls_beside_it(folder: Path) -> None:
    proto = onnx.load(folder / "shower.onnx")
    graph = proto.graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {
        "inn_eta_in": [1, 1],
        "inn_einc_in": [1, 1],
        "inn_z_energy": [1, 5],
        "cfm_z_shape": [1, 368],
        "voxels": [1, 368],
    }
    about = {entry.key: entry.value for entry in proto.metadata_props}
    assert about["format"] == "caloforge-fastcalosim-ml"
    assert "inn_einc_in: incident energy in MeV" in about["inputs"]
    said = (folder / "README.txt").read_text()
    assert "boundaries {0, 8, 168, 358, 363, 368}" in said
    assert "layers {0, 1, 2, 3, 12}" in said
    assert "setInputShapes" in said
    assert "Ort::Env" in said
    assert "trained on energies from 256 to 4194304 MeV; outside" in said


def test_a_gan_goes_there_only_when_asked_and_uses_the_first_numbers(tmp_path: Path) -> None:
    file = small("ds1-photons", latent=7, generator=[8], output_gain=0.003)
    export_fastcalosim(file, tmp_path / "gan")
    assert (tmp_path / "gan" / "binning.xml").exists()
    export_fastcalosim(file, tmp_path / "ml", shower="ml")
    simulator = fastcalosim_reader.Simulator(tmp_path / "ml" / "shower.onnx", STARTS, LAYERS)
    drawn = np.zeros(373, np.float32)
    drawn[368:] = (1, -1, 0.5, 2, -0.3)  # fewer than 10: the texts sort as the numbers
    event = simulator.event(0.2, 1000.0, drawn)
    z = torch.tensor([[1, -1, 0.5, 2, -0.3, 0, 0]])
    with torch.inference_mode():
        shower = file.model.sample(torch.tensor([[1000.0]]), z)[0]
    total = sum(sum(fractions) for _, fractions in event.values()) * 1000
    assert total == pytest.approx(float(shower.sum()), rel=1e-5)


def test_read_outs_that_are_no_voxels_and_models_of_more_noise_are_refused(
    tmp_path: Path,
) -> None:
    cases = [
        (small("atlas-cells", "copula"), {}, "has the conditions"),
        (small("ds1-photons"), {"shower": "xml"}, "expected gan or ml"),
        (small("ds1-photons"), {"shower": "ml", "network": "json"}, "reads ONNX alone"),
        (small("ds1-photons"), {"shower": "ml", "network": "xml"}, "expected json or onnx"),
        (small("ds1-photons"), {"shower": "ml", "eta": (20, 25)}, "has no slices of"),
        (small("ds1-photons", latent=374), {"shower": "ml"}, "373 together; .* needs 374"),
    ]
    for file, options, sentence in cases:
        with pytest.raises(ExportError, match=sentence):
            export_fastcalosim(file, tmp_path / "fcs", **options)  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir())


def test_a_layer_of_one_ring_and_one_of_32_sectors_can_be_placed(tmp_path: Path) -> None:
    """Read-outs that the GAN's class would read wrongly."""
    geometry = two_layers(1, 32)
    write_binning(tmp_path / "binning.h5", geometry)
    placed = fastcalosim_reader.bins(tmp_path / "binning.h5", [0, 1])
    assert placed[0] == [(0.0, 10.0, pytest.approx(-math.pi), pytest.approx(math.pi))]
    assert len(placed[1]) == 2 * 32


def two_layers(rings: int, sectors: int) -> Geometry:
    plain = load_geometry("ds1-photons").to_dict()
    first, second = plain["layers"][:2]
    first |= {"alpha_bins": 1, "r_edges": [10.0 * k for k in range(rings + 1)]}
    second |= {"alpha_bins": sectors, "r_edges": [0, 5, 10]}
    del plain["stack"]  # it has more layers
    return Geometry.from_dict({**plain, "name": "two", "layers": [first, second]})


@pytest.mark.parametrize(
    ("rings", "sectors", "sentence"), [(1, 10, "has one ring"), (2, 32, "has 32 alpha bins")]
)
def test_the_gan_folder_refuses_layers_that_its_class_skips_or_merges(
    rings: int, sectors: int, sentence: str, tmp_path: Path
) -> None:
    file = small(two_layers(rings, sectors), latent=4, generator=[8], output_gain=0.003)
    with pytest.raises(ExportError, match=sentence):
        export_fastcalosim(file, tmp_path / "fcs")
    assert not list(tmp_path.iterdir())
