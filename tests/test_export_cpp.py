"""The C++ examples, built and run where there are a compiler, CMake and the libraries."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from caloforge.export.lwtnn import export_lwtnn
from caloforge.export.onnx import export_onnx
from caloforge.models.file import load_model
from caloforge.noise import normals
from caloforge.pretrained import resolve_model

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "cpp"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs, linked to the library inside the Python wheel when the system has
    none.
    """
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("needs CMake and a C++ compiler")
    folder = tmp_path_factory.mktemp("cpp")
    options = []
    wheel = Path(onnxruntime.__file__).parent / "capi"
    for library in wheel.glob("libonnxruntime.so.*"):
        # The wheel's file is named after its version, its name as a library ends at the major one.
        for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
            (folder / name).symlink_to(library)
        options.append(f"-DONNXRUNTIME_LIBRARY={folder / 'libonnxruntime.so'}")
    done = subprocess.run(
        ["cmake", "-S", EXAMPLES, "-B", folder, *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run(["cmake", "--build", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout + done.stderr
    return folder


def program(built: Path, name: str, library: str) -> Path:
    if not (built / name).exists():
        pytest.skip(f"needs {library} with its headers: see docs/deployment.md")
    return built / name


def test_onnx_showers_are_those_of_python(built: Path, tmp_path: Path) -> None:
    showers = program(built, "onnx_showers", "ONNX Runtime")
    file = load_model(resolve_model("caloshowergan-photon"))
    export_onnx(file, tmp_path / "photon.onnx")
    noise = normals(4, 0, 50, file.model.noise_size)
    noise.tofile(tmp_path / "noise.f32")
    done = subprocess.run(
        [showers, "photon.onnx", "50", "65536", "--noise", "noise.f32", "--out", "made.f32"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert file.model.geometry.hash in done.stdout
    made = np.fromfile(tmp_path / "made.f32", np.float32).reshape(50, -1)
    with torch.inference_mode():
        expected = file.model.sample(torch.full((50, 1), 65536.0), torch.from_numpy(noise))
    np.testing.assert_allclose(made, expected.numpy(), atol=1e-5 * 65536, rtol=0)
    for words in (["photon.onnx", "5"], ["photon.onnx", "5", "1", "2"], ["absent", "5", "1"]):
        done = subprocess.run([showers, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("onnx_showers: ")


def test_lwtnn_showers_have_the_energy_of_python(built: Path, tmp_path: Path) -> None:
    showers = program(built, "lwtnn_showers", "LWTNN")
    file = load_model(resolve_model("caloshowergan-photon"))
    export_lwtnn(file, tmp_path / "photon.json")
    done = subprocess.run(
        [showers, "photon.json", "2000", "65536"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    mean = float(done.stdout.split("cells, ")[1].split()[0])
    with torch.inference_mode():
        noise = torch.from_numpy(normals(0, 0, 2000, file.model.noise_size))
        totals = file.model.sample(torch.full((2000, 1), 65536.0), noise).sum(dim=1)
    assert abs(mean - float(totals.mean())) < 5 * float(totals.std()) / 1000**0.5
