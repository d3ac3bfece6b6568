"""The C++ examples, built and run where there are a compiler, CMake and the libraries.

Headers of ONNX Runtime that the system does not have are named by ONNXRUNTIME_INCLUDE. Where LWTNN
is not installed, its example is built with a small stand-in for its interface (which needs Boost).
"""

import os
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
    if "ONNXRUNTIME_INCLUDE" in os.environ:
        options.append(f"-DONNXRUNTIME_INCLUDE={os.environ['ONNXRUNTIME_INCLUDE']}")
    done = subprocess.run(
        ["cmake", "-S", EXAMPLES, "-B", folder, *options], capture_output=True, text=True
    )
    if "Neither ONNX Runtime nor LWTNN was found" in done.stderr.replace("\n  ", " "):
        pytest.skip("needs ONNX Runtime or LWTNN with its headers: see docs/deployment.md")
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
    noise[:2].tofile(tmp_path / "half.f32")
    refused = {
        "-100": "got energy = -100.0",
        "1e12": "trained on 256.0",
        "nan": "got energy = nan",
        "1 2": "asks for 1 conditions",
        "": "usage",
        **NO_NUMBERS,
    }
    for words, sentence in refused.items():
        check_refusal([showers, "photon.onnx", "5", *words.split()], sentence, tmp_path)
    check_refusal([showers, "photon.onnx", "5x", "65536"], 'got "5x" as N', tmp_path)
    check_refusal([showers, "absent", "5", "256"], "absent", tmp_path)


# Of a generator of one energy, with a file of noise for 50 or 20 showers.
NO_NUMBERS = {
    "500GeV": 'got "500GeV" as condition; expected a number',
    "ten": 'got "ten" as condition',
    "65536 --seed x": 'got "x" as seed',
    "65536 --noise noise.f32": "holds more than the N x Z = 500 numbers",
    "65536 --noise half.f32": "does not hold enough noise",
}


def check_refusal(command: list[str | Path], sentence: str, folder: Path) -> None:
    """Exit status 2, one line, and no numbers."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_cmake_stops_where_there_is_nothing_to_build(tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("needs CMake and a C++ compiler")
    nowhere = [
        "-DONNXRUNTIME_LIBRARY=ONNXRUNTIME_LIBRARY-NOTFOUND",
        "-DCMAKE_FIND_ROOT_PATH=/nowhere",
    ]
    only = [
        f"-DCMAKE_FIND_ROOT_PATH_MODE_{what}=ONLY" for what in ("LIBRARY", "INCLUDE", "PACKAGE")
    ]
    done = subprocess.run(
        ["cmake", "-S", EXAMPLES, "-B", tmp_path, *nowhere, *only], capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "nothing to build" in " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def lwtnn(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example for LWTNN, with the library or the stand-in for it."""
    if (built / "lwtnn_showers").exists():
        return built / "lwtnn_showers"
    program = tmp_path_factory.mktemp("lwtnn") / "lwtnn_showers"
    stand_in = Path(__file__).parent / "lwtnn_stand_in"
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-I", stand_in]
    done = subprocess.run(
        ["c++", *flags, EXAMPLES / "lwtnn_showers.cpp", "-o", program],
        capture_output=True,
        text=True,
    )
    if "boost" in done.stderr and "No such file" in done.stderr:
        pytest.skip("needs Boost (libboost-dev)")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    return program


@pytest.mark.parametrize(
    ("name", "condition"),
    [("caloshowergan-photon", [65536.0]), ("atlas-vae", [65536.0, 3.0, -7.0, 2.0, 1.0])],
)
def test_lwtnn_showers_are_those_of_python(
    name: str, condition: list[float], lwtnn: Path, tmp_path: Path
) -> None:
    """The VAE's too, whose numbers the program turns into energies itself."""
    file = load_model(resolve_model(name))
    export_lwtnn(file, tmp_path / "g.json")
    noise = normals(4, 0, 20, file.model.noise_size)
    noise.tofile(tmp_path / "noise.f32")
    words = [*map(str, condition), "--noise", "noise.f32", "--out", "made.f32"]
    done = subprocess.run(
        [lwtnn, "g.json", "20", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert file.model.geometry.hash in done.stdout
    made = np.fromfile(tmp_path / "made.f32", np.float32).reshape(20, -1)
    with torch.inference_mode():
        conditions = torch.tensor([condition]).expand(20, -1)
        expected = file.model.sample(conditions, torch.from_numpy(noise)).numpy()
    assert (np.abs(made - expected) <= 1e-5 * expected.sum(axis=1, keepdims=True)).all()
    wrong = ["-100", *map(str, condition[1:])]
    check_refusal([lwtnn, "g.json", "5", *wrong], "got energy = -100.0", tmp_path)
    if len(condition) == 1:
        noise[:2].tofile(tmp_path / "half.f32")
        for line, sentence in NO_NUMBERS.items():
            check_refusal([lwtnn, "g.json", "5", *line.split()], sentence, tmp_path)
        for foreign in ("noise.f32", "other.json"):
            (tmp_path / "other.json").write_text('{"miscellaneous": {}}')
            check_refusal([lwtnn, foreign, "5", "65536"], f"{foreign} is no file of", tmp_path)


def test_lwtnn_showers_have_the_energy_of_python(lwtnn: Path, tmp_path: Path) -> None:
    file = load_model(resolve_model("caloshowergan-photon"))
    export_lwtnn(file, tmp_path / "photon.json")
    done = subprocess.run(
        [lwtnn, "photon.json", "2000", "65536"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    mean = float(done.stdout.split("cells, ")[1].split()[0])
    with torch.inference_mode():
        noise = torch.from_numpy(normals(0, 0, 2000, file.model.noise_size))
        totals = file.model.sample(torch.full((2000, 1), 65536.0), noise).sum(dim=1)
    assert abs(mean - float(totals.mean())) < 5 * float(totals.std()) / 1000**0.5
